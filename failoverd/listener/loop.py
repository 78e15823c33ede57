"""The one loop of the listener: what is watched, and whose turn it is."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from failoverd.conf import Conf
from failoverd.process import Channel

TURN = 64  # so many are let in before those inside have their turn, of whom so many have it

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


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
            ready += [(self.calls[number], READ) for number in self.first - called]
        for call, mask in ready:
            call(mask)


def family(conf: Conf) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in conf.primary else socket.AF_INET
