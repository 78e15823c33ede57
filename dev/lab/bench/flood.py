"""Sends small packets as fast as this host can, or at a rate: for the benchmark's flood.

    flood.py INTERFACE FROM TO ADDRESS SECONDS RATE

FROM and TO are hardware addresses, ADDRESS the receiver's IPv4 address; RATE 0 is as fast as it
goes. In the end it says how many it has sent. It is run by path in an isolated interpreter: the
standard library only. sendmmsg(2) has no name there, hence ctypes.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import time

BATCH = 128
PORT = 9  # discard
LENGTH = 60  # bytes with the ethernet header, the shortest frame
_IP_HEADER = 20
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr: a struct msghdr, and the length that was sent."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("length", ctypes.c_uint),
    )


def packet(sender: str, receiver: str, address: str) -> bytes:
    """A UDP packet without a checksum, which IPv4 allows."""
    macs = bytes.fromhex((receiver + sender).replace(":", ""))
    payload = bytes(LENGTH - len(macs) - 2 - _IP_HEADER - 8)
    udp = struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0) + payload
    source, target = socket.inet_aton("192.0.2.100"), socket.inet_aton(address)
    head = struct.pack("!BBHHHBBH", 0x45, 0, _IP_HEADER + len(udp), 0, 0, 64, 17, 0)
    total = sum(struct.unpack("!10H", head + source + target))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    check = struct.pack("!H", ~total & 0xFFFF)
    return macs + b"\x08\x00" + head[:10] + check + source + target + udp


def main() -> None:
    interface, sender, receiver, address = sys.argv[1:5]
    seconds, rate = float(sys.argv[5]), float(sys.argv[6])
    data = ctypes.create_string_buffer(packet(sender, receiver, address), LENGTH)
    vector = _Iovec(ctypes.addressof(data), LENGTH)
    messages = (_Message * BATCH)()
    for message in messages:
        message.iov, message.iovlen = ctypes.addressof(vector), 1
    send = ctypes.CDLL(None, use_errno=True).sendmmsg
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((interface, 0))
        raw.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            if rate and sent > (now - began) * rate:
                time.sleep(BATCH / rate)
                continue
            sent += max(0, send(raw.fileno(), ctypes.byref(messages), BATCH, 0))
    print(sent)


if __name__ == "__main__":
    main()
