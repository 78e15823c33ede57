"""The listener: our port and our questions to the peer's (section 6); the secret's only reader.

It parses what comes from the network and can do nothing else: it has given up root, and a request
goes to failoverd as a message, whose answer comes back as one.

Two doors are open at $primary:$tcp_port, one bound to the private link and one to lo. A connection
of this machine to itself runs over lo, but the kernel counts it to the interface that has the
address, unless the client is bound to lo. So the link's door hears it too, and could not answer
while the link is taken down, because nothing is routed over a device that is not up, not even to
ourselves. While the link is down or missing there is therefore one door only, bound to no interface
and open to our own address alone. rtnetlink(7) tells when that changes, and when the link was
deleted and made again, which leaves all that was bound to it deaf.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - socket may import it later, when we may not read it any more
import errno
import json
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from failoverd import files, links, process
from failoverd.conf import Conf
from failoverd.process import Channel, Message
from failoverd.protocol import (
    COMMANDS,
    REFUSED,
    TAKES_CHALLENGES,
    ClientConnection,
    Refused,
    Reply,
    Request,
    Send,
    ServerConnection,
)

REQUEST_SECONDS = 5.0  # the client's time for its request, and then for taking the answer
PREPARED_SECONDS = 1.0  # how long a connection is kept ready: the peer may die meanwhile
SAY_SECONDS = 1.0  # a `fail` sent later than this might cross what was decided meanwhile
LATE_SECONDS = 0.5  # how much later than its deadline a request may be read
MAX_VISITORS = 1200  # from one address at a time, if there are descriptors for them
DESCRIPTORS = 2600  # enough for those of two addresses, and for what else is open
BACKLOG = 2048  # whoever finds the queue full knocks again only after a second
TURN = 64  # so many are let in before those inside have their turn, of whom so many have it
CROWD = 64  # from one address: then who is refused has to leave at once
LONGEST_SILENCE = 60.0  # seconds between two lines about unwanted clients, if there are many
MAX_QUESTIONS = 64
MAX_TEXT = process.MAX_MESSAGE - 1024  # what of an answer fits into one message to failoverd

_IP_FREEBIND = 15  # ip(7); the socket module has no name for it before Python 3.13
_IPV6_FREEBIND = 78  # linux/in6.h
_RTMGRP_LINK = 1  # rtnetlink(7)
_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Link = tuple[int | None, bool]  # the private link's index, None if it is missing, and whether up


def run(channel: Channel, conf: Conf, patient: bool = False) -> None:
    """The listener child: open the port, give up root, serve until failoverd is gone.

    A patient one, which follows another, waits for an interface or address that is missing.
    Raises OSError with a sentence for people if the port cannot be opened, and whatever
    files.read_secret raises.
    """
    process.keep_secret()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
    listener = Listener(channel, conf, files.read_secret(conf.secret))
    listener.doors.open_first(patient)
    process.give_up_root(conf.user)
    channel.send({"event": "ready"})
    listener.serve()


def check(channel: Channel, conf: Conf, running: Conf) -> None:
    """Raise what would keep a listener with this configuration from its work, in a child.

    `running` is the configuration of the one that has the port now.
    """
    process.keep_secret()
    files.read_secret(conf.secret)
    if (conf.primary, conf.tcp_port) != (running.primary, running.tcp_port):
        Doors(Loop(), channel, conf, lambda *_: None).open_first(patient=False)


class Listener:
    """Everything that is open, and the one loop that serves it."""

    def __init__(self, channel: Channel, conf: Conf, secret: bytes) -> None:
        self.channel = channel
        self.interval = process.report_interval(conf.plip_timer)
        self.loop = Loop()
        self.visitors = Visitors(self.loop, channel, conf, secret)
        self.doors = Doors(self.loop, channel, conf, self.visitors.welcome)
        self.questions = Questions(self.loop, channel, conf, secret, self.visitors.nonces)
        self.next_tick = 0.0
        self.loop.watch(channel, _READ, self.hear_failoverd, first=True)

    def serve(self) -> None:
        """Serve until failoverd is gone (ChannelClosed)."""
        while True:
            now = time.monotonic()
            if now >= self.next_tick:
                self.next_tick = now + self.interval
                self.tick(now)
            deadlines = (*self.visitors.deadlines(), *self.questions.deadlines())
            self.loop.turn(min((self.next_tick, *deadlines)) - now)
            # After the turn: what arrived in time counts, also if we ourselves stood still.
            now = time.monotonic()
            self.visitors.expire(now)
            self.questions.expire(now)

    def tick(self, now: float) -> None:
        self.channel.send({"event": "alive"})
        self.visitors.complaints.flush(now)
        self.doors.check()

    def hear_failoverd(self, _mask: int) -> None:
        for message in self.channel.receive():
            self.obey(message)

    def obey(self, message: Message) -> None:
        match message:
            case {"do": "answer", "id": int(number), "ok": bool(ok), "text": str(text)}:
                self.visitors.pass_on(number, ok, text)
            case {
                "do": "ask",
                "id": int(number),
                "command": str(command),
                "timeout": int() | float() as seconds,
            }:
                self.questions.ask(number, command, float(seconds))
            case {"do": "prepare"}:
                self.questions.prepare()


class Loop:
    """What is watched, and who is called when something is there.

    A turn calls TURN of those who wait at most, so that a crowd of visitors keeps neither failoverd
    nor those at the door waiting. The kernel hands them out in turn (epoll(7), level-triggered).
    """

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.masks: dict[int, int] = {}
        self.calls: dict[int, Callable[[int], None]] = {}
        self.first: set[int] = set()

    def watch(
        self,
        sock: socket.socket | Channel,
        mask: int,
        call: Callable[[int], None],
        first: bool = False,
    ) -> None:
        """Have call(mask) called when one of mask is there, instead of what was agreed before.

        Those who come first are called in every turn of a crowd, whether anything is there or not.
        """
        number = sock.fileno()
        if mask == 0:
            self.forget(sock)
            return
        if number not in self.masks:
            self.epoll.register(number, mask)
        elif self.masks[number] != mask:
            self.epoll.modify(number, mask)
        self.masks[number], self.calls[number] = mask, call
        if first:
            self.first.add(number)

    def forget(self, sock: socket.socket | Channel) -> None:
        number = sock.fileno()
        if self.masks.pop(number, None) is not None:
            self.epoll.unregister(number)
            del self.calls[number]
            self.first.discard(number)

    def turn(self, seconds: float) -> None:
        found = self.epoll.poll(max(0.0, seconds), TURN)  # rounded up to whole milliseconds
        ready = [(self.calls[number], mask) for number, mask in found]
        if len(found) == TURN:
            called = {number for number, _ in found}
            ready += [(self.calls[number], _READ) for number in self.first - called]
        for call, mask in ready:
            call(mask)


@dataclass(eq=False)
class Door:
    """A listening socket, and the packed addresses that may come in."""

    socket: socket.socket
    guests: tuple[bytes, ...]


class Doors:
    """The listening sockets, opened anew when the private link changes.

    `welcome(socket, host, is_guest)` is called for every connection.
    """

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        conf: Conf,
        welcome: Callable[[socket.socket, str, bool], None],
    ) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.welcome = welcome
        self.family = _family(conf)
        self.us = socket.inet_pton(self.family, conf.primary)
        self.peer = socket.inet_pton(self.family, conf.secondary)
        self.doors: list[Door] = []
        self.link: Link | None = None  # as it was when the doors were opened; None: not open
        self.trouble = ""  # why they could not be opened, as it was logged
        self.news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.news.setblocking(False)
        self.news.bind((0, _RTMGRP_LINK))
        loop.watch(self.news, _READ, self.hear_news)

    def open_first(self, patient: bool) -> None:
        """Open the port as the link is now. Raises OSError with a sentence for people."""
        link = self.look()
        if link[0] is None and not patient:
            raise OSError(
                f"there is no interface {self.conf.plip_interface}: "
                "make it, or correct $plip_interface"
            )
        try:
            # An IPv6 address may be there and not be bound to before its duplicates were looked for
            self.open(link, may_be_missing=patient or self.family == socket.AF_INET6)
        except OSError as error:
            raise OSError(self.explain(error)) from error

    def check(self) -> None:
        """Open the doors anew if the link is another one, or has gone up or down."""
        link = self.look()
        if link == self.link:
            return
        try:
            self.open(link, may_be_missing=True)
        except PermissionError:
            self.link = link  # asked for once: the doors are closed, so a successor can open them
            self.channel.send({"event": "reopen"})
        except OSError as error:
            self.complain(self.explain(error))
        else:
            self.trouble = ""
            name = self.conf.plip_interface
            self.say(f"listening on {name}" if link[1] else f"{name} is down: hearing only us")

    def look(self) -> Link:
        name = self.conf.plip_interface
        return links.index(name), links.is_up(name)

    def open(self, link: Link, may_be_missing: bool) -> None:
        """Open the doors for this link, all or none, instead of those that are open."""
        self.close()
        name = self.conf.plip_interface
        try:
            if link[1]:
                self.open_door(name, (self.us, self.peer), may_be_missing)
            if not link[1] or name != "lo":
                self.open_door("lo" if link[1] else None, (self.us,), True)
        except OSError:
            self.close()
            raise
        self.link = link

    def open_door(
        self, interface: str | None, guests: tuple[bytes, ...], may_be_missing: bool
    ) -> None:
        sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        door = Door(sock, guests)
        self.doors.append(door)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if may_be_missing:
            _allow_missing_address(sock)
        sock.bind((self.conf.primary, self.conf.tcp_port))
        sock.listen(BACKLOG)
        self.loop.watch(sock, _READ, lambda _mask: self.let_in(door), first=True)

    def close(self) -> None:
        self.link = None
        for door in self.doors:
            self.loop.forget(door.socket)
            door.socket.close()
        self.doors = []

    def let_in(self, door: Door) -> None:
        """Take a few connections; those that are in already are to have their turn too."""
        if door not in self.doors:
            return  # closed by another event of the same turn
        for _ in range(TURN):
            try:
                sock, name = door.socket.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # Whoever waits outside would wake us without end. The next tick opens anew.
                    self.close()
                    self.complain(f"cannot take a connection: {error.strerror}")
                return
            host = name[0].partition("%")[0]
            self.welcome(sock, host, socket.inet_pton(self.family, host) in door.guests)

    def hear_news(self, _mask: int) -> None:
        """Some interface has changed. What is said of it does not matter: the link is looked at."""
        try:
            while self.news.recv(64 * 1024):
                pass
        except OSError:
            pass  # all is read, or more was said than would fit (ENOBUFS)
        self.check()

    def complain(self, trouble: str) -> None:
        """Say once what is wrong. As long as no link is noted the next tick tries again."""
        if trouble != self.trouble:
            self.say(trouble)
        self.trouble = trouble

    def say(self, message: str) -> None:
        self.channel.send({"event": "log", "message": message})

    def explain(self, error: OSError) -> str:
        """One sentence about a port that cannot be opened: what, why, and the way out."""
        address, port, link = self.conf.primary, self.conf.tcp_port, self.conf.plip_interface
        what = f"cannot listen on {address} port {port}: "
        if error.errno == errno.EADDRINUSE:
            return (
                f"{what}it is in use; end the program that has it (ss -ltnp shows which), "
                "or set another $tcp_port on both machines"
            )
        if error.errno == errno.EADDRNOTAVAIL:
            return (
                f"{what}this machine does not have that address; "
                f"give it to {link}, or correct $primary"
            )
        if isinstance(error, PermissionError):
            return f"{what}{error.strerror}; start failoverd as root"
        return f"{what}{error.strerror}; see to {link}, or correct $plip_interface and $primary"


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

    def __init__(self) -> None:
        self.count = 0
        self.idle: dict[Visitor, None] = {}


class Visitors:
    """The connections to our port."""

    def __init__(self, loop: Loop, channel: Channel, conf: Conf, secret: bytes) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.secret = secret
        self.peer = socket.inet_pton(_family(conf), conf.secondary)
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
        guests = self.guests.setdefault(host, Guests())
        if not self.make_room(guests):
            sock.close()
            return
        sock.setblocking(False)
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
        if guests.count >= self.places:
            if not guests.idle:
                return False
            self.drop(next(iter(guests.idle)))
        return True

    def attend(self, visitor: Visitor, mask: int) -> None:
        """Something came from the visitor, or it can take more."""
        if visitor in self.everyone and mask & _READ:
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
        from_peer = socket.inet_pton(_family(self.conf), visitor.host) == self.peer
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
        mask = (_READ if reading else 0) | (_WRITE if visitor.out else 0)
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
    connected: bool = False
    sent: bool = False


class Questions:
    """Our questions to the peer's port, any number at a time, each with its own connection.

    Once the peer has said that it takes challenges it is asked with one each time, beginning with
    the question to which it said so: what it said there may have been recorded long ago.
    """

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
        self.own_nonces = own_nonces
        self.open: dict[int, Question] = {}
        self.prepared: tuple[socket.socket, float] | None = None  # and when it is too old
        self.challenges = False

    def deadlines(self) -> Iterable[float]:
        yield from (question.deadline for question in self.open.values())
        if self.prepared is not None:
            yield self.prepared[1]

    def prepare(self) -> None:
        """Connect already: the next question is an urgent one, and finds the greeting there."""
        self.forget_prepared()
        with contextlib.suppress(OSError):  # the question itself will tell
            self.prepared = self.connect(), time.monotonic() + PREPARED_SECONDS

    def forget_prepared(self) -> None:
        if self.prepared is not None:
            self.prepared[0].close()
            self.prepared = None

    def take_prepared(self) -> socket.socket | None:
        """A connection on which the peer has greeted us and waits, if there is one."""
        if self.prepared is None:
            return None
        sock, _ = self.prepared
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLRDHUP)
        if [mask for _, mask in poll.poll(0)] != [select.POLLIN]:
            self.forget_prepared()
            return None
        self.prepared = None
        return sock

    def ask(self, number: int, command: str, seconds: float, began: float | None = None) -> None:
        """Begin to ask; "reply" or "lost" follows within these seconds."""
        if len(self.open) >= MAX_QUESTIONS:
            self.tell_lost(number, False, "too many questions are open")
            return
        try:
            sock = (command != "status" and self.take_prepared()) or self.connect()
        except OSError as error:
            self.tell_lost(number, False, f"cannot connect: {error.strerror}")
            return
        began = began or time.monotonic()
        challenge = os.urandom(16).hex() if self.challenges else ""
        connection = ClientConnection(self.secret, command, self.own_nonces, challenge)
        question = Question(
            number, command, challenge, sock, connection, seconds, began, began + seconds
        )
        if command != "status":
            question.deadline = began + min(seconds, SAY_SECONDS)
        self.open[number] = question
        self.loop.watch(sock, _WRITE, lambda _mask: self.pursue(question))

    def connect(self) -> socket.socket:
        sock = socket.socket(_family(self.conf), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
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
            if question.connected:
                self.read(question)
            else:
                self.note_connected(question)
        except BlockingIOError:
            pass
        except OSError as error:
            step = "the connection broke" if question.connected else "cannot connect"
            self.lose(question, f"{step}: {error.strerror}")

    def note_connected(self, question: Question) -> None:
        failure = question.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, os.strerror(failure))
        question.connected = True
        self.loop.watch(question.socket, _READ, lambda _mask: self.pursue(question))

    def read(self, question: Question) -> None:
        data = question.socket.recv(64 * 1024)
        connection = question.connection
        for event in connection.feed(data) if data else connection.end():
            if isinstance(event, Send):
                self.send(question, event.data)
            elif isinstance(event, Reply):
                self.tell_reply(question, event)
            else:
                self.lose(question, event.why)

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
        takes, text = bool(question.challenge), reply.text
        if question.command == "status" and reply.ok and text.endswith(TAKES_CHALLENGES):
            takes, text = True, text.removesuffix(TAKES_CHALLENGES) + "}"
        elif not reply.ok and text == "unknown command":  # an older failoverd was started there
            takes = False
        if takes != bool(question.challenge):
            self.challenges = takes
            self.ask(question.number, question.command, question.seconds, question.began)
            return
        self.channel.send({"event": "reply", "id": question.number, "ok": reply.ok, "text": text})

    def expire(self, now: float) -> None:
        for question in [one for one in self.open.values() if one.deadline <= now]:
            self.lose(question, f"no answer within {question.deadline - question.began:g} s")
        if self.prepared is not None and self.prepared[1] <= now:
            self.forget_prepared()

    def lose(self, question: Question, why: str) -> None:
        self.forget(question)
        self.tell_lost(question.number, question.sent, why)

    def tell_lost(self, number: int, sent: bool, why: str) -> None:
        self.channel.send({"event": "lost", "id": number, "sent": sent, "why": why})

    def forget(self, question: Question) -> None:
        del self.open[question.number]
        self.loop.forget(question.socket)
        question.socket.close()


def _family(conf: Conf) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in conf.primary else socket.AF_INET


def _allow_missing_address(sock: socket.socket) -> None:
    """Let the socket be bound to an address that is not there, or not there yet."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)


def _bind_to_link(sock: socket.socket, interface: str) -> None:
    """Let nothing leave by another interface.

    Before Linux 5.7 only root may name one; there a packet is at least never given to a router.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
