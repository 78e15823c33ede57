"""Watching one interface: what counts, the count, the judgement of a window, the watcher."""
