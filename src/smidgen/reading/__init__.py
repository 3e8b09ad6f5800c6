"""Somebody else's model, read into a `Network`, or the most that can be said of it."""
