"""The client's process: asks one address for an echo at fixed times and records what happens.

    prober.py ADDRESS INTERVAL FILE [PORT]

It asks the kernel, or with PORT the service there, for an echo of a datagram (UDP, RFC 862).

It is a process of its own, so that no test or demo that is busy delays it, and is run by path in
an isolated interpreter: the standard library only. FILE gets one record an event: "s" (sent) or
"r" (a reply came), and the monotonic time in seconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import time

PRIORITY = 50  # above that of all nodes
RECORD = struct.Struct("<cd")
_ECHO = {socket.AF_INET: (8, 0, socket.IPPROTO_ICMP), socket.AF_INET6: (128, 129, 58)}
_IPV4_HEADER = 20


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Echo:
    """Asks the kernel there (ICMP)."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.address = address
        self.request, self.reply, protocol = _ECHO[family]
        self.start = 0 if family == socket.AF_INET6 else _IPV4_HEADER  # a raw IPv6 has none
        self.identity = struct.pack("!H", os.getpid() & 0xFFFF)
        self.socket = socket.socket(family, socket.SOCK_RAW, protocol)

    def send(self, number: int) -> None:
        packet = struct.pack("!BBH", self.request, 0, 0) + self.identity + struct.pack("!H", number)
        packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
        self.socket.sendto(packet, (self.address, 0))

    def is_answer(self, data: bytes) -> bool:
        data = data[self.start :]
        return len(data) >= 8 and data[0] == self.reply and data[4:6] == self.identity


class Datagrams:
    """Asks a service."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect((address, port))

    def send(self, number: int) -> None:
        self.socket.send(struct.pack("!H", number))

    def is_answer(self, data: bytes) -> bool:
        return len(data) == 2


def be_another_host() -> None:
    """The nodes' processes take no time from a client that is a host of its own: two nodes with
    $realtime do on the cores that they share with it here, and it would call that an outage."""
    with contextlib.suppress(PermissionError):  # in a user namespace nothing is real-time, either
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))


def main() -> None:
    be_another_host()
    address, interval, path, *port = sys.argv[1:]
    asker = Datagrams(address, int(port[0])) if port else Echo(address)
    record = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    asker.socket.setblocking(False)
    number, due = 0, time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due:
            number = (number + 1) & 0xFFFF
            os.write(record, RECORD.pack(b"s", now))
            with contextlib.suppress(OSError):  # no way there: a probe without an answer
                asker.send(number)
            due = max(due + float(interval), now)  # after a pause no burst
        if not select.select([asker.socket], [], [], max(0.0, due - time.monotonic()))[0]:
            continue
        with contextlib.suppress(OSError):  # an error that a router told, say
            if asker.is_answer(asker.socket.recv(2048)):
                os.write(record, RECORD.pack(b"r", time.monotonic()))


if __name__ == "__main__":
    main()
