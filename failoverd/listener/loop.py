"""The one loop of the listener: who is called when something is there."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from failoverd.conf import Conf
from failoverd.process import Channel

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

TURN = 64  # so many are let in before those inside have their turn, of whom so many have it


class Loop:
    """A turn calls TURN of those who are ready at most, so that a crowd keeps nobody waiting for
    long: the kernel hands them out in turn (epoll(7), level-triggered)."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.calls: dict[int, Callable[[int], None]] = {}

    def watch(self, sock: socket.socket | Channel, mask: int, call: Callable[[int], None]) -> None:
        """Have call(mask) called when one of mask is there, instead of what was agreed before."""
        if mask == 0:
            self.forget(sock)
            return
        number = sock.fileno()
        (self.epoll.modify if number in self.calls else self.epoll.register)(number, mask)
        self.calls[number] = call

    def forget(self, sock: socket.socket | Channel) -> None:
        if self.calls.pop(sock.fileno(), None) is not None:
            self.epoll.unregister(sock)

    def turn(self, seconds: float) -> None:
        found = self.epoll.poll(max(0.0, seconds), TURN)  # rounded up to whole milliseconds
        for call, mask in [(self.calls[number], mask) for number, mask in found]:
            call(mask)


def family(conf: Conf) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in conf.primary else socket.AF_INET
