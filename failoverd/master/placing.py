"""Work that is done in steps, beside all else that the loop does: putting and taking addresses."""

from __future__ import annotations

import time
from collections.abc import Callable

from failoverd.addresses import Result, Steps
from failoverd.master.context import Context


class Placing:
    """One piece of work at a time. `deadline` is when it goes on, None while there is none."""

    def __init__(self, us: Context) -> None:
        self._us = us
        self._steps: Steps[Result] | None = None
        self._done: Callable[[Result], None] | None = None
        self.deadline: float | None = None

    def begin(self, steps: Steps[Result], done: Callable[[Result], None]) -> None:
        """done is called with the result, perhaps before this returns."""
        self._steps, self._done = steps, done
        self.go_on()

    def go_on(self) -> None:
        """As many steps as one slice holds."""
        if self._steps is None or self._done is None:
            return
        end = time.monotonic() + self._us.slice
        result: Result | None = None
        try:
            with self._us.spare:
                next(self._steps)
                while time.monotonic() < end:
                    next(self._steps)
        except StopIteration as last:
            result = last.value
        except MemoryError:
            result = Result(["there is no memory left"], [])
        if result is None:
            self.deadline = end
        else:
            self._steps = self.deadline = None
            self._done(result)
