"""A network on which only the pair speaks: what the two ask tells which of them does not receive.

Nothing is asked of a router here (@witness), no client sends, and IPv6 is silent where it is there.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from live_pair import (
    LONG,
    context,
    kill,
    main_pid,
    pids,
    role_changes,
    settled,
    start,
    stays,
    within,
)
from samples import STANDBY

from dev.lab.filters import receive_again, stop_receiving, why_no_filters
from dev.lab.network import Lab
from dev.lab.node import Node, Value
from failoverd import links, statefile
from failoverd.master.context import Context
from failoverd.master.errands import Errands
from failoverd.master.keeper import Keeper
from failoverd.master.peer_probes import PeerProbes, whom_to_ask
from failoverd.master.supervisor import Supervisor
from failoverd.process import Message
from failoverd.second_path import pairs
from failoverd.wire.protocol import InterfaceStatus, Status

WINDOW = 0.5
QUIET: dict[str, Value] = {"low_water": 1, "timer_seconds": WINDOW}
A_NIGHT = 12 * WINDOW
FAILED = " IFACE-FAIL "


# ------------------------------------------------------------------ who asks whom

A4, B4, A6, B6 = "192.0.2.1/24", "192.0.2.2/24", "fe80::1/64", "fe80::2/64"
PAIRS: dict[str, tuple[tuple[str, ...], tuple[str, ...], list[tuple[str, str]]]] = {
    "one network": ((A4,), (B4,), [("192.0.2.1", "192.0.2.2")]),
    "two": ((A6, A4), (B4, B6), [("192.0.2.1", "192.0.2.2"), ("fe80::1", "fe80::2")]),
    "different networks": (("198.51.100.1/24",), (B4,), []),
    "in only one of them": (("192.0.3.1/16",), (B4,), []),
    "in only the other": ((A4,), ("192.0.3.2/16",), []),
    "prefixes that differ and hold both": ((A4,), ("192.0.2.2/16",), [("192.0.2.1", "192.0.2.2")]),
    "only one has any": ((A4,), (), []),
    "neither has": ((), (), []),
    "the same on both": ((A4,), (A4,), []),
    "IPv4 and IPv6": ((A4,), (B6,), []),
}


@pytest.mark.parametrize("case", PAIRS)
def test_who_is_asked_would_ask_too(case: str) -> None:
    ours, theirs, expected = PAIRS[case]
    found = list(pairs(ours, theirs))
    assert found == expected
    assert sorted(found) == sorted((one, other) for other, one in pairs(theirs, ours))
    assert list(pairs(ours, theirs, {"192.0.2.2", "fe80::2"})) == [], "the pair serves them"


def test_own_addresses_are_those_that_neighbours_can_ask() -> None:
    found = [
        links.Held("eth0", "192.0.2.1", 24, False),
        links.Held("eth0", "192.0.2.9", 24, False),  # of the same network
        links.Held("eth0", "192.0.2.10", 24, False),  # served
        links.Held("eth0", "203.0.113.1", 32, False),
        links.Held("eth0", "2001:db8::1", 64, True),  # a duplicate
        links.Held("eth0", "fe80::1", 64, False),
        links.Held("lo", "127.0.0.1", 8, False),
        *(links.Held("eth1", f"10.{n}.0.1", 16, False) for n in range(9)),
    ]
    told = links.fixed(found, {"192.0.2.10"})
    assert told.pop("eth1") == tuple(f"10.{n}.0.1/16" for n in range(links.MOST_FIXED))
    assert told == {"eth0": ("192.0.2.1/24", "fe80::1/64")}


class Watchers:
    """What they are told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Message]] = []

    def send(self, name: str, message: Message) -> bool:
        self.told.append((name, message))
        return True


def knowing(folder: Path, second: bool = False) -> tuple[Context, Watchers, PeerProbes]:
    us = context(folder, "standby", addresses=(), second_path=second)
    watchers = Watchers()
    return us, watchers, PeerProbes(us, cast(Supervisor, watchers))


def status(hwaddr: str, *fixed: str) -> Status:
    return replace(STANDBY, interfaces=(("eth0", InterfaceStatus("ok", 1, 1, hwaddr, fixed)),))


HWADDR = "02:00:00:00:00:02"


