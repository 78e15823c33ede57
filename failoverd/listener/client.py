"""The queries to the peer's port: over the heartbeat link, and over the second path where that
gives no answer soon.

The first authentic answer counts (RFC 8305 has clients try addresses so). A request to switch is
the same one over both, which its challenge tells the peer.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Container
from dataclasses import dataclass, field

from failoverd.conf import Conf
from failoverd.listener.loop import READ, Loop
from failoverd.process import Channel
from failoverd.second_path import PRIVATE, SECOND, SecondPath
from failoverd.wire.protocol import ClientConnection, Reply, Send, fits, why_unconnected

SAY_SECONDS = 1.0  # a `fail` sent later than this might cross what was decided meanwhile
PART = 4  # of the time to say it, or of a window, after which the second path is tried, too
SOONEST = 0.02  # seconds: with the shortest windows every query would go over both
HEAD_START = 8  # such a part of that time is left to a heartbeat link that gave no answer last
MAX_QUERIES = 64


@dataclass(frozen=True)
class Path:
    """From where, to where and over which interface."""

    name: str
    own: str
    peer: str
    interface: str


@dataclass(eq=False)
class Query:
    """later: when the second path is tried, inf once it is. sent: some of the request may be on its
    way. why: what came of each path without an answer."""

    number: int
    command: str
    challenge: str
    seconds: float
    began: float
    deadline: float  # for the request to be sent
    later: float
    tries: list[Try] = field(default_factory=list)
    sent: bool = False
    why: list[str] = field(default_factory=list)
    advice: str = ""


@dataclass(eq=False)
class Try:
    """A query on its way over one path."""

    query: Query
    path: Path
    socket: socket.socket
    connection: ClientConnection
    deadline: float
    sent: bool = False


class Queries:
    """Any number at a time, each with its own connections; "reply" or "lost" follows on each."""

    def __init__(
        self, loop: Loop, channel: Channel, conf: Conf, secret: bytes, own_nonces: Container[str]
    ) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.secret = secret
        self.private = Path(PRIVATE, conf.primary, conf.secondary, conf.plip_interface)
        self.second = SecondPath()
        self.private_works = True  # it gave the last answer
        self.own_nonces = own_nonces
        self.open: dict[int, Query] = {}

    def deadline(self) -> float:
        times = [query.later for query in self.open.values()]
        times += [one.deadline for query in self.open.values() for one in query.tries]
        return min(times, default=float("inf"))

    def begin(
        self,
        number: int,
        command: str,
        seconds: float,
        began: float | None = None,
        challenge: str | None = None,
        direct: bool = False,
    ) -> None:
        """challenge: a fresh one; without one the peer is an older failoverd. direct: over the
        heartbeat link alone."""
        if len(self.open) >= MAX_QUERIES:
            self.tell_lost(number, False, "too many queries are open")
            return
        began = began or time.monotonic()
        challenge = os.urandom(16).hex() if challenge is None else challenge
        least = seconds if command == "status" else min(seconds, SAY_SECONDS)
        wait = max(SOONEST, min(least, self.conf.plip_timer) / PART)
        wait /= 1 if self.private_works else HEAD_START
        goes_round = challenge and not direct and self.second.ends
        later = began + wait if goes_round else float("inf")
        query = Query(number, command, challenge, seconds, began, began + least, later)
        self.open[number] = query
        self.attempt(query, self.private, query.deadline)

    def attempt(self, query: Query, path: Path, deadline: float) -> None:
        try:
            sock = connect(path, self.conf.tcp_port)
        except OSError as error:
            self.fail(query, path, *self.explain(path, error))
            return
        nonces = self.own_nonces
        connection = ClientConnection(self.secret, query.command, nonces, query.challenge)
        one = Try(query, path, sock, connection, deadline)
        query.tries.append(one)
        self.loop.watch(sock, READ, lambda _events: self.pursue(one))

    def attempt_second(self, query: Query, hurry: bool = False) -> None:
        """hurry: the peer's kernel answers, so a service network that works does that soon, too."""
        ends, is_due, query.later = self.second.ends, query.later < float("inf"), float("inf")
        if ends and is_due:
            deadline = query.deadline
            if hurry:
                part = (query.deadline - query.began) / PART
                deadline = min(deadline, time.monotonic() + part)
            self.attempt(query, Path(SECOND, *ends, self.second.interface), deadline)

    def pursue(self, one: Try) -> None:
        try:
            self.read(one)
        except BlockingIOError:
            pass
        except OSError as error:
            if one.sent:
                self.lose(one, f"the connection broke: {error.strerror}")
            else:
                refused = isinstance(error, ConnectionRefusedError)
                self.lose(one, *self.explain(one.path, error), hurry=refused)

    def read(self, one: Try) -> None:
        data = one.socket.recv(64 * 1024)
        for event in one.connection.feed(data) if data else one.connection.end():
            if one not in one.query.tries:
                return  # it was given up for the event before
            if isinstance(event, Send):
                self.send(one, event.data)
            elif isinstance(event, Reply):
                self.tell_reply(one, event)
            else:
                self.lose(one, event.why, event.advice)

    def send(self, one: Try, line: bytes) -> None:
        """Send the request, which always fits into the buffer of a new connection."""
        if time.monotonic() > one.deadline:
            self.lose(one, "this node was stalled before it was sent")
            return
        sent = one.socket.send(line, socket.MSG_NOSIGNAL)
        one.sent = one.query.sent = True
        one.deadline = one.query.began + one.query.seconds
        if sent < len(line):
            raise OSError(errno.EIO, "the request could not be sent whole")

    def tell_reply(self, one: Try, reply: Reply) -> None:
        if not fits(reply.text):
            self.lose(one, "its answer is too long")
            return
        query, self.private_works = one.query, one.path is self.private
        self.forget(query)
        if query.challenge and reply.is_unknown:  # an older failoverd
            self.begin(query.number, query.command, query.seconds, query.began, "")
            return
        message = {"event": "reply", "id": query.number, "ok": reply.ok, "text": reply.text}
        self.channel.send(message | {"path": one.path.name})

    def expire(self, now: float) -> None:
        for query in list(self.open.values()):
            if query.later <= now:
                self.attempt_second(query)
            for one in [one for one in query.tries if one.deadline <= now]:
                seconds = one.deadline - query.began
                self.lose(one, f"{self.place(one.path)} does not answer within {seconds:g} s")

    def lose(self, one: Try, why: str, advice: str = "", hurry: bool = False) -> None:
        self.close(one)
        one.query.tries.remove(one)
        self.fail(one.query, one.path, why, advice, hurry)

    def fail(self, query: Query, path: Path, why: str, advice: str, hurry: bool = False) -> None:
        """There is no answer over this path."""
        is_private = path is self.private
        query.why.append(why if is_private else f"over the second path: {why}")
        query.advice = query.advice or (advice if is_private else "")
        self.attempt_second(query, hurry)
        if not query.tries and query.number in self.open:
            self.forget(query)
            self.tell_lost(query.number, query.sent, "; ".join(query.why), query.advice)

    def tell_lost(self, number: int, sent: bool, why: str, advice: str = "") -> None:
        message = {"event": "lost", "id": number, "sent": sent, "why": why, "advice": advice}
        self.channel.send(message)

    def place(self, path: Path) -> str:
        return f"{path.peer} port {self.conf.tcp_port}"

    def explain(self, path: Path, error: OSError) -> tuple[str, str]:
        return why_unconnected(error, self.place(path), path.own, path.interface)

    def forget(self, query: Query) -> None:
        del self.open[query.number]
        for one in query.tries:
            self.close(one)

    def close(self, one: Try) -> None:
        self.loop.forget(one.socket)
        one.socket.close()


def connect(path: Path, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in path.own else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _bind_to_link(sock, path.interface)
        sock.bind((path.own, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((path.peer, port))
    except BlockingIOError:
        pass
    except OSError:
        sock.close()
        raise
    return sock


def _bind_to_link(sock: socket.socket, interface: str) -> None:
    """Let nothing leave by another interface.

    Before Linux 5.7 only root may name one; there a packet is at least never given to a router.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
