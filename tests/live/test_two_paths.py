"""A real pair with a second path: the heartbeat link is cut, both live, and nothing happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from live_pair import LONG, WATCHED, kill, main_pid, role_changes, settled, start, stays

from dev.lab import logs
from dev.lab.filters import CLOSED, drop, pass_all, why_no_filters
from dev.lab.network import FAST, SERVICE, Lab
from dev.lab.node import PLIP, Node

WINDOW = float(str(FAST["plip_timer"]))
CUTS: dict[str, Callable[[Lab], object]] = {
    "both ways": lambda lab: lab.cut_link(),
    "toward a": lambda lab: lab.cut_link(toward=lab.a),
    "toward b": lambda lab: lab.cut_link(toward=lab.b),
    "unplugged": lambda lab: lab.a.unplug(PLIP),
    "deleted": lambda lab: lab.a.delete_interface(PLIP),
}
# The kernel takes up to ten seconds to give up the hardware address that it had by ARP.
CUT_SOMEWHERE = (
    "check the cables of the heartbeat link",
    "no host has 1.0.0.1 on plip0: see where the cables of both nodes lead",
    "no host has 1.0.0.2 on plip0: see where the cables of both nodes lead",
)


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()


def begin(lab: Lab, **variables: Any) -> None:
    """Start both; each knows where its peer is on the service network."""
    start(lab, **WATCHED, **variables)
    lab.wait_until(lambda: all(map(knows_peer, lab.nodes)), "each knows the other", LONG)


def knows_peer(node: Node) -> bool:
    return bool(node.read("run/state.peer"))


def told_path(node: Node) -> str:
    status = node.status()
    return str((status["us"] or {}).get("path", ""))


def by_second(lab: Lab) -> bool:
    return [told_path(node) for node in lab.nodes] == ["second", "second"]


def listening(node: Node) -> set[str]:
    """At which addresses something listens on the port."""
    lines = node.check("ss", "-Hltn", "sport = 2000").splitlines()
    return {line.split()[3].rpartition(":")[0].partition("%")[0].strip("[]") for line in lines}


@pytest.mark.parametrize("cut", CUTS)
def test_nothing_happens_but_a_warning(lab: Lab, cut: str) -> None:
    begin(lab)
    before = [role_changes(node) for node in lab.nodes]
    CUTS[cut](lab)
    assert stays(lambda: lab.holders() == ["a"], 10 * WINDOW)
    assert [role_changes(node) for node in lab.nodes] == before
    lab.wait_until(lambda: by_second(lab), "both answer over the second path")
    for node in lab.nodes:
        shown = node.command("ha-status")
        assert shown.returncode == 1
        assert "heartbeat link is down: the nodes reach each other over the second" in shown.stdout
        assert cut != "unplugged" or "next: plip0 has no carrier: check its" in shown.stdout
        assert cut != "both ways" or any(f"next: {way}" in shown.stdout for way in CUT_SOMEWHERE)
    assert logs.told(lab.b.log(), "PATH-SECOND")
    assert not logs.told(lab.b.log(), "TAKEOVER-BLOCKED", "still answers")
    for node in (lab.b, lab.a, lab.a, lab.b):  # each asked for a switchover, in both directions
        other = next(node for node in lab.nodes if lab.holders() != [node.name])
        done = node.command("ha-fail")
        assert done.returncode == 0, done.stderr + lab.tails()
        assert lab.holders() == [other.name]
    for argument in ("--hold", "--release"):
        told = lab.a.command("ha-fail", argument)
        assert told.returncode == 0 and "knows that too" in told.stdout, told.stderr
    if cut == "deleted":
        lab.a.make_interface(PLIP)
    lab.mend_link()
    lab.a.plug(PLIP)
    lab.wait_until(lambda: bool(logs.told(lab.b.log(), "PATH-PRIVATE")), "the link is back")
    lab.wait_until(lambda: lab.a.command("ha-status").returncode == 0, "all is well")


@pytest.mark.parametrize("first", ["link", "service"])
def test_when_both_are_cut_the_standby_takes_over(lab: Lab, first: str) -> None:
    begin(lab)
    ways: list[Callable[[], object]] = [lab.cut_link, lambda: lab.a.kill_port("eth0")]
    if first == "link":
        ways[0]()
        assert stays(lambda: lab.holders() == ["a"], 6 * WINDOW)
        ways[1]()
        lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    else:  # a receives nothing: the role goes to b, until a is cut off
        ways[1]()
        lab.wait_until(lambda: settled(lab, lab.b), "b has the role")
        assert stays(lambda: lab.holders() == ["b"], 6 * WINDOW)
        ways[0]()
        lab.wait_until(lambda: lab.a.role() == "active", "a takes over")
    lab.a.revive_port("eth0")
    lab.wait_until(lambda: len(lab.holders()) == 1, "over the second path they become one", LONG)
    assert logs.told(lab.a.log(), "SPLIT-BRAIN") or logs.told(lab.b.log(), "SPLIT-BRAIN")


def test_it_is_known_after_a_restart_and_a_reboot_with_the_link_cut(lab: Lab) -> None:
    begin(lab)
    assert json.loads(lab.b.read("run/state.peer")) == {"eth0": ["192.0.2.1/24"]}
    kept = lab.b.read("run/state.peer")
    lab.cut_link()
    kill(lab.b, main_pid(lab.b))
    lab.b.start_failoverd()
    lab.wait_until(lambda: told_path(lab.b) == "second", "known after a restart")
    lab.b.power_cut()
    lab.b.write("run/state.peer", kept, 0o600)  # the lab takes away what else lies there
    lab.b.power_on()
    lab.cut_link()
    lab.b.start_failoverd()
    lab.wait_until(lambda: told_path(lab.b) == "second", "known after a reboot")
    lab.wait_until(lambda: settled(lab, lab.a), "b stands by")


def test_an_operator_is_told_that_the_port_is_blocked(lab: Lab) -> None:
    """Heartbeats are received: nothing that he asks for goes round what is in the way."""
    begin(lab)
    if why := why_no_filters(lab.b):
        pytest.skip(why)
    drop(lab.b, CLOSED)
    lab.wait_until(lambda: told_path(lab.a) == "second", "a's queries take the second path")
    for active in ("a", "b"):
        refused = lab.a.command("ha-fail")
        assert refused.returncode == 1 and "look for a firewall (packet filter)" in refused.stderr
        assert lab.holders() == [active]
        if active == "a":
            assert lab.b.command("ha-fail").returncode == 0, "what b tells arrives"
    pass_all(lab.b)
    lab.wait_until(lambda: told_path(lab.a) == "private", "the way is free")
    assert stays(lambda: lab.holders() == ["b"], 6 * WINDOW), "refused is refused"


def test_an_address_that_changes_is_followed(lab: Lab) -> None:
    begin(lab)
    assert listening(lab.b) == {"1.0.0.2", "192.0.2.2"}
    lab.b.ip("address del 192.0.2.2/24 dev eth0", "address add 192.0.2.7/24 dev eth0")
    lab.wait_until(lambda: listening(lab.b) == {"1.0.0.2", "192.0.2.7"}, "b listens there")
    lab.wait_until(lambda: "192.0.2.7" in lab.a.read("run/state.peer"), "a knows that")
    lab.cut_link()
    lab.wait_until(lambda: by_second(lab), "both ways")
    lab.mend_link()
    lab.b.delete_interface("eth0")
    lab.wait_until(lambda: listening(lab.b) == {"1.0.0.2"}, "it is gone")
    lab.b.make_interface("eth0")
    lab.wait_until(lambda: listening(lab.b) == {"1.0.0.2", "192.0.2.2"}, "it is made again")
    lab.wait_until(lambda: "192.0.2.2" in lab.a.read("run/state.peer"), "a knows that, too")
    lab.cut_link()
    lab.wait_until(lambda: by_second(lab), "both ways again")
    assert settled(lab, lab.a)


def test_without_it_nothing_else_listens(lab: Lab) -> None:
    begin(lab, second_path=False)
    assert all(
        listening(node) == {node.interfaces[PLIP].addresses[0].split("/")[0]} for node in lab.nodes
    )
    lab.cut_link()
    lab.wait_until(
        lambda: bool(logs.told(lab.b.log(), "TAKEOVER-BLOCKED", "still answers")), "by ARP alone"
    )
    assert SERVICE and lab.holders() == ["a"]
