"""What ha-status makes of a pair: first as a table, then of real pairs with something wrong."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_pair import context
from samples import ACTIVE, STANDBY

from dev.lab.filters import CLOSED, drop, pass_all, why_no_filters
from dev.lab.network import ROUTER, SERVICE, Lab
from dev.lab.node import SWITCH, Node, Value
from dev.lab.spaces import Process
from failoverd import conf, pair
from failoverd.conf import Conf, alike
from failoverd.master.context import Context
from failoverd.tools import nodes
from failoverd.tools.nodes import Answer, Look
from failoverd.tools.verdict import CRITICAL, OK, UNKNOWN, WARNING, Verdict, judge, names
from failoverd.wire import protocol
from failoverd.wire.protocol import (
    BOOTS,
    ROLES,
    SERVICES,
    STATES,
    CheckStatus,
    Failure,
    Hold,
    InterfaceStatus,
    Status,
    encode_status,
    parse_status,
)

LONG = 60.0
A = replace(ACTIVE, host="node-a", service="here", age=100.0, now=ACTIVE.since)
B = replace(STANDBY, host="node-b", service="peer", age=100.0, now=ACTIVE.since, heartbeat_age=0.1)
HOLD = Hold(7, True, None, "root", "node-a", ACTIVE.since)
RELEASED = replace(HOLD, held=False)
FAILURE = Failure("master", 1, "RTNETLINK answers: File exists", "", ACTIVE.since, 5.0)


def interface(
    state: str, packets: int = 0, last: int = 0, hwaddr: str = "02:00:00:00:00:01"
) -> Any:
    return ("eth0", InterfaceStatus(state, packets, last, hwaddr))


def having(status: Status, *found: Any) -> Status:
    return replace(status, interfaces=found)


DOWN, SILENT, FAILED = interface("down"), interface("silent"), interface("fail")
OTHER = ("eth1", InterfaceStatus("ok", 5, 5, "02:00:00:00:01:01"))
UNPLUGGED = "node-a is active, but node-b cannot take over: eth0 has no carrier"
LATE = 31.0  # seconds: longer than the $switch_timeout of `of`


def checked(status: Status, state: str) -> Status:
    check = CheckStatus(state, status.since, "connection refused")
    return replace(status, checks=(("web", check),))


TABLE: list[tuple[Status | None, Status | None, int, str]] = [
    # one is active, and the other can take over
    (A, B, OK, "node-a is active, and node-b can take over"),
    (B, A, OK, "node-a is active, and node-b can take over"),
    (A, having(B, interface("boot", 1)), OK, "node-a is active, and node-b can take over"),
    (A, replace(B, plip_state="boot"), OK, "node-a is active, and node-b can take over"),
    # after a switch it is not known yet what was known before
    (A, having(B, interface("boot")), WARNING,
     "node-a is active, but eth0 of node-b has received nothing yet"),
    (having(A, interface("boot")), B, WARNING,
     "node-a is active, but eth0 of node-a has received nothing yet"),
    # the other's interfaces
    (A, having(B, DOWN), WARNING, UNPLUGGED),
    (having(B, DOWN), A, WARNING, UNPLUGGED),
    (A, having(B, interface("down", hwaddr="")), WARNING,
     "node-a is active, but node-b cannot take over: eth0 does not exist"),
    (A, having(B, SILENT), WARNING,
     "node-a is active, but node-b cannot take over: eth0 is not receiving"),
    (A, having(B, FAILED), WARNING,
     "node-a is active, but node-b cannot take over: eth0 is not receiving"),
    (A, having(B, interface("fail", 2, 3)), OK, "node-a is active, and node-b can take over"),
    (having(A, interface("ok", 5, 5), OTHER), having(B, DOWN, OTHER), WARNING,
     "node-a is active, but on node-b eth0 has no carrier"),
    (A, having(B), WARNING, "node-a is active, but node-b watches no interface"),
    # the active one's
    (having(A, SILENT), B, WARNING, "node-a is active, but eth0 of node-a is not receiving"),
    (having(A, SILENT), having(B, SILENT), WARNING,
     "node-a is active, but eth0 of node-a is not receiving"),
    (having(A, interface("fail", 2, 1)), B, WARNING,
     "node-a is active, but eth0 of node-a receives less than $low_water"),
    (having(A, DOWN), having(B, DOWN), WARNING,
     "node-a is active, but node-b cannot take over: eth0 has no carrier; eth0 of node-a has no "
     "carrier"),
    # roles
    (A, replace(B, role="failed", failure=FAILURE), WARNING,
     "node-a is active, but node-b cannot take over: its role is failed; the switch script failed "
     "on node-b (master, exit 1): RTNETLINK answers: File exists"),
    (A, replace(B, role="switching"), WARNING, "node-a is active, but node-b is switching"),
    (replace(A, rejoining=True), B, WARNING,
     "node-a is active, but node-a probes for the addresses before it sends gratuitous ARP"),
    # the heartbeat link, in either direction
    (A, replace(B, plip_state="fail"), WARNING,
     "node-a is active, but node-b receives no heartbeats from node-a"),
    (replace(A, plip_state="fail"), B, WARNING,
     "node-a is active, but node-a receives no heartbeats from node-b"),
    (A, replace(B, plip_state="fail", blocked="heartbeat lost: no takeover"), WARNING,
     "node-a is active, but node-b receives no heartbeats from node-a; node-b says: heartbeat "
     "lost: no takeover"),
    (replace(A, plip_state="down"), B, WARNING,
     "node-a is active, but node-a has no carrier on the heartbeat link"),
    (A, replace(B, plip_state="boot", heartbeat_age=None), WARNING,
     "node-a is active, but node-b receives no heartbeats from node-a"),
    (replace(A, path="second", plip_state="fail"), replace(B, plip_state="down"), WARNING,
     "node-a is active, but the heartbeat link is down: the nodes reach each other over the "
     "second path only"),
    (replace(A, path="second"), B, WARNING,
     "node-a is active, but the peer's port answers over the second path only"),
    (replace(A, path="private"), replace(B, path="private"), OK,
     "node-a is active, and node-b can take over"),
    (A, replace(B, speechless=True), WARNING,
     "node-a is active, but node-a does not answer the queries of node-b"),
    (replace(A, speechless=True), B, WARNING,
     "node-a is active, but node-b does not answer the queries of node-a"),
    # the last switch
    (A, replace(B, switch_last="slave", switch_exit=1), WARNING,
     "node-a is active, but the switch script failed on node-b (slave, exit 1)"),
    (replace(A, failure=replace(FAILURE, role="slave", exit=0, line="",
                                why="192.0.2.10/24 is still on eth1")), B, WARNING,
     "node-a is active, but the switch script failed on node-a (slave, exit 0): 192.0.2.10/24 is "
     "still on eth1"),
    # the service checks
    (A, checked(B, "bad"), WARNING,
     "node-a is active, but check web is bad on node-b: connection refused"),
    (checked(A, "bad"), checked(B, "bad"), WARNING,
     "node-a is active, but check web is bad on node-a: connection refused; check web is bad on "
     "node-b: connection refused"),
    (checked(A, "ok"), checked(B, "unknown"), OK, "node-a is active, and node-b can take over"),
    # what is set
    (A, replace(B, boot="master"), WARNING,
     "node-a is active, but both nodes have boot:master in host_type"),
    # two
    (A, replace(B, role="active"), CRITICAL, "node-a and node-b are both active"),
    (replace(A, claimed=True), None, CRITICAL,
     "node-a is active, but another host answers for the service addresses, too"),
    # one, and the other does not answer
    (A, None, WARNING, "node-a is active, but peer 1.0.0.2 gives no valid answer"),
    (replace(A, peer_host="node-b"), None, WARNING,
     "node-a is active, but node-b gives no valid answer"),
    (None, replace(B, peer_host="node-a"), UNKNOWN,
     "failoverd on node-a gives no valid answer; node-b is standby"),
    (replace(A, speechless=True), None, WARNING,
     "node-a is active, but peer 1.0.0.2 sends heartbeats without answering"),
    (replace(A, plip_state="down"), None, WARNING,
     "node-a is active, but node-a has no carrier on the heartbeat link; peer 1.0.0.2 gives no "
     "valid answer"),
    # none
    (replace(A, role="standby"), B, CRITICAL,
     "no node is known to be active: node-a is standby, node-b is standby"),
    (replace(A, role="standby", plip_state="boot"), B, CRITICAL,
     "no node is known to be active: node-a is standby, node-b is standby; node-a is in its first "
     "window"),
    (replace(A, role="failed", failure=FAILURE), B, CRITICAL,
     "no node is known to be active: node-a is failed, node-b is standby; the switch script failed "
     "on node-a (master, exit 1): RTNETLINK answers: File exists"),
    (replace(A, role="switching", age=1.0), B, WARNING,
     "node-a is switching, and no node is active yet"),
    (replace(A, role="switching", age=1.0), None, WARNING,
     "node-a is switching, and no node is active yet"),
    (replace(A, role="switching", age=LATE), replace(B, role="switching", age=1.0), WARNING,
     "node-a and node-b are switching, and no node is active yet"),
    (replace(A, role="switching", age=LATE), B, CRITICAL,
     "no node is known to be active: node-a is switching for longer than $switch_timeout, node-b "
     "is standby"),
    # a standby alone
    (replace(B, service="answered"), None, WARNING,
     "node-b is standby, peer 1.0.0.2 gives no valid answer, but the service addresses are "
     "answered for"),
    (replace(B, service="answered", stranger="192.0.2.10 02:00:00:00:00:99"), None, CRITICAL,
     "no node is known to be active: node-b is standby, peer 1.0.0.2 gives no valid answer; "
     "192.0.2.10 is at 02:00:00:00:00:99, which is neither node"),
    (B, None, WARNING,
     "node-b is standby, peer 1.0.0.2 gives no valid answer here, but was active just now"),
    (replace(B, service="answered", plip_state="down"), None, WARNING,
     "node-b is standby, peer 1.0.0.2 gives no valid answer, but the service addresses are "
     "answered for; node-b has no carrier on the heartbeat link"),
    (replace(B, service="unknown"), None, WARNING,
     "node-b is standby, peer 1.0.0.2 gives no valid answer, and it is not known yet which node "
     "serves"),
    (replace(B, service="nobody", blocked="fencing failed, no takeover"), None, CRITICAL,
     "no node is known to be active: node-b is standby, peer 1.0.0.2 gives no valid answer; "
     "node-b says: fencing failed, no takeover"),
    (replace(having(B, DOWN), service="nobody", plip_state="down", blocked="no interface is up"),
     None, CRITICAL,
     "no node is known to be active: node-b is standby, peer 1.0.0.2 gives no valid answer; eth0 "
     "of node-b has no carrier; node-b has no carrier on the heartbeat link; node-b says: no "
     "interface is up"),
    (replace(B, role="failed", service="nobody", plip_state="down", failure=FAILURE),
     None, CRITICAL,
     "no node is known to be active: node-b is failed, peer 1.0.0.2 gives no valid answer; the "
     "switch script failed on node-b (master, exit 1): RTNETLINK answers: File exists; node-b has "
     "no carrier on the heartbeat link"),
    # on hold
    (replace(A, hold=HOLD), replace(B, hold=HOLD), WARNING,
     "node-a is active, and node-b can take over, but role changes are on hold by root on node-a"),
    (A, replace(B, hold=replace(HOLD, node="")), WARNING,
     "node-a is active, and node-b can take over, but role changes are on hold by root"),
    (replace(A, hold=RELEASED), replace(B, hold=RELEASED), OK,
     "node-a is active, and node-b can take over"),
    (replace(A, hold=HOLD), None, WARNING,
     "node-a is active, but peer 1.0.0.2 gives no valid answer; role changes are on hold by root "
     "on node-a"),
    (replace(A, role="standby", hold=HOLD), B, CRITICAL,
     "no node is known to be active: node-a is standby, node-b is standby; role changes are on "
     "hold by root on node-a"),
    (None, replace(A, hold=HOLD), UNKNOWN,
     "failoverd on this node gives no valid answer; node-a is active"),
    # no daemon here
    (None, A, UNKNOWN, "failoverd on this node gives no valid answer; node-a is active"),
    (None, None, UNKNOWN, "failoverd on this node gives no valid answer; nor does peer 1.0.0.2"),
    # an older failoverd, which tells less; and two with one name
    (ACTIVE, replace(STANDBY, service="", host="node-b"), OK,
     "this node is active, and node-b can take over"),
    (replace(A, host="x"), replace(B, host="x"), OK,
     "this node is active, and peer 1.0.0.2 can take over"),
    (STANDBY, None, CRITICAL,
     "no node is known to be active: this node is standby, peer 1.0.0.2 gives no valid answer"),
    (replace(ACTIVE, role="switching"), STANDBY, WARNING,
     "this node is switching, and no node is active yet"),
]  # fmt: skip


def of(us: Status | None, peer: Status | None, *differences: str, amiss: Any = ()) -> Verdict:
    called = names(us, peer, "1.0.0.2")
    told = {"differences": differences, "amiss": amiss}
    return judge(us, peer, names=called, switch_timeout=30.0, **told)


@pytest.mark.parametrize(("us", "peer", "status", "sentence"), TABLE)
def test_the_verdict(us: Status | None, peer: Status | None, status: int, sentence: str) -> None:
    said = of(us, peer)
    assert (said.status, said.sentence) == (status, sentence)


ADVICE: list[tuple[Status | None, Status | None, str]] = [
    (A, B, ""),
    (A, having(B, DOWN), "eth0 of node-b: check its cable and the port of the switch"),
    (having(A, SILENT), B, "eth0 of node-a: check the port and the VLAN on the switch"),
    (A, replace(B, role="failed", failure=FAILURE), "read the log of node-b, and when the cause"),
    (A, replace(B, plip_state="fail"), "look for a firewall that drops ICMP from node-a to"),
    (replace(A, plip_state="down"), None, "check that the peer is up"),
    (B, None, "check that the peer is up"),
    (replace(A, role="failed", failure=FAILURE), None, "read the log of node-a, and when the"),
    (replace(B, service="nobody", blocked="because"), None, "read the logs of both nodes"),
    (
        replace(having(B, DOWN), service="nobody", plip_state="down", blocked="because"),
        None,
        "eth0 of node-b: check its cable and the port of the switch",
    ),
    (
        replace(B, service="nobody", plip_state="down", blocked="because"),
        None,
        "check that the peer is up",
    ),
    (replace(A, plip_state="down"), B, "check the cable of the heartbeat link at node-a"),
    (A, replace(B, role="active"), "check the heartbeat link: nodes that reach each other settle"),
    (replace(A, role="standby"), B, "read the logs of both nodes"),
    (None, B, "check that failoverd is running on this node"),
    (replace(A, hold=HOLD), B, "ha-fail --release when the maintenance is over"),
    (replace(A, hold=HOLD), having(B, DOWN), "eth0 of node-b: check its cable"),
    (replace(A, role="standby", hold=HOLD), B, "ha-fail still switches, or ha-fail --rel"),
]


@pytest.mark.parametrize(("us", "peer", "advice"), ADVICE)
def test_what_to_look_at_first(us: Status | None, peer: Status | None, advice: str) -> None:
    said = of(us, peer).advice
    assert said.startswith(advice) and bool(said) is bool(advice)


@pytest.mark.parametrize(
    ("now", "left", "told"),
    [
        ("2026-11-22T12:00:00Z", 90.0, "until 12:01 by"),
        ("2026-11-22T12:00:00.500Z", 11 * 3600.0, "until 23:00 by"),
        ("2026-11-22T12:00:00Z", 12 * 3600.0, "until 2026-11-23 00:00 by"),
        ("", 90.0, "for 90 s by"),
        ("2026-99-99T12:00:00Z", 90.0, "for 90 s by"),
        ("9999-12-31T23:59:59Z", 999_999_999.0, "for 999999999 s by"),
    ],
)
def test_until_when_it_is_on_hold(
    monkeypatch: pytest.MonkeyPatch, now: str, left: float, told: str
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    held = replace(A, now=now, hold=replace(HOLD, seconds_left=left))
    assert of(held, B).sentence.endswith(f", but role changes are on hold {told} root on node-a")
    monkeypatch.undo()
    time.tzset()


def test_the_first_line_begins_with_its_word() -> None:
    words = {str(of(us, peer)).partition(": ")[0]: status for us, peer, status, _ in TABLE}
    assert words == {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


def test_what_differs_is_a_reason() -> None:
    said = of(A, B, "$low_water is 0 here, 1 on the peer")
    assert (said.status, said.sentence) == (
        WARNING,
        "node-a is active, but not the same on both nodes: $low_water is 0 here, 1 on the peer",
    )
    assert of(A, replace(B, role="active"), "x").status == CRITICAL
    assert of(A, B, *"abcd").sentence.endswith("nodes: a; b; and 2 more")


def test_what_is_amiss_with_this_nodes_network_is_a_reason() -> None:
    def told(us: Status, peer: Status) -> tuple[int, str]:
        said = of(us, peer, amiss=["x"])
        return said.status, said.sentence

    assert told(A, B) == (WARNING, "node-a is active, but node-a: x")
    assert told(B, A) == (WARNING, "node-a is active, but node-b: x")
    assert told(A, replace(B, role="active"))[0] == CRITICAL


PLACED = (("192.0.2.10/24", "eth0"), ("2001:db8::10/64", "eth0"))


@pytest.mark.parametrize(
    ("held", "age", "unplaced"),
    [
        (PLACED, 60.0, ["192.0.2.11"]),
        (PLACED[:1], 60.0, ["192.0.2.11", "2001:db8::10"]),
        ((), 60.0, ["192.0.2.10", "192.0.2.11", "2001:db8::10"]),
        ((*PLACED, ("192.0.2.11/24", "eth1")), 60.0, []),
        (PLACED, 5.0, []),  # it may not have looked yet
        (None, 60.0, []),  # an older failoverd does not tell
        (PLACED * 8, 60.0, []),  # nor does a newer one tell more of them
    ],
)
def test_a_service_address_that_is_on_neither_node_is_a_reason(
    held: tuple[tuple[str, str], ...] | None, age: float, unplaced: list[str]
) -> None:
    names = "eth0 192.0.2.10/24", "eth1 192.0.2.11/24", "eth0 2001:db8::10/64"
    quoted = ", ".join(f'"{name}"' for name in names)
    settings = conf.parse(
        f"$plip_timer = 5; $plip_hbeat = 2; @addresses = ({quoted});", "failoverd.conf"
    )
    active = replace(A, held=held, age=age)
    for us, peer in ((active, B), (B, active)):
        look = Look(settings, Answer(us), Answer(peer))
        assert look.unplaced == unplaced
        told = " is not on node-a" in look.verdict.sentence
        assert (told, look.verdict.status) == ((True, WARNING) if unplaced else (False, OK))
    assert Look(settings, Answer(B), Answer()).unplaced == []


def test_a_service_address_that_was_not_read_yet_is_no_reason_to_switch() -> None:
    read = conf.parse('@addresses = ("eth0 192.0.2.10/24");', "failoverd.conf")
    written = conf.parse('@addresses = ("eth0 192.0.2.10/24", "eth0 192.0.2.12/24");', "x")
    for runs, advice in ((read, "send HUP to failoverd on both"), (written, "run ha-fail")):
        active = replace(A, held=PLACED[:1], settings=alike.settings(runs))
        standby = replace(B, settings=alike.settings(runs))
        for us, peer in ((active, standby), (standby, active)):
            look = Look(written, Answer(us), Answer(peer))
            assert look.verdict.status == WARNING and "192.0.2.12" in look.verdict.sentence
            assert advice in look.verdict.advice


counts = st.integers(0, 2)
statuses = st.builds(
    Status,
    role=st.sampled_from(ROLES),
    boot=st.sampled_from(BOOTS),
    since=st.sampled_from([ACTIVE.since, "2026-99-99T00:00:00Z"]),
    version=st.just("2.0.0"),
    interfaces=st.dictionaries(
        st.sampled_from(["eth0", "eth1"]),
        st.builds(InterfaceStatus, st.sampled_from(STATES), counts, counts, st.just("")),
    ).map(lambda known: tuple(known.items())),
    plip_state=st.sampled_from(STATES),
    heartbeat_age=st.none() | st.just(1.0),
    rtt_ms=st.none(),
    switch_last=st.sampled_from([None, "master", "slave"]),
    switch_exit=st.sampled_from([None, 0, 1]),
    switch_seconds=st.none(),
    speechless=st.booleans(),
    rejoining=st.booleans(),
    host=st.sampled_from(["", "x", "y"]),
    now=st.sampled_from(["", ACTIVE.since, "2026-99-99T00:00:00Z"]),
    age=st.none() | st.sampled_from([0.0, 5.0, LATE]),
    service=st.sampled_from(["", *SERVICES]),
    claimed=st.booleans(),
    blocked=st.sampled_from(["", "no takeover: because"]),
    failure=st.none() | st.just(FAILURE),
    hold=st.sampled_from([None, RELEASED, HOLD, replace(HOLD, seconds_left=90.0)]),
)


def receives(interface: InterfaceStatus) -> bool:
    return not protocol.is_bad(interface.state, interface.packets, interface.last)


@given(statuses, statuses)
def test_ok_only_if_the_other_can_take_over(us: Status, peer: Status) -> None:
    if of(us, peer).status != OK:
        return
    active, other = sorted((us, peer), key=lambda status: status.role)
    assert (active.role, other.role) == ("active", "standby")
    assert any(receives(interface) for _, interface in other.interfaces)
    assert all(i.state in ("ok", "boot") for _, i in active.interfaces)
    assert all(i.packets for s in (us, peer) for _, i in s.interfaces if i.state == "boot")
    assert not active.claimed and not active.rejoining and us.boot != peer.boot
    for status in (us, peer):
        assert status.plip_state in ("ok", "boot") and not status.speechless
        assert status.failure is None and not status.switch_exit
        assert status.hold is None or not status.hold.held


@given(st.none() | statuses, st.none() | statuses)
def test_critical_only_without_one_that_is_active(us: Status | None, peer: Status | None) -> None:
    """And unknown if failoverd does not run here; each with one line."""
    said = of(us, peer)
    assert "\n" not in str(said) and str(said).isprintable() and said.advice.isprintable()
    assert bool(said.advice) is (said.status != OK)
    assert (said.status == UNKNOWN) is (us is None)
    active = [each for each in (us, peer) if each and each.role == "active"]
    if said.status == CRITICAL:
        assert len(active) != 1 or active[0].claimed
    elif us is not None:
        assert len(active) == 1 or "switching" in (us.role, peer and peer.role) or peer is None


@given(statuses, statuses)
def test_both_nodes_say_the_same(us: Status, peer: Status) -> None:
    assert of(us, peer).status == of(peer, us).status


# ------------------------------------------------------------------ clocks


def test_a_clock_is_wrong_by_no_more_than_the_way_there_and_back_proves() -> None:
    before = datetime(2026, 11, 22, 12, tzinfo=UTC)
    after = before + timedelta(seconds=4)
    for told, differs in (("12:00:02", 0.0), ("12:00:10", 6.0), ("11:59:00", -60.0)):
        status = replace(STANDBY, now=f"2026-11-22T{told}.000Z")
        ahead = nodes.ahead(status, before, after)
        assert ahead == differs and bool(looks(ahead).clocks) is bool(differs)
    look = looks(2 * 86_400.0)
    assert look.clocks.startswith("the peer's clock is 2 days ahead of this node's")
    almost = looks(2 * 86_400.0 - 0.005)
    assert almost.clocks == look.clocks
    assert look.verdict.status == OK and json.loads(look.json())["clock_difference"] == 172_800
    for none in ("", "2026-99-99T00:00:00Z"):
        assert nodes.ahead(replace(STANDBY, now=none), before, after) is None
    assert "clock_difference" not in json.loads(looks(None).json())


def looks(ahead: float | None) -> Look:
    return Look(Conf(), Answer(ACTIVE), Answer(STANDBY, ahead=ahead))


# ------------------------------------------------------------------ what the status is made of

REACHED = ((pair.Timer.HEARD, 9e9),)
SEEN = ((pair.Timer.SERVED, 9e9),)
PEER = pair.PeerView("active", "master", frozenset())
KNOWN: list[tuple[str, dict[str, Any]]] = [
    ("here", {"phase": pair.Phase.ACTIVE}),
    ("here", {"phase": pair.Phase.RESOLVING, "purpose": pair.Purpose.DOUBT, "silent": True}),
    ("peer", {"peer": PEER, "timers": REACHED}),
    ("peer", {"peer": replace(PEER, role="rejoining"), "timers": REACHED, "silent": True}),
    ("answered", {"timers": SEEN, "silent": True}),
    ("answered", {"peer": PEER, "timers": SEEN}),  # it was reached, but not for a while
    ("unknown", {"peer": PEER}),
    ("unknown", {"beats": True}),
    ("unknown", {"peer": replace(PEER, role="switching"), "timers": REACHED}),
    ("nobody", {"peer": replace(PEER, role="standby"), "timers": REACHED}),
    ("nobody", {"peer": PEER, "silent": True}),
    ("nobody", {"quiet": 1}),
]


@pytest.mark.parametrize(("service", "known"), KNOWN)
def test_who_serves_as_far_as_is_known(service: str, known: dict[str, Any], tmp_path: Path) -> None:
    us = context(tmp_path)
    us.state = replace(us.state, **{"phase": pair.Phase.STANDBY, **known})
    assert us.service == service and us.is_served is (service in ("here", "peer", "answered"))


def test_without_addresses_to_ask_for_heartbeats_are_all_that_tells(tmp_path: Path) -> None:
    us = context(tmp_path, addresses=())
    us.state = replace(us.state, phase=pair.Phase.STANDBY, beats=True)
    assert us.service == "peer" and us.is_served
    us.state = replace(us.state, beats=False)
    assert us.service == "unknown"


def test_what_blocks_a_takeover_is_told_only_while_there_is_one_to_do(tmp_path: Path) -> None:
    """A person's request that was refused stays known, and is no reason to worry."""
    us = context(tmp_path)
    us.state = replace(us.state, phase=pair.Phase.STANDBY, blocked="because", silent=True)
    assert us.blocked == "because"
    us.state = replace(us.state, silent=False, begun=True, beats=True)  # but nothing is received
    assert us.blocked == "because"
    for other in ({"beats": False}, {"phase": pair.Phase.ACTIVE}):
        assert not replace_state(us, **other).blocked


