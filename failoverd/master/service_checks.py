"""How the service checks stand: kept, logged, shown, and told to the pair."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from failoverd import checks, pair
from failoverd.conf import ServiceCheck
from failoverd.log import lasting, utc_now
from failoverd.master.context import Context
from failoverd.master.messages import CheckReport
from failoverd.master.supervisor import Supervisor
from failoverd.process import Message
from failoverd.wire import protocol
from failoverd.wire.typed import decode


@dataclass
class Standing:
    """failed: since when, in monotonic seconds, if it was said to be bad and not to be good.
    passed: whether a run was good under the role of now, as the pair was told."""

    check: ServiceCheck
    state: str = "unknown"
    output: str = ""
    since: str = field(default_factory=utc_now)
    failed: float | None = None
    passed: bool = False

    def become(self, state: str, output: str = "") -> None:
        self.state, self.since, self.output = state, utc_now(), output


class ServiceChecks:
    """Those without * are made on the active node only, and begin again when it becomes active.

    One that was bad when the role went counts for $hold_down longer, and at least until the peer
    has asked: it is to know why it has the role, or would give it back.
    """

    def __init__(self, context: Context, supervisor: Supervisor) -> None:
        self._context = context
        self._supervisor = supervisor
        self._standings: dict[str, Standing] = {}
        self._active = False
        self._turn = 0  # of the orders: what was reported under earlier ones means nothing
        self.deadline: float | None = None  # when what was bad under the role is forgotten
        self.adopt()

    @property
    def are_any(self) -> bool:
        return bool(self._standings)

    def orders(self) -> Message:
        """What the worker is to do now."""
        states = {name: standing.state for name, standing in self._standings.items()}
        return checks.orders(self._active, self._turn, states)

    def statuses(self) -> tuple[tuple[str, protocol.CheckStatus], ...]:
        return tuple(
            (name, protocol.CheckStatus(each.state, each.since, protocol.words(each.output)))
            for name, each in self._standings.items()
        )

    def adopt(self) -> None:
        """The configuration may be another. What is in it unchanged stands as it did."""
        old, self._standings = self._standings, {}
        self._turn += 1
        wanted = () if self._context.dry else self._context.conf.checks
        for check in wanted:
            standing = old.pop(check.name, None)
            if standing is not None and standing.check != check:
                self._forget(check.name, standing)
                standing.check = check
            self._standings[check.name] = standing or Standing(check)
        for name, standing in old.items():
            self._forget(name, standing)
            self._end(name, standing, "no longer configured")

    @property
    def _grace(self) -> float:
        rules = self._context.rules
        return max(rules.hold_down, rules.window) + rules.compare_time

    def remember(self, bad: Collection[str]) -> None:
        """This node stands by, and these were bad before its failoverd was started again."""
        for name, standing in self._standings.items():
            if name in bad and not standing.check.everywhere:
                standing.become("bad", "before failoverd was started again")
                self._context.feed(pair.Checked(name, False))
                self.deadline = time.monotonic() + self._grace

    def follow_role(self) -> None:
        active = self._context.role == "active"
        if active is self._active:
            return
        self._active = active
        self._turn += 1
        self.deadline = None if active else time.monotonic() + self._grace
        for standing in self._standings.values():
            standing.passed = False
            if not standing.check.everywhere and (active or standing.state != "bad"):
                standing.become("unknown")
        self._supervisor.send("checks", self.orders())
        self._tell_bad()

    def tend(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            for name, standing in self._standings.items():
                if not standing.check.everywhere:
                    self._forget(name, standing)
            self._tell_bad()

    def _tell_bad(self) -> None:
        """The pair forgets what was found under another role, also what is found under any."""
        for name, standing in self._standings.items():
            if standing.state == "bad":
                self._context.feed(pair.Checked(name, False))

    def told(self, message: Message) -> None:
        """Raises ValueError if it is no report."""
        report = decode(CheckReport, message)
        standing = self._standings.get(report.name)
        if standing is None or report.turn != self._turn:
            return
        standing.output = report.output
        is_news = report.state != standing.state
        if is_news:
            self._become(report, standing)
        proves = report.passed and not standing.passed
        standing.passed |= report.passed
        if report.state == "ok" and (is_news or proves):
            self._context.feed(pair.Checked(report.name, standing.passed or None))
        elif report.state == "bad" and is_news:
            self._context.feed(pair.Checked(report.name, False))

    def _become(self, report: CheckReport, standing: Standing) -> None:
        standing.become(report.state, report.output)
        if report.state == "bad":
            standing.failed = time.monotonic()
            self._say("CHECK-FAIL", report.name, "failed", output=report.output)
        elif report.state == "ok":
            self._end(report.name, standing, "ok")

    def _forget(self, name: str, standing: Standing) -> None:
        """What was known of it means nothing any more, not even that it was good."""
        if standing.state != "unknown":
            self._context.feed(pair.Checked(name, None))
        standing.passed = False
        standing.become("unknown")

    def _end(self, name: str, standing: Standing, text: str) -> None:
        if standing.failed is not None:
            after = lasting(time.monotonic() - standing.failed)
            standing.failed = None
            self._say("CHECK-OK", name, text, after=after)

    def _say(self, event: str, name: str, text: str, **values: object) -> None:
        source = "checks", self._supervisor.pid("checks")
        self._context.say(event, f"check {name}", text, source, **values)
