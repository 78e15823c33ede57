"""Those who come to our port: heard, passed on to failoverd, answered, and seen to the door."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from failoverd.conf import Conf
from failoverd.listener.doors import OWN
from failoverd.listener.loop import READ, WRITE, Loop, family
from failoverd.process import Channel
from failoverd.protocol import (
    COMMANDS,
    REFUSED,
    TAKES_CHALLENGES,
    Refused,
    Request,
    ServerConnection,
)

REQUEST_SECONDS = 5.0  # the client's time for its request, and then for taking the answer
LATE_SECONDS = 0.5  # how much later than its deadline a request may be read
MAX_VISITORS = 1200  # from one address at a time, if there are descriptors for them
MAX_OWN = 64  # by the Unix socket
DESCRIPTORS = 2600  # enough for those of two addresses, and for what else is open
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
    signed: bool = False
    compares: bool = False  # the peer asks for our status
    out: bytes = b""
    leaving: bool = False
    spoke: bool = False
    ended: bool = False
    renewed: bool = False


class Guests:
    """Those who are here from one address. `idle` are those who do not wait for failoverd, the one
    who goes first if there is no room first."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.count = 0
        self.idle: dict[Visitor, None] = {}


class Visitors:
    """The connections to our port."""

    def __init__(self, loop: Loop, channel: Channel, conf: Conf, secret: bytes) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.secret = secret
        self.peer = socket.inet_pton(family(conf), conf.secondary)
        self.everyone: dict[Visitor, None] = {}
        self.places = places()
        self.guests: dict[str, Guests] = {}
        self.next_deadline = float("inf")  # nobody's is sooner
        self.nonces: set[str] = set()  # of the greetings that are still good
        self.waiting: dict[int, Visitor] = {}
        self.last_number = 0
        self.complaints = Complaints(channel)

    def deadlines(self) -> Iterable[float]:
        return (self.next_deadline,)

    def give_time(self, visitor: Visitor, deadline: float) -> None:
        visitor.deadline = deadline
        self.next_deadline = min(self.next_deadline, deadline)

    def welcome(self, sock: socket.socket, host: str, is_guest: bool) -> None:
        now = time.monotonic()
        if not is_guest:
            sock.close()
            self.complaints.add(f"closed a connection from {host}: it is not for them", now)
            return
        places = min(self.places, MAX_OWN) if host == OWN else self.places
        guests = self.guests.setdefault(host, Guests(places))
        if not self.make_room(guests):
            sock.close()
            return
        sock.setblocking(False)
        if host != OWN:
            # Greeting and answer are two small writes: Nagle would hold the second one back.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        nonce = os.urandom(16).hex()
        connection = ServerConnection(nonce, self.secret, self.conf.plain_secret)
        visitor = Visitor(sock, host, connection, 0.0)
        self.give_time(visitor, now + REQUEST_SECONDS)
        self.everyone[visitor] = None
        guests.count += 1
        guests.idle[visitor] = None
        self.nonces.add(nonce)
        visitor.out = connection.greeting()
        if guests.count > CROWD:
            self.listen(visitor)  # who did not wait for the greeting is soon done with
        if visitor in self.everyone:
            self.flush(visitor)

    def make_room(self, guests: Guests) -> bool:
        """Let the one who came first go, if too many are here from this address.

        So a flood from one address takes neither the other's places nor those whose request is
        under way, and whoever comes has as much time for a request as so many others take to come.
        To talk does not help, or a crowd that talks would have each newcomer sent away; only who
        has said a first line begins anew, once. False if all places are theirs.
        """
        if guests.count >= guests.places:
            if not guests.idle:
                return False
            self.drop(next(iter(guests.idle)))
        return True

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
        if connection.is_half and not visitor.renewed and visitor.number is None:
            visitor.renewed = True
            idle = self.guests[visitor.host].idle
            idle[visitor] = idle.pop(visitor)

    def judge(self, visitor: Visitor, events: Iterable[Request | Refused]) -> None:
        now = time.monotonic()
        for event in events:
            if isinstance(event, Refused):
                if visitor.spoke or not visitor.ended:  # a peer that ends just closes
                    self.complaints.add(f"refused a request from {visitor.host}", now)
                self.refuse(visitor)
            elif event.command not in COMMANDS:
                self.answer(visitor, visitor.connection.answer(False, "unknown command"))
            else:
                self.report(visitor, event, now)

    def report(self, visitor: Visitor, request: Request, now: float) -> None:
        """Pass the request on to failoverd."""
        if request.command != "status" and now > visitor.deadline + LATE_SECONDS:
            # We were stopped while it lay here: its sender has decided anew meanwhile.
            self.answer(visitor, visitor.connection.answer(False, "too late"))
            return
        self.last_number += 1
        from_peer = self.is_peer(visitor.host)
        delivered = self.channel.send(
            {
                "event": "request",
                "id": self.last_number,
                "command": request.command,
                "origin": "peer" if request.by_hmac and from_peer else "person",
                "at": now,
            }
        )
        if not delivered:
            self.answer(visitor, visitor.connection.answer(False, "failoverd does not respond"))
            return
        visitor.number, visitor.signed = self.last_number, request.by_hmac
        visitor.compares = request.by_hmac and from_peer and request.command == "status"
        self.give_time(visitor, now + self.conf.switch_timeout + 1.0)
        self.waiting[self.last_number] = visitor
        del self.guests[visitor.host].idle[visitor]

    def is_peer(self, host: str) -> bool:
        return host != OWN and socket.inet_pton(family(self.conf), host) == self.peer

    def pass_on(self, number: int, ok: bool, text: str) -> None:
        """failoverd has answered. Its visitor may be gone."""
        visitor = self.waiting.get(number)
        if visitor is None:
            return
        if ok and visitor.compares and text.endswith("}") and text != "{}":
            text = text[:-1] + TAKES_CHALLENGES
        self.answer(visitor, visitor.connection.answer(ok, text))

    def answer(self, visitor: Visitor, line: bytes) -> None:
        """Send the last line, then close as soon as the client has closed its side."""
        self.end_waiting(visitor)
        visitor.leaving = True
        visitor.out += line
        self.give_time(visitor, time.monotonic() + REQUEST_SECONDS)
        self.flush(visitor)

    def refuse(self, visitor: Visitor) -> None:
        if self.guests[visitor.host].count <= CROWD:
            self.answer(visitor, REFUSED)
            return
        with contextlib.suppress(OSError):
            visitor.socket.send(visitor.out + REFUSED, socket.MSG_NOSIGNAL)
        self.drop(visitor)

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
        if now < self.next_deadline:
            return
        for visitor in [visitor for visitor in self.everyone if visitor.deadline <= now]:
            self.lose_patience(visitor)
        deadlines = (visitor.deadline for visitor in self.everyone)
        self.next_deadline = min(deadlines, default=float("inf"))

    def lose_patience(self, visitor: Visitor) -> None:
        """Its time is up: to ask, to be answered by failoverd, or to take the answer."""
        if visitor.leaving:
            self.drop(visitor)
        elif visitor.number is None:
            self.judge(visitor, visitor.connection.end())
        elif visitor.signed:
            # A signed error would mean that nothing has happened, and we do not know that.
            self.drop(visitor)
        else:
            self.answer(visitor, b"error no answer in time: ask for the status\n")

    def drop(self, visitor: Visitor) -> None:
        self.end_waiting(visitor)
        del self.everyone[visitor]
        guests = self.guests[visitor.host]
        guests.count -= 1
        del guests.idle[visitor]
        self.nonces.discard(visitor.connection.nonce)
        self.loop.forget(visitor.socket)
        visitor.socket.close()

    def end_waiting(self, visitor: Visitor) -> None:
        if visitor.number is not None:
            del self.waiting[visitor.number]
            self.guests[visitor.host].idle[visitor] = None
        visitor.number = None


def places() -> int:
    """For how many visitors from one address we have descriptors; there are two addresses."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserve = DESCRIPTORS - 2 * MAX_VISITORS
    return max(8, min(MAX_VISITORS, (most - reserve) // 2))


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
