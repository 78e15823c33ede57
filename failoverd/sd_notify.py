"""What a service manager is told: ready, the role, still alive. Without one, nothing is said.

The protocol is sd_notify(3): datagrams of NAME=value lines to the socket in $NOTIFY_SOCKET.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time


class ServiceManager:
    """What started failoverd and watches it. `deadline` is when `tend` has to be called.

    Nothing here blocks or raises: a manager that does not read must not harm the pair.
    """

    def __init__(self, address: str, interval: float = 0.0) -> None:
        """address: of the socket, "" for nobody. interval: seconds between two WATCHDOG=1."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:  # kept: want of a descriptor would have failoverd killed
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._interval = interval
        self.deadline = time.monotonic() if address and interval else None

    @classmethod
    def from_environment(cls) -> ServiceManager:
        """Take the variables away, too: what is started later is not the service itself."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        patience = os.environ.pop("WATCHDOG_USEC", "")
        watched = os.environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        seconds = int(patience) / 1e6 if watched and patience.isdigit() else 0.0
        return cls(address, seconds / 3)

    def tell(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def stops(self, seconds: float) -> None:
        """It may take so long, though the manager has less patience."""
        self.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def tend(self, now: float) -> None:
        """Say that failoverd is alive if that is due."""
        if self.deadline is not None and now >= self.deadline:
            self.deadline = now + self._interval
            self.tell("WATCHDOG=1")
