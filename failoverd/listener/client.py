"""The queries to the peer's port."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Container
from dataclasses import dataclass

from failoverd import process
from failoverd.conf import Conf
from failoverd.listener.loop import READ, Loop
from failoverd.process import Channel
from failoverd.wire.protocol import ClientConnection, Reply, Send, why_unconnected

SAY_SECONDS = 1.0  # a `fail` sent later than this might cross what was decided meanwhile
MAX_QUERIES = 64
MAX_TEXT = process.MAX_MESSAGE - 1024  # what of an answer fits into one message to failoverd


@dataclass(eq=False)
class Query:
    """`sent`: some of the request may be on its way."""

    number: int
    command: str
    challenge: str
    socket: socket.socket
    connection: ClientConnection
    seconds: float
    began: float
    deadline: float
    sent: bool = False


class Queries:
    """Any number at a time, each with its own connection; "reply" or "lost" follows on each."""

    def __init__(
        self, loop: Loop, channel: Channel, conf: Conf, secret: bytes, own_nonces: Container[str]
    ) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.secret = secret
        self.place = f"{conf.secondary} port {conf.tcp_port}"
        self.own_nonces = own_nonces
        self.open: dict[int, Query] = {}

    def deadline(self) -> float:
        return min((query.deadline for query in self.open.values()), default=float("inf"))

    def begin(
        self,
        number: int,
        command: str,
        seconds: float,
        began: float | None = None,
        challenge: str | None = None,
    ) -> None:
        """challenge: a fresh one."""
        if len(self.open) >= MAX_QUERIES:
            self.tell_lost(number, False, "too many queries are open")
            return
        try:
            sock = self.connect()
        except OSError as error:
            self.tell_lost(number, False, *self.explain(error))
            return
        began = began or time.monotonic()
        challenge = os.urandom(16).hex() if challenge is None else challenge
        connection = ClientConnection(self.secret, command, self.own_nonces, challenge)
        deadline = began + (seconds if command == "status" else min(seconds, SAY_SECONDS))
        query = Query(number, command, challenge, sock, connection, seconds, began, deadline)
        self.open[number] = query
        self.loop.watch(sock, READ, lambda _events: self.pursue(query))

    def connect(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.conf.primary else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            _bind_to_link(sock, self.conf.plip_interface)
            sock.bind((self.conf.primary, 0))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect((self.conf.secondary, self.conf.tcp_port))
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            raise
        return sock

    def pursue(self, query: Query) -> None:
        try:
            self.read(query)
        except BlockingIOError:
            pass
        except OSError as error:
            if query.sent:
                self.lose(query, f"the connection broke: {error.strerror}")
            else:
                self.lose(query, *self.explain(error))

    def read(self, query: Query) -> None:
        data = query.socket.recv(64 * 1024)
        for event in query.connection.feed(data) if data else query.connection.end():
            if isinstance(event, Send):
                self.send(query, event.data)
            elif isinstance(event, Reply):
                self.tell_reply(query, event)
            else:
                self.lose(query, event.why, event.advice)

    def send(self, query: Query, line: bytes) -> None:
        """Send the request, which always fits into the buffer of a new connection."""
        if time.monotonic() > query.deadline:
            self.lose(query, "this node was stalled before it was sent")
            return
        sent = query.socket.send(line, socket.MSG_NOSIGNAL)
        query.sent = True
        query.deadline = query.began + query.seconds
        if sent < len(line):
            raise OSError(errno.EIO, "the request could not be sent whole")

    def tell_reply(self, query: Query, reply: Reply) -> None:
        if len(json.dumps(reply.text)) > MAX_TEXT:
            self.lose(query, "its answer is too long")
            return
        self.forget(query)
        if query.challenge and reply.is_unknown:  # an older failoverd
            self.begin(query.number, query.command, query.seconds, query.began, "")
            return
        self.channel.send(
            {"event": "reply", "id": query.number, "ok": reply.ok, "text": reply.text}
        )

    def expire(self, now: float) -> None:
        for query in [query for query in self.open.values() if query.deadline <= now]:
            seconds = query.deadline - query.began
            self.lose(query, f"{self.place} does not answer within {seconds:g} s")

    def lose(self, query: Query, why: str, advice: str = "") -> None:
        self.forget(query)
        self.tell_lost(query.number, query.sent, why, advice)

    def tell_lost(self, number: int, sent: bool, why: str, advice: str = "") -> None:
        message = {"event": "lost", "id": number, "sent": sent, "why": why, "advice": advice}
        self.channel.send(message)

    def explain(self, error: OSError) -> tuple[str, str]:
        return why_unconnected(error, self.place, self.conf.primary, self.conf.plip_interface)

    def forget(self, query: Query) -> None:
        del self.open[query.number]
        self.loop.forget(query.socket)
        query.socket.close()


def _bind_to_link(sock: socket.socket, interface: str) -> None:
    """Let nothing leave by another interface.

    Before Linux 5.7 only root may name one; there a packet is at least never given to a router.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
