"""The listener, in a room of its own."""

from failoverd.listener.visitors import check, run

__all__ = ["check", "run"]
