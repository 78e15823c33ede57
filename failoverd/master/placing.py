"""Putting and taking service addresses, by the worker that does it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from failoverd import addresses
from failoverd.master.messages import Placed
from failoverd.master.supervisor import Supervisor
from failoverd.process import Message
from failoverd.wire.typed import decode

WORKER = "addresses"


class Placing:
    """One piece of work at a time."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.orders = os.memfd_create("orders")  # too long, perhaps, for a message
        self._number = 0
        self._done: Callable[[Placed], None] | None = None
        self._seconds = 0.0
        self.deadline: float | None = None

    def close(self) -> None:
        os.close(self.orders)

    def begin(
        self, work: Mapping[str, object], seconds: float, done: Callable[[Placed], None]
    ) -> None:
        """done is called with the result, later."""
        self._number += 1
        self._done, self._seconds = done, seconds
        self.deadline = time.monotonic() + seconds
        addresses.order(self.orders, self._number, work)
        self.go_on()

    def go_on(self) -> None:
        """The worker may be another than that which has begun: all can be done twice."""
        if self._done is not None:
            self._supervisor.send(WORKER, {"do": "look"})

    def told(self, message: Message) -> None:
        """Raises what decode does."""
        result = decode(Placed, message)
        if result.number == self._number:
            self._end(result)

    def tend(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            why = f"the kernel did not answer within {self._seconds:g} s"
            self._supervisor.give_up(WORKER, why)
            self._end(Placed(self._number, problem=why))

    def _end(self, result: Placed) -> None:
        done, self._done, self.deadline = self._done, None, None
        if done is not None:
            done(result)