def replace_state(us: Context, **changes: Any) -> Context:
    us.state = replace(us.state, **changes)
    return us


def test_a_role_is_not_as_old_as_the_one_before_the_start(tmp_path: Path) -> None:
    """Until the pair decides it is called switching, and that must not seem to last for hours."""
    us = context(tmp_path)
    us.saved.since, us.saved.began = ACTIVE.since, 0.0
    since, age = us.since
    assert since != ACTIVE.since and age is not None and age < LONG
    us.started = True
    since, age = us.since
    assert since == ACTIVE.since and age is not None and age > 0
    us.saved.began = None  # as an older one wrote it
    assert us.since == (ACTIVE.since, None)
    us.change_role("standby", "active")
    since, age = us.since
    assert since != ACTIVE.since and age is not None and age < LONG


# ------------------------------------------------------------------ real pairs

TIMERS: dict[str, Value] = {
    "timer_seconds": 0.5,
    "low_water": 1,
    "witness": [f"eth0 {ROUTER}"],
    "switch_timeout": 5.0,
}


def begin(lab: Lab, **variables: Value) -> dict[str, Process]:
    """Both daemons; a is active, b can take over."""
    for node in lab.nodes:
        node.write_conf(**{**TIMERS, **variables})
    daemons = {node.name: node.start_failoverd() for node in lab.nodes}
    lab.wait_until(lambda: lab.a.role() == "active", "a is active", LONG)
    for node in lab.nodes:
        told(lab, node, "OK: this node is active" if node is lab.a else "OK: peer 1.0.0.1 is")
    return daemons


