"""What comes or would go out too late, and what could not be done at all: neither is carried out.

Each on the part that decides it, with a time of its own: whoever asks and whoever is asked count
on the same moments.
"""

from __future__ import annotations

import select
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from live_pair import context
from samples import STANDBY

from failoverd import pair
from failoverd.conf import Conf
from failoverd.listener.client import Queries
from failoverd.listener.loop import Loop
from failoverd.listener.server import Server, Session
from failoverd.master import requests
from failoverd.master.placing import Placing
from failoverd.master.programs import Programs
from failoverd.master.supervisor import Supervisor
from failoverd.process import Message
from failoverd.wire.protocol import Request

NOW = 1000.0
JUST = 0.001
LIMIT = 60.0  # seconds in which anything must have happened
SECRET = b"open sesame"


class Told:
    """The end of a channel that notes what it is told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> bool:
        self.messages.append(message)
        return True

    def of(self, event: str) -> list[Message]:
        return [message for message in self.messages if message.get("event") == event]


# ---------------------------------------------------------------------------- the master's requests


class Kin(Supervisor):
    """A listener and watchers that note what they are told."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector(), lambda *_: None, lambda *_: None)
        self.told: list[tuple[str, Message]] = []

    def pid(self, name: str) -> int:
        return 99

    def send(self, name: str, message: Message) -> bool:
        self.told.append((name, message))
        return True


class Office:
    """The requests of a failoverd that has a listener and has begun, at a time of its own."""

    def __init__(self, folder: Path, dry: bool = False) -> None:
        self.context = context(folder, addresses=(), dry=dry)
        self.context.started = True
        supervisor = Kin()
        self.told = supervisor.told
        self.requests = requests.Requests(
            self.context, supervisor, lambda _: STANDBY, lambda *_: None
        )
        self.asked = 0

    def ask(self, command: str = "fail", origin: str = "peer", at: float = NOW) -> list[pair.Event]:
        """What the pair is told because of a request."""
        self.context.events.clear()
        self.asked += 1
        self.requests.told({"id": self.asked, "command": command, "origin": origin, "at": at})
        return list(self.context.events)

    def answers(self) -> list[tuple[object, object]]:
        said = [m for name, m in self.told if name == "listener" and m["do"] == "answer"]
        assert len({message["id"] for message in said} & {*range(1, self.asked + 1)}) == len(said)
        return [(message["ok"], message["text"]) for message in said]


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(requests, "time", SimpleNamespace(monotonic=lambda: NOW))
    return Office(tmp_path)


@pytest.mark.parametrize("command", ["fail", "resume"])
@pytest.mark.parametrize("origin", ["peer", "person"])
@pytest.mark.parametrize(
    ("age", "stale"), [(0.0, False), (0.9, False), (1.0, False), (1.0 + JUST, True), (9.0, True)]
)
def test_a_request_that_waited_for_longer_than_a_second_is_not_begun(
    office: Office, command: str, origin: str, age: float, stale: bool
) -> None:
    """Whoever sent it counts on that: it has decided again meanwhile."""
    events = office.ask(command, origin, NOW - age)
    assert events == ([] if stale else [pair.Request(1, command, origin == "peer")])
    late = (False, "too late: this node was stalled meanwhile")
    assert office.answers() == ([late] if stale else [])
    assert bool(office.requests.waiting) is not stale


def test_a_status_is_answered_however_late(office: Office) -> None:
    assert office.ask("status", "person", NOW - 100) == []
    ((ok, _),) = office.answers()
    assert ok is True


@pytest.mark.parametrize("stopping", [False, True])
def test_whoever_has_not_begun_or_is_to_end_begins_nothing(office: Office, stopping: bool) -> None:
    office.context.started, office.context.stops = stopping, int(stopping)
    assert office.ask() == []
    why = "stopping" if stopping else "starting, try again in a moment"
    assert office.answers() == [(False, f"busy: failoverd is {why}")]


def test_a_dry_run_begins_nothing(tmp_path: Path) -> None:
    dry = Office(tmp_path, dry=True)
    assert dry.ask("resume", "person", 0.0) == []
    assert dry.answers() == [(False, "dry run")]


def test_a_crowd_of_requests_is_busy(office: Office) -> None:
    asked = [len(office.ask(origin="person")) for _ in range(requests.MAX_SWITCHING + 1)]
    assert asked == [1] * requests.MAX_SWITCHING + [0]
    assert office.answers() == [(False, "busy")]


