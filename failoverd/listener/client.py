"""Our questions to the peer's port."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Container, Iterable
from dataclasses import dataclass

from failoverd import process
from failoverd.conf import Conf
from failoverd.listener.loop import READ, Loop, family
from failoverd.process import Channel
from failoverd.wire.protocol import ClientConnection, Reply, Send, why_unconnected

SAY_SECONDS = 1.0  # a `fail` sent later than this might cross what was decided meanwhile
MAX_QUESTIONS = 64
MAX_TEXT = process.MAX_MESSAGE - 1024  # what of an answer fits into one message to failoverd


@dataclass(eq=False)
class Question:
    """A question of ours to the peer's port. `sent`: some of the request may be on its way."""

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
    """Our questions to the peer's port, any number at a time, each with its own connection."""

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        conf: Conf,
        secret: bytes,
        own_nonces: Container[str],
    ) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.secret = secret
        self.place = f"{conf.secondary} port {conf.tcp_port}"
        self.own_nonces = own_nonces
        self.open: dict[int, Question] = {}

    def deadlines(self) -> Iterable[float]:
        return (question.deadline for question in self.open.values())

    def ask(
        self,
        number: int,
        command: str,
        seconds: float,
        began: float | None = None,
        challenge: str | None = None,
    ) -> None:
        """Begin to ask; "reply" or "lost" follows within these seconds. challenge: a fresh one."""
        if len(self.open) >= MAX_QUESTIONS:
            self.tell_lost(number, False, "too many questions are open")
            return
        try:
            sock = self.connect()
        except OSError as error:
            self.tell_lost(number, False, *self.explain(error))
            return
        began = began or time.monotonic()
        challenge = os.urandom(16).hex() if challenge is None else challenge
        connection = ClientConnection(self.secret, command, self.own_nonces, challenge)
        question = Question(
            number, command, challenge, sock, connection, seconds, began, began + seconds
        )
        if command != "status":
            question.deadline = began + min(seconds, SAY_SECONDS)
        self.open[number] = question
        self.loop.watch(sock, READ, lambda _mask: self.pursue(question))

    def connect(self) -> socket.socket:
        sock = socket.socket(family(self.conf), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
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

    def pursue(self, question: Question) -> None:
        """Something has happened to the question's connection."""
        if self.open.get(question.number) is not question:
            return  # lost while this event was on its way
        try:
            self.read(question)
        except BlockingIOError:
            pass
        except OSError as error:
            if question.sent:
                self.lose(question, f"the connection broke: {error.strerror}")
            else:
                self.lose(question, *self.explain(error))

    def read(self, question: Question) -> None:
        data = question.socket.recv(64 * 1024)
        connection = question.connection
        for event in connection.feed(data) if data else connection.end():
            if isinstance(event, Send):
                self.send(question, event.data)
            elif isinstance(event, Reply):
                self.tell_reply(question, event)
            else:
                self.lose(question, event.why, event.advice)

    def send(self, question: Question, line: bytes) -> None:
        """Send the request, which always fits into the buffer of a new connection."""
        if time.monotonic() > question.deadline:
            self.lose(question, "we stood still before it was sent")
            return
        sent = question.socket.send(line, socket.MSG_NOSIGNAL)
        question.sent = True
        question.deadline = question.began + question.seconds
        if sent < len(line):
            raise OSError(errno.EIO, "the request could not be sent whole")

    def tell_reply(self, question: Question, reply: Reply) -> None:
        if len(json.dumps(reply.text)) > MAX_TEXT:
            self.lose(question, "its answer was too long")
            return
        self.forget(question)
        if question.challenge and reply.is_unknown:  # an older failoverd
            self.ask(question.number, question.command, question.seconds, question.began, "")
            return
        message = {"event": "reply", "id": question.number, "ok": reply.ok, "text": reply.text}
        self.channel.send(message)

    def expire(self, now: float) -> None:
        for question in [one for one in self.open.values() if one.deadline <= now]:
            seconds = question.deadline - question.began
            self.lose(question, f"{self.place} says nothing within {seconds:g} s")

    def lose(self, question: Question, why: str, advice: str = "") -> None:
        self.forget(question)
        self.tell_lost(question.number, question.sent, why, advice)

    def tell_lost(self, number: int, sent: bool, why: str, advice: str = "") -> None:
        message = {"event": "lost", "id": number, "sent": sent, "why": why, "advice": advice}
        self.channel.send(message)

    def explain(self, error: OSError) -> tuple[str, str]:
        return why_unconnected(error, self.place, self.conf.primary, self.conf.plip_interface)

    def forget(self, question: Question) -> None:
        del self.open[question.number]
        self.loop.forget(question.socket)
        question.socket.close()


def _bind_to_link(sock: socket.socket, interface: str) -> None:
    """Let nothing leave by another interface.

    Before Linux 5.7 only root may name one; there a packet is at least never given to a router.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
