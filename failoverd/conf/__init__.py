"""failoverd.conf: its language, its variables, its files, and what both nodes must share."""

# ruff: noqa: F403 - these names are what the room offers (mypy: implicit_reexport)

from failoverd.conf.variables import *
