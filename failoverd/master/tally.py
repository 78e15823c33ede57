"""Keeps the counters over restarts and boots, in a file beside $state.

What is told of them is what is in the file: after a crash none has gone back. Prometheus would take
that for a new beginning, and all that was counted before for news.
"""

from __future__ import annotations

import json
import time
from functools import partial

from failoverd import statefile
from failoverd.master.context import Context
from failoverd.master.errands import Errands
from failoverd.process import PARTING, Message, in_words
from failoverd.wire.protocol import counts

EVERY = 60.0  # seconds from one time that it is written to the next
SOON = 5.0  # the same after an event, which comes seldom
MOST_BYTES = 1 << 18  # of the file
ERRAND = "counters"


class Tally:
    def __init__(self, context: Context, errands: Errands) -> None:
        self._context = context
        self._errands = errands
        self._written = time.monotonic()
        self._trouble = ""  # that was said
        try:
            kept = counts(json.loads(statefile.content(self._path, MOST_BYTES)))
            context.counters.take_up(dict(kept))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            self._complain("cannot read the counters", in_words(error))

    @property
    def _path(self) -> str:
        return statefile.place(self._context.conf.state, ERRAND)

    @property
    def deadline(self) -> float | None:
        if self._errands.under_way(ERRAND):
            return None
        return self._written + (SOON if self._context.counters.news else EVERY)

    def tend(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self._write(now)

    def close(self) -> None:
        """Write the last of them, if the disk lets it."""
        now = time.monotonic()
        if not self._errands.under_way(ERRAND) and self._context.started:
            self._write(now)
        self._errands.finish(ERRAND, now + PARTING)

    def _write(self, now: float) -> None:
        self._written, self._context.counters.news = now, False
        told = tuple(self._context.counters.counts.items())
        if self._context.dry:
            self._context.counters.told = told
            return
        path, data = self._path, f"{json.dumps(dict(told))}\n".encode()
        write = partial(statefile.keep, path, data, lasting=True)
        self._errands.start(ERRAND, lambda _: write(), partial(self._ended, told))

    def _ended(self, told: tuple[tuple[str, int], ...], why: str, _found: Message) -> None:
        """Without a file they are told all the same."""
        self._context.counters.told = told
        if why and why != self._trouble:
            self._complain("cannot write the counters", why)
        self._trouble = why

    def _complain(self, text: str, why: str) -> None:
        self._context.say("HISTORY-FAILED", "config", text, file=self._path, error=why)