def test_only_so_many_wait(office: Office) -> None:
    office.requests.waiting = {-n: None for n in range(requests.MAX_REQUESTS - 1)}
    assert len(office.ask()) == 1
    assert office.ask() == []
    assert office.answers() == [(False, "busy")]


def test_who_waits_already_is_no_new_request(office: Office) -> None:
    assert len(office.ask()) == 1
    office.asked = 0
    with pytest.raises(ValueError, match="waits already"):
        office.ask()
    assert not office.context.events and len(office.requests.waiting) == 1


@pytest.mark.parametrize(
    "odd", [{"command": "stop"}, {"origin": "nobody"}, {"at": "soon"}, {"id": "x"}]
)
def test_what_is_no_request_is_none(office: Office, odd: dict[str, Any]) -> None:
    sound = {"id": 5, "command": "fail", "origin": "peer", "at": NOW}
    with pytest.raises((ValueError, TypeError)):
        office.requests.told({**sound, **odd})
    assert not office.context.events
    assert not office.requests.waiting


def test_the_peer_waits_for_what_the_watchers_say_but_not_for_long(office: Office) -> None:
    office.ask("status")
    looks = [name for name, message in office.told if message == {"do": "look"}]
    assert looks == ["watchd eth0"]
    assert office.requests.deadline == NOW + 0.02
    office.requests.tend(NOW + 0.019)
    assert office.answers() == []
    office.requests.tend(NOW + 0.02)
    assert len(office.answers()) == 1
    assert office.requests.deadline is None


def test_the_peer_is_answered_as_soon_as_the_watchers_have_looked(office: Office) -> None:
    office.ask("status")
    office.requests.has_looked("eth9")
    assert office.answers() == []
    office.requests.has_looked("eth0")
    assert len(office.answers()) == 1


def test_who_asks_while_the_watchers_look_waits_for_that_look(office: Office) -> None:
    office.ask("status")
    office.ask("status")
    assert [message for _, message in office.told].count({"do": "look"}) == 1
    assert office.answers() == []
    office.requests.has_looked("eth0")
    assert len(office.answers()) == 2


# ---------------------------------------------------------------------------- the listener


class Port:
    """This node's own port, and the listener's two halves, which tell what they tell here."""

    def __init__(self, socket_: socket.socket) -> None:
        self.socket = socket_
        here, number = socket_.getsockname()
        self.conf = Conf(primary=here, secondary=here, plip_interface="lo", tcp_port=number)
        self.told = Told()
        channel: Any = self.told
        self.server = Server(Loop(), channel, self.conf, SECRET)
        self.queries = Queries(Loop(), channel, self.conf, SECRET, ())

    def session(self, said: bytes) -> tuple[Session, Request, socket.socket]:
        """One whose client has said this, and what that means."""
        theirs = socket.create_connection(self.socket.getsockname(), timeout=LIMIT)
        self.server.welcome(self.socket.accept()[0], "127.0.0.1", "person", True)
        (session,) = self.server.sessions.values()
        (request,) = session.connection.feed(said)
        assert isinstance(request, Request)
        return session, request, theirs


@pytest.fixture
def port() -> Iterator[Port]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(LIMIT)
        yield Port(made)


def everything(sock: socket.socket) -> bytes:
    """All that is said before the other side is done."""
    said = b""
    with sock:
        while data := sock.recv(4096):
            said += data
    return said


@pytest.mark.parametrize(
    ("command", "late", "taken"),
    [
        ("fail", -1.0, True),
        ("fail", 0.5, True),
        ("fail", 0.5 + JUST, False),
        ("resume", 0.5 + JUST, False),
        ("status", 60.0, True),
    ],
)
def test_what_lay_here_for_longer_than_its_sender_waits_is_not_passed_on(
    port: Port, command: str, late: float, taken: bool
) -> None:
    """We were stopped meanwhile."""
    before = time.monotonic()
    session, request, theirs = port.session(SECRET + f"\n{command}\n".encode())
    assert before + 5.0 <= session.deadline <= time.monotonic() + 5.0
    session.deadline = NOW
    port.server.report(session, request, NOW + late)
    passed = [(message["command"], message["at"]) for message in port.told.of("request")]
    assert passed == ([(command, NOW + late)] if taken else [])
    if taken:
        assert session.deadline == NOW + late + port.conf.switch_timeout + 1.0
        theirs.close()
    else:
        assert everything(theirs).splitlines()[1:] == [b"error too late"]


