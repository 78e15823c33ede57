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
from ipaddress import ip_address

from failoverd import links
from failoverd.conf import Conf
from failoverd.listener.loop import READ, Loop, connections
from failoverd.listener.second import SecondPort, Welcome, open_port
from failoverd.process import Channel, logged

_RTMGRP_LINK = 1  # rtnetlink(7)

OWN = "this node"  # where those come from who use the Unix socket

Link = tuple[int | None, bool]  # the private link's index, None if it is missing, and whether up


class Ports:
    """`welcome` is called for every connection."""

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        conf: Conf,
        welcome: Welcome,
        own: socket.socket | None = None,
    ) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.welcome = welcome
        self.here, self.peer = ip_address(conf.primary), ip_address(conf.secondary)
        self.sockets: dict[socket.socket, bool] = {}  # and whether the peer may come by it
        self.own = own
        self.second = SecondPort(loop, channel, conf, welcome)
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
        """Open them again if the link is another one, or has gone up or down; and those of the
        second path."""
        if self.own is not None:
            self.watch(self.own)
        self.second.check()
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
        sock = open_port(self.conf.primary, self.conf.tcp_port, interface)
        self.sockets[sock] = for_peer
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
        try:
            for sock, host in connections(listening):
                if listening is self.own:
                    self.welcome(sock, OWN, "person", self.conf.plain_secret)
                else:
                    origin = self.origin(listening, host)
                    self.welcome(sock, host, origin, self.conf.plain_secret)
        except OSError as error:
            self.loop.forget(listening)
            self.close()  # the next tick opens again
            self.complain(f"cannot accept a connection: {error.strerror}")

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
