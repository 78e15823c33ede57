"""The one loop of the listener: who is called when something is there."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Callable, Iterator

from failoverd.process import Channel

TURN = 64  # so many connections are taken before those that are there have their turn
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Loop(selectors.DefaultSelector):
    def watch(
        self, sock: socket.socket | Channel, events: int, call: Callable[[int], None]
    ) -> None:
        """Have call(events) called when one of these is there, instead of what was agreed."""
        if events == 0:
            self.forget(sock)
        elif sock in self.get_map():
            self.modify(sock, events, call)
        else:
            self.register(sock, events, call)

    def forget(self, sock: socket.socket | Channel) -> None:
        if sock in self.get_map():
            self.unregister(sock)

    def turn(self, seconds: float) -> None:
        for key, events in self.select(max(0.0, seconds)):
            # What was closed or changed in this same turn, and is still ready, comes again.
            if self.get_map().get(key.fd) is key:
                key.data(events)


def connections(listening: socket.socket) -> Iterator[tuple[socket.socket, str]]:
    """Those that wait, each with the address it comes from. Raises OSError if none can be taken for
    want of something: what waits would wake the loop without end."""
    for _ in range(TURN):
        try:
            sock, name = listening.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise
            return
        host = name[0] if isinstance(name, tuple) else ""  # of a Unix socket it is a text, or bytes
        yield sock, host.partition("%")[0]
