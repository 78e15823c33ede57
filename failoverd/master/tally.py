"""Keeps the counters over restarts and boots, in a file beside $state.

What is told of them is what is in the file: after a crash none has gone back. Prometheus would take
that for a new beginning, and all that was counted before for news. A disk may hang, so a worker
writes it.
"""

from __future__ import annotations

import json
import selectors
import time

from failoverd import statefile
from failoverd.master.context import Context
from failoverd.process import PARTING, Channel, Errand, Message, in_words
from failoverd.wire.protocol import counts

EVERY = 60.0  # seconds from one time that it is written to the next
SOON = 5.0  # the same after an event, which comes seldom
MOST_BYTES = 1 << 18  # of the file


class Tally:
    """One worker writes at a time."""

    def __init__(self, context: Context, selector: selectors.BaseSelector) -> None:
        self._context = context
        self._selector = selector
        self._errand: Errand | None = None
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
        return statefile.place(self._context.conf.state, "counters")

    @property
    def deadline(self) -> float | None:
        """When `tend` has something to do; never while it is being written."""
        if self._errand is not None:
            return None
        return self._written + (SOON if self._context.counters.news else EVERY)

    def tend(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self._write(now)

    def close(self) -> None:
        """Write the last of them, if the disk lets it."""
        if self._errand is None and self._context.started:
            self._write(time.monotonic())
        if self._errand is not None:
            self._errand.child.ends(PARTING)
            self._errand.close()

    def _write(self, now: float) -> None:
        self._written, self._context.counters.news = now, False
        told = tuple(self._context.counters.counts.items())
        if self._context.dry:
            self._context.counters.told = told
            return
        path, data = self._path, f"{json.dumps(dict(told))}\n".encode()

        def work(channel: Channel) -> Message:
            statefile.keep(path, data, lasting=True)
            return {}

        try:
            with self._context.spare:
                errand = Errand(f"failoverd: counters [{self._context.conf.pidfile}]", work)
        except (OSError, MemoryError) as error:
            self._end(told, in_words(error))
            return
        self._errand = errand
        self._selector.register(errand, selectors.EVENT_READ, lambda: self._ended(errand, told))

    def _ended(self, errand: Errand, told: tuple[tuple[str, int], ...]) -> None:
        self._selector.unregister(errand)
        self._errand, why = None, ""
        try:
            errand.result()
        except (OSError, ValueError) as error:
            why = str(error)
        finally:
            errand.close()
        self._end(told, why)

    def _end(self, told: tuple[tuple[str, int], ...], why: str) -> None:
        """Without a file they are told all the same."""
        self._context.counters.told = told
        if why and why != self._trouble:
            self._complain("cannot write the counters", why)
        self._trouble = why

    def _complain(self, text: str, why: str) -> None:
        self._context.say("HISTORY-FAILED", "config", text, file=self._path, error=why)
