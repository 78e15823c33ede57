"""What a node says that it would do: each answer is that of the policy for what it knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from one_node import MASTER, NOW, SLAVE, view

from failoverd import pair
from failoverd.conf import Address, Conf
from failoverd.master.explain import lines
from failoverd.pair import Phase, Timer

CONF = Conf(addresses=(Address("eth0", "192.0.2.10", 24),))
NAMES = "node-a", "node-b"
REACHED = ((Timer.HEARD, NOW), (Timer.UNHEARD, NOW))
HOLD = (Timer.HOLD, NOW)
WELL = tuple(
    pair.Interface(name, "ok", packets=5, last=5, heard=True, proved=True)
    for name in ("eth0", "eth1")
)
ACTIVE = replace(
    pair.State(phase=Phase.ACTIVE, interfaces=WELL, begun=True, timers=REACHED),
    peer=view("standby"),
)
STANDBY = replace(ACTIVE, phase=Phase.STANDBY, peer=view("active"))


def told(state: pair.State, rules: pair.Rules = MASTER, **changes: Any) -> dict[str, str]:
    """What follows, by the condition."""
    found = lines(replace(state, **changes), rules, CONF, NAMES)
    assert all(line.endswith(".") and len(line) <= 240 for line in found)
    assert found[0].startswith("Role of node-a: ")
    return dict(line.removesuffix(".").split(": ", 1) for line in found[1:])


IF_FAILED = "If eth0 or eth1 of node-a fails"
IF_FAIL = "If an operator runs ha-fail"
IF_SILENT = "If the heartbeat is lost"


def test_an_active_node_with_a_peer_that_is_well() -> None:
    assert told(ACTIVE) == {
        IF_FAILED: "switchover to node-b within 80 s",
        IF_SILENT: "node-a stays active",
        "If node-b asks for the role": "node-a stands down",
        IF_FAIL: "switchover to node-b",
    }


@pytest.mark.parametrize(
    ("changes", "follows"),
    [
        ({"peer": view("standby", "eth0", down="eth0")},
         "the role stays, node-b is standby, and is no better off: on node-b eth0 has no carrier"),
        ({"peer": view("failed")}, "the role stays, node-b is failed"),
        ({"timers": ()}, "the role stays unless node-b asks for it, no answer from node-b"),
        ({"peer": None}, "the role stays unless node-b asks for it, no answer from node-b"),
        ({"held": True}, "nothing, role changes are on hold"),
        ({"from_peer": True, "timers": (*REACHED, HOLD)},
         "the role stays, it has just come from node-b because of a failure there"),
    ],
)  # fmt: skip
def test_why_an_active_node_keeps_its_role(changes: dict[str, Any], follows: str) -> None:
    found = told(ACTIVE, **changes)
    assert found.get(IF_FAILED, found.get("If eth0 of node-a fails")) == follows


def test_each_interface_that_fares_otherwise_has_its_line() -> None:
    guarded = told(ACTIVE, from_peer=True, guarded=frozenset({"eth0"}), timers=(*REACHED, HOLD))
    assert guarded["If eth0 of node-a fails"].startswith("the role stays, it has just come from ")
    assert guarded["If eth1 of node-a fails"].startswith("switchover to node-b within ")


def test_one_that_has_failed_already_cannot_fail() -> None:
    failed = (replace(WELL[0], verdict="fail"), WELL[1])
    found = told(ACTIVE, interfaces=failed, peer=view("standby", "eth0"))
    assert found["If eth1 of node-a fails"] == "switchover to node-b within 80 s"
    assert not [line for line in found if "eth0" in line]


def test_with_low_water_0_no_interface_fails() -> None:
    found = told(ACTIVE, replace(MASTER, low_water=0))
    assert found["If an interface of node-a receives nothing"] == "the role stays, $low_water is 0"
    assert IF_FAILED not in found


def test_checks() -> None:
    found = told(ACTIVE, passed=frozenset({"web"}))
    assert found["If check web of node-a fails"] == "switchover to node-b"
    found = told(ACTIVE, passed=frozenset({"web"}), peer=view("standby", checks="web"))
    assert found["If eth0 or eth1 or check web of node-a fails"] == (
        "the role stays, node-b is standby, and is no better off: on node-b check web fails"
    )


def test_a_standby() -> None:
    assert told(STANDBY, SLAVE) == {
        IF_SILENT: "takeover 20 to 30 s after the last one, if neither port 2000 of node-b nor "
        "192.0.2.10 answers",
        "If eth0 or eth1 of node-b fails": "switchover to node-a within 80 s",
        "If node-b asks node-a to take over": "node-a takes over",
        IF_FAIL: "node-b is asked to stand by, then node-a takes over",
    }


@pytest.mark.parametrize(
    ("rules", "changes", "follows"),
    [
        ({"confirm": "none"}, {},
         "takeover 20 to 30 s after the last one, if port 2000 of node-b does not answer"),
        ({"fence": True}, {}, "takeover 20 to 30 s after the last one, if neither port 2000 of "
         "node-b nor 192.0.2.10 answers and /sbin/fence succeeds"),
        ({"confirm": "program"}, {}, "takeover 20 to 30 s after the last one, if port 2000 of "
         "node-b does not answer and /sbin/confirm finds the service dead"),
        ({}, {"held": True}, "nothing, role changes are on hold"),
        ({}, {"interfaces": tuple(replace(each, up=False) for each in WELL)},
         "no takeover, no interface is up here"),
    ],
)  # fmt: skip
def test_a_takeover_by_silence(
    rules: dict[str, Any], changes: dict[str, Any], follows: str
) -> None:
    conf = replace(CONF, fence_prog="/sbin/fence", confirm="/sbin/confirm")
    found = lines(replace(STANDBY, **changes), replace(SLAVE, **rules), conf, NAMES)
    assert f"{IF_SILENT}: {follows}." in found


def test_a_worse_peer_that_cannot_give_its_role_away() -> None:
    why = "Node-b is worse off and does not reach node-a"
    peer = view("active", failed="eth0", wants_relief=True)
    found = told(STANDBY, SLAVE, peer=peer)
    assert found[why] == "node-b is asked to stand by, then node-a takes over"
    assert not [line for line in found if "of node-b fails" in line], "it does not happen by itself"
    assert told(STANDBY, SLAVE, peer=peer, held=True)[why].startswith(
        "nothing, role changes are on"
    )
    assert why not in told(STANDBY, SLAVE, peer=peer, timers=())
    assert why not in told(STANDBY, SLAVE)


def test_of_a_peer_that_is_not_reached_no_line_says_what_it_would_do() -> None:
    for peer in (view("active"), None):
        found = told(STANDBY, SLAVE, peer=peer, timers=(), silent=True)
        assert not [line for line in found if "of node-b fails" in line]


def test_a_service_network_that_cannot_be_asked() -> None:
    down = tuple(replace(each, up=False) for each in WELL)
    found = told(STANDBY, SLAVE, timers=(), silent=True, interfaces=down)
    assert found[IF_FAIL] == (
        "refused, no answer from node-b, and the service network cannot be asked"
    )
    assert told(STANDBY, SLAVE, timers=())[IF_FAIL].startswith("takeover, if neither port 2000 of ")


def test_a_hold_with_a_time_ends_by_itself() -> None:
    until = "2026-11-29 09:46:45+00:00"
    found = lines(replace(ACTIVE, held=True), MASTER, CONF, NAMES, until)
    assert found[1].endswith(f"until {until} or ha-fail --release.")


def test_no_line_grows_with_the_addresses() -> None:
    many = replace(CONF, addresses=tuple(Address("eth0", f"192.0.2.{n}", 24) for n in range(1, 99)))
    line = next(line for line in lines(STANDBY, SLAVE, many, NAMES) if line.startswith(IF_SILENT))
    assert line.endswith("nor 192.0.2.1 nor 192.0.2.2 nor 192.0.2.3 nor 95 others answers.")


def test_a_standby_that_the_active_node_would_not_choose() -> None:
    bad = tuple(replace(each, packets=0, last=0) if each.name == "eth0" else each for each in WELL)
    found = told(STANDBY, SLAVE, interfaces=bad)
    assert found["If eth0 or eth1 of node-b fails"] == (
        "the role stays, node-a is standby, and is no better off: on node-a eth0 receives nothing"
    )


def test_what_is_so_is_no_if() -> None:
    assert told(STANDBY, SLAVE, silent=True)["The heartbeat is lost"] == (
        "takeover as soon as neither port 2000 of node-b nor 192.0.2.10 answers"
    )
    assert told(ACTIVE, silent=True)["The heartbeat is lost"] == "node-a stays active"


def test_what_is_in_the_way_stands_first() -> None:
    blocked = "heartbeat lost: the peer is standby; no takeover"
    found = lines(
        replace(STANDBY, failed=True, held=True, blocked=blocked, peer=view("failed")),
        SLAVE, CONF, NAMES,
    )  # fmt: skip
    assert found[:4] == [
        "Role of node-a: failed.",
        "Role changes are on hold: only an operator can switch, until ha-fail --release.",
        "The switch script failed here as master: fix the cause, ha-fail tries it again.",
        f"Blocked now: {blocked}.",
    ]
    assert found[5] == "No node is active: the first to call for the role takes it within 34 s."


def test_a_preferred_node_that_waits() -> None:
    never = replace(MASTER, failback=None)
    assert told(STANDBY, resuming=True)["Failback"] == (
        "node-b is asked to stand by, then node-a takes over"
    )
    assert told(STANDBY, never, resuming=True)["Failback"] == (
        "waits, node-b is active, and $failback leaves the role there"
    )
    unreceived = tuple(replace(each, heard=False) for each in WELL)
    assert told(STANDBY, resuming=True, interfaces=unreceived)["Failback"].endswith("(eth0, eth1)")


@pytest.mark.parametrize("rules", [MASTER, SLAVE])
def test_whatever_a_node_knows_it_can_explain(rules: pair.Rules) -> None:
    """Every phase and purpose has its lines, and each is one that a status can tell."""
    for role in ("active", "standby", "failed", "switching", "rejoining"):
        for phase in set(Phase) - {Phase.TOLD}:
            for purpose in set(pair.Purpose) - {pair.Purpose.NONE}:
                state = replace(ACTIVE, phase=phase, purpose=purpose, peer=view(role))
                for known in (state, replace(state, peer=None), replace(state, timers=())):
                    assert lines(known, rules, CONF, NAMES)
    for query in (pair.Query.FAIL, pair.Query.RESUME):
        assert lines(replace(ACTIVE, phase=Phase.TOLD, told=query), rules, CONF, NAMES)
    assert lines(pair.initial(rules), rules, CONF, NAMES)