@pytest.mark.parametrize(
    ("command", "seconds", "until"),
    [("fail", 35.0, 1.0), ("resume", 35.0, 1.0), ("fail", 0.4, 0.4), ("status", 35.0, 35.0)],
)
def test_until_when_a_telling_may_be_sent(
    port: Port, command: str, seconds: float, until: float
) -> None:
    """Later it might cross what was decided meanwhile."""
    port.queries.begin(7, command, seconds, NOW)
    assert port.queries.deadline() == NOW + until
    port.queries.expire(NOW + until - JUST)
    assert not port.told.messages
    port.queries.expire(NOW + until)
    (lost,) = port.told.of("lost")
    assert (lost["id"], lost["sent"]) == (7, False)
    assert not port.queries.open


@pytest.mark.parametrize("stopped", [False, True])
def test_a_telling_that_is_late_is_not_sent(port: Port, stopped: bool) -> None:
    """Although the peer has greeted us meanwhile, and waits for it."""
    began = time.monotonic() - (1.1 if stopped else 0.0)
    port.queries.begin(7, "fail", 1000.0 if stopped else 2000.0, began)
    (query,) = port.queries.open[7].tries
    if not stopped:
        query.deadline += 1000.0  # however slow this host is
    theirs = port.socket.accept()[0]
    port.queries.send(query, b"a line\n")
    if stopped:
        (lost,) = port.told.of("lost")
        assert lost["sent"] is False
        assert everything(theirs) == b""
    else:
        assert query.sent
        assert query.deadline == began + 2000.0, "from now on it is the answer's time"
        assert theirs.recv(100) == b"a line\n"


def test_what_comes_behind_a_greeting_that_was_too_late_is_nothing(port: Port) -> None:
    """The connection is closed by then. A worker that died of it would take all others along."""
    port.queries.begin(7, "fail", 1000.0, time.monotonic() - 1.1)
    (query,) = port.queries.open[7].tries
    with port.socket.accept()[0] as theirs:
        theirs.sendall(b"failoverd 1 " + b"0" * 32 + b"\nerror refused\n")
        select.select([query.socket], [], [], LIMIT)
        port.queries.pursue(query)
    (lost,) = port.told.of("lost")
    assert lost["sent"] is False and "stalled" in str(lost["why"])
    assert not port.queries.open


# ---------------------------------------------------------------------------- programs


SCRIPTS = {
    "succeeds": ("#!/bin/sh\nexit 0\n", 0o755, (True, True)),
    "fails": ("#!/bin/sh\nexit 1\n", 0o755, (False, True)),
    "says that it cannot be run": ("#!/bin/sh\nexit 126\n", 0o755, (False, True)),
    "says that it is not found": ("#!/bin/sh\nexit 127\n", 0o755, (False, True)),
    "may not be run": ("#!/bin/sh\nexit 0\n", 0o644, (False, False)),
    "is no program": ("exit 0\n", 0o755, (False, False)),
    "has no interpreter": ("#!/nowhere/sh\n", 0o755, (False, False)),
    "is killed": ("#!/bin/sh\nkill -9 $$\n", 0o755, (False, True)),
    "is not there": (None, 0, (False, False)),
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_only_a_fence_program_that_succeeds_has_fenced(tmp_path: Path, what: str) -> None:
    """One that could not be run has fenced nothing."""
    text, mode, (ok, ran) = SCRIPTS[what]
    program = tmp_path / "fence"
    if text is not None:
        program.write_text(text)
        program.chmod(mode)
    ended = run_to_its_end(tmp_path, "fence", str(program))
    assert ended == pair.Ended("fence", ok, ran, 3)


def run_to_its_end(folder: Path, kind: str, program: str) -> pair.Ended:
    us = context(folder, addresses=(), fence_prog=program)
    with selectors.DefaultSelector() as selector:
        placing = Placing(Supervisor(selector, lambda *_: None, lambda *_: None))
        programs = Programs(us, selector, lambda *_: (True, ""), placing, print)
        programs.watch()
        programs.run(kind, 3)
        deadline = time.monotonic() + LIMIT
        while not us.events:
            assert time.monotonic() < deadline
            for key, _ in selector.select(1.0):
                key.data()
        programs.close()
        placing.close()
    (event,) = us.events
    assert isinstance(event, pair.Ended)
    assert event.kind == kind
    return event
