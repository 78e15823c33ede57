"""Writes what outlives a boot, but for hold and counters: the history, the peer's own addresses."""

from __future__ import annotations

import time
from functools import partial

from failoverd import pair, statefile
from failoverd.master.context import Context
from failoverd.master.errands import HANGS, Errands
from failoverd.process import PARTING, Message

PATIENCE = 5.0  # seconds that the disk has before that is said
ERRAND = "keeper"


class Keeper:
    """One file is written at a time, of those that are in `context.unkept`."""

    def __init__(self, context: Context, errands: Errands) -> None:
        self._context = context
        self._errands = errands

    @property
    def deadline(self) -> float | None:
        """A switch comes first."""
        waits = self._errands.under_way(ERRAND) or pair.is_switching(self._context.state)
        return 0.0 if self._context.unkept and not waits else None

    def tend(self, _now: float) -> None:
        if self.deadline is not None:
            self._write()

    def close(self) -> None:
        """Write the last of them, if the disk lets it."""
        end = time.monotonic() + PARTING
        while self._errands.finish(ERRAND, end) and self._context.unkept:
            self._write()

    def _write(self) -> None:
        what, write = self._context.unkept.popitem()
        path = statefile.place(self._context.conf.state, what)
        tell = partial(self._tell, path)
        self._errands.start(ERRAND, lambda _: write(path), tell, PATIENCE, lambda: tell(HANGS))

    def _tell(self, path: str, why: str, _found: Message | None = None) -> None:
        if why:
            text = "cannot write what outlives a boot"
            self._context.say("HISTORY-FAILED", "config", text, file=path, error=why)
