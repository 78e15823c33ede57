"""Writes what outlives a boot, but for the hold: history, the peer's own addresses, counters.

What cannot be written is tried again: the peer tells its addresses once.
"""

from __future__ import annotations

import json
import time
from functools import partial

from failoverd import pair, statefile
from failoverd.master.context import Context, Keep
from failoverd.master.errands import HANGS, Errands
from failoverd.process import PARTING, Message, in_words
from failoverd.wire.protocol import counts

PATIENCE = 5.0  # seconds that the disk has before that is said
RETRY_SECONDS = 60.0
EVERY = 60.0  # seconds from one time that the counters are written to the next
SOON = 5.0  # the same after an event, which comes seldom
MOST_BYTES = 1 << 18  # of their file
COUNTERS = "counters"
ERRAND = "keeper"


class Keeper:
    """One file is written at a time, of those that are in `context.unkept`.

    What is told of the counters is what is in the file: after a crash none has gone back.
    Prometheus would take that for a new beginning, and all that was counted before for news.
    """

    def __init__(self, context: Context, errands: Errands) -> None:
        self._context = context
        self._errands = errands
        self._retry = 0.0  # nothing is begun before, as the last has failed
        self._troubles: dict[str, str] = {}  # by file, that were said
        self._counted, self._counts = time.monotonic(), context.counters.told
        path = self._path(COUNTERS)
        try:
            kept = counts(json.loads(statefile.content(path, MOST_BYTES)))
            context.counters.take_up(dict(kept))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            self._complain(path, in_words(error), "read")

    def _path(self, what: str) -> str:
        return statefile.place(self._context.conf.state, what)

    @property
    def deadline(self) -> float | None:
        """A switch comes first."""
        if self._errands.under_way(ERRAND) or pair.is_switching(self._context.state):
            return None
        return min(self._due, self._retry) if self._context.unkept else self._due

    @property
    def _due(self) -> float:
        """When the counters are to be written."""
        return self._counted + (SOON if self._context.counters.news else EVERY)

    def tend(self, now: float) -> None:
        if self.deadline is None:
            return
        if now >= self._due:
            self._count(now)
        if self._context.unkept and now >= self._retry:
            self._write()

    def close(self) -> None:
        """Write the last of them, each once, if the disk lets it."""
        if self._context.started:
            self._count(time.monotonic())
        end, left = time.monotonic() + 2 * PARTING, len(self._context.unkept)
        while self._errands.finish(ERRAND, end) and left:
            left -= 1
            self._write()

    def _count(self, now: float) -> None:
        counters = self._context.counters
        self._counted, counters.news, told = now, False, tuple(counters.counts.items())
        if self._context.dry:
            counters.told = told
            return
        data = f"{json.dumps(dict(told))}\n".encode()
        self._context.unkept[COUNTERS] = partial(statefile.keep, data=data, lasting=True)
        self._counts = told

    def _write(self) -> None:
        """The oldest first: what has failed comes last."""
        what = next(iter(self._context.unkept))
        write, path = self._context.unkept.pop(what), self._path(what)
        ended = partial(self._ended, what, write, path)
        hangs = partial(self._complain, path, HANGS)
        self._errands.start(ERRAND, lambda _: write(path), ended, PATIENCE, hangs)

    def _ended(self, what: str, write: Keep, path: str, why: str, _found: Message) -> None:
        if what == COUNTERS:  # without a file they are told all the same
            self._context.counters.told = self._counts
        if not why:
            self._retry = 0.0
            if self._troubles.pop(path, ""):
                text = "what outlives a boot is written again"
                self._context.say("HISTORY-OK", "config", text, file=path)
            return
        self._context.unkept.setdefault(what, write)
        self._retry = time.monotonic() + RETRY_SECONDS
        self._complain(path, why)

    def _complain(self, path: str, why: str, do: str = "write") -> None:
        """Once, until it works or fails in another way."""
        if self._troubles.get(path) != why:
            self._troubles[path] = why
            text = f"cannot {do} what outlives a boot"
            self._context.say("HISTORY-FAILED", "config", text, file=path, error=why)