def told(lab: Lab, node: Node, first: str) -> Any:
    """Wait until ha-status begins so. Its exit status must fit the word."""
    word = first.partition(":")[0]
    found = [""]

    def is_so() -> bool:
        shown = node.command("ha-status")
        found[0] = shown.stdout + shown.stderr
        begun = shown.stdout.partition(":")[0]
        assert shown.returncode == ["OK", "WARNING", "CRITICAL", "UNKNOWN"].index(begun), found
        return shown.stdout.startswith(first)

    try:
        lab.wait_until(is_so, f"{word} on {node.name}", LONG)
    except TimeoutError as error:
        raise AssertionError(f"instead of {first!r}: {found[0]}") from error
    return found[0]


def test_a_standby_whose_only_interface_is_gone(lab: Lab) -> None:
    begin(lab)
    lab.b.unplug("eth0")
    what = "cannot take over: eth0 has no carrier"
    told(lab, lab.a, f"WARNING: this node is active, but peer 1.0.0.2 {what}")
    told(lab, lab.b, f"WARNING: peer 1.0.0.1 is active, but this node {what}")
    lab.b.plug("eth0")
    told(lab, lab.a, "OK: ")
    lab.b.kill_port("eth0")
    what = "cannot take over: eth0 is not receiving"
    told(lab, lab.a, f"WARNING: this node is active, but peer 1.0.0.2 {what}")


