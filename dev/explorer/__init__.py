"""The explorer: two nodes that run the real decisions, on a network that may do its worst."""
