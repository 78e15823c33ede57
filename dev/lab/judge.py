"""Judges what was seen of a pair by the five statements of section 5. Pure: time is an argument.

A statement says that something does not last. So each has a clock that runs while it is so, and a
complaint is made when that has been so for longer than the limit. A clock does not count the time
in which it did not look: then this host was busy, and so was the pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dev.lab.faults import NAMES, Truth
from failoverd import pair
from failoverd.pair import bounds

if TYPE_CHECKING:
    from failoverd.conf import Conf

SLACK = 4.0  # seconds that a busy host may take longer
MOST_STEP = 0.25  # seconds that count of the time between two looks
SLOW_SCRIPT = 1.0  # seconds that the slow switch script takes
WINDOWS_BEFORE = 3  # in which an interface was bad or good before a switchover because of it


@dataclass(frozen=True)
class Limits:
    """Seconds that something may last.

    linked, wired: two holders that can reach each other over the heartbeat link, over the service
    network. unserved: the client is not served although a node could do it. overlap: two kernels
    could ask each other before one of them took over from the other, which it must not. switchover:
    ago that an interface was bad here, or good at the peer, which got the role for that.
    """

    linked: float
    wired: float
    unserved: float
    overlap: float
    switchover: float


def limits(conf: Conf) -> Limits:
    """What the settings allow."""
    rules = pair.rules(conf, "master")
    window, switch = conf.plip_timer, conf.switch_timeout
    served = bounds.longest_without_active(rules) + bounds.handover_time(rules) + conf.hold_down
    return Limits(
        linked=rules.compare_time + switch + SLACK,
        wired=bounds.ethernet_healing_time(rules) + switch + SLACK,
        unserved=served + SLACK,
        overlap=2 * window + SLOW_SCRIPT + 1.0,
        switchover=WINDOWS_BEFORE * conf.timer_seconds + 1.0,
    )


@dataclass(frozen=True)
class Sight:
    """What is so at a moment. well: the nodes whose failoverd is not disturbed."""

    at: float
    holders: frozenset[str]
    served: bool
    truth: Truth
    well: frozenset[str]


@dataclass(frozen=True)
class Complaint:
    """statement: 1 to 5, or 0 for what is no statement of section 5."""

    at: float
    statement: int
    text: str

    def __str__(self) -> str:
        return f"statement {self.statement}: {self.text}" if self.statement else self.text


class Judge:
    """Is shown every sight, in order."""

    def __init__(self, limits: Limits, *, by_interface: bool = True) -> None:
        self.limits = limits
        # Whether an interface that receives nothing is ever a reason ($low_water).
        self.by_interface = by_interface
        self.complaints: list[Complaint] = []
        self.longest: dict[str, float] = {}  # that each clock ran
        self._clocks: dict[str, float] = {}
        self._before: Sight | None = None
        self._gained: tuple[str, str] | None = None  # who has just got the address, beside whom

    def look(self, sight: Sight) -> None:
        before = self._before or sight
        step = min(MOST_STEP, sight.at - before.at)
        self._look_at_gain(before, sight)
        for name, so, limit, statement, text in self._statements(sight):
            ran = self._clocks.get(name, 0.0) + step if so else 0.0
            self._clocks[name] = ran
            self.longest[name] = max(ran, self.longest.get(name, 0.0))
            if limit is not None and ran > limit >= ran - step:
                self._complain(sight, statement, f"for {ran:.1f} s {text}")
        self._before = sight

    def wrong(self, sight: Sight) -> str:
        """What could be better at this moment, by the same statements; "" if nothing could."""
        return next((text for _, so, limit, _, text in self._statements(sight) if limit and so), "")

    def _complain(self, sight: Sight, statement: int, text: str) -> None:
        self.complaints.append(Complaint(sight.at, statement, text))

    def _statements(self, sight: Sight) -> Iterator[tuple[str, bool, float | None, int, str]]:
        """Name of the clock, whether it runs, its limit, the statement, and what is wrong."""
        truth, limits = sight.truth, self.limits
        obeyed = all(truth.of(name).obeyed for name in NAMES)
        two = len(sight.holders) == 2 and obeyed and sight.well == set(NAMES)
        text = "both nodes have had the address"
        yield "linked", two and truth.linked, limits.linked, 1, f"{text}, with the link whole"
        yield "wired", two and truth.wired, limits.wired, 1, f"{text}, on one wire"
        for name in NAMES:
            so = not sight.served and self._could_serve(sight, name)
            text = f"the client was not served, although {name} could do it"
            yield f"unserved {name}", so, limits.unserved, 2, text
            yield f"apart {name}", truth.wired and name in sight.holders, None, 1, ""
        # A script that was broken a while ago may have left an address behind.
        yield "obeyed", obeyed, None, 5, ""

    def _could_serve(self, sight: Sight, name: str) -> bool:
        """Whether statement 2 promises that this node serves if no other does. While changes of
        role are on hold it promises nothing."""
        us, them = sight.truth.of(name), sight.truth.of(other(name))
        if sight.truth.held or name not in sight.well or not us.networked or not us.obeyed:
            return False
        if them.powered and not them.obeyed:
            return False  # it may be unable to stand down
        # Whoever is dead, or cannot be asked, but still answers on one of its interfaces is not
        # taken over from, even where it has lost the client's.
        interfaces = zip(us.interfaces, them.interfaces, strict=True)
        answers = any(ours == theirs == "works" for ours, theirs in interfaces)
        if other(name) not in sight.holders:
            if not self.by_interface and them.alive and "gone" in them.interfaces:
                return False  # it keeps the role, as with any other interface that fails
            if answers and not them.alive and len(them.interfaces) > 1:
                return False  # it may still have what it serves on another interface
            return sight.truth.linked or not answers or them.interfaces[0] == "works"
        return self.by_interface and (them.alive or not answers)

    def _look_at_gain(self, before: Sight, now: Sight) -> None:
        """Whoever takes over from a node that it could have reached has done wrong at once."""
        if self._gained is not None and len(now.holders) == 2:
            name, holder = self._gained
            self._complain(now, 1, f"{name} got the address while {holder}, on one wire, had it")
        self._gained = None
        new = now.holders - before.holders
        if len(now.holders) == 2 and len(new) == 1:
            (name,) = new
            apart = self._clocks.get(f"apart {other(name)}", 0.0)
            obeyed = self._clocks.get("obeyed", 0.0)
            if min(apart, obeyed) > self.limits.overlap:
                self._gained = name, other(name)


def other(name: str) -> str:
    return "b" if name == "a" else "a"


def needless(history: Sequence[tuple[float, Truth]], at: float, giver: str, limit: float) -> str:
    """Why a switchover because of an interface had no cause (statement 4), "" if it had one.

    history: every truth and since when it was so, in the order of time. limit: seconds before `at`
    in which the interface must have been bad here for a while, and good there.
    """
    ends = [since for since, _ in history[1:]] + [math.inf]
    recent = [
        truth
        for (since, truth), end in zip(history, ends, strict=True)
        if since <= at and end >= at - limit
    ]
    if all(truth.of(giver).networked for truth in recent):
        return f"every interface of {giver} was good"
    if not any("works" in truth.of(other(giver)).interfaces for truth in recent):
        return f"no interface of {other(giver)} was good"
    return ""
