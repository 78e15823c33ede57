"""Neighbours: packet sockets that probe for the service addresses, and that announce them.

Two halves with different rights. `run` is the worker: its sockets receive what the network sends,
so it opens them as root and gives root up. `Announcer` is used by failoverd itself, which is root:
its socket has protocol 0 and never receives a byte.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import re
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

import pcapy

from failoverd import links, process
from failoverd.burst import Burst
from failoverd.conf import Address, Conf
from failoverd.process import Channel, Message
from failoverd.watch.filters import DLT_EN10MB, Program, assembled, attach
from failoverd.wire import frames

Announced = tuple[Sequence[Address], str]  # and what went wrong, or ""

MOST_MADE = 64  # bursts
MANY = 64  # addresses on an interface
MOST_READ = 1024  # frames, at once: a storm must not keep it from asking and from answering
_WAITING = 256 << 10  # bytes, which the kernel doubles; each frame takes 512 at least (socket(7)),
# so all that came before a report are read before it
MAX_ANSWERS = 50  # in one report: one that lies must not make it outgrow a message

PORTION = 50  # frames of an announcement that are sent at once
_FRAMES = 2  # of one address, at most
_Made = tuple[str, bool, tuple[Address, ...]]  # of what a burst is made
_FULL = (errno.EAGAIN, errno.ENOBUFS)
_FULL_SECONDS = 0.2  # that is waited for room on one interface, until it has sent something again
_SO_SNDBUFFORCE, _ROOM = 32, 4 << 20
_FIRST_ANNOUNCEMENTS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
LAST_REPEAT = _FIRST_ANNOUNCEMENTS[-1]  # seconds
_ANNOUNCEMENT_INTERVAL = 60.0

_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_DROP_MEMBERSHIP = 2
_PACKET_MR_UNICAST = 3
_PACKET_OTHERHOST = 3
UNICAST = re.compile(r"[0-9a-f][02468ace](?::[0-9a-f]{2}){5}", re.ASCII)

# What the kernel passes.
_MOST_BYTES = 2048  # of a frame
_ANSWERS = "arp or (icmp6 and ip6[40] = 136)"  # neighbour advertisements
_PASS_NOTHING = Program("", DLT_EN10MB, assembled([(0x06, 0, 0, 0)]))
_PASS_ANSWERS = Program(
    _ANSWERS,
    DLT_EN10MB,
    assembled(pcapy.compile(DLT_EN10MB, _MOST_BYTES, _ANSWERS, 1, 0).get_bpf()),
)


def next_announcement(start: float, after: float) -> float:
    """When to announce next: 0, 0.1, 0.5, 1, 2 and 5 s after start, then every minute (section 7).

    The first of these times that is later than `after`, so that a late loop does not make up for
    missed ones.
    """
    for delay in _FIRST_ANNOUNCEMENTS:
        if start + delay > after:
            return start + delay
    minutes = (after - start) // _ANNOUNCEMENT_INTERVAL + 1
    due = start + minutes * _ANNOUNCEMENT_INTERVAL
    return due if due > after else due + _ANNOUNCEMENT_INTERVAL  # the division was rounded


class Announcer:
    """Tells the neighbours that @addresses are here. Raises OSError if it may not (needs root)."""

    def __init__(self, conf: Conf) -> None:
        self._addresses = conf.addresses
        self._patience: dict[str, float] = {}  # by interface, what is left of _FULL_SECONDS
        self._made: dict[tuple[str, int], tuple[_Made, Burst]] = {}
        self._socket = _packet_socket(0)
        with contextlib.suppress(OSError):  # a smaller one is only full sooner
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)
        active = {entry.interface: entry.hwaddr for entry in conf.ethernet_addresses}
        for name in conf.interfaces:  # made now, as there is no time when they are needed
            hwaddr = active.get(name) or links.hwaddr(name)
            for number in range(_FRAMES if hwaddr else 0):
                self._burst(name, hwaddr or "", self._entries(name, None), number)

    def announce(
        self, interfaces: Iterable[str], held: Iterable[str] | None = None
    ) -> Iterator[Announced | None]:
        """Announce every address on these interfaces once. A step for each portion of frames, with
        the addresses and what went wrong, or with None if there is no room to send them now. First
        comes the frame that most hosts understand, for every address.

        held: the entries of @addresses that are on their interfaces; None if that is not known.
        """
        here = None if held is None else {line.partition("/")[0] for line in held}
        left = {name: self._entries(name, here) for name in dict.fromkeys(interfaces)}
        for number in range(_FRAMES):
            for name, entries in left.items():
                failed: list[Address] = []
                for told in self._announce_on(name, entries, number):
                    failed += told[0] if told and told[1] else ()
                    yield told
                left[name] = tuple(entry for entry in entries if entry not in failed)

    def _entries(self, name: str, here: set[str] | None) -> tuple[Address, ...]:
        mine = (entry for entry in self._addresses if entry.interface == name)
        return tuple(one for one in mine if here is None or f"{name} {one.address}" in here)

    def _announce_on(
        self, name: str, entries: tuple[Address, ...], number: int
    ) -> Iterator[Announced | None]:
        """The frame with this number of each address."""
        try:
            hwaddr = _current_hwaddr(name)
        except OSError as error:
            yield entries, error.strerror or str(error)
            return
        entries, burst = self._burst(name, hwaddr, entries, number)
        sent = 0
        while sent < burst.count:
            try:
                before, sent = sent, (yield from self._send(name, burst, sent))
            except OSError as error:
                yield entries[sent : sent + 1], error.strerror or str(error)
                sent += 1
            else:
                yield entries[before:sent], ""

    def _burst(
        self, name: str, hwaddr: str, entries: tuple[Address, ...], number: int
    ) -> tuple[tuple[Address, ...], Burst]:
        """The frames with this number, and the addresses that have one."""
        made = hwaddr, links.forwards_ipv6(name), entries
        known = self._made.get((name, number))
        if known is None or known[0] != made:
            frames = [_announcements(hwaddr, one.address, made[1])[number:] for one in entries]
            known = made, Burst([frame[0] for frame in frames if frame])
            self._made[name, number] = known
        return tuple(e for e in entries if number == 0 or ":" not in e.address), known[1]

    def _send(self, interface: str, burst: Burst, first: int) -> Generator[None, None, int]:
        """A step for each time that there is no room. The number of the next frame. Raises OSError
        if the first cannot be sent.

        A queue that nothing leaves is waited for once, and not again in every round.
        """
        began = time.monotonic()
        patience = self._patience.pop(interface, _FULL_SECONDS)
        while True:
            try:
                return first + burst.send(self._socket, interface, first, PORTION)
            except OSError as error:
                left = self._patience[interface] = max(0.0, patience - time.monotonic() + began)
                if error.errno not in _FULL or not left:
                    raise
                yield

    def close(self) -> None:
        self._socket.close()


def run(channel: Channel, conf: Conf) -> None:
    """The worker `neighbours`: carries out failoverd's probes until failoverd is gone."""
    prober = _Prober(channel, conf)
    if conf.realtime:
        process.try_realtime("neighbours", conf.user, channel.send)
    process.give_up_root(conf.user)
    prober.report({"event": "ready"})
    while True:
        prober.turn()


