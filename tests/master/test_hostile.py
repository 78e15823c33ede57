"""A child that an enemy has taken over: what it says to failoverd does no harm."""

from __future__ import annotations

import json
import os
import selectors
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inside import Nothing
from live_pair import LONG, role_changes, settled, start

from dev.lab.network import Lab
from failoverd import process, statefile
from failoverd.conf import Conf
from failoverd.log import Log
from failoverd.master import Master
from failoverd.master.queries import MAX_HWADDRS
from failoverd.master.requests import MAX_REQUESTS
from failoverd.master.supervisor import MAX_LINES, Supervisor
from failoverd.process import Channel, Message
from failoverd.watch.watcher import Instruments, Watcher
from failoverd.wire import protocol

CHILDREN = ("listener", "neighbours", "heartbeat", "watchd lo", "watchd eth7", "addresses")

# ------------------------------------------------------------------ every message


PEER = protocol.Status(
    "standby", "slave", "2026-11-22T12:00:00.123Z", "1", (), "ok", None, None, None, None, None
)
WINDOW = {"packets": range(10), "last": range(10), "verdict": ["ok", "boot", "late", "fail"]}
RIGHT: dict[str, dict[str, Any]] = {
    "log": {"message": ["words"], "interface": ["lo", "eth7"]},
    "alarm": {**WINDOW, "reason": ["silent twice"]},
    "full": {**WINDOW, "reason": ["packet_count reached"]},
    "count": {"packets": range(10), "last": range(10)},
    "request": {
        "id": range(5),
        "command": ["status", "fail", "resume", "stop"],
        "origin": ["peer", "person"],
        "at": [0.0, 1e6, time.monotonic(), time.monotonic() + 1000],
    },
    "reply": {"id": range(5), "ok": [True, False], "text": [protocol.encode_status(PEER), "busy"]},
    "lost": {"id": range(5), "sent": [True, False], "why": ["no answer"]},
    "answers": {
        "id": range(5),
        "asked": range(5),
        "answers": [[], [{"address": "192.0.2.1", "hwaddr": "02:00:00:00:00:01"}]],
    },
    "tags": {
        "ours": [["0123456789abcdef"], ["0123456789abcdef"] * 2],
        "peers": [["fedcba9876543210"], ["fedcba9876543210", "0123456789abcdef"]],
    },
    "renewed": {"tag": ["fedcba9876543210"]},
    "heartbeat": {"heard": [None, 0.0, 1.0, 1e9], "rtt": [None, 0.001, 1e9]},
    "placed": {"number": range(5), "count": [0, 1], "problem": ["", "cannot"], "note": ["", "so"]},
    "dance": {},
}
FORGED = "\n2026-11-22 12:00:00.000 failoverd[1] role: standby -> active"
NUMBERS = [10**400, 10**40, -1, 0, 1, 2**53, 0.5, -0.5, 1e308, float("nan"), float("inf")]
PLAIN = st.none() | st.booleans() | st.sampled_from([*NUMBERS, FORGED, "\x1b[2J"]) | st.text()
JUNK = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=8), PLAIN, max_size=3)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Like those of a child, but for two fields. As they arrive: all that JSON can carry."""
    event = draw(st.sampled_from(list(RIGHT)))
    message = {key: draw(st.sampled_from(values)) for key, values in RIGHT[event].items()}
    message["event"] = event
    for _ in range(draw(st.integers(0, 2))):
        message[draw(st.sampled_from(list(message)))] = draw(JUNK)
    return process.parse_message(json.dumps(message).encode()) or {}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """A failoverd without children, whose pair decides; its switch script does nothing."""
    folder = tmp_path_factory.mktemp("hostile")
    conf = Conf(
        interfaces=("lo",),
        plip_interface="lo",
        log=str(folder / "log"),
        state=str(folder / "state"),
        failover_prog="/bin/true",
        verbose=True,
    )
    log = Log(conf.log)
    try:
        made = Master(conf, "slave", log)
    except PermissionError as error:
        pytest.skip(str(error))
    for name in CHILDREN:
        made.supervisor.add(name, lambda _: process.fork_child("never", lambda _: None), 10.0)
    made._begin()
    yield made
    made.gratuitous_arp.close()
    made.programs.close()
    made.selector.close()
    log.close()


def listen(master: Master, said: list[tuple[str, Message]]) -> None:
    """Have failoverd receive it. Fails if that does harm."""
    log = Path(master.context.conf.log)
    before = log.stat().st_size
    for name, message in said:
        master._told(name, message)
        master._step_all()
    told = log.read_bytes()[before:].decode().splitlines()
    assert all(line.startswith("20") and len(line) < 1300 and line.isprintable() for line in told)
    assert FORGED[1:] not in told
    status = protocol.encode_status(master.status())
    assert protocol.parse_status(status) is not None, status
    assert len(master.requests.waiting) <= MAX_REQUESTS + 1
    assert len(master.context.saved.peer_hwaddrs) <= MAX_HWADDRS


@pytest.mark.parametrize("event", RIGHT)
def test_every_field_with_every_odd_value(master: Master, event: str) -> None:
    sound = {"event": event, **{key: next(iter(values)) for key, values in RIGHT[event].items()}}
    odd: list[Any] = [
        *NUMBERS,
        FORGED,
        "x" * 60_000,
        None,
        True,
        [],
        {},
        [[]],
        [{}],
        [1],
        [{"address": {}}],
    ]
    for field in sound:
        for value in odd:
            message = process.parse_message(json.dumps({**sound, field: value}).encode())
            left_out = {key: known for key, known in sound.items() if key != field}
            for name in CHILDREN:
                master.supervisor.slots[name].lines.used = 0.0  # every line may be written
                listen(master, [(name, message or {}), (name, left_out)])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(said=st.lists(st.tuples(st.sampled_from(CHILDREN), messages()), max_size=12))
def test_whatever_a_child_says(master: Master, said: list[tuple[str, Message]]) -> None:
    listen(master, said)


def test_one_that_repeats_itself_with_other_words(master: Master) -> None:
    """Every one of these was once a line of the log, without end."""
    log = Path(master.context.conf.log)
    before = log.read_text().count("\n")
    now = time.monotonic()
    for number in range(3000):
        master._told("neighbours", {"event": "log", "message": f"line {number}"})
        master._told("listener", {"event": "lost", "id": number, "why": f"why {number}"})
        window = {"packets": 500, "last": number, "verdict": "ok"}
        master._told("watchd lo", {"event": "full", **window})
        request = {"id": number, "origin": "person", "command": "resume", "at": now}
        master._told("listener", {"event": "request", **request})
        master._step_all()
    assert log.read_text().count("\n") - before < 1000
    assert len(master.requests.waiting) <= MAX_REQUESTS + 1


def hwaddr(number: int) -> str:
    """As long as any may be."""
    return number.to_bytes(32, "big").hex(":")


def test_a_peer_with_ever_new_interfaces_does_not_outgrow_the_state(master: Master) -> None:
    for number in range(0, 3000, 100):
        interfaces = {
            f"e{n}": {"state": "ok", "packets": 0, "last": 0, "hwaddr": hwaddr(n)}
            for n in range(number, number + 100)
        }
        tree = {**protocol.status_tree(PEER), "interfaces": interfaces}
        status = protocol.parse_status(json.dumps(tree))
        assert status is not None
        master.queries.note_hwaddrs(status)
    assert len(master.context.saved.peer_hwaddrs) <= MAX_HWADDRS
    assert statefile.read(master.context.conf.state).role is not None


# ------------------------------------------------------------------ what it hands down


@pytest.mark.parametrize(
    "handed",
    [
        {},
        {"packets": 1, "last": 1, "boot": False, "deadline": 1e300, "began": 0.0, "retry": 0.1},
        {"packets": 1, "last": 1, "boot": False, "deadline": float("nan"), "began": 0, "retry": 1},
        {"packets": 1, "last": 1, "boot": False, "deadline": 0.0, "began": 1e300, "retry": 0.1},
        {"packets": [], "last": 1, "boot": False, "deadline": 0.0, "began": 0.0, "retry": 0.1},
        {"packets": 10**400, "last": 1, "boot": 0, "deadline": "x", "began": None, "retry": 0.1},
    ],
    ids=range(6),
)  # fmt: skip
def test_a_successor_believes_no_nonsense(handed: Message) -> None:
    """Or a watcher that ends would leave one behind that never gives an alarm."""
    watcher = Watcher(
        Conf(interfaces=("lo",)), "lo", Instruments(Nothing()), lambda _: None, handed
    )
    watcher.open()
    assert time.monotonic() < watcher.window.deadline <= time.monotonic() + watcher.rules.timer
    watcher.close()


# ------------------------------------------------------------------ real children


class Parent:
    """What failoverd does with its children, and no more."""

    def __init__(self, run: Callable[[Channel], None]) -> None:
        self.told: list[Message] = []
        self.gone: list[str] = []
        self.selector = selectors.DefaultSelector()
        self.supervisor = Supervisor(
            self.selector,
            lambda _, message: self.told.append(message),
            lambda _, why: self.gone.append(why),
        )
        self.supervisor.add("enemy", lambda _: process.fork_child("enemy", run), 10.0)

    def serve(self, until: Callable[[], object]) -> None:
        end = time.monotonic() + LONG
        while not until():
            assert time.monotonic() < end, (len(self.told), self.gone)
            self.supervisor.tend(time.monotonic())
            for key, _ in self.selector.select(0.01):
                key.data()


def test_one_that_says_too_much_is_ended_and_comes_back_later_and_later() -> None:
    def flood(channel: Channel) -> None:
        while True:
            channel.send({"event": "count", "packets": 1})

    parent = Parent(flood)
    parent.serve(lambda: len(parent.gone) >= 2)
    assert all("sends too much" in why for why in parent.gone)
    assert parent.supervisor.slots["enemy"].delay >= 0.2
    parent.supervisor.end_all()


def test_one_that_asks_for_a_successor_again_and_again_waits_for_it() -> None:
    def leave(channel: Channel) -> None:
        channel.send({"event": "reopen"})
        time.sleep(99)

    parent = Parent(leave)
    parent.serve(lambda: len(parent.gone) >= 3)
    assert parent.supervisor.slots["enemy"].delay >= 0.4
    parent.supervisor.end_all()


def test_descriptors_that_it_sends_are_not_taken(tmp_path: Path) -> None:
    def give(channel: Channel) -> None:
        assert isinstance(channel._socket, socket.socket)
        for number in range(50):
            message = json.dumps({"event": "count", "packets": number}).encode()
            socket.send_fds(channel._socket, [message], [0, 0, 0])
        time.sleep(99)

    parent = Parent(give)
    parent.serve(lambda: parent.told)
    before = len(os.listdir("/proc/self/fd"))
    parent.serve(lambda: len(parent.told) == 50)
    assert len(os.listdir("/proc/self/fd")) <= before  # others may have been closed meanwhile
    parent.supervisor.end_all()


ENEMY = """
import os, sys, time
interface = sys.argv[1]
window = '{"event": "alarm", "packets": 3, "last": 3, "verdict": "ok", "interface": "%s"}\\n'
lines = [
    window % interface,
    '{"event": "alarm", "packets": 0, "last": 0, "verdict": "fail", "interface": "eth9"}\\n',
    '{"event": "log", "interface": "x\\\\n2026", "message": "a\\\\u001b[2J\\\\n%d"}\\n',
    '{"event": "request", "id": 1, "command": "resume", "origin": "peer", "at": 1e9}\\n',
    '{"event": "heartbeat", "heard": NaN}\\n',
    '{"event": "reply", "id": 1, "ok": true, "text": "active"}\\n',
    '[' * 70000,
    '\\n\\0\\xff{"packets": 1e999}\\n',
]
if interface != "plip0":
    del lines[1]
