"""The heartbeat: echo requests to the peer over the private link, and what is heard of its own.

Sent on one raw socket that lasts, on an absolute schedule, and only while the main loop has spoken
to us within the last window: a hung failoverd is a dead one (contract, section 5). The payload is
the pair's tag, from the secret: a ping that anybody else sends is none of ours. ping3 knows no
payload but a time and Qs, so what it does here is the checksum.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from failoverd import links, process
from failoverd.protocol import TAG, Tags, parse_tags

if TYPE_CHECKING:
    from failoverd.conf import Conf

_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_IP_PKTINFO = 8
_IP_UNICAST_IF = 50
_IPV6_UNICAST_IF = 76
_SOL_RAW = 255
_ICMP_FILTER = 1
_ICMPV6_FILTER = 1
_ECHO_REPLY, _ECHO_REQUEST = 0, 8
_V6_ECHO_REQUEST, _V6_ECHO_REPLY = 128, 129
_HEADER = 8  # bytes of ICMP before the payload
_PKTINFO = 20  # bytes of the longer of struct in_pktinfo and in6_pktinfo
_MOST = 512  # packets that are read at once: a flood must not keep us from sending
_REPORT_EVERY = 0.1  # seconds, at the most often
_SPARING = 0.05  # seconds; with shorter intervals not every packet that comes wakes us


class Pinger:
    """One raw ICMP socket. send() and drain() never block and never raise."""

    def __init__(self, source: str, peer: str, interface: str, tags: Tags) -> None:
        self.v6 = ":" in peer
        self.peer = peer
        self.interface = interface
        self.tags = tags
        self.renewed = False  # it has turned out that the peer has the new secret
        self.id = os.getpid() & 0xFFFF or 1  # with id 0 replies are never seen
        self.seq = 0
        self.sent_at: dict[int, float] = {}
        self.rtt: float | None = None
        self.heard: float | None = None
        self._index = 0
        self._socket = self._open(source)

    def _open(self, source: str) -> socket.socket:
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if self.v6 else socket.IPPROTO_ICMP
        try:
            sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except PermissionError as error:
            message = "cannot open a raw socket: run failoverd as root, or with CAP_NET_RAW"
            raise PermissionError(error.errno, message) from error
        sock.setblocking(False)
        if self.v6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            passed = (1 << _V6_ECHO_REQUEST) | (1 << _V6_ECHO_REPLY)
            blocked = ((1 << 256) - 1) ^ passed
            words = [(blocked >> (32 * i)) & 0xFFFFFFFF for i in range(8)]
            sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *words))
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            blocked = 0xFFFFFFFF ^ (1 << _ECHO_REPLY | 1 << _ECHO_REQUEST)
            sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", blocked))
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind((source, 0))  # free: the address may come later, and may go
        return sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, now: float) -> str | None:
        """Send one heartbeat; what was in the way, if anything."""
        self.seq = (self.seq + 1) & 0xFFFF
        try:
            self._leave_by_the_link()
            for tag in self.tags.ours:
                self._socket.sendto(self._request(tag), (self.peer, 0))
        except OSError as error:
            return error.strerror or str(error)
        self.sent_at[self.seq] = now
        while len(self.sent_at) > 64:
            del self.sent_at[next(iter(self.sent_at))]
        return None

    def _leave_by_the_link(self) -> None:
        """Never by the default route while the link is down, and by the new one if re-made."""
        index = links.index(self.interface)
        if index is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if index == self._index:
            return
        level = socket.IPPROTO_IPV6 if self.v6 else socket.IPPROTO_IP
        option = _IPV6_UNICAST_IF if self.v6 else _IP_UNICAST_IF
        self._socket.setsockopt(level, option, struct.pack("!I", index))
        self._index = index

    def _request(self, tag: bytes) -> bytes:
        """An echo request with the tag as its payload."""
        if self.v6:  # the kernel sums up: it knows our address
            return struct.pack("!BBHHH", _V6_ECHO_REQUEST, 0, 0, self.id, self.seq) + tag
        import ping3

        packet = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, self.id, self.seq) + tag
        total = ping3.checksum(packet)  # of little-endian words, whatever this machine has
        return packet[:2] + struct.pack("<H", total) + packet[4:]

    def drain(self, now: float) -> bool:
        """Read what has come: the peer's heartbeats, and its kernel's replies to ours. Whether one
        of these told the round trip."""
        before = len(self.sent_at)
        link = links.index(self.interface)
        for _ in range(_MOST):
            try:
                data, about, _, sender = self._socket.recvmsg(2048, socket.CMSG_SPACE(_PKTINFO))
            except OSError:  # nothing more, or an ICMP error; the next send tells
                break
            if sender[0] == self.peer and self._came_by(about) == link:
                self._take(data, now)
        return len(self.sent_at) < before

    def _came_by(self, about: Sequence[tuple[int, int, bytes]]) -> int | None:
        """The index of the interface that a packet came in by: ip(7), ipv6(7)."""
        level, kind, form = (
            (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, "=16xI")
            if self.v6
            else (socket.IPPROTO_IP, _IP_PKTINFO, "=i")
        )
        found = (data for each, which, data in about if (each, which) == (level, kind))
        return next((int(struct.unpack_from(form, data)[0]) for data in found), None)

    def forget_sent(self) -> None:
        """Replies to what was sent so far tell no round trip: they may have waited for us."""
        self.sent_at.clear()

    def _take(self, data: bytes, now: float) -> None:
        start = 0 if self.v6 else (data[0] & 15) * 4 if data else 0
        if len(data) < start + _HEADER:
            return
        kind, _, _, ident, seq = struct.unpack_from("!BBHHH", data, start)
        if kind == (_V6_ECHO_REQUEST if self.v6 else _ECHO_REQUEST):
            self._take_request(data[start + _HEADER :][:TAG], now)
        elif kind == (_V6_ECHO_REPLY if self.v6 else _ECHO_REPLY) and ident == self.id:
            sent = self.sent_at.pop(seq, None)
            if sent is not None:
                self.rtt = now - sent

    def _take_request(self, tag: bytes, now: float) -> None:
        """A heartbeat, if the tag is the peer's. With a new one, the old secret is over."""
        if tag not in self.tags.peers:
            return
        self.heard = now
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
    """The child: heartbeats until failoverd goes. Raises OSError, ValueError at the start."""
    import encodings.idna  # noqa: F401 - loaded by the socket module when it is too late

    # Root may be all that can read it. No other process has it: it brings `threading` along, whose
    # hooks at fork would make a third of a megabyte of every child's memory its own.
    if ":" not in conf.secondary:
        import ping3  # noqa: F401

    if conf.realtime:
        try:
            process.be_realtime(conf.user)
        except OSError as error:
            text = f"$realtime: {error.strerror}; goes on without"
            channel.send({"event": "log", "message": text})
    pinger = Pinger(conf.primary, conf.secondary, conf.plip_interface, tags)
    process.give_up_root(conf.user)
    channel.send({"event": "ready"})
    try:
        loop(channel, pinger, Beat(conf, on, time.monotonic()))
    finally:
        pinger.close()


