"""The heartbeats: echo requests to the peer over the heartbeat link, and those received from it.

Sent on one raw socket that lasts, on an absolute schedule, and only while the main loop has spoken
to this process within the last window: a hung failoverd is a dead one (contract, section 5). The
payload is the pair's tag, from the secret: no other ping is a heartbeat. ping3 knows no payload but
a time and Qs, so what it does here is the checksum.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - loaded by the socket module when it is too late
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

import ping3

from failoverd import links, process
from failoverd.conf import Conf
from failoverd.wire.protocol import TAG, Tags, parse_tags

_HEADER = 8  # bytes of ICMP before the payload
_PKTINFO = 20  # bytes of the longer of struct in_pktinfo and in6_pktinfo
_MOST = 512  # packets that are read at once: a flood must not keep this from sending
_REPORT_EVERY = 0.1  # seconds, at the most often
UNSENT = ("HEARTBEAT-UNSENT", "heartbeats cannot be sent",
          "HEARTBEAT-SENT", "heartbeats are sent again")  # fmt: skip


class _Family(NamedTuple):
    """What differs: ip(7) and ipv6(7), icmp(7) and icmp6(7)."""

    family: socket.AddressFamily
    protocol: int
    request: int
    reply: int
    filter: tuple[int, int]
    filter_words: int
    level: int
    unicast_if: int  # IP_UNICAST_IF
    tell_interface: int  # IP_PKTINFO: by which interface a packet came in is told
    interface_told: int  # in a message of this kind
    interface_form: str  # and form


_IPV4 = _Family(
    socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, (255, 1), 1,
    socket.IPPROTO_IP, 50, 8, 8, "=i",
)  # fmt: skip
_IPV6 = _Family(
    socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129, (socket.IPPROTO_ICMPV6, 1), 8,
    socket.IPPROTO_IPV6, 76, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO, "=16xI",
)  # fmt: skip


class Pinger:
    """One raw ICMP socket. send() and drain() never block and never raise."""

    def __init__(self, source: str, peer: str, interface: str, tags: Tags) -> None:
        self.ip = _IPV6 if ":" in peer else _IPV4
        self.peer = peer
        self.interface = interface
        self.tags = tags
        self.renewed = False  # it has turned out that the peer has the new secret
        self.id = os.getpid() & 0xFFFF or 1  # with id 0 replies are never seen
        self.seq = 0
        self.sent_at: dict[int, float] = {}
        self.rtt: float | None = None
        self.heard: float | None = None
        self.sent = self.received = 0  # heartbeats since the last report
        self._socket = self._open(source)

    def _open(self, source: str) -> socket.socket:
        ip = self.ip
        try:
            sock = socket.socket(ip.family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, ip.protocol)
        except PermissionError as error:
            message = "cannot open a raw socket: run failoverd as root, or with CAP_NET_RAW"
            raise PermissionError(error.errno, message) from error
        sock.setblocking(False)
        blocked = ~(1 << ip.request | 1 << ip.reply)
        words = [blocked >> 32 * n & 0xFFFFFFFF for n in range(ip.filter_words)]
        sock.setsockopt(*ip.filter, struct.pack(f"={len(words)}I", *words))
        sock.setsockopt(ip.level, ip.tell_interface, 1)
        sock.setsockopt(*links.FREEBIND[ip.family], 1)
        sock.bind((source, 0))  # free: the address may come later, and may go
        return sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, now: float) -> str:
        """Send one heartbeat; what was in the way, "" if nothing.

        Never by the default route while the link is down, and by the new one if it is made again.
        """
        self.seq = (self.seq + 1) & 0xFFFF
        index = links.index(self.interface)
        if index is None:
            return os.strerror(errno.ENODEV)
        try:
            self._socket.setsockopt(self.ip.level, self.ip.unicast_if, struct.pack("!I", index))
            for tag in self.tags.ours:
                self._socket.sendto(self._request(tag), (self.peer, 0))
        except OSError as error:
            return error.strerror or str(error)
        self.sent += 1
        self.sent_at[self.seq] = now
        if len(self.sent_at) > 64:
            del self.sent_at[next(iter(self.sent_at))]
        return ""

    def _request(self, tag: bytes) -> bytes:
        packet = struct.pack("!BBHHH", self.ip.request, 0, 0, self.id, self.seq) + tag
        if self.ip is _IPV6:
            return packet  # the kernel sums up: it knows the source address
        total = ping3.checksum(packet)  # of little-endian words, whatever the processor has
        return packet[:2] + struct.pack("<H", total) + packet[4:]

    def drain(self, now: float) -> None:
        """Read what was received: the peer's heartbeats, and replies to this node's."""
        link = links.index(self.interface)
        for _ in range(_MOST):
            try:
                data, about, _, sender = self._socket.recvmsg(2048, socket.CMSG_SPACE(_PKTINFO))
            except OSError:  # nothing more, or an ICMP error; the next send tells
                break
            if sender[0] == self.peer and self._came_by(about) == link:
                self._take(data, now)

    def _came_by(self, about: Sequence[tuple[int, int, bytes]]) -> int | None:
        """The index of the interface that a packet came in by: ip(7), ipv6(7)."""
        for level, kind, data in about:
            if (level, kind) == (self.ip.level, self.ip.interface_told):
                return int(struct.unpack_from(self.ip.interface_form, data)[0])
        return None

    def _take(self, data: bytes, now: float) -> None:
        start = 0 if self.ip is _IPV6 else (data[0] & 15) * 4 if data else 0
        if len(data) < start + _HEADER:
            return
        kind, _, _, ident, seq = struct.unpack_from("!BBHHH", data, start)
        if kind == self.ip.request:
            self._take_request(data[start + _HEADER :][:TAG], now)
        elif kind == self.ip.reply and ident == self.id:
            sent = self.sent_at.pop(seq, None)
            self.rtt = self.rtt if sent is None else now - sent

    def _take_request(self, tag: bytes, now: float) -> None:
        """A heartbeat, if the tag is the peer's. With a new one, the old secret is over."""
        if tag not in self.tags.peers:
            return
        self.heard = now
        self.received += 1
        if tag == self.tags.peers[0] and len(self.tags.peers) > 1:
            self.tags, self.renewed = self.tags.newest, True

    def told(self, message: process.Message) -> None:
        if message.get("do") == "tags":
            self.tags = parse_tags(message)

    def close(self) -> None:
        self._socket.close()


