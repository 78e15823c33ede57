"""The sessions of those who connect to this node's port: each asks, waits for failoverd's answer,
and is told it."""

from __future__ import annotations

import contextlib
import enum
import os
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from failoverd import users
from failoverd.conf import Conf
from failoverd.listener.loop import READ, WRITE, Loop
from failoverd.log import Allowance
from failoverd.process import Channel, logged
from failoverd.wire.protocol import (
    HOLDS,
    REFUSED,
    UNKNOWN,
    Refused,
    Request,
    ServerConnection,
    is_command,
    user_of_end,
)

REQUEST_SECONDS = 5.0  # the client's time for its request, and then for taking the answer
SAME_SECONDS = 60.0  # so long the copies of a request are known: they come within seconds
SWITCHES = ("fail", "resume")
LATE_SECONDS = 0.5  # how much later than its deadline a request may be read
MAX_SESSIONS = 512  # at a time: while so many others come, a client has time for its request
RESERVE = 128  # descriptors for what else is open
NO_LOGIN = (1 << 32) - 1  # the loginuid of what no user has started


class State(enum.Enum):
    ASKING = enum.auto()
    WAITING = enum.auto()  # for failoverd's answer
    LEAVING = enum.auto()  # until the client has taken the answer and closed its side


@dataclass
class Same:
    """One request to switch, of which the peer sends a copy over each path. number: of the session
    by which failoverd knows it; copies: the others that wait for its answer."""

    number: int
    at: float
    copies: list[int] = field(default_factory=list)
    answer: tuple[bool, str] | None = None


@dataclass(eq=False)
class Session:
    """`spoke` is set when the client has said anything, `ended` when it has closed its side."""

    number: int
    socket: socket.socket
    host: str
    origin: str
    connection: ServerConnection
    deadline: float
    out: bytes
    state: State = State.ASKING
    spoke: bool = False
    ended: bool = False


