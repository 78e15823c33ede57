"""Those who come to our port: heard, passed on to failoverd, answered, and seen to the door."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from failoverd.conf import Conf
from failoverd.listener.loop import READ, WRITE, Loop, family
from failoverd.listener.ports import OWN
from failoverd.process import Channel
from failoverd.wire.protocol import (
    COMMANDS,
    REFUSED,
    TAKES_CHALLENGES,
    UNKNOWN,
    Refused,
    Request,
    ServerConnection,
)

REQUEST_SECONDS = 5.0  # the client's time for its request, and then for taking the answer
LATE_SECONDS = 0.5  # how much later than its deadline a request may be read
MAX_VISITORS = 512  # at a time, if there are descriptors for them
RESERVE = 128  # descriptors for what else is open
CROWD = 64  # from one address: then who is refused has to leave at once
LONGEST_SILENCE = 60.0  # seconds between two lines about unwanted clients, if there are many


@dataclass(eq=False)
class Visitor:
    """A connection to our port.

    It asks (number and leaving unset), waits for failoverd's answer (number set), then takes the
    answer and leaves. `spoke` is set when it has said anything, `ended` when it has closed its
    side.
    """

    socket: socket.socket
    host: str
    connection: ServerConnection
    deadline: float
    number: int | None = None
    out: bytes = b""
    leaving: bool = False
    spoke: bool = False
    ended: bool = False


class Server:
    """The connections to our port."""

    def __init__(self, loop: Loop, channel: Channel, conf: Conf, secret: bytes) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.secret = secret
        self.peer = socket.inet_pton(family(conf), conf.secondary)
        self.everyone: dict[Visitor, None] = {}
        self.idle: dict[str, dict[Visitor, None]] = {}  # by address: who waits for no answer
        self.places = places()
        self.nonces: set[str] = set()  # of the greetings that are still good
        self.waiting: dict[int, Visitor] = {}
        self.numbers = count(os.getpid() << 30)  # which the listener before has not given
        self.complaints = Complaints(channel)

    def deadline(self) -> float:
        return min((visitor.deadline for visitor in self.everyone), default=float("inf"))

    def welcome(self, sock: socket.socket, host: str, is_guest: bool) -> None:
        now = time.monotonic()
        if not is_guest:
            self.complaints.add(f"closed a connection from {host}: it is not for them", now)
        if not is_guest or not self.make_room():
            sock.close()
            return
        sock.setblocking(False)
        if host != OWN:
            # Greeting and answer are two small writes: Nagle would hold the second one back.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        nonce = os.urandom(16).hex()
        connection = ServerConnection(nonce, self.secret, self.conf.plain_secret)
        visitor = Visitor(sock, host, connection, now + REQUEST_SECONDS, out=connection.greeting())
        self.everyone[visitor] = None
        self.idle.setdefault(host, {})[visitor] = None
        self.nonces.add(nonce)
        self.flush(visitor)

    def make_room(self) -> bool:
        """Let one go if all places are taken: of the address with most idle ones, who came first.

        So a flood from one address takes neither another's places nor those of requests that are
        under way, and whoever comes has as much time for a request as so many others take to come.
        To talk does not help, or a crowd that talks would have each newcomer sent away. False if
        nobody is idle.
        """
        if len(self.everyone) < self.places:
            return True
        crowd = max(self.idle.values(), key=len)
        if crowd:
            self.drop(next(iter(crowd)))
        return len(self.everyone) < self.places

    def attend(self, visitor: Visitor, mask: int) -> None:
        """Something came from the visitor, or it can take more."""
        if visitor in self.everyone and mask & READ:
            self.listen(visitor)
        if visitor in self.everyone:
            self.flush(visitor)

    def listen(self, visitor: Visitor) -> None:
        try:
            data = visitor.socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            self.drop(visitor)
            return
        visitor.ended = not data
        visitor.spoke = visitor.spoke or bool(data)
        if visitor.leaving:
            return
        connection = visitor.connection
        self.judge(visitor, connection.feed(data) if data else connection.end())

    def judge(self, visitor: Visitor, events: Iterable[Request | Refused]) -> None:
        now = time.monotonic()
        for event in events:
            if isinstance(event, Refused):
                if visitor.spoke or not visitor.ended:  # a peer that ends just closes
                    self.complaints.add(f"refused a request from {visitor.host}", now)
                self.refuse(visitor)
            elif event.command not in COMMANDS:
                self.answer(visitor, visitor.connection.answer(False, UNKNOWN))
            else:
                self.report(visitor, event, now)

    def report(self, visitor: Visitor, request: Request, now: float) -> None:
        """Pass the request on to failoverd."""
        if request.command != "status" and now > visitor.deadline + LATE_SECONDS:
            # We were stopped while it lay here: its sender has decided anew meanwhile.
            self.answer(visitor, visitor.connection.answer(False, "too late"))
            return
        number = next(self.numbers)
        delivered = self.channel.send(
            {
                "event": "request",
                "id": number,
                "command": request.command,
                "origin": "peer" if request.by_hmac and self.is_peer(visitor.host) else "person",
                "at": now,
            }
        )
        if not delivered:
            self.answer(visitor, visitor.connection.answer(False, "failoverd does not respond"))
            return
        visitor.number = number
        visitor.deadline = now + self.conf.switch_timeout + 1.0
        self.waiting[number] = visitor
        del self.idle[visitor.host][visitor]

    def is_peer(self, host: str) -> bool:
        return host != OWN and socket.inet_pton(family(self.conf), host) == self.peer

    def pass_on(self, number: int, ok: bool, text: str) -> None:
        """failoverd has answered. Its visitor may be gone."""
        visitor = self.waiting.get(number)
        if visitor is None:
            return
        if ok and visitor.connection.signed == "status" and text.endswith("}") and text != "{}":
            text = text[:-1] + TAKES_CHALLENGES  # for an older failoverd, which sent none
        self.answer(visitor, visitor.connection.answer(ok, text))

    def answer(self, visitor: Visitor, line: bytes) -> None:
        """Send the last line, then close as soon as the client has closed its side."""
        self.end_waiting(visitor)
        visitor.leaving = True
        visitor.out += line
        visitor.deadline = time.monotonic() + REQUEST_SECONDS
        self.flush(visitor)

    def refuse(self, visitor: Visitor) -> None:
        if len(self.idle[visitor.host]) > CROWD:
            visitor.ended = True  # nobody waits until it has read that
        self.answer(visitor, REFUSED)

    def flush(self, visitor: Visitor) -> None:
        """Send what can be sent, and say what we wait for next."""
        try:
            while visitor.out:
                sent = visitor.socket.send(visitor.out, socket.MSG_NOSIGNAL)
                visitor.out = visitor.out[sent:]
            if visitor.leaving:
                # A close with something unread is a reset, which ends nc before it has read the
                # answer: tell the client that this is all, and let it close first.
                visitor.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.drop(visitor)
            return
        if visitor.leaving and visitor.ended and not visitor.out:
            self.drop(visitor)
            return
        reading = not visitor.ended and visitor.number is None
        mask = (READ if reading else 0) | (WRITE if visitor.out else 0)
        self.loop.watch(visitor.socket, mask, lambda mask: self.attend(visitor, mask))

    def expire(self, now: float) -> None:
        for visitor in [visitor for visitor in self.everyone if visitor.deadline <= now]:
            self.lose_patience(visitor)

    def lose_patience(self, visitor: Visitor) -> None:
        """Its time is up: to ask, to be answered by failoverd, or to take the answer."""
        if visitor.leaving:
            self.drop(visitor)
        elif visitor.number is None:
            self.judge(visitor, visitor.connection.end())
        elif visitor.connection.signed:
            # A signed error would mean that nothing has happened, and we do not know that.
            self.drop(visitor)
        else:
            self.answer(visitor, b"error no answer in time: ask for the status\n")

    def drop(self, visitor: Visitor) -> None:
        self.end_waiting(visitor)
        del self.everyone[visitor]
        del self.idle[visitor.host][visitor]
        self.nonces.discard(visitor.connection.nonce)
        self.loop.forget(visitor.socket)
        visitor.socket.close()

    def end_waiting(self, visitor: Visitor) -> None:
        if visitor.number is not None:
            del self.waiting[visitor.number]
            self.idle[visitor.host][visitor] = None
        visitor.number = None


def places() -> int:
    """For how many visitors there are descriptors."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(MAX_VISITORS, most - RESERVE))


class Complaints:
    """Lines about unwanted clients: at most one a second, with the number of those left out.

    As long as many come the lines come ever more seldom: an attack of a day must not fill the disk.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.due = 0.0
        self.gap = 1.0
        self.held = ""
        self.more = 0

    def add(self, message: str, now: float) -> None:
        self.more += bool(self.held)
        self.held = self.held or message
        self.flush(now)

    def flush(self, now: float) -> None:
        """Write what was held back, if it is time for a line."""
        if not self.held or now < self.due:
            return
        message = self.held + (f" (and {self.more} more such clients)" if self.more else "")
        self.channel.send({"event": "log", "message": message})
        crowd = self.more > CROWD
        self.gap = min(2 * self.gap, LONGEST_SILENCE) if crowd else 1.0
        self.due, self.held, self.more = now + self.gap, "", 0
