"""Writes what outlives a boot, but for hold and counters: the history, the peer's own addresses.

What cannot be written is tried again: the peer tells its addresses once.
"""

from __future__ import annotations

import time
from functools import partial

from failoverd import pair, statefile
from failoverd.master.context import Context, Keep
from failoverd.master.errands import HANGS, Errands
from failoverd.process import PARTING, Message

PATIENCE = 5.0  # seconds that the disk has before that is said
RETRY_SECONDS = 60.0
ERRAND = "keeper"


class Keeper:
    """One file is written at a time, of those that are in `context.unkept`."""

    def __init__(self, context: Context, errands: Errands) -> None:
        self._context = context
        self._errands = errands
        self._retry = 0.0  # nothing is begun before, as the last has failed
        self._troubles: dict[str, str] = {}  # by file, that were said

    @property
    def deadline(self) -> float | None:
        """A switch comes first."""
        waits = self._errands.under_way(ERRAND) or pair.is_switching(self._context.state)
        return self._retry if self._context.unkept and not waits else None

    def tend(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self._write()

    def close(self) -> None:
        """Write the last of them, each once, if the disk lets it."""
        end, left = time.monotonic() + PARTING, len(self._context.unkept)
        while self._errands.finish(ERRAND, end) and left:
            left -= 1
            self._write()

    def _write(self) -> None:
        """The oldest first: what has failed comes last."""
        what = next(iter(self._context.unkept))
        write = self._context.unkept.pop(what)
        path = statefile.place(self._context.conf.state, what)
        ended = partial(self._ended, what, write, path)
        hangs = partial(self._complain, path, HANGS)
        self._errands.start(ERRAND, lambda _: write(path), ended, PATIENCE, hangs)

    def _ended(self, what: str, write: Keep, path: str, why: str, _found: Message) -> None:
        if not why:
            self._retry = 0.0
            self._troubles.pop(path, None)
            return
        self._context.unkept.setdefault(what, write)
        self._retry = time.monotonic() + RETRY_SECONDS
        self._complain(path, why)

    def _complain(self, path: str, why: str) -> None:
        """Once, until it works or fails in another way."""
        if self._troubles.get(path) != why:
            self._troubles[path] = why
            text = "cannot write what outlives a boot"
            self._context.say("HISTORY-FAILED", "config", text, file=path, error=why)