class Server:
    def __init__(self, loop: Loop, channel: Channel, conf: Conf, secret: bytes) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.secret = secret
        self.sessions: dict[int, Session] = {}  # the oldest first
        self.nonces: set[str] = set()  # of their greetings
        self.requests: dict[str, Same] = {}  # by challenge, the latest last
        self.numbers = count(os.getpid() << 30)  # which the listener before has not given
        self.places = places()
        self.complaints = Allowance(1.0, 1)  # lines about unwanted clients, one a second
        self.untold = 0  # of those clients since the last line

    def deadline(self) -> float:
        return min((s.deadline for s in self.sessions.values()), default=float("inf"))

    def welcome(self, sock: socket.socket, host: str, origin: str, plain: bool) -> None:
        now = time.monotonic()
        if not origin:
            self.complain("connection closed, not from either node", host, now)
        if not origin or not self.make_room():
            sock.close()
            return
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            # Greeting and answer are two small writes: Nagle would hold the second one back.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = ServerConnection(os.urandom(16).hex(), self.secret, plain)
        number, until, greeting = next(self.numbers), now + REQUEST_SECONDS, connection.greeting()
        session = Session(number, sock, host, origin, connection, until, greeting)
        self.sessions[number] = session
        self.nonces.add(connection.nonce)
        self.flush(session)

    def make_room(self) -> bool:
        """End a session if all places are taken: of the address with most idle ones, the oldest.

        So a flood from one address takes neither another's places nor those of requests that are
        under way. To talk does not help, or a crowd that talks would have each newcomer sent away.
        False if none is idle.
        """
        if len(self.sessions) < self.places:
            return True
        idle = [s for s in self.sessions.values() if s.state is not State.WAITING]
        if idle:
            crowds = Counter(session.host for session in idle)
            crowd = max(crowds, key=crowds.__getitem__)  # most_common imports, which may fail now
            self.drop(next(session for session in idle if session.host == crowd))
        return bool(idle)

    def attend(self, session: Session, events: int) -> None:
        if events & READ:
            self.read(session)
        if session.number in self.sessions:
            self.flush(session)

    def read(self, session: Session) -> None:
        try:
            data = session.socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            self.drop(session)
            return
        session.ended = not data
        session.spoke = session.spoke or bool(data)
        if session.state is State.ASKING:
            connection = session.connection
            self.judge(session, connection.feed(data) if data else connection.end())

    def judge(self, session: Session, events: Iterable[Request | Refused]) -> None:
        now = time.monotonic()
        for event in events:
            if isinstance(event, Request):
                if not self.is_copy(session, event, now):
                    self.report(session, event, now)
                continue
            if session.spoke or not session.ended:  # a peer that ends just closes
                self.complain("request refused, not authenticated", session.host, now)
            self.answer(session, REFUSED)

    def complain(self, sentence: str, client: str, now: float) -> None:
        """Log an unwanted client; those that were left out are counted in the next line."""
        if not self.complaints.take(1, now):
            self.untold += 1
            return
        values = {"client": client} | ({"suppressed": self.untold} if self.untold else {})
        self.channel.send(logged("REQUEST-REFUSED", "config", sentence, **values))
        self.untold = 0

    def is_copy(self, session: Session, request: Request, now: float) -> bool:
        """Whether it has come by another path already: then it has the same answer. What is done
        twice could be told as refused, and be done nevertheless."""
        if not request.challenge or request.command not in SWITCHES:
            return False
        while self.requests and next(iter(self.requests.values())).at < now - SAME_SECONDS:
            del self.requests[next(iter(self.requests))]
        same = self.requests.setdefault(request.challenge, Same(session.number, now))
        if same.number == session.number:
            return False
        self.wait(session, now)
        same.copies.append(session.number)
        if same.answer is not None:
            self.pass_on(session.number, *same.answer)
        return True

    def wait(self, session: Session, now: float) -> None:
        session.state = State.WAITING
        session.deadline = now + self.conf.switch_timeout + 1.0

    def report(self, session: Session, request: Request, now: float) -> None:
        is_peer = request.by_hmac and session.origin == "peer"
        message = {
            "event": "request",
            "id": session.number,
            "command": request.command,
            "origin": "peer" if is_peer else "person",
            "at": now,
            "via": "ha-fail" if request.by_hmac else "secret",
            "client": session.host,
        }
        if not is_command(request.command):
            why = UNKNOWN
        elif session.origin == "peer" and request.command.startswith(HOLDS):
            self.complain("request refused, only the node itself may ask for it", session.host, now)
            why = "only by this node's own commands"
        elif request.command != "status" and now > session.deadline + LATE_SECONDS:
            why = "too late"  # this process was stopped meanwhile: the sender has decided again
        elif not self.channel.send(message | self.user(session, request)):
            why = "failoverd does not respond"
        else:
            self.wait(session, now)
            return
        self.wait(session, now)
        self.pass_on(session.number, False, why)

    def user(self, session: Session, request: Request) -> dict[str, str]:
        """Who asks for a switch by the Unix socket."""
        own = session.socket.family == socket.AF_UNIX and request.command != "status"
        return {"user": user_of(session.socket), "client": ""} if own else {}

    def pass_on(self, number: int, ok: bool, text: str) -> None:
        numbers = [number]
        for same in self.requests.values():
            if same.number == number:
                same.answer = ok, text
                numbers += same.copies
        for session in filter(None, map(self.sessions.get, numbers)):
            if session.state is State.WAITING:
                self.answer(session, session.connection.answer(ok, text))

    def answer(self, session: Session, line: bytes) -> None:
        """Send the last line, then close as soon as the client has closed its side."""
        session.state = State.LEAVING
        session.out += line
        session.deadline = time.monotonic() + REQUEST_SECONDS
        self.flush(session)

    def flush(self, session: Session) -> None:
        """Send what can be sent, and say what is waited for next."""
        is_leaving = session.state is State.LEAVING
        try:
            while session.out:
                sent = session.socket.send(session.out, socket.MSG_NOSIGNAL)
                session.out = session.out[sent:]
            if is_leaving:
                # A close with something unread is a reset, which ends nc before it has read the
                # answer: tell the client that this is all, and let it close first.
                session.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.drop(session)
            return
        if is_leaving and session.ended and not session.out:
            self.drop(session)
            return
        is_reading = not session.ended and session.state is not State.WAITING
        events = (READ if is_reading else 0) | (WRITE if session.out else 0)
        self.loop.watch(session.socket, events, lambda events: self.attend(session, events))

    def expire(self, now: float) -> None:
        """Those whose time is up: to ask, to be answered by failoverd, or to take the answer."""
        for session in [s for s in self.sessions.values() if s.deadline <= now]:
            request = session.connection.request
            if session.state is State.ASKING:
                self.judge(session, session.connection.end())
            elif session.state is State.WAITING and request and not request.by_hmac:
                self.answer(session, b"error no answer in time: ask for the status\n")
            else:  # a signed error would mean that nothing has happened, and that is not known
                self.drop(session)

    def drop(self, session: Session) -> None:
        del self.sessions[session.number]
        self.nonces.discard(session.connection.nonce)
        self.loop.forget(session.socket)
        session.socket.close()


def places() -> int:
    """For how many sessions there are descriptors: without one, the port is closed for all."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(MAX_SESSIONS, most - RESERVE))


def user_of(sock: socket.socket) -> str:
    """Who has logged in and, by sudo or not, runs what is at the other end of a Unix socket; where
    no login but root's is known, whom sudo tells, or as whom it runs (unix(7), proc(5))."""
    form = struct.Struct("3i")
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
    pid, uid, _ = form.unpack(credentials)
    with contextlib.suppress(OSError, ValueError):
        login = int(Path(f"/proc/{pid}/loginuid").read_bytes())
        uid = uid if login == NO_LOGIN else login
    with contextlib.suppress(OSError):
        if not uid and (told := user_of_end(sock.getpeername())):
            return told
    return users.name_of(uid)
