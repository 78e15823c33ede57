"""HUP: an errand reads the configuration again and checks it, and the loop goes on meanwhile: to
translate a filter may take a minute, and a loop that stalls for a window sends no heartbeats.

What is sound comes back as plain values. The worker reads nothing but what root has written, but
each value is read and checked here once more: that costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from failoverd import conf
from failoverd.conf import Conf
from failoverd.master.context import Context
from failoverd.master.errands import Errands
from failoverd.process import Channel, Message
from failoverd.watch import filters
from failoverd.watch.filters import Program

CHECK_SECONDS = 2 * filters.WAITING_SECONDS + 30.0  # both filters, and all the rest
ERRAND = "check"

Check = Callable[[Conf, Channel], Message]  # what `sound` has made, or it raises why not
Adopt = Callable[[Conf, Sequence[Program]], None]


def sound(settings: Conf, programs: Sequence[Program]) -> Message:
    """What a check says of a configuration that can be adopted."""
    told: Message = {"file": settings.origin.file, "values": conf.packed(settings)}
    return told | filters.packed(programs)


class Reload:
    """At most one check counts: one that is asked for during another takes its place."""

    def __init__(self, context: Context, errands: Errands, check: Check, adopt: Adopt) -> None:
        self._context = context
        self._errands = errands
        self._check = check
        self._adopt = adopt

    def begin(self) -> None:
        self._errands.drop(ERRAND)
        running = self._context.conf
        work = partial(self._check, running)
        self._errands.start(ERRAND, work, self._ended, CHECK_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._errands.drop(ERRAND)
        self._refuse(f"the check did not end within {CHECK_SECONDS:g} s")

    def _ended(self, why: str, found: Message) -> None:
        try:
            if why:
                raise ValueError(why)
            settings = conf.unpacked(found["values"], str(found["file"]))  # type: ignore[arg-type]
            programs = filters.unpacked(found)
            remarks = [str(each) for each in found.get("remarks", ())]  # type: ignore[attr-defined]
        except (ValueError, LookupError, TypeError, MemoryError) as error:
            self._refuse(str(error) or "no memory")
            return
        self._adopt(settings, programs)
        for remark in remarks:
            text = "something does not count yet"
            self._context.say("CONFIG-LATER", "config", text, remark=remark)

    def _refuse(self, why: str) -> None:
        errors = why.splitlines() or [why]
        for line in errors:
            self._context.say("CONFIG-ERROR", "config", "invalid", error=line)
        text = "configuration stays as it was"
        self._context.say("CONFIG-REJECTED", "config", text, errors=len(errors), first=errors[0])
