"""The listening sockets, opened anew when the private link changes.

Two doors are open at $primary:$tcp_port, one bound to the private link and one to lo. A connection
of this machine to itself runs over lo, but the kernel counts it to the interface that has the
address, unless the client is bound to lo. So the link's door hears it too, and could not answer
while the link is taken down, because nothing is routed over a device that is not up, not even to
ourselves. While the link is down or missing there is therefore one door only, bound to no interface
and open to our own address alone. rtnetlink(7) tells when that changes, and when the link was
deleted and made again, which leaves all that was bound to it deaf.

A third door, a Unix socket, is there for this machine's own commands. It was opened by failoverd,
and does not change.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from failoverd import links
from failoverd.conf import Conf
from failoverd.listener.loop import READ, TURN, Loop, family
from failoverd.process import Channel

BACKLOG = 2048  # whoever finds the queue full knocks again only after a second

_IP_FREEBIND = 15  # ip(7); the socket module has no name for it before Python 3.13
_IPV6_FREEBIND = 78  # linux/in6.h
_RTMGRP_LINK = 1  # rtnetlink(7)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

OWN = "this machine"  # where those come from who use the Unix socket

Link = tuple[int | None, bool]  # the private link's index, None if it is missing, and whether up


class Ports:
    """The listening sockets, opened anew when the private link changes.

    `welcome(socket, host, is_guest)` is called for every connection. A door is a socket, and the
    packed addresses that may come in by it: whoever can may use our own.
    """

    def __init__(
        self,
        loop: Loop,
        channel: Channel,
        conf: Conf,
        welcome: Callable[[socket.socket, str, bool], None],
        own: socket.socket | None = None,
    ) -> None:
        self.loop = loop
        self.channel = channel
        self.conf = conf
        self.welcome = welcome
        self.family = family(conf)
        self.us = socket.inet_pton(self.family, conf.primary)
        self.peer = socket.inet_pton(self.family, conf.secondary)
        self.ports: dict[socket.socket, tuple[bytes, ...]] = {}
        self.own = own
        self.link: Link | None = None  # as it was when the doors were opened; None: not open
        self.trouble = ""  # why they could not be opened, as it was logged
        self.news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.news.setblocking(False)
        self.news.bind((0, _RTMGRP_LINK))
        loop.watch(self.news, READ, self.hear_news)

    def open_first(self, patient: bool) -> None:
        """Open the port as the link is now. Raises OSError with a sentence for people."""
        link = self.look()
        if link[0] is None and not patient:
            raise OSError(
                f"there is no interface {self.conf.plip_interface}: "
                "make it, or correct $plip_interface"
            )
        try:
            self.open(link)
        except OSError as error:
            raise OSError(self.explain(error)) from error

    def check(self) -> None:
        """Open the doors anew if the link is another one, or has gone up or down."""
        if self.own is not None:
            self.hear(self.own)
        link = self.look()
        if link == self.link:
            return
        try:
            self.open(link)
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

    def open(self, link: Link) -> None:
        """Open the doors for this link, all or none, instead of those that are open."""
        self.close()
        name = self.conf.plip_interface
        try:
            if link[1]:
                self.open_door(name, (self.us, self.peer))
            if not link[1] or name != "lo":
                self.open_door("lo" if link[1] else None, (self.us,))
        except OSError:
            self.close()
            raise
        self.link = link

    def open_door(self, interface: str | None, guests: tuple[bytes, ...]) -> None:
        sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.ports[sock] = guests
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        _allow_missing_address(sock)  # it may come later, even after a boot
        sock.bind((self.conf.primary, self.conf.tcp_port))
        sock.listen(BACKLOG)
        self.hear(sock)

    def hear(self, door: socket.socket) -> None:
        self.loop.watch(door, READ, lambda _mask: self.let_in(door))

    def close(self) -> None:
        self.link = None
        for door in self.ports:
            self.loop.forget(door)
            door.close()
        self.ports = {}

    def let_in(self, door: socket.socket) -> None:
        """Take a few connections; those that are in already are to have their turn too."""
        if door not in (*self.ports, self.own):
            return  # closed by another event of the same turn
        for _ in range(TURN):
            try:
                sock, name = door.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # Whoever waits outside would wake us without end. The next tick opens anew.
                    self.close()
                    self.loop.forget(door)
                    self.complain(f"cannot take a connection: {error.strerror}")
                return
            if door is self.own:
                self.welcome(sock, OWN, True)
                continue
            host = name[0].partition("%")[0]
            self.welcome(sock, host, socket.inet_pton(self.family, host) in self.ports[door])

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
        if isinstance(error, PermissionError):
            return f"{what}{error.strerror}; start failoverd as root"
        return f"{what}{error.strerror}; see to {link}, or correct $plip_interface and $primary"


def _allow_missing_address(sock: socket.socket) -> None:
    """Let the socket be bound to an address that is not there, or not there yet."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
