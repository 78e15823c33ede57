"""Where the service's addresses are announced: only where, and while, this machine serves."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from inside import EXPERIMENT, frame, inside, sender, two_ends
from netns import Namespace
from one_machine import MOMENTS, machine

from failoverd import pair
from failoverd.conf import Address, Conf
from failoverd.log import Log
from failoverd.master.context import Context
from failoverd.master.gratuitous_arp import GratuitousArp
from failoverd.wire import frames

ADDRESS = "192.0.2.10"
GOOD = pair.Interface("eth0", verdict="ok", packets=1)
BAD = {
    "failed": replace(GOOD, verdict="fail"),
    "down": replace(GOOD, up=False),
    "not asked for yet": replace(GOOD, unasked=True),
}
SERVING = ("active", "interface", "release")


@pytest.mark.parametrize("name", MOMENTS)
def test_only_who_serves_and_has_asked_announces(name: str) -> None:
    """A machine in doubt may have been overtaken."""
    state = machine(name, interfaces=(GOOD,))
    assert pair.announceable(state) == (("eth0",) if name in SERVING else ())


@pytest.mark.parametrize("why", BAD)
def test_nothing_is_announced_where_nobody_is_served(why: str) -> None:
    """Where it is down, where it hears nothing, and where another may serve by now."""
    other = replace(GOOD, name="eth1")
    for name in SERVING:
        state = machine(name, interfaces=(BAD[why], other))
        assert pair.announceable(state) == ("eth1",)


@pytest.fixture
def ends() -> Iterator[list[Namespace]]:
    with two_ends() as made:
        yield made


CASES = {
    **{name: (name, GOOD) for name in MOMENTS},
    **{f"active, but {why}": ("active", card) for why, card in BAD.items()},
}


def test_what_is_really_sent(ends: list[Namespace], tmp_path: Path) -> None:
    """At once and at the next time that the schedule names; a frame of ours tells where it ends."""

    def announce() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # else a frame may overtake another
        conf = Conf(
            interfaces=("eth0",),
            addresses=(Address("eth0", ADDRESS, 24),),
            log=str(tmp_path / "log"),
            state=str(tmp_path / "state"),
        )
        us = Context(conf, "slave", Log(conf.log), lambda *_: None, dry=False)
        with listener(ends[1]) as far, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mark:
            mark.bind(("eth0", 0))
            for name, (moment, card) in CASES.items():
                us.state = machine(moment, interfaces=(card,))
                gratuitous_arp = GratuitousArp(us)
                for act in (gratuitous_arp.begin, gratuitous_arp.go_on):
                    act(gratuitous_arp.deadline or 100.0)
                    mark.send(frame())
                    serves = moment in SERVING and card is GOOD
                    assert (ADDRESS in announced(far)) is serves, name
                gratuitous_arp.close()

    inside(ends[0], announce)


def listener(namespace: Namespace) -> socket.socket:
    """Hears all that comes in at the cable's far end."""
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
