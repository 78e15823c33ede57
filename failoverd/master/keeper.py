"""Writes what outlives a boot, but for hold and counters: the history, the peer's own addresses.

A disk may hang, and a node whose loop stalls is a dead one: so a worker writes each file. Nothing
waits for it, or fails with it.
"""

from __future__ import annotations

import selectors
import time

from failoverd import pair, statefile
from failoverd.master.context import Context
from failoverd.process import PARTING, Channel, Errand, Message, in_words

PATIENCE = 5.0  # seconds that the disk has before that is said


class Keeper:
    """One file is written at a time, of those that are in `context.unkept`."""

    def __init__(self, context: Context, selector: selectors.BaseSelector) -> None:
        self._context = context
        self._selector = selector
        self._errand: Errand | None = None
        self._path = ""
        self._late: float | None = None  # when it has taken too long, None if that was said

    @property
    def deadline(self) -> float | None:
        """When `tend` has something to do, in monotonic seconds. A switch comes first."""
        if self._errand is not None:
            return self._late
        return 0.0 if self._context.unkept and not pair.is_switching(self._context.state) else None

    def tend(self, now: float) -> None:
        if self.deadline is None or now < self.deadline:
            return
        if self._errand is None:
            self._begin(now)
        else:
            self._late = None
            self._complain("the disk does not answer")

    def close(self) -> None:
        """Write the last of them, if the disk lets it."""
        end = time.monotonic() + PARTING
        while self._errand is not None or self._context.unkept:
            if self._errand is None:
                self._begin(time.monotonic())
            elif self._errand.child.ends(max(0.0, end - time.monotonic())):
                self._ended(self._errand)
            else:
                self._errand.close()
                return

    def _begin(self, now: float) -> None:
        what, write = self._context.unkept.popitem()
        path = self._path = statefile.place(self._context.conf.state, what)

        def work(channel: Channel) -> Message:
            try:
                write(path)
            except OSError as error:
                raise ValueError(error.strerror) from None
            return {}

        try:
            with self._context.spare:
                errand = Errand(f"failoverd: {what} [{self._context.conf.pidfile}]", work)
        except (OSError, MemoryError) as error:
            self._complain(in_words(error))
            return
        self._errand, self._late = errand, now + PATIENCE
        self._selector.register(errand, selectors.EVENT_READ, lambda: self._ended(errand))

    def _ended(self, errand: Errand) -> None:
        self._selector.unregister(errand)
        self._errand = None
        try:
            errand.result()
        except (OSError, ValueError) as error:
            self._complain(str(error))
        finally:
            errand.close()

    def _complain(self, why: str) -> None:
        text = "cannot write what outlives a boot"
        self._context.say("HISTORY-FAILED", "config", text, file=self._path, error=why)
