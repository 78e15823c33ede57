"""Where the service's addresses are announced: only where, and while, this node serves."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from inside import EXPERIMENT, frame, inside, sender, two_ends
from live_pair import context
from netns import ROOTLESS, Namespace
from one_node import MOMENTS, node

from dev.lab import logs
from failoverd import neighbours, pair
from failoverd.conf import Address
from failoverd.master.context import Context
from failoverd.master.gratuitous_arp import MOST_NAMED, PAUSE, GratuitousArp
from failoverd.neighbours import PORTION
from failoverd.wire import frames

ADDRESS = "192.0.2.10"
GOOD = pair.Interface("eth0", verdict="ok", packets=1)
BAD = {
    "failed": replace(GOOD, verdict="fail"),
    "down": replace(GOOD, up=False),
    "not asked for yet": replace(GOOD, unasked=True),
}
SERVING = ("active", "interface", "check", "release")


@pytest.mark.parametrize("name", MOMENTS)
def test_only_who_serves_and_has_asked_announces(name: str) -> None:
    """A node in doubt may have been overtaken."""
    state = node(name, interfaces=(GOOD,))
    assert pair.announceable(state) == (("eth0",) if name in SERVING else ())


@pytest.mark.parametrize("why", BAD)
def test_nothing_is_announced_where_no_client_is_served(why: str) -> None:
    """Where it is down, where it receives nothing, and where another may serve by now."""
    other = replace(GOOD, name="eth1")
    for name in SERVING:
        state = node(name, interfaces=(BAD[why], other))
        assert pair.announceable(state) == ("eth1",)


@pytest.fixture
def ends() -> Iterator[list[Namespace]]:
    with two_ends() as made:
        yield made


CASES = {
    **{name: (name, GOOD) for name in MOMENTS},
    **{f"active, but {why}": ("active", interface) for why, interface in BAD.items()},
}


def test_what_is_really_sent(ends: list[Namespace], tmp_path: Path) -> None:
    """At once and at the next time that the schedule names; a frame of ours tells where it ends."""

    def announce() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # else a frame may overtake another
        us = context(tmp_path, addresses=(Address("eth0", ADDRESS, 24),))
        with listener(ends[1]) as far, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mark:
            mark.bind(("eth0", 0))
            for name, (moment, interface) in CASES.items():
                us.state = node(moment, interfaces=(interface,))
                gratuitous_arp = GratuitousArp(us)
                for act in (gratuitous_arp.begin, gratuitous_arp.tend):
                    act(gratuitous_arp.deadline or 100.0)
                    mark.send(frame())
                    serves = moment in SERVING and interface is GOOD
                    assert (ADDRESS in announced(far)) is serves, name
                gratuitous_arp.close()

    inside(ends[0], announce)


def active(tmp_path: Path, count: int) -> Context:
    """A node with so many addresses, and slices that hold one frame."""
    hosts = [f"10.7.{n // 250}.{n % 250 + 1}" for n in range(count)]
    addresses = tuple(Address("eth0", host, 16) for host in hosts)
    us = context(tmp_path, addresses=addresses, plip_timer=0.0)
    us.state = node("active", interfaces=(GOOD,))
    return us


@pytest.mark.skipif(ROOTLESS, reason="a buffer for so many frames needs root")
def test_many_are_announced_at_once_and_nothing_waits_for_it(
    ends: list[Namespace], tmp_path: Path
) -> None:
    """The first round goes on in every turn of the loop, the repeats in portions."""

    def announce() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        us = active(tmp_path, 1000)
        gratuitous_arp = GratuitousArp(us)
        with listener(ends[1]) as far, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mark:
            far.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            mark.bind(("eth0", 0))
            now = 100.0
            gratuitous_arp.begin(now)
            turns = 1
            while gratuitous_arp.deadline == now:
                gratuitous_arp.tend(now)
                turns += 1
            assert turns >= 2 * 1000 // PORTION, "a slice holds one portion"
            mark.send(frame())
            kinds = operations(far)
            assert kinds == [1] * 1000 + [2] * 1000, "what most understand goes first, for all"
            now = gratuitous_arp.deadline or 0.0
            assert now == pytest.approx(100.1)
            turns = 0
            while gratuitous_arp.deadline is not None and gratuitous_arp.deadline < 100.5:
                before = now = gratuitous_arp.deadline
                gratuitous_arp.tend(now)
                mark.send(frame())
                sent = len(operations(far))
                assert sent <= PORTION
                assert gratuitous_arp.deadline in (pytest.approx(before + PAUSE), 101.0, 100.5)
                turns += sent
            assert turns == 2000
        gratuitous_arp.close()
        told = list(logs.lines(Path(us.conf.log).read_text(), "GARP"))
        assert [line.subject for line in told] == [
            *(f"address 10.7.0.{n + 1}" for n in range(MOST_NAMED)),
            "interface eth0",
        ], "the first round, and not the repeats"
        assert told[-1].values["count"] == str(1000 - MOST_NAMED)

    inside(ends[0], announce)


def test_who_has_just_put_them_announces_before_the_switch_has_ended(
    ends: list[Namespace], tmp_path: Path
) -> None:
    """And not a moment longer than the switch lasts, unless the pair says so."""

    def announce() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        us = active(tmp_path, 3)
        gratuitous_arp = GratuitousArp(us)
        with listener(ends[1]) as far, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mark:
            mark.bind(("eth0", 0))

            def sent() -> int:
                while gratuitous_arp._first:
                    gratuitous_arp.tend(time.monotonic())
                mark.send(frame())
                return len(operations(far))

            for interface, count in ((BAD["down"], 0), (BAD["failed"], 6), (GOOD, 6)):
                us.state = replace(
                    node("active"), interfaces=(interface,), phase=pair.Phase.PROMOTING
                )
                assert pair.announceable(us.state) == ()
                made = neighbours._announcements.cache_info().misses
                gratuitous_arp.follow(True)
                assert neighbours._announcements.cache_info().misses == made, "made before"
                assert sent() == count
            gratuitous_arp.tend((gratuitous_arp.deadline or 0.0) + 0.1)
            assert sent() == 6, "the repeats too"
            gratuitous_arp.begin(gratuitous_arp.deadline or 0.0)
            assert sent() == 0, "that has just been done"
            gratuitous_arp.switched()
            gratuitous_arp.tend((gratuitous_arp.deadline or 0.0) + 0.1)
            assert sent() == 0
            gratuitous_arp.follow(True)
            assert sent() == 6
            gratuitous_arp.follow(False)
            assert gratuitous_arp.deadline is None, "they are about to go"
            us.state = replace(us.state, interfaces=(BAD["down"],))
            gratuitous_arp.follow(True)
            assert sent() == 0
            us.state = replace(us.state, interfaces=(GOOD,))
            gratuitous_arp.begin(time.monotonic())
            assert sent() == 6, "there was nothing to announce before"
        gratuitous_arp.close()

    inside(ends[0], announce)


def operations(far: socket.socket) -> list[int]:
    """1 for each request and 2 for each reply, before the frame of ours."""
    found = []
    while (data := far.recv(2048))[12:14] != EXPERIMENT.to_bytes(2, "big"):
        if data[12:14] == frames.ETHERTYPE_ARP.to_bytes(2, "big"):
            found.append(int.from_bytes(data[20:22], "big"))
    return found


def test_a_hardware_address_that_changes_is_announced_at_once(
    ends: list[Namespace], tmp_path: Path
) -> None:
    """A client that goes on sending to the old one would wait for a minute."""

    def announce() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        us = context(tmp_path, addresses=(Address("eth0", ADDRESS, 24),))
        us.state = node("active", interfaces=(GOOD,))
        with listener(ends[1]) as far, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mark:
            mark.bind(("eth0", 0))
            gratuitous_arp = GratuitousArp(us)
            gratuitous_arp.look(99.0)
            gratuitous_arp.begin(100.0)
            for changes in (False, True, False):
                mark.send(frame())
                announced(far)
                if changes:
                    other = "ip link set eth0 address 02:00:00:00:77:01"
                    subprocess.run(other.split(), check=True)
                gratuitous_arp.look(100.2)
                mark.send(frame())
                assert (ADDRESS in announced(far)) is changes
            gratuitous_arp.close()

    inside(ends[0], announce)


@pytest.mark.parametrize("later", [1.0, 20.0])
def test_what_a_dead_port_has_swallowed_is_announced_again(
    ends: list[Namespace], tmp_path: Path, later: float
) -> None:
    """The role came while nothing passed, and with $low_water 0 no interface ever fails."""

    def announce() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        us = context(tmp_path, addresses=(Address("eth0", ADDRESS, 24),))
        us.state = node("active", interfaces=(replace(GOOD, packets=0),))
        with listener(ends[1]) as far, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mark:
            mark.bind(("eth0", 0))
            gratuitous_arp = GratuitousArp(us)
            gratuitous_arp.begin(100.0)
            mark.send(frame())
            assert ADDRESS in announced(far)
            for packets, again in ((0, False), (1, later > 5.0), (0, False), (1, False)):
                us.state = node("active", interfaces=(replace(GOOD, packets=packets),))
                gratuitous_arp.look(100.0 + later)
                mark.send(frame())
                assert (ADDRESS in announced(far)) is again
            gratuitous_arp.close()

    inside(ends[0], announce)


def listener(namespace: Namespace) -> socket.socket:
    """Receives all that comes in at the cable's far end."""
    sock = sender(namespace, "far")
    sock.bind(("far", 3))  # ETH_P_ALL
    sock.settimeout(30.0)
    return sock


def announced(far: socket.socket) -> set[str]:
    """The addresses that ARP announced before the frame of ours."""
    found = set()
    while (data := far.recv(2048))[12:14] != EXPERIMENT.to_bytes(2, "big"):
        if (answer := frames.parse(data)) is not None:
            found.add(answer.address)
    return found
