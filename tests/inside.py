"""Work done within an empty network namespace, with a hand in the one at the cable's other end."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CDLL

from netns import PATH, Namespace, cable, namespaces

from failoverd.watch.counter import Counter

EXPERIMENT = 0x88B5  # an ethertype for local experiments (IEEE 802): nothing else sends it
ONLY_OURS = f"ether proto {EXPERIMENT:#x}"
OWN, FAR = "02:00:00:00:00:01", "02:00:00:00:00:fe"


def frame(source: str = FAR, size: int = 60) -> bytes:
    """A broadcast that means nothing to any host."""
    head = b"\xff" * 6 + bytes.fromhex(source.replace(":", "")) + struct.pack("!H", EXPERIMENT)
    return head.ljust(size, b"x")


@contextmanager
def two_ends() -> Iterator[list[Namespace]]:
    """Two namespaces, and a cable from eth0 of the first to `far` of the second."""
    with namespaces(2) as made:
        cable(made[0], "eth0", made[1], "far")
        yield made


def inside(namespace: Namespace, work: Callable[[], None]) -> None:
    """Do work in a forked child in the namespace; show why it fails."""

    def told() -> None:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            raise

    namespace.call(told)


# To be called by such work. It cannot go through Namespace.run: without root that would enter the
# user namespace, where the work already is.


def ip(*commands: str, at: Namespace | None = None) -> None:
    """Run these commands of ip(8), one a string, here or at another namespace."""
    there = [] if at is None else ["nsenter", "-t", str(at.pid), "-n"]
    subprocess.run(
        [*there, "ip", "-batch", "-"],
        input="\n".join(commands) + "\n",
        text=True,
        env={"PATH": PATH},
        timeout=60,
        check=True,
    )


def sender(namespace: Namespace, interface: str) -> socket.socket:
    """A socket that sends frames on an interface of another namespace."""
    with open(f"/proc/{os.getpid()}/ns/net", "rb") as here:
        with open(f"/proc/{namespace.pid}/ns/net", "rb") as there:
            assert CDLL(None).setns(there.fileno(), 0) == 0
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sock.bind((interface, 0))
            return sock
        finally:
            assert CDLL(None).setns(here.fileno(), 0) == 0


class Nothing(Counter):
    """A counter of an interface on which nothing is received."""

    def __init__(self) -> None:
        super().__init__("lo", "ip")

    @property
    def is_open(self) -> bool:
        return True

    def open(self) -> bool:
        return True

    def take(self) -> int:
        return 0

    def is_lost(self) -> bool:
        return False

    def close(self) -> None:
        pass