number = 0
os.write(1, (window % interface).encode())
while True:
    number += 1
    for line in lines:
        os.write(1, (line % number if "%d" in line else line).encode("latin-1"))
    if number > 300 and interface == "plip0":
        time.sleep(0.5)
"""


def test_another_watcher_that_is_mad(lab: Lab) -> None:
    """The standby's: it floods, forges lines, claims what it cannot know."""
    start(lab)
    lab.wait_until(lambda: lab.b.status()["us"]["plip"]["state"] == "ok", "b receives from a")
    process_of_b = lab.b.read("run/pid")
    lab.b.check("kill", "-KILL", process_of_b.strip())
    before = [role_changes(node) for node in lab.nodes]
    lines, resumes = lab.b.log().count("\n"), lab.b.log().count("command=resume")
    python, enemy = shlex.quote(sys.executable), shlex.quote(ENEMY.replace("eth9", "eth0"))
    program = lab.b.write("enemy", f'#!/bin/sh\nexec {python} -I -c {enemy} "$1"\n', 0o755)
    # another user may not reach this Python
    lab.b.write_conf(watchd=program, user="root", verbose=True)
    assert lab.b.command("failoverd").returncode == 0
    lab.wait_until(
        lambda: (
            'worker watchd eth0: ended, and is started again; error="sends too much' in lab.b.log()
        ),
        "it is ended",
    )
    lab.wait_until(lambda: settled(lab, lab.a), "the pair goes on")
    assert [role_changes(node) for node in lab.nodes] == before
    log = lab.b.log()
    assert log.count("\n") - lines < 30 * MAX_LINES
    assert all(line.startswith("20") and line.isprintable() for line in log.splitlines())
    assert log.count("command=resume") == resumes