def test_a_watcher_is_told_what_has_changed_and_no_more(tmp_path: Path) -> None:
    us, watchers, peer_probes = knowing(tmp_path)
    held = [links.Held("eth0", "192.0.2.1", 24, False)]
    for _ in range(3):
        peer_probes.look(held)
    assert watchers.told == [], "no host is known to be asked"
    for _ in range(3):
        peer_probes.learn(status(HWADDR, B4))
        peer_probes.look(held)
    asked = {"do": "peer", "ask": [("192.0.2.1", "192.0.2.2")], "hwaddr": HWADDR}
    assert watchers.told == [("watchd eth0", asked)]
    assert whom_to_ask(us, "eth0") == asked, "and so is one that begins"
    for odd in ("", "03" + HWADDR[2:], "02:00", ":".join(["02"] * 20)):
        peer_probes.learn(status(odd, B4))
        assert watchers.told[-1][1] == {**asked, "hwaddr": ""}
    assert statefile.read(us.conf.state).peer_fixed == {"eth0": [B4]}
    peer_probes.look([])
    assert watchers.told[-1][1] == {"do": "peer", "ask": [], "hwaddr": ""}
    peer_probes.learn(STANDBY)  # it tells of none
    assert statefile.read(us.conf.state).peer_fixed == {}


def test_the_listener_is_told_of_the_second_path_and_a_reboot_does_not_forget_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("failoverd.master.keeper.PARTING", LONG)
    us, told, peer_probes = knowing(tmp_path, second=True)
    held = [links.Held("eth0", "192.0.2.1", 24, False), links.Held("eth0", "fe80::1", 64, False)]
    path = {"do": "second", "interface": "eth0", "own": ("192.0.2.1/24",), "peer": ()}
    for _ in range(2):
        peer_probes.look(held)
    assert told.told == [("listener", path)]
    for _ in range(2):
        peer_probes.learn(status(HWADDR, B4))
    listener = [message for name, message in told.told if name == "listener"]
    assert listener == [path, {**path, "peer": (B4,)}]
    with selectors.DefaultSelector() as selector:
        Keeper(us, Errands(us, selector)).close()
    (tmp_path / "state").unlink()  # as by a reboot
    _, told, peer_probes = knowing(tmp_path, second=True)
    peer_probes.look(held)
    assert ("listener", {**path, "peer": (B4,)}) in told.told
    (tmp_path / "state.peer").chmod(0o666)
    assert knowing(tmp_path)[0].saved.peer_fixed == {}, "others may have written it"


# ------------------------------------------------------------------ a pair


@pytest.fixture
def quiet(lab: Lab) -> Lab:
    if why := why_no_filters(lab.switch):
        pytest.skip(why)
    return lab


def lose_reception(lab: Lab, node: Node) -> None:
    """Its interface receives nothing any more, but sends, and has a carrier."""
    stop_receiving(lab.switch, node.port("eth0"))


def failures(lab: Lab) -> list[int]:
    return [node.log().count(FAILED) for node in lab.nodes]


def changes(lab: Lab) -> list[list[str]]:
    return [role_changes(node) for node in lab.nodes]


def processes(lab: Lab) -> list[int]:
    return [pid for node in lab.nodes for pid in pids(node, "failoverd: ")]


def roles(lab: Lab) -> list[str]:
    return [node.role() for node in lab.nodes]


def acquainted(lab: Lab) -> bool:
    """Whether both have told each other where they can be asked."""
    told = [node.status()["peer"]["interfaces"]["eth0"] for node in lab.nodes]
    return all("fixed" in interface for interface in told)


def begin(lab: Lab, **variables: Value) -> None:
    start(lab, **QUIET, **variables)
    lab.wait_until(lambda: acquainted(lab), "both know where to ask")
    assert stays(lambda: settled(lab, lab.a), 4 * WINDOW)


@pytest.mark.parametrize("variables", [{}, {"filter": "not ether multicast"}], ids=str)
def test_the_role_leaves_an_interface_that_does_not_receive_and_stays_away(
    quiet: Lab, variables: dict[str, Value]
) -> None:
    begin(quiet, **variables)
    assert stays(lambda: settled(quiet, quiet.a), A_NIGHT)
    assert failures(quiet) == [0, 0], "a quiet night is no failure"
    lose_reception(quiet, quiet.a)
    since = time.monotonic()
    quiet.wait_until(lambda: settled(quiet, quiet.b), "b becomes active", LONG)
    assert within(time.monotonic() - since + WINDOW, "interface", quiet.a)
    before = changes(quiet)
    assert stays(lambda: settled(quiet, quiet.b), A_NIGHT)
    receive_again(quiet.switch, quiet.a.port("eth0"))
    assert stays(lambda: settled(quiet, quiet.b), A_NIGHT), "as many changes as causes"
    assert changes(quiet) == before


