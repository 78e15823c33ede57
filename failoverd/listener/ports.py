"""The listening sockets, opened again when an interface or an address changes.

Two listen at $primary:$tcp_port, one bound to the heartbeat link and one to lo. A connection of
this node to itself runs over lo, but the kernel counts it to the interface that has the address,
unless the client is bound to lo. So the link's socket gets it too, and could not answer while the
link is taken down, because nothing is routed over a device that is not up, not even to this node
itself. While the link is down or missing there is therefore one socket only, bound to no interface
and open to this node's own address alone.

Those of the second path listen at this node's own addresses on the service network, for what the
peer signs and sends from its own. failoverd tells which those are, as they come and go.

rtnetlink(7) tells when an interface changes. One that was deleted and made again has another index,
and nothing reaches what was bound to the one before. The Unix socket of this node's own commands
was opened by failoverd, and does not change.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address

from failoverd import links
from failoverd.conf import Conf
from failoverd.listener.loop import READ, Loop, connections
from failoverd.process import Channel, logged
from failoverd.second_path import SecondPath

BACKLOG = 2048  # a client that finds the queue full tries again only after a second
_RTMGRP_LINK = 1  # rtnetlink(7)

OWN = "this node"  # where those come from who use the Unix socket

# With a connection: the host it comes from, who may come from there ("person", "peer", or "" if no
# one may), and whether the secret in plain text will do.
Welcome = Callable[[socket.socket, str, str, bool], None]

# The index of the interface, None if it is missing; and where to listen, each an address and the
# interface to bind to, "" for none.
Place = tuple[int | None, tuple[tuple[str, str], ...]]


class _Port:
    """Sockets that are open together. `welcome` is called for every connection."""

    purpose = ""
    plain = False  # whether the secret in plain text will do
    interface = ""
    details: Mapping[str, str] = {}  # of what is logged

    def __init__(self, loop: Loop, channel: Channel, conf: Conf, welcome: Welcome) -> None:
        self.loop, self.channel, self.conf, self.welcome = loop, channel, conf, welcome
        self.sockets: dict[socket.socket, str] = {}  # and the interface that each is bound to
        self.place: Place | None = None  # where they are open, or were tried; None: nowhere
        self.is_root = True  # still
        self.trouble = ""  # why they could not be opened, as it was logged

    def look(self) -> Place:
        """Where they are to be now."""
        raise NotImplementedError

    def origin(self, bound: str, host: str) -> str:
        """Who may come from this host, by a socket that is bound to this interface."""
        raise NotImplementedError

    def check(self) -> None:
        """Open them again if that is another place, or it has failed."""
        place = self.look()
        if place == self.place:
            return
        try:
            self.open(place)
        except PermissionError as error:
            self.place = place  # once
            if self.is_root:
                self.complain(self.explain(error))
            else:
                self.channel.send({"event": "reopen"})  # a successor opens them while it is root
        except OSError as error:
            self.complain(self.explain(error))
        else:
            self.trouble = ""
            if "" in self.sockets.values():
                self.say("PORT-LOCAL", "down, listening to this node only")
            elif self.sockets:
                self.say("PORT-OPEN", f"listening{self.purpose}")

    def open(self, place: Place) -> None:
        """All or none, instead of those that are open. Raises OSError."""
        self.close()
        try:
            for host, interface in place[1]:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                self.sockets[sock] = interface
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if interface:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
                sock.setsockopt(*links.FREEBIND[family], 1)  # it may come later, even after a boot
                sock.bind((host, self.conf.tcp_port))
                sock.listen(BACKLOG)
                self.loop.watch(sock, READ, partial(self.accept, sock))
        except OSError:
            self.close()
            raise
        self.place = place

    def close(self) -> None:
        self.place = None
        for sock in self.sockets:
            self.loop.forget(sock)
            sock.close()
        self.sockets = {}

    def accept(self, listening: socket.socket, _events: int) -> None:
        bound = self.sockets[listening]
        try:
            for sock, host in connections(listening):
                self.welcome(sock, host, self.origin(bound, host), self.plain)
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """No connection can be taken. The next tick opens again."""
        self.close()
        self.complain(f"cannot accept a connection: {error.strerror}")

    def complain(self, trouble: str) -> None:
        """Say once what is wrong."""
        if trouble != self.trouble:
            self.say("PORT-FAILED", f"cannot listen{self.purpose}", error=trouble)
        self.trouble = trouble

    def explain(self, error: OSError) -> str:
        return str(error.strerror)

    def say(self, event: str, sentence: str, **values: str) -> None:
        subject = f"interface {self.interface}"
        self.channel.send(logged(event, subject, sentence, **values, **self.details))


class LinkPort(_Port):
    """The port on the heartbeat link."""

    def __init__(self, loop: Loop, channel: Channel, conf: Conf, welcome: Welcome) -> None:
        super().__init__(loop, channel, conf, welcome)
        self.plain, self.interface = conf.plain_secret, conf.plip_interface
        self.here, self.peer = ip_address(conf.primary), ip_address(conf.secondary)

    def open_first(self, patient: bool) -> None:
        """Open the port as the link is now. Raises OSError with a sentence for people."""
        place = self.look()
        if place[0] is None and not patient:
            way_out = "create it, or correct $plip_interface"
            raise OSError(f"there is no interface {self.interface}: {way_out}")
        try:
            self.open(place)
        except OSError as error:
            raise OSError(self.explain(error)) from error

    def look(self) -> Place:
        bound = dict.fromkeys((self.interface, "lo")) if links.is_up(self.interface) else ("",)
        return links.index(self.interface), tuple((self.conf.primary, each) for each in bound)

    def origin(self, bound: str, host: str) -> str:
        address = ip_address(host)
        if address == self.peer and bound == self.interface:
            return "peer"
        return "person" if address == self.here else ""

    def explain(self, error: OSError) -> str:
        """One sentence about a port that cannot be opened: what, why, and the way out."""
        if error.errno == errno.EADDRINUSE:
            why = (
                "it is in use; end the program that has it (ss -ltnp shows which), or set another "
                "$tcp_port on both nodes"
            )
        elif isinstance(error, PermissionError):
            why = f"{error.strerror}; start failoverd as root"
        else:
            why = (
                f"{error.strerror}; check {self.interface}, or correct $plip_interface and $primary"
            )
        return f"cannot listen on {self.conf.primary} port {self.conf.tcp_port}: {why}"


class SecondPort(_Port):
    """The port on the second path."""

    purpose = " for the second path"
    path = SecondPath()

    def follow(self, path: SecondPath) -> None:
        self.path, self.interface = path, path.interface
        self.details = {"address": ",".join(path.hosts), "port": str(self.conf.tcp_port)}
        self.check()

    def look(self) -> Place:
        number = links.index(self.interface)
        return number, tuple((host, self.interface) for host in self.path.hosts if number)

    def origin(self, bound: str, host: str) -> str:
        return "peer" if self.path.has_peer(host) else ""


class Ports:
    """All of them, and the Unix socket of this node's own commands, if there is one."""

    def __init__(
        self, loop: Loop, channel: Channel, conf: Conf, welcome: Welcome, own: socket.socket | None
    ) -> None:
        self.loop = loop
        self.link = LinkPort(loop, channel, conf, welcome)
        self.second = SecondPort(loop, channel, conf, welcome)
        self.own = own
        self.news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.news.setblocking(False)
        self.news.bind((0, _RTMGRP_LINK))
        loop.watch(self.news, READ, self.take_news)

    def gave_up_root(self) -> None:
        self.link.is_root = self.second.is_root = False

    def check(self) -> None:
        if self.own is not None:
            self.loop.watch(self.own, READ, partial(self.accept_own, self.own))
        self.second.check()
        self.link.check()

    def accept_own(self, listening: socket.socket, _events: int) -> None:
        try:
            for sock, _ in connections(listening):
                self.link.welcome(sock, OWN, "person", self.link.plain)
        except OSError as error:
            self.loop.forget(listening)  # until the next tick
            self.link.give_up(error)

    def take_news(self, _events: int) -> None:
        """Some interface has changed. What is said of it does not matter: all are looked at."""
        try:
            while self.news.recv(64 * 1024):
                pass
        except OSError:
            pass  # all is read, or more was said than would fit (ENOBUFS)
        self.check()
