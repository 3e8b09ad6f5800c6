"""Runs happen somewhere: what a run to make is, and the places that make it."""
