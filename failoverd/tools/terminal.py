"""Which terminal there is for what moves or has colours; rich is loaded for no other."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TextIO


def terminal_for(stream: TextIO) -> ModuleType | None:
    """What shows things that move, if the stream is a terminal that can, and rich is there."""
    if not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        from failoverd.tools import screen
    except ImportError:
        return None
    return screen
