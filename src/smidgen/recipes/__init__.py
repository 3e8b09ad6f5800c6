"""What decides a run: `Recipe` and its parts; the catalogue, one file per origin."""
