"""Many runs in, statements out: `prove`, `compare`, and the statistics under them."""