def loop(channel: process.Channel, pinger: Pinger, beat: Beat) -> None:
    """Send, listen and report until the channel closes.

    At short intervals, what has come is read when the next heartbeat is sent, but for the reply to
    the first one after a report: it is the one that is timed.
    """
    trouble: str | None = None
    reported = 0.0
    sparing = beat.interval < _SPARING
    timing = True
    while True:
        report_at = reported + max(_REPORT_EVERY, beat.window / 3)
        wait = min(beat.next, report_at) - time.monotonic()
        sources: list[process.Channel | Pinger] = (
            [channel, pinger] if timing or not sparing else [channel]
        )
        # select(), because poll() and epoll_wait() know only whole milliseconds
        ready, _, _ = select.select(sources, [], [], max(0.0, wait))
        now = time.monotonic()
        if channel in ready:
            for message in channel.receive():
                beat.told(message, now)
                pinger.told(message)
        if pinger in ready:
            timing = not pinger.drain(now)
        if beat.due(now):
            if sparing:
                pinger.forget_sent()
                pinger.drain(now)
            trouble = tell_trouble(channel, trouble, pinger.send(now))
        if now - reported >= _REPORT_EVERY:
            reported, timing = now, True
            report(channel, pinger)


def report(channel: process.Channel, pinger: Pinger) -> None:
    channel.send({"event": "heartbeat", "heard": pinger.heard, "rtt": pinger.rtt})
    if pinger.renewed:
        channel.send({"event": "renewed", "tag": pinger.tags.peers[0].hex()})
        pinger.renewed = False


def tell_trouble(channel: process.Channel, before: str | None, now: str | None) -> str | None:
    """Log that heartbeats cannot be sent once, and once that they can again."""
    if now != before:
        text = f"heartbeats cannot be sent: {now}" if now else "heartbeats are sent again"
        channel.send({"event": "log", "message": text})
    return now
