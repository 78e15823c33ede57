"""What failoverd makes of the reports of its service checks: the pair, the log, the status."""

from __future__ import annotations

import selectors
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from live_pair import context
from samples import ACTIVE, STANDBY

from dev.lab import logs
from failoverd import pair
from failoverd.conf import Conf, ServiceCheck
from failoverd.master.context import Context
from failoverd.master.queries import peer_view
from failoverd.master.service_checks import ServiceChecks
from failoverd.master.supervisor import Supervisor
from failoverd.pair.knowledge import Phase
from failoverd.wire.protocol import CheckStatus, encode_status, parse_status

WEB = ServiceCheck("web", 2.0, ("/bin/web",))
ALL = ServiceCheck("all", 2.0, ("/bin/all",), everywhere=True)


class Node:
    """An active node with these two checks, and no worker."""

    def __init__(self, folder: Path) -> None:
        self.context: Context = context(folder)
        self.context.conf = replace(self.context.conf, checks=(WEB, ALL))
        supervisor = Supervisor(selectors.DefaultSelector(), lambda *_: None, lambda *_: None)
        self.checks = ServiceChecks(self.context, supervisor)
        self.be(Phase.ACTIVE)

    def be(self, phase: Phase) -> None:
        self.context.state = replace(self.context.state, phase=phase)
        self.checks.follow_role()

    def told(self, name: str | None, state: str, **more: Any) -> None:
        turn = self.checks.orders()["turn"]
        report = {"name": name, "state": state, "output": "said", "turn": turn, "passed": True}
        report |= more
        self.checks.told({"event": "check", **report})

    def adopt(self, *checks: ServiceCheck) -> None:
        self.context.conf = replace(self.context.conf, checks=checks)
        self.checks.adopt()

    def fed(self) -> list[tuple[str, bool | None]]:
        """What the pair was told since this was asked last."""
        found = [(e.name, e.ok) for e in self.context.events if isinstance(e, pair.Checked)]
        self.context.events.clear()
        return found

    def states(self) -> dict[str, str]:
        return {name: status.state for name, status in self.checks.statuses()}

    def log(self, *events: str) -> list[str]:
        text = Path(self.context.conf.log).read_text()
        return [str(line) for event in events for line in logs.lines(text, event)]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_bad_check_is_told_once_and_its_end_too(node: Node) -> None:
    node.told("web", "unknown", output="refused")
    assert node.fed() == []
    node.told("web", "ok")
    assert node.fed() == [("web", True)] and node.log("CHECK-FAIL", "CHECK-OK") == []
    node.told("web", "bad", output="refused")
    node.told("web", "bad", output="refused again")
    assert node.fed() == [("web", False)]
    (line,) = node.log("CHECK-FAIL")
    assert line == "CHECK-FAIL check web: failed; output=refused"
    ((_, status), _) = node.checks.statuses()
    assert (status.state, status.output) == ("bad", "refused again")
    node.told("web", "ok")
    assert node.fed() == [("web", True)]
    (line,) = node.log("CHECK-OK")
    assert line.startswith("CHECK-OK check web: ok; after=")


def test_reports_of_what_is_no_check_or_was_one_mean_nothing(node: Node) -> None:
    turn = node.checks.orders()["turn"]
    node.told("nothing", "bad")
    node.be(Phase.STANDBY)
    node.told("all", "bad", turn=turn)
    assert node.fed() == [] and node.states() == {"web": "unknown", "all": "unknown"}
    for name, state, turn in (("web", "fine", 1), (None, "ok", 1), ("web", "ok", -1)):
        with pytest.raises(ValueError):
            node.told(name, state, turn=turn)


def test_what_was_bad_when_the_role_went_counts_until_the_peer_knows_why(node: Node) -> None:
    """Or it would hand the role back because of the very same check."""
    node.told("web", "bad")
    node.told("all", "ok")
    node.fed()
    node.be(Phase.STANDBY)
    assert node.states() == {"web": "bad", "all": "ok"} and node.fed() == [("web", False)]
    deadline = node.checks.deadline
    assert deadline is not None and deadline > time.monotonic() + node.context.conf.hold_down - 1
    node.checks.tend(deadline)
    assert node.states() == {"web": "unknown", "all": "ok"} and node.fed() == [("web", None)]
    assert node.checks.deadline is None


