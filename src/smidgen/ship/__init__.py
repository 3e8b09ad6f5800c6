"""A trained network as artifacts: one integer network, printed for many machines, each proven."""