class Beat:
    """When to send: a schedule that is never made up for, and the main loop's word."""

    def __init__(self, conf: Conf, on: bool, now: float) -> None:
        self.interval = conf.plip_hbeat
        self.window = conf.plip_timer
        self.on = on
        self.next = now
        self.spoken = now

    def due(self, now: float) -> bool:
        """Whether to send now; the schedule goes on from its own times, not from now."""
        if now < self.next:
            return False
        missed = int((now - self.next) / self.interval)
        self.next += (missed + 1) * self.interval
        return self.on and now - self.spoken <= self.window

    def told(self, message: process.Message, now: float) -> None:
        self.spoken = now
        if message.get("do") == "heartbeats":
            self.on = message.get("on") is True


def run(channel: process.Channel, conf: Conf, on: bool, tags: Tags) -> None:
    """The worker: heartbeats until failoverd goes. Raises OSError, ValueError at the start."""
    if conf.realtime:
        process.try_realtime("heartbeat", conf.user, channel.send)
    pinger = Pinger(conf.primary, conf.secondary, conf.plip_interface, tags)
    process.give_up_root(conf.user)
    channel.send({"event": "ready"})
    loop(channel, pinger, Beat(conf, on, time.monotonic()))


def loop(channel: process.Channel, pinger: Pinger, beat: Beat) -> None:
    troubles, reported = process.Troubles(f"interface {pinger.interface}", channel.send), 0.0
    while True:
        report_at = reported + max(_REPORT_EVERY, beat.window / 3)
        wait = min(beat.next, report_at) - time.monotonic()
        # select(), because poll() and epoll_wait() know only whole milliseconds
        ready, _, _ = select.select((channel, pinger), [], [], max(0.0, wait))
        now = time.monotonic()
        if channel in ready:
            for message in channel.receive():
                beat.told(message, now)
                pinger.told(message)
        if pinger in ready:
            pinger.drain(now)
        if beat.due(now):
            troubles.note(pinger.send(now), *UNSENT)
        if now - reported >= _REPORT_EVERY:
            reported = now
            report(channel, pinger)


def report(channel: process.Channel, pinger: Pinger) -> None:
    counts = {"sent": pinger.sent, "received": pinger.received}
    if channel.send({"event": "heartbeat", "heard": pinger.heard, "rtt": pinger.rtt, **counts}):
        pinger.sent = pinger.received = 0
    if pinger.renewed:
        channel.send({"event": "renewed", "tag": pinger.tags.peers[0].hex()})
        pinger.renewed = False
