"""Errands: what waits for a disk, or takes long, is done by a worker of its own, which then ends.

A disk may hang, and a node whose loop stalls is a dead one: nothing in the loop waits for them, but
for a moment at the end.
"""

from __future__ import annotations

import math
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass

from failoverd.master.context import Context
from failoverd.process import Channel, Errand, Message, in_words

HANGS = "the disk does not answer"

Done = Callable[[str, Message], None]  # why it has failed, "" if it has not, and what was found


def nothing() -> None:
    pass


@dataclass(eq=False)
class Run:
    errand: Errand
    done: Done
    late: Callable[[], None]
    deadline: float  # infinite once that has passed


class Errands:
    """At most one of each name counts."""

    def __init__(self, context: Context, selector: selectors.BaseSelector) -> None:
        self._context = context
        self._selector = selector
        self._runs: dict[str, Run] = {}

    def start(
        self,
        name: str,
        work: Callable[[Channel], Message | None],
        done: Done,
        seconds: float = math.inf,
        late: Callable[[], None] = nothing,
    ) -> None:
        """Have work(channel) executed. done is called when that has ended, or cannot even begin;
        late if it has not ended within so many seconds."""
        try:
            with self._context.spare:
                errand = Errand(f"failoverd: {name} [{self._context.conf.pidfile}]", work)
        except (OSError, MemoryError) as error:
            done(f"no worker can be started: {in_words(error)}", {})
            return
        run = self._runs[name] = Run(errand, done, late, time.monotonic() + seconds)
        self._selector.register(errand, selectors.EVENT_READ, lambda: self._ended(name, run))

    def under_way(self, name: str) -> bool:
        return name in self._runs

    @property
    def deadline(self) -> float | None:
        return min((run.deadline for run in self._runs.values()), default=None)

    def tend(self, now: float) -> None:
        for run in [run for run in self._runs.values() if now >= run.deadline]:
            run.deadline = math.inf
            run.late()

    def kill(self, name: str) -> None:
        """It ends when the kernel lets go of it."""
        if name in self._runs:
            self._runs[name].errand.child.kill()

    def drop(self, name: str) -> None:
        """Kill it, and do not wait for its end: another may begin."""
        self.kill(name)
        self._runs.pop(name, None)

    def finish(self, name: str, end: float) -> bool:
        """Wait for it until then. Whether none is under way any more."""
        run = self._runs.get(name)
        if run is not None and run.errand.child.ends(max(0.0, end - time.monotonic())):
            self._ended(name, run)
        return name not in self._runs

    def close(self) -> None:
        for run in self._runs.values():
            run.errand.close()

    def _ended(self, name: str, run: Run) -> None:
        self._selector.unregister(run.errand)
        why, found = "", Message()
        try:
            found = run.errand.result()
        except (OSError, ValueError, MemoryError) as error:
            why = in_words(error)
        finally:
            run.errand.close()
        if self._runs.get(name) is run:  # else it was dropped
            del self._runs[name]
            run.done(why, found)
