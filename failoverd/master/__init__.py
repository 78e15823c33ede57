"""The main loop, in a room of its own."""

from failoverd.master.loop import Master

__all__ = ["Master"]
