"""The client's process: asks one address for an echo at fixed times and records what happens.

    prober.py ADDRESS INTERVAL FILE

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

RECORD = struct.Struct("<cd")
_ECHO = {socket.AF_INET: (8, 0, socket.IPPROTO_ICMP), socket.AF_INET6: (128, 129, 58)}
_IPV4_HEADER = 20


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main() -> None:
    address, interval, path = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    request, reply, protocol = _ECHO[family]
    start = 0 if family == socket.AF_INET6 else _IPV4_HEADER  # a raw IPv6 socket has no header
    record = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    identity = os.getpid() & 0xFFFF
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.setblocking(False)
        number = 0
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                number = (number + 1) & 0xFFFF
                packet = struct.pack("!BBHHH", request, 0, 0, identity, number)
                packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
                os.write(record, RECORD.pack(b"s", now))
                with contextlib.suppress(OSError):  # no way there: a probe without an answer
                    raw.sendto(packet, (address, 0))
                due = max(due + interval, now)  # after a pause no burst
            if not select.select([raw], [], [], max(0.0, due - time.monotonic()))[0]:
                continue
            try:
                data = raw.recv(2048)[start:]
            except OSError:
                continue  # an error that a router told us, say
            if len(data) >= 8 and data[0] == reply and data[4:6] == struct.pack("!H", identity):
                os.write(record, RECORD.pack(b"r", time.monotonic()))


if __name__ == "__main__":
    main()
