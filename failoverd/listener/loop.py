"""The one loop of the listener: who is called when something is there."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

from failoverd.process import Channel

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