def test_checks_begin_again_when_the_role_comes(node: Node) -> None:
    """Those with a star go on, and the pair is told again: it forgets at a change of role what
    is bad. What was bad is over when a run has shown that."""
    node.told("web", "bad")
    node.told("all", "bad")
    node.be(Phase.STANDBY)
    node.fed()
    node.be(Phase.ACTIVE)
    assert node.states() == {"web": "unknown", "all": "bad"}
    assert node.fed() == [("all", False)] and node.log("CHECK-OK") == []
    assert node.checks.deadline is None
    node.told("web", "ok")
    assert len(node.log("CHECK-OK")) == 1


def test_one_with_a_star_has_passed_here_once_a_run_was_good_under_the_role(node: Node) -> None:
    """What was good on the standby proves nothing. But what has never passed keeps its role."""
    node.be(Phase.STANDBY)
    node.told("all", "ok")
    node.fed()
    node.be(Phase.ACTIVE)
    node.told("all", "ok", passed=False)
    assert node.fed() == []
    node.told("all", "ok")
    node.told("all", "ok", output="said more")
    node.told("all", "ok", passed=False)  # of another worker
    assert node.fed() == [("all", True)]
    node.told("all", "bad", passed=False)
    node.told("all", "ok", passed=False)
    assert node.fed() == [("all", False), ("all", True)]


def test_one_that_is_good_again_by_a_run_of_the_time_before_is_not_bad_here(node: Node) -> None:
    node.told("all", "bad")
    node.be(Phase.STANDBY)
    node.be(Phase.ACTIVE)
    node.fed()
    node.told("all", "ok", passed=False)
    assert node.fed() == [("all", None)]


def test_a_removed_check_is_bad_no_more(node: Node) -> None:
    node.told("web", "bad")
    node.told("all", "bad")
    node.fed()
    node.adopt(ALL)
    assert node.fed() == [("web", None)] and node.states() == {"all": "bad"}
    (line,) = node.log("CHECK-OK")
    assert line.startswith("CHECK-OK check web: no longer configured; after=")


def test_a_removed_check_was_not_good_either(node: Node) -> None:
    """By that a role could go back that has come because of one of this name."""
    node.told("web", "ok")
    node.fed()
    node.adopt(ALL)
    assert node.fed() == [("web", None)]


def test_a_changed_check_begins_again_and_the_others_go_on(node: Node) -> None:
    node.told("web", "bad")
    node.told("all", "bad")
    node.fed()
    node.adopt(replace(WEB, command=("/bin/other",)), ALL)
    assert node.fed() == [("web", None)]
    assert node.states() == {"web": "unknown", "all": "bad"}
    states = {"web": "unknown", "all": "bad"}
    orders = node.checks.orders()
    assert (orders["active"], orders["states"]) == (True, states)


def test_a_dry_run_has_none(tmp_path: Path) -> None:
    node = Node(tmp_path)
    dry = Context(node.context.conf, "slave", node.context.log, lambda *_: None, dry=True)
    supervisor = Supervisor(selectors.DefaultSelector(), lambda *_: None, lambda *_: None)
    assert not ServiceChecks(dry, supervisor).are_any
    assert isinstance(dry.conf, Conf) and node.checks.are_any


def test_the_peers_bad_checks_are_seen() -> None:
    bad = CheckStatus("bad", STANDBY.since, "refused")
    found = (("web", bad), ("db", replace(bad, state="ok")), ("all", replace(bad, state="unknown")))
    seen = peer_view(replace(STANDBY, checks=found), ("eth0",))
    assert seen.checks == {"web"} and seen.untried == {"all"}


def test_what_a_status_tells_of_relief_is_seen() -> None:
    for wants in (False, True):
        told = parse_status(encode_status(replace(ACTIVE, wants_relief=wants)))
        assert told is not None and peer_view(told, ("eth0",)).wants_relief is wants


def test_a_restart_does_not_forget_what_the_role_was_given_away_for(node: Node) -> None:
    """The peer has to learn why it has the role, or gives it back for the same reason."""
    node.told("web", "bad")
    node.be(Phase.STANDBY)
    again = Node(Path(node.context.conf.log).parent)
    again.be(Phase.STANDBY)
    again.fed()
    again.checks.remember(["web", "all", "gone"])
    assert again.fed() == [("web", False)]
    assert again.states() == {"web": "bad", "all": "unknown"}
    deadline = again.checks.deadline
    assert deadline is not None
    again.checks.tend(deadline)
    assert again.fed() == [("web", None)]
    assert again.states() == {"web": "unknown", "all": "unknown"}