def test_two_interfaces_that_do_not_receive_change_nothing(quiet: Lab) -> None:
    begin(quiet)
    before = changes(quiet)
    for node in quiet.nodes:
        lose_reception(quiet, node)
    quiet.wait_until(lambda: failures(quiet)[0] > 0, "a's interface has failed")
    assert stays(lambda: settled(quiet, quiet.a), A_NIGHT)
    assert changes(quiet) == before


def test_a_standby_that_does_not_receive_changes_nothing(quiet: Lab) -> None:
    begin(quiet)
    before = changes(quiet)
    lose_reception(quiet, quiet.b)
    quiet.wait_until(lambda: failures(quiet)[1] > 0, "b's interface has failed")
    assert stays(lambda: settled(quiet, quiet.a), A_NIGHT)
    assert changes(quiet) == before


def test_a_pulled_cable_shows_no_node_that_is_better_off(quiet: Lab) -> None:
    """The standby is not answered, and so is not known to be well: `failoverd -t` says so."""
    begin(quiet)
    assert any("eth0" in line and "@witness" in line for line in said(quiet.a))
    before = changes(quiet)
    quiet.a.unplug("eth0")
    quiet.wait_until(lambda: failures(quiet)[0] > 0, "a's interface has failed")
    assert stays(lambda: settled(quiet, quiet.a), A_NIGHT)
    assert changes(quiet) == before


def said(node: Node) -> list[str]:
    return node.command("failoverd", "-t").stdout.splitlines()


@pytest.mark.parametrize("bare", ["a", "b"])
def test_who_has_no_address_there_is_not_asked_and_asks_none(quiet: Lab, bare: str) -> None:
    """Else one of them would receive an answer, the other nothing, with both interfaces well."""
    node = quiet.a if bare == "a" else quiet.b
    node.ip("address flush dev eth0")
    start(quiet, **QUIET)
    before = changes(quiet)
    quiet.wait_until(lambda: failures(quiet)[0] > 0, "it is too quiet for a")
    assert stays(lambda: settled(quiet, quiet.a), A_NIGHT)
    assert changes(quiet) == before


@pytest.mark.parametrize("asks", ["a", "b"])
def test_a_probe_target_of_only_one_is_as_good_as_of_both(quiet: Lab, asks: str) -> None:
    for node in quiet.nodes:
        targets = [f"eth0 {quiet.router}"] if node.name == asks else []
        node.write_conf(**QUIET, witness=targets)
        node.start_failoverd()
    quiet.wait_until(lambda: settled(quiet, quiet.a), "a is active, b stands by", LONG)
    quiet.wait_until(lambda: acquainted(quiet), "both know where to ask")
    before = failures(quiet)
    assert stays(lambda: settled(quiet, quiet.a), A_NIGHT)
    assert failures(quiet) == before
    lose_reception(quiet, quiet.a)
    quiet.wait_until(lambda: settled(quiet, quiet.b), "b becomes active", LONG)


def test_link_local_addresses_will_do(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(ipv6=True)
    if why := why_no_filters(lab.switch):
        pytest.skip(why)
    for node in lab.nodes:
        node.ip("address flush dev eth0 scope global")
    begin(lab)
    told = lab.a.status()["us"]["interfaces"]["eth0"]["fixed"]
    assert [address[:6] for address in told] == ["fe80::"]
    assert stays(lambda: failures(lab) == [0, 0], A_NIGHT)
    lose_reception(lab, lab.a)
    lab.wait_until(lambda: settled(lab, lab.b), "b becomes active", LONG)


def test_what_the_peer_has_told_is_kept(quiet: Lab) -> None:
    """Over the link's end, and that of watchers and daemons."""
    begin(quiet)
    quiet.cut_link()
    for node in quiet.nodes:
        for pid in pids(node, "failoverd: watchd eth0 "):
            kill(node, pid)
    assert stays(lambda: failures(quiet) == [0, 0], A_NIGHT)
    for node in quiet.nodes:
        kill(node, main_pid(node))
    quiet.wait_until(lambda: not processes(quiet), "both daemons are dead")
    for node in quiet.nodes:
        node.start_failoverd()
    quiet.wait_until(lambda: roles(quiet) == ["active", "standby"], "they go on")
    assert stays(lambda: failures(quiet) == [0, 0], A_NIGHT)
    assert quiet.holders() == ["a"]
