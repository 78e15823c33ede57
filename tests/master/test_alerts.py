"""What failoverd finds wrong with its own decisions: it is said, once, and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from failoverd import pair
from failoverd.conf import Conf
from failoverd.log import Log
from failoverd.master import Master

BEGINS = " BUG worker failoverd: a fault of failoverd, report this log; error="
STATE = " phase=standby purpose=none"
TAKEN = '"the addresses are both taken and free"'
LEFT = '"a standby remembers the role that it had"'


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    """A failoverd without children, on standby."""
    conf = Conf(interfaces=("lo",), log=str(tmp_path / "log"), state=str(tmp_path / "state"))
    log = Log(conf.log)
    try:
        made = Master(conf, "slave", log)
    except PermissionError as error:
        pytest.skip(str(error))
    made.context.started = True
    made.context.state = replace(made.context.state, begun=True)
    yield made
    made.gratuitous_arp.close()
    made.programs.close()
    made.selector.close()
    log.close()


def step(master: Master) -> None:
    """The next event is decided on as it is where nothing is checked."""
    event = pair.Counted("lo", 1)
    decided, _ = pair.step(master.context.state, event, master.context.rules, time.monotonic())
    master.context.feed(event)
    master._step_all()
    assert master.context.state == decided


def said(master: Master) -> list[str]:
    return [line.partition(BEGINS)[2] for line in read(master) if BEGINS in line]


def read(master: Master) -> list[str]:
    return Path(master.context.conf.log).read_text().splitlines()


def test_what_cannot_be_is_an_alarm_once_and_decides_nothing(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarms: list[tuple[str, str, str]] = []
    monkeypatch.setattr(master.programs, "notify", lambda *words: alarms.append(words))
    sound = master.context.state
    taken, left = replace(sound, taken=True, quiet=1), replace(sound, claimed=1)
    for state in (sound, taken, taken, sound, taken, left, taken, left, sound):
        master.context.state = state
        step(master)
    found = [TAKEN + STATE, LEFT + STATE]
    assert said(master) == found
    begins = BEGINS.removeprefix(" BUG ")
    assert alarms == [("alarm", begins + text, "BUG") for text in found]


SPEECHLESS, SPEAKS = "but its port does not answer", "its port answers again"


def test_a_peer_that_only_sends_heartbeats_is_said_once_and_that_it_ended(master: Master) -> None:
    """One that neither serves nor can ask stops its heartbeats: that is no end of it."""
    mute = replace(master.context.state, timers=())
    well = replace(mute, beats=True, timers=((pair.Timer.UNHEARD, 9.0),))
    for state in (well, replace(mute, beats=True), mute, replace(mute, beats=True), well, well):
        master.context.state = state
        master.alerts.listen()
    told = [word for line in read(master) for word in (SPEECHLESS, SPEAKS) if word in line]
    assert told == [SPEECHLESS, SPEAKS]


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (pair.PeerView("active", "master", frozenset()), "one node is active again"),
        (None, "not active beside another host any more"),
    ],
)
def test_the_end_of_a_split_brain_names_no_active_node_that_is_not_known(
    master: Master, peer: pair.PeerView | None, text: str
) -> None:
    """It stood down for whoever answers for the addresses: that need not be the peer."""
    reached = (pair.Timer.HEARD, pair.Timer.UNHEARD) if peer else ()
    timers = tuple((timer, time.monotonic() + 60.0) for timer in reached)
    master.context.state = replace(master.context.state, peer=peer, timers=timers)
    master.context.say("SPLIT-BRAIN", "role", "both nodes active")
    for _ in range(2):
        master.alerts.check()
    found = [line.partition(" UNITED role: ")[2] for line in read(master)]
    assert found == ["", text]


def test_a_doubt_has_the_line_that_ends_it_once_this_node_has_decided(master: Master) -> None:
    sound = master.context.state
    asks = replace(sound, phase=pair.Phase.RESOLVING, purpose=pair.Purpose.DOUBT)
    switches = replace(sound, phase=pair.Phase.DEMOTING, purpose=pair.Purpose.BOTH)
    boots = replace(asks, purpose=pair.Purpose.BOOT)  # a standby asks, too
    master.alerts.check()
    master.context.state = asks
    master.context.say("DOUBT", "role", "stalled for longer than a window")
    for state in (asks, switches, boots, sound, sound):
        master.context.state = state
        master.alerts.check()
    events = [line.partition("]: ")[2].split("; ")[0] for line in read(master)]
    assert events == [
        "WARNING DOUBT role: stalled for longer than a window",
        "INFO DOUBT-OVER role: confirmed",
    ]
