"""A hold outlives restarts and reboots: how it is kept in a file beside $state.

Time is counted from boot. Over a reboot only the time of day tells how long it took; a clock that
was set back meanwhile counts for no time, so a hold lasts too long rather than not long enough.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from failoverd import statefile
from failoverd.statefile import uptime
from failoverd.wire import typed
from failoverd.wire.protocol import Hold

MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class Kept:
    """A hold as it was told, `at` so many seconds after boot. sure: that is known, and not reckoned
    by the time of day."""

    told: Hold
    at: float
    sure: bool = True

    @property
    def now(self) -> Hold:
        return self.told.after(uptime() - self.at)


@dataclass(frozen=True)
class _File:
    """uptime and time: when it was written, in seconds since boot and by the time of day."""

    hold: Hold
    boot_id: Annotated[str, typed.string]
    uptime: typed.Number
    time: typed.Number


def read(path: str) -> Kept | None:
    """None if there is no file. Raises ValueError or OSError if it is not as `write` makes it."""
    try:
        found = typed.decode(_File, json.loads(statefile.content(path, MOST_BYTES)))
    except FileNotFoundError:
        return None
    except RecursionError:
        raise ValueError("too deep") from None
    if found.boot_id == statefile.boot_id():
        return Kept(found.hold, found.uptime)
    return Kept(found.hold, uptime() - max(0.0, time.time() - found.time), sure=False)


def write(path: str, kept: Kept) -> None:
    """Replace the file; when this returns no loss of power takes that back. Raises OSError."""
    file = _File(kept.now, statefile.boot_id(), uptime(), time.time())
    statefile.keep(path, f"{json.dumps(typed.encode(file))}\n".encode(), lasting=True)


def restore(path: str, kept: Kept | None) -> None:
    """Have the file say what counts, None for nothing: a change that was refused may be in it, for
    a disk can fail just when it is. Raises OSError."""
    if kept is not None:
        write(path, kept)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def serial_after(known: Hold | None) -> int:
    """For a new change. By the time of day it is greater even than those that this node has known
    and lost with its disk, or did not know of while the peer could not be reached."""
    return max(known.serial if known else 0, int(time.time())) + 1


def until(seconds: float) -> str:
    """When so many seconds will have passed, in local time with its offset."""
    return datetime.fromtimestamp(time.time() + seconds).astimezone().isoformat(timespec="seconds")
