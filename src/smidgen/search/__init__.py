"""Search: networks and settings proposed, tried and kept under a budget."""
