"""The listening sockets, opened again when the private link changes.

Two listen at $primary:$tcp_port, one bound to the private link and one to lo. A connection of this
node to itself runs over lo, but the kernel counts it to the interface that has the address, unless
the client is bound to lo. So the link's socket gets it too, and could not answer while the link is
taken down, because nothing is routed over a device that is not up, not even to this node itself.
While the link is down or missing there is therefore one socket only, bound to no interface and open
to this node's own address alone. rtnetlink(7) tells when that changes, and when the link was
deleted and made again, after which nothing reaches what was bound to it.

The Unix socket of this node's own commands was opened by failoverd, and does not change.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from ipaddress import ip_address

from failoverd import links
from failoverd.conf import Conf
from failoverd.listener.loop import READ, Loop
from failoverd.process import Channel, logged

BACKLOG = 2048  # a client that finds the queue full tries again only after a second
TURN = 64  # so many connections are taken before those that are there have their turn

_FREEBIND = {  # names that the socket module has not before Python 3.13
    socket.AF_INET: (socket.IPPROTO_IP, 15),  # ip(7)
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),  # linux/in6.h
}
_RTMGRP_LINK = 1  # rtnetlink(7)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

OWN = "this node"  # where those come from who use the Unix socket

Link = tuple[int | None, bool]  # the private link's index, None if it is missing, and whether up


class Ports:
    """`welcome(socket, host, origin)` is called for every connection; origin is who may come from
    there, "person" or "peer", or "" if none may."""

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        conf: Conf,
        welcome: Callable[[socket.socket, str, str], None],
        own: socket.socket | None = None,
    ) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.welcome = welcome
        self.here, self.peer = ip_address(conf.primary), ip_address(conf.secondary)
        self.sockets: dict[socket.socket, bool] = {}  # and whether the peer may come by it
        self.own = own
        self.link: Link | None = None  # as it was when they were opened; None: they are not open
        self.trouble = ""  # why they could not be opened, as it was logged
        self.news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.news.setblocking(False)
        self.news.bind((0, _RTMGRP_LINK))
        loop.watch(self.news, READ, self.take_news)

    def open_first(self, patient: bool) -> None:
        """Open the port as the link is now. Raises OSError with a sentence for people."""
        link, name = self.look(), self.conf.plip_interface
        if link[0] is None and not patient:
            raise OSError(f"there is no interface {name}: create it, or correct $plip_interface")
        try:
            self.open(link)
        except OSError as error:
            raise OSError(self.explain(error)) from error

    def check(self) -> None:
        """Open them again if the link is another one, or has gone up or down."""
        if self.own is not None:
            self.watch(self.own)
        link, name = self.look(), self.conf.plip_interface
        if link == self.link:
            return
        try:
            self.open(link)
        except PermissionError:
            self.link = link  # asked for once: they are closed, so a successor can open them
            self.channel.send({"event": "reopen"})
        except OSError as error:
            self.complain(self.explain(error))
        else:
            self.trouble = ""
            event, text = "PORT-LOCAL", "down, listening to this node only"
            if link[1]:
                event, text = "PORT-OPEN", "listening"
            self.channel.send(logged(event, f"interface {name}", text))

    def look(self) -> Link:
        name = self.conf.plip_interface
        return links.index(name), links.is_up(name)

    def open(self, link: Link) -> None:
        """Open them for this link, all or none, instead of those that are open."""
        self.close()
        name = self.conf.plip_interface
        try:
            for interface in dict.fromkeys((name, "lo")) if link[1] else ("",):
                self.listen(interface, for_peer=interface == name)
        except OSError:
            self.close()
            raise
        self.link = link

    def listen(self, interface: str, for_peer: bool) -> None:
        family = socket.AF_INET6 if self.here.version == 6 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.sockets[sock] = for_peer
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.setsockopt(*_FREEBIND[family], 1)  # the address may come later, even after a boot
        sock.bind((self.conf.primary, self.conf.tcp_port))
        sock.listen(BACKLOG)
        self.watch(sock)

    def watch(self, listening: socket.socket) -> None:
        self.loop.watch(listening, READ, lambda _events: self.accept(listening))

    def close(self) -> None:
        self.link = None
        for sock in self.sockets:
            self.loop.forget(sock)
            sock.close()
        self.sockets = {}

    def accept(self, listening: socket.socket) -> None:
        for _ in range(TURN):
            try:
                sock, name = listening.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # What waits in the queue would wake it without end. The next tick opens again.
                    self.loop.forget(listening)
                    self.close()
                    self.complain(f"cannot accept a connection: {error.strerror}")
                return
            if listening is self.own:
                self.welcome(sock, OWN, "person")
                continue
            host = name[0].partition("%")[0]
            self.welcome(sock, host, self.origin(listening, host))

    def origin(self, listening: socket.socket, host: str) -> str:
        address = ip_address(host)
        if address == self.peer and self.sockets[listening]:
            return "peer"
        return "person" if address == self.here else ""

    def take_news(self, _events: int) -> None:
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
            subject = f"interface {self.conf.plip_interface}"
            self.channel.send(logged("PORT-FAILED", subject, "cannot listen", error=trouble))
        self.trouble = trouble

    def explain(self, error: OSError) -> str:
        """One sentence about a port that cannot be opened: what, why, and the way out."""
        address, port, link = self.conf.primary, self.conf.tcp_port, self.conf.plip_interface
        if error.errno == errno.EADDRINUSE:
            why = (
                "it is in use; end the program that has it (ss -ltnp shows which), or set another "
                "$tcp_port on both nodes"
            )
        elif isinstance(error, PermissionError):
            why = f"{error.strerror}; start failoverd as root"
        else:
            why = f"{error.strerror}; check {link}, or correct $plip_interface and $primary"
        return f"cannot listen on {address} port {port}: {why}"
