"""What came of it: `RunRecord`, run folders, weights that notice damage."""