def test_the_active_ones_interface_receives_nothing(lab: Lab) -> None:
    """With $low_water 0 that is no failure, and the role stays."""
    begin(lab, low_water=0)
    lab.a.kill_port("eth0")
    told(lab, lab.a, "WARNING: this node is active, but eth0 of this node is not receiving")


def test_heartbeats_that_come_one_way_only(lab: Lab) -> None:
    if why := why_no_filters(lab.a):
        pytest.skip(why)
    begin(lab)
    drop(lab.a, "output oifname plip0 icmp type echo-request drop")
    said = "peer 1.0.0.1 is active, but this node receives no heartbeats from peer 1.0.0.1"
    told(lab, lab.b, f"WARNING: {said}; this node says: no heartbeats, but ")
    told(lab, lab.a, "WARNING: this node is active, but peer 1.0.0.2 receives no heartbeats")
    pass_all(lab.a)
    told(lab, lab.b, "OK: ")


def test_a_standby_that_cannot_reach_its_peer(lab: Lab) -> None:
    """The service's address tells whether one is active; and without an answer none is."""
    fence = lab.b.write("fence", "#!/bin/sh\nexit 1\n", 0o755)
    daemons = begin(lab, fence_prog=fence, second_path=False)
    lab.cut_link()
    told(lab, lab.b, "WARNING: this node is standby, peer 1.0.0.1 gives no valid answer, but the")
    told(lab, lab.a, "WARNING: this node is active, but peer 1.0.0.2 gives no valid answer")
    daemons["a"].kill()
    lab.a.ip(f"address del {SERVICE}/24 dev eth0")
    critical = "CRITICAL: no node is known to be active: this node is standby, peer"
    told(lab, lab.b, critical)
    told(lab, lab.a, "UNKNOWN: failoverd on this node gives no valid answer; nor does peer 1.0.0.2")
    # Only then the program has been run.
    why = "says: fencing failed, no takeover"
    lab.wait_until(lambda: why in told(lab, lab.b, critical).splitlines()[0], "b says why")


