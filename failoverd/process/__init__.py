"""Processes: workers, the channels to them, giving up root. Used as one room."""

# ruff: noqa: F403 - these names are what the room offers (mypy: implicit_reexport)

from failoverd.process.channel import *
from failoverd.process.fork import *
from failoverd.process.privileges import *
