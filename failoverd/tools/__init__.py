"""What only commands need: the daemon imports nothing of it."""