class Rounds:
    """When the rounds of a probe are sent, and until when the last is answered; monotonic."""

    def __init__(self, at: Iterable[float], until: float) -> None:
        self.due = due = sorted(at)
        self.is_only = len(due) == 1
        self.until = until
        self.gap = min((later - one for one, later in pairwise(due)), default=0.0) / 2
        self.patience = max(0.0, until - due[-1]) if due else 0.0

    def share(self, targets: Sequence[str]) -> Sequence[str]:
        """To whom the next one goes, where it takes too long to ask for many addresses of all hosts
        and of each that is known: in turns, unless it is the only round."""
        if self.is_only or len(targets) == 1:
            return targets
        return targets[:1] if len(self.due) % 2 else targets[1:]

    def next_time(self) -> float:
        return self.due[0] if self.due else self.until

    def sent(self, now: float) -> None:
        """If it was late there are as many rounds as were wanted, only later: a burst would be but
        one, and fewer prove nothing."""
        del self.due[0]
        self.due = [max(due, now + n * self.gap) for n, due in enumerate(self.due, start=1)]
        self.until = max(self.until, (self.due[-1] if self.due else now) + self.patience)


@dataclass
class _Probe:
    """A probe under way, as failoverd has asked for it, and what has come of it."""

    id: object
    interfaces: tuple[str, ...]
    own: dict[str, str]  # the interfaces' own hardware addresses
    peer: tuple[str, ...]  # the peer's, as far as they are known
    rounds: Rounds
    asked: Counter[str] = field(default_factory=Counter)
    unsent: dict[str, str] = field(default_factory=dict)
    answers: set[tuple[str, str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, message: Any) -> _Probe:
        """The probe that a message of failoverd asks for."""
        interfaces, own = tuple(message["interfaces"]), dict(message.get("own", {}))
        peer = tuple(hwaddr for hwaddr in message.get("peer", ()) if UNICAST.fullmatch(hwaddr))
        return cls(message["id"], interfaces, own, peer, Rounds(message["at"], message["until"]))

    def report(self) -> Message:
        names = ("interface", "address", "hwaddr")
        return {
            "event": "answers",
            "id": self.id,
            "asked": max(self.asked.values(), default=0),
            "unsent": self.unsent,
            "answers": [dict(zip(names, each, strict=True)) for each in sorted(self.answers)],
        }


class _Prober:
    """The sockets, the probes under way, and the clock."""

    def __init__(self, channel: Channel, conf: Conf) -> None:
        self._channel = channel
        self._addresses = [
            (entry.interface, str(ipaddress.ip_address(entry.address))) for entry in conf.addresses
        ]
        self._known = frozenset(self._addresses)
        self._active = {entry.interface: entry.hwaddr for entry in conf.ethernet_addresses}
        self._alive_interval = process.report_interval(conf.plip_timer)
        self._alive_due = 0.0
        self._probes: dict[object, _Probe] = {}
        self._memberships: dict[tuple[str, bytes], bytes] = {}  # by interface and hardware address
        self._sockets = [_listen(frames.ETHERTYPE_ARP), _listen(frames.ETHERTYPE_IPV6)]
        self._sources: list[Channel | socket.socket] = [channel, *self._sockets]
        for interface in conf.interfaces:  # made now, as there is no time when they are needed
            _probes(links.hwaddr(interface) or "", "", "", self._on(interface))

    def report(self, message: Message) -> None:
        self._channel.send(message)
        self._alive_due = time.monotonic() + self._alive_interval

    def turn(self) -> None:
        """Wait for the next event and deal with all that is due."""
        times = [probe.rounds.next_time() for probe in self._probes.values()]
        timeout = min([self._alive_due, *times]) - time.monotonic()
        # select(), because epoll_wait() knows only whole milliseconds
        select.select(self._sources, (), (), max(0.0, timeout))
        for message in self._channel.receive():
            self._obey(message)
        self._receive()  # before any report: an answer may have come while this was kept waiting
        now = time.monotonic()
        for probe in list(self._probes.values()):
            self._go_on(probe, now)
        if now >= self._alive_due:
            self.report({"event": "alive"})

    def _obey(self, message: Message) -> None:
        if message.get("do") == "forget":
            self._probes.clear()
            self._stop_receiving()
        elif message.get("do") == "probe":
            probe = _Probe.of(message)
            if not self._probes:
                self._pass(_PASS_ANSWERS)
            self._probes[probe.id] = probe

    def _go_on(self, probe: _Probe, now: float) -> None:
        """Send a round, or report, if it is time."""
        if now < probe.rounds.next_time():
            return
        if probe.rounds.due:
            self._send_round(probe)
            probe.rounds.sent(now)
            return
        del self._probes[probe.id]
        self.report(probe.report())
        if not self._probes:
            self._stop_receiving()

    def _send_round(self, probe: _Probe) -> None:
        for interface in probe.interfaces:
            try:
                if self._probe_on(interface, probe):
                    probe.asked[interface] += 1
            except OSError as error:
                probe.unsent[interface] = error.strerror or str(error)

    def _probe_on(self, interface: str, probe: _Probe) -> bool:
        """For every address on one interface. False if it has none."""
        addresses = self._on(interface)
        if not addresses:  # it may have no hosts that can be asked, such as a tunnel
            return False
        current = _current_hwaddr(interface)
        own = probe.own.get(interface, current)
        if own != current:
            self._accept(interface, own)
        # Not every network floods the probe that goes to all.
        known = {*probe.peer, self._active.get(interface, own)} - {own, current}
        six = known and any(":" in address for address in addresses)
        source = self._link_local(interface, own) if six else ""
        everybody = ("", *sorted(known))
        for to in everybody if len(addresses) <= MANY else probe.rounds.share(everybody):
            _probes(own, to, source, addresses).send_all(self._sockets[0], interface)
        return True

    def _on(self, interface: str) -> tuple[str, ...]:
        return tuple(address for name, address in self._addresses if name == interface)

    def _link_local(self, interface: str, own: str) -> str:
        """The interface's own link-local address; one that nothing has while its hardware address
        is another, or the peer's kernel would look for this node at the wrong one. May raise
        OSError."""
        if own == links.hwaddr(interface):
            for address in links.addresses(interface):
                if address.startswith("fe80:") and (interface, address) not in self._known:
                    return address
        return frames.link_local(own)

    def _accept(self, interface: str, hwaddr: str) -> None:
        """Have the interface pass what is sent to hwaddr, although that is not its address now."""
        index = links.index(interface) or 0
        address = bytes.fromhex(hwaddr.replace(":", ""))
        membership = struct.pack("=iHH8s", index, _PACKET_MR_UNICAST, len(address), address)
        if self._memberships.get((interface, address)) != membership:
            self._sockets[0].setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
            self._memberships[interface, address] = membership

    def _receive(self) -> None:
        for sock in self._sockets:
            for interface, kind, frame in islice(_received(sock), MOST_READ):
                answer = frames.parse(frame)
                if answer is not None and self._is_to_this_node(interface, kind, frame):
                    self._note(interface, answer)

    def _is_to_this_node(self, interface: str, kind: int, frame: bytes) -> bool:
        """Not what a VLAN carries that has no device here: it comes without its tag, and all that
        tells is that the kernel takes it for another host's (netif_receive_skb). So it does what
        goes to an address that is not the interface's now."""
        return kind != _PACKET_OTHERHOST or (interface, frame[:6]) in self._memberships

    def _note(self, interface: str, answer: frames.Answer) -> None:
        if (interface, answer.address) not in self._known:
            return
        entry = (interface, answer.address, answer.hwaddr)
        for probe in self._probes.values():
            if (
                probe.asked[interface]
                and entry not in probe.answers
                and len(probe.answers) < MAX_ANSWERS
                and not _is_own(interface, answer.hwaddr, probe.own.get(interface))
            ):
                probe.answers.add(entry)

    def _stop_receiving(self) -> None:
        """Until the next probe, so that the neighbours' chatter does not wake it."""
        self._pass(_PASS_NOTHING)
        for sock in self._sockets:
            for _ in _received(sock):
                pass
        for membership in self._memberships.values():
            with contextlib.suppress(OSError):  # the interface is gone, and the membership with it
                self._sockets[0].setsockopt(_SOL_PACKET, _PACKET_DROP_MEMBERSHIP, membership)
        self._memberships.clear()

    def _pass(self, program: Program) -> None:
        for sock in self._sockets:
            attach(sock, program)


def _is_own(interface: str, hwaddr: str, own: str | None) -> bool:
    """Whether an answer received on interface came from an interface of this node.

    None receives what it sends, but another one on the same wire answers for any address of the
    node (arp_ignore is 0 by default). The address that the probing one has now says nothing: if it
    is that of the active role, the peer may have it as well.
    """
    current = links.hwaddr(interface)
    if hwaddr == (own or current):
        return True
    return hwaddr != current and hwaddr in map(links.hwaddr, links.names())


@lru_cache(MOST_MADE)
def _probes(own: str, to: str, source: str, addresses: tuple[str, ...]) -> Burst:
    """One for each address, to all or to one."""
    if to:
        return Burst([frames.probe_to(to, own, source, address) for address in addresses])
    return Burst([frames.probe(own, address) for address in addresses])


@lru_cache(maxsize=1 << 14)
def _announcements(hwaddr: str, address: str, router: bool) -> list[bytes]:
    if ":" in address:
        return [frames.unsolicited_advertisement(hwaddr, address, router)]
    return frames.gratuitous_arp(hwaddr, address)


def _current_hwaddr(interface: str) -> str:
    """The interface's hardware address now. Raises OSError if it is gone or cannot send.

    One without a carrier takes every frame and drops it, without an error.
    """
    hwaddr = links.hwaddr(interface)
    if hwaddr is None:
        raise OSError(errno.ENODEV, "there is no such interface, or it has no hardware address")
    if not links.works(interface):
        raise OSError(errno.ENETDOWN, "the interface is down or has no carrier")
    return hwaddr


def _listen(ethertype: int) -> socket.socket:
    """A socket for one protocol on all interfaces, also later ones; it passes nothing yet."""
    sock = _packet_socket(socket.htons(ethertype))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WAITING)
    attach(sock, _PASS_NOTHING)
    for _ in _received(sock):
        pass  # what came before the filter was there
    return sock


def _packet_socket(protocol: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    except PermissionError as error:
        message = "cannot open a packet socket: run failoverd as root, or with CAP_NET_RAW"
        raise PermissionError(error.errno, message) from error
    sock.setblocking(False)
    return sock


def _received(sock: socket.socket) -> Iterable[tuple[str, int, bytes]]:
    """The frames that wait in the socket, with the interface they came in by and the kind that
    they are of for the kernel (packet(7))."""
    while True:
        try:
            frame, address = sock.recvfrom(_MOST_BYTES)
        except OSError:
            return
        yield address[0], address[2], frame
