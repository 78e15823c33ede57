"""HUP: a worker reads the configuration again and checks it, and the loop goes on meanwhile.

To read a file may hang, to translate a filter may take a minute; and a loop that stalls for a
window sends no heartbeats. What is sound comes back as plain values. The worker reads nothing but
what root has written, but each value is read and checked here once more: that costs nothing.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence

from failoverd import conf
from failoverd.conf import Conf
from failoverd.master.context import Context
from failoverd.process import Channel, Errand, Message, in_words
from failoverd.watch import filters
from failoverd.watch.filters import Program

CHECK_SECONDS = 2 * filters.WAITING_SECONDS + 30.0  # both filters, and all the rest

Check = Callable[[Channel, Conf], Message]  # what `sound` has made, or it raises why not
Adopt = Callable[[Conf, Sequence[Program]], None]


def sound(settings: Conf, programs: Sequence[Program]) -> Message:
    """What a check says of a configuration that can be adopted."""
    told: Message = {"file": settings.origin.file, "values": conf.packed(settings)}
    return told | filters.packed(programs)


class Reload:
    """At most one check counts: one that is asked for during another takes its place."""

    def __init__(
        self, context: Context, selector: selectors.BaseSelector, check: Check, adopt: Adopt
    ) -> None:
        self._context = context
        self._selector = selector
        self._check = check
        self._adopt = adopt
        self._errand: Errand | None = None
        self.deadline: float | None = None  # when a check has taken too long, in monotonic seconds

    def begin(self) -> None:
        self._drop()
        running = self._context.conf
        title = f"failoverd: check [{running.pidfile}]"
        try:
            errand = Errand(title, lambda channel: self._check(channel, running))
        except (OSError, MemoryError) as error:
            self._refuse(f"no worker can be started that reads it: {in_words(error)}")
            return
        self._errand, self.deadline = errand, time.monotonic() + CHECK_SECONDS
        self._selector.register(errand, selectors.EVENT_READ, lambda: self._ended(errand))

    def give_up(self, now: float) -> None:
        """End a check that has taken too long. It is reaped when the kernel lets go of it."""
        if self.deadline is not None and now >= self.deadline:
            self._drop()
            self._refuse(f"the check did not end within {CHECK_SECONDS:g} s")

    def _drop(self) -> None:
        if self._errand is not None:
            self._errand.child.kill()
        self._errand, self.deadline = None, None

    def close(self) -> None:
        if self._errand is not None:
            self._errand.close()

    def _ended(self, errand: Errand) -> None:
        self._selector.unregister(errand)
        if errand is not self._errand:
            errand.close()
            return
        self._errand, self.deadline = None, None
        try:
            found = errand.result()
            settings = conf.unpacked(found["values"], str(found["file"]))  # type: ignore[arg-type]
            programs = filters.unpacked(found)
            remarks = [str(each) for each in found.get("remarks", ())]  # type: ignore[attr-defined]
        except (ValueError, LookupError, TypeError, MemoryError) as error:
            self._refuse(str(error) or "no memory")
        else:
            self._adopt(settings, programs)
            for remark in remarks:
                text = "something does not count yet"
                self._context.say("CONFIG-LATER", "config", text, remark=remark)
        finally:
            errand.close()

    def _refuse(self, why: str) -> None:
        errors = why.splitlines() or [why]
        for line in errors:
            self._context.say("CONFIG-ERROR", "config", "invalid", error=line)
        text = "configuration stays as it was"
        self._context.say("CONFIG-REJECTED", "config", text, errors=len(errors), first=errors[0])