def test_a_link_that_is_lost_is_no_outage_before_it_is_known_who_serves(lab: Lab) -> None:
    begin(lab, plip_timer=2.0, plip_hbeat=0.5, second_path=False)
    lab.b.ip("link set dev plip0 down")  # so that a query to the peer costs no time
    end = time.monotonic() + LONG
    shown: list[str] = []
    while "the service still answers" not in lab.b.log():
        asked = lab.b.command("ha-status")
        shown.append(asked.stdout.splitlines()[0])
        assert asked.returncode == WARNING and time.monotonic() < end, shown
    told(lab, lab.b, "WARNING: this node is standby, peer 1.0.0.1 gives no valid answer, but the")


def test_a_peer_whose_port_is_closed(lab: Lab) -> None:
    if why := why_no_filters(lab.a):
        pytest.skip(why)
    begin(lab, second_path=False)
    drop(lab.b, CLOSED)
    told(lab, lab.a, "WARNING: this node is active, but peer 1.0.0.2 sends heartbeats without")
    there = lab.b.command("ha-status")
    assert there.returncode == WARNING
    assert "the peer's queries to this node are not answered: look for a firewall" in there.stdout


def run_before_switch(node: Node, text: str) -> None:
    """From now on the switch script does this first."""
    node.write("shipped", SWITCH.read_text(), 0o755)
    text = f'#!/bin/sh\n{text}\nexec {node.folder}/shipped "$1"\n'
    node.write("ha-switch", text, 0o755)


