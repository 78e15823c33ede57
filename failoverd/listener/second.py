"""The port on the second path: this node's own addresses on the service network, for what the peer
signs and sends from its own.

failoverd tells which those are, as they come and go. An interface that was deleted and made again
has another index, and nothing reaches what was bound to the one before.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from failoverd import links
from failoverd.conf import Conf
from failoverd.listener.loop import READ, Loop, connections
from failoverd.process import Channel, logged
from failoverd.second_path import SecondPath

BACKLOG = 2048  # a client that finds the queue full tries again only after a second

_FREEBIND = {  # names that the socket module has not before Python 3.13
    socket.AF_INET: (socket.IPPROTO_IP, 15),  # ip(7)
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),  # linux/in6.h
}

# With a connection: the host it comes from, who may come from there ("person", "peer", or "" if no
# one may), and whether the secret in plain text will do.
Welcome = Callable[[socket.socket, str, str, bool], None]


def open_port(address: str, port: int, interface: str) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.setsockopt(*_FREEBIND[family], 1)  # the address may come later, even after a boot
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class SecondPort:
    def __init__(self, loop: Loop, channel: Channel, conf: Conf, welcome: Welcome) -> None:
        self.loop = loop
        self.channel = channel
        self.port = conf.tcp_port
        self.welcome = welcome
        self.path = SecondPath()
        self.sockets: list[socket.socket] = []
        self.place: object = (None, ())  # where they listen; None: tried, and not open
        self.is_root = True  # still
        self.trouble = ""  # why they could not be opened, as it was logged

    def follow(self, path: SecondPath) -> None:
        self.path = path
        self.check()

    def check(self) -> None:
        """Open them again if the interface or the addresses are others, or it has failed."""
        number = links.index(self.path.interface)
        place = (number, self.path.hosts if number else ())
        if place == self.place:
            return
        self.close()
        try:
            for host in place[1]:
                self.listen(host)
        except OSError as error:
            self.close()
            if not isinstance(error, PermissionError) or self.is_root:
                self.complain(str(error.strerror))
            else:
                self.channel.send({"event": "reopen"})  # a successor opens it while it is root
            if isinstance(error, PermissionError):
                self.place = place  # once
        else:
            self.place, self.trouble = place, ""
            if self.sockets:
                self.say("PORT-OPEN", "listening for the second path", ",".join(place[1]))

    def listen(self, host: str) -> None:
        sock = open_port(host, self.port, self.path.interface)
        self.sockets.append(sock)
        self.loop.watch(sock, READ, lambda _events: self.accept(sock))

    def accept(self, listening: socket.socket) -> None:
        try:
            for sock, host in connections(listening):
                self.welcome(sock, host, "peer" if self.path.has_peer(host) else "", False)
        except OSError as error:
            self.close()  # the next tick opens again
            self.complain(str(error.strerror))

    def close(self) -> None:
        self.place = None
        for sock in self.sockets:
            self.loop.forget(sock)
            sock.close()
        self.sockets = []

    def complain(self, trouble: str) -> None:
        if trouble != self.trouble:
            text = "cannot listen for the second path"
            self.say("PORT-FAILED", text, ",".join(self.path.hosts), error=trouble)
        self.trouble = trouble

    def say(self, event: str, sentence: str, hosts: str, **values: str) -> None:
        subject = f"interface {self.path.interface}"
        values |= {"address": hosts, "port": str(self.port)}
        self.channel.send(logged(event, subject, sentence, **values))