def test_a_switch_script_that_fails_is_not_hidden_by_the_one_that_cleans_up(lab: Lab) -> None:
    daemons = begin(lab)
    run_before_switch(lab.b, '[ "$1" = slave ] || { echo no; echo file is missing; exit 3; }')
    typed = lab.b.command("ha-fail")
    assert typed.returncode == 1
    assert "ha-switch master failed, exit 3: file is missing\n" in typed.stderr
    assert "\nha-fail: active now: peer 1.0.0.1\n" in typed.stderr, "it has its role back"
    assert lab.a.command("ha-fail").returncode == 1
    said = "the switch script failed on peer 1.0.0.2 (master, exit 3): file is missing"
    shown = told(lab, lab.a, "WARNING: this node is active, but peer 1.0.0.2 cannot take over: its")
    assert said in shown.splitlines()[0]
    assert re.search(r"(?m)^failed script +- +master, exit 3, ", shown)
    assert re.search(r"(?m)^its last line +- +file is missing$", shown)
    status = lab.b.status()["us"]
    assert status["role"] == "failed" and status["switch"]["last"] == "slave"
    assert status["switch"]["exit"] == 0 and "why" not in status["switch"]
    failure = status["failure"]
    assert (failure["role"], failure["exit"], failure["line"]) == ("master", 3, "file is missing")
    assert 0 <= failure["age"] < LONG and parse_status(json.dumps(status)) is not None
    daemons["b"].terminate()
    daemons["b"].wait(LONG)
    lab.b.start_failoverd()
    told(lab, lab.b, "WARNING: peer 1.0.0.1 is active, but this node cannot take over: its role is")
    again = lab.b.status()["us"]["failure"]
    assert again.pop("age") > failure.pop("age") and again == failure
    run_before_switch(lab.b, ":")
    assert lab.b.command("ha-fail").returncode == 0
    told(lab, lab.b, "OK: this node is active")
    assert "failure" not in lab.b.status()["us"]


def test_a_switch_that_the_kernel_shows_to_have_failed_says_so(lab: Lab) -> None:
    begin(lab)
    takes = f'#!/bin/sh\n[ "$1" = slave ] || ip address del {SERVICE}/24 dev eth0\n'
    lab.b.write("ha-switch", takes, 0o755)
    assert lab.a.command("ha-fail").returncode == 1
    why = f"{SERVICE} is not on eth0"
    shown = told(lab, lab.a, "WARNING: this node is active, but peer 1.0.0.2 cannot take over: its")
    assert f"(master, exit 0): {why}" in shown.splitlines()[0]
    failure = lab.b.status()["us"]["failure"]
    assert failure["exit"] == 0 and failure["why"].startswith(why)


def test_who_polls_during_a_switch_sees_no_outage(lab: Lab) -> None:
    """But one that lasts for longer than it may is one."""
    begin(lab, switch_timeout=60.0)
    go = f"{lab.b.folder}/go"
    run_before_switch(lab.b, f'[ "$1" = slave ] || until [ -e {go} ]; do sleep 0.1; done')
    asks = lab.a.popen_command("ha-fail")
    said = "WARNING: this node and peer 1.0.0.2 are switching, and no node is active yet"
    told(lab, lab.a, said)
    shorter = lab.b.read("failoverd.conf") + "$switch_timeout = 0.5;\n"
    lab.b.write("failoverd.conf", shorter)  # which only ha-status reads now
    told(lab, lab.b, "CRITICAL: no node is known to be active: this node is switching for longer")
    lab.b.write("go", "")
    assert asks.wait(LONG) == 0
    told(lab, lab.b, "OK: this node is active")


def test_how_long_survives_a_restart(lab: Lab) -> None:
    """Its age is counted by a clock that is never set; what an older one left says nothing."""
    daemons = begin(lab)
    before = lab.a.status()["us"]
    daemons["a"].terminate()
    daemons["a"].wait(LONG)
    time.sleep(0.2)
    lab.a.start_failoverd()
    lab.wait_until(lambda: lab.a.role() == "active", "a is active again", LONG)
    after = lab.a.status()["us"]
    assert after["since"] == before["since"] and after["age"] > before["age"]
    span = datetime.fromisoformat(after["now"]) - datetime.fromisoformat(after["since"])
    assert abs(span.total_seconds() - after["age"]) < 5


def test_an_older_peer_is_still_shown() -> None:
    known = json.loads(encode_status(ACTIVE))
    tree = json.loads(encode_status(A))
    assert parse_status(json.dumps({name: tree[name] for name in known})) == ACTIVE
