"""Counts what comes in on one interface, by libpcap, and says what counts at all.

Nobody reads the packets: the kernel counts those that pass the filter, also when the ring is full,
and stats() tells how many (measured: exact at a million packets, 1.3 µs a call). So a packet costs
user space nothing. The direction must be in the filter, for setdirection() works in user space.
A handle whose interface was deleted, or went to another network namespace, stays deaf for ever and
says nothing, even if the interface comes back with the same index; its socket's address tells.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pcapy

from failoverd import links
from failoverd.conf.language import shortened
from failoverd.watch import filters
from failoverd.watch.filters import DLT_EN10MB as DLT_EN10MB
from failoverd.watch.filters import DLT_LINUX_SLL as DLT_LINUX_SLL
from failoverd.watch.filters import DLT_LINUX_SLL2 as DLT_LINUX_SLL2
from failoverd.watch.filters import HEADER_BYTES as HEADER_BYTES
from failoverd.watch.filters import BadFilter as BadFilter
from failoverd.watch.filters import Program
from failoverd.wire import frames
from failoverd.wire.protocol import TAG

if TYPE_CHECKING:
    from failoverd.conf import Conf

_PCAP_ERROR_NO_SUCH_DEVICE = -5
_PCAP_ERROR_PERM_DENIED = -8
_PCAP_ERROR_IFACE_NOT_UP = -9
_NOT_THERE = (_PCAP_ERROR_NO_SUCH_DEVICE, _PCAP_ERROR_IFACE_NOT_UP)
_MARK = int(frames.MARK.replace(":", "")[:8], 16)
_COUNTER_MASK = 0xFFFFFFFF  # the kernel's counter has 32 bits
_RING_SECONDS = 60.0  # a ring that nobody reads need not be turned over by the kernel
_TAP_SECONDS = 0.5  # how long a packet may wait in the ring before it goes to the dump file
_TAP_PACKETS = 2000  # read at once: so few that no alarm waits for it

# An echo request, and where its payload begins.
_ECHO_IPV4 = "icmp[icmptype] = icmp-echo", "icmp", 8
_ECHO_IPV6 = "icmp6 and ip6[40] = 128", "ip6", 48

Put = Callable[[tuple[int, int], int, bytes], None]


# What a switch itself says to every port, also to one on which it passes nothing to us: by the
# first three bytes of its group addresses, and by type. No host serves anybody with these. They are
# numbers, for where there are no ethernet addresses `ether dst` would be refused; what the first
# word is there, none of these can be. The types also find what `tcpdump -i any` wrote.
_SWITCH_GROUPS = (
    0x0180C200,  # IEEE 802.1: spanning tree, pause, LACP, 802.1X, LLDP, GVRP, CFM
    0x01000C00,  # Cisco, and who does as it does: CDP, VTP, DTP, PAgP, UDLD, PVST+
    0x01008100,  # Nortel, Avaya: topology discovery
    0x01E05200,  # Foundry, Brocade: FDP
    0x09000900,  # HP: loop protection
)
_EXTREME = 0x00E02B00  # all that there is of EDP's address: as three bytes it would be a card's
_SWITCH_TYPES = (
    0x9000,  # loopback (keepalive), also from a port to itself or to all
    0x9003,  # loop protection of MikroTik
    0x8899,  # loop detection of Realtek
    0x88CC,  # LLDP
    0x8808,  # pause
    0x8809,  # LACP
    0x888E,  # 802.1X
    0x8902,  # CFM
)
_SWITCH_FRAMES = " or ".join(
    [
        *(f"ether[0:4] & 0xffffff00 = {group:#x}" for group in _SWITCH_GROUPS),
        f"ether[0:4] = {_EXTREME:#x}",
        *(f"ether proto {kind:#x}" for kind in _SWITCH_TYPES),
    ]
)


def what_counts(conf: Conf, interface: str, tags: Sequence[bytes] = (bytes(TAG),)) -> str:
    """The pcap expression for the packets that count here, whatever their direction.

    tags: of the peer's heartbeats, for the private link. Without them the expression is as long,
    but only good to be tried out.
    """
    if interface == conf.plip_interface:
        return conf.plip_filter or _heartbeats(conf.secondary, tags)
    own = _own_packets([address.address for address in conf.addresses])
    theirs = f"not ({own}) and not ({_SWITCH_FRAMES})"
    return f"{theirs} and ({conf.filter})" if conf.filter else theirs


def _heartbeats(peer: str, tags: Sequence[bytes]) -> str:
    """Its echo requests with one of the tags, which is where the payload begins.

    Its replies say nothing: the kernel of a dead failoverd sends them. Nor do other requests, which
    its users and their programs send.
    """
    kind, head, at = _ECHO_IPV6 if ":" in peer else _ECHO_IPV4
    tagged = (
        f"({head}[{at}:4] = 0x{tag[:4].hex()} and {head}[{at + 4}:4] = 0x{tag[4:].hex()})"
        for tag in tags
    )
    return f"{kind} and src host {peer} and ({' or '.join(tagged)})"


def _own_packets(addresses: list[str]) -> str:
    """The pair's own ARP (RFC 826, 5227) and neighbour packets (RFC 4861).

    In pcap-filter(7) `and` and `or` have the same precedence: hence all the parentheses.
    """
    arp = [f"arp[14:4] = {word:#x}" for word in [0, *(_word(a) for a in addresses if "." in a)]]
    arp.append(f"arp[18:4] = {_MARK:#x}")  # a question to a witness
    six = [address for address in addresses if ":" in address]
    neighbour = [_words(8, address) for address in ["::", *six]]  # 8: the source
    neighbour.append(f"ip6[0:4] & 0xfffff = {frames.FLOW_LABEL:#x}")
    neighbour += [f"ip6[40] = 136 and {_words(48, address)}" for address in six]  # 48: the target
    return (
        f"(arp and ({' or '.join(arp)})) or (icmp6 and (ip6[40] = 135 or ip6[40] = 136)"
        f" and ({' or '.join(f'({n})' for n in neighbour)}))"
    )


def _word(address: str) -> int:
    return int.from_bytes(socket.inet_pton(socket.AF_INET, address))


def _words(offset: int, address: str) -> str:
    """That the 16 bytes at offset of an IPv6 packet are this address."""
    data = socket.inet_pton(socket.AF_INET6, address)
    words = [int.from_bytes(data[at : at + 4]) for at in range(0, 16, 4)]
    return " and ".join(f"ip6[{offset + 4 * n}:4] = {word:#x}" for n, word in enumerate(words))


class Refused(PermissionError):
    """We may not open the interface."""


def _activated(interface: str, snaplen: int, wait: float, small: bool) -> pcapy.Reader | None:
    """A live handle that is not promiscuous, None if the interface is not there or not up."""
    reader = pcapy.create(interface)
    reader.set_snaplen(snaplen)
    reader.set_promisc(0)
    reader.set_timeout(int(wait * 1000))
    if small:
        reader.set_buffer_size(1)  # the smallest ring that there is
    code = reader.activate()
    if code >= 0:
        os.set_inheritable(reader.getfd(), False)
        return reader
    reader.close()
    if code in _NOT_THERE or not links.is_up(interface):
        return None
    if code == _PCAP_ERROR_PERM_DENIED:
        raise Refused(f"{interface}: not permitted to count packets; run it as root")
    raise OSError(f"{interface}: cannot count packets: libpcap's error {code}")


def _filtered(
    reader: pcapy.Reader, interface: str, expression: str, programs: Sequence[Program]
) -> socket.socket:
    """The socket of the handle, which from now on passes what the expression admits; one of the
    programs, if there is one for it. Raises BadFilter."""
    sock = socket.socket(fileno=os.dup(reader.getfd()))
    wanted = expression, int(reader.datalink())
    ready = (each for each in programs if (each.expression, each.linktype) == wanted)
    try:
        filters.attach(sock, next(ready, None) or filters.translate(*wanted))
    except BadFilter as error:
        sock.close()
        text = f"{interface}: the filter {shortened(expression)} is invalid: {error}"
        raise BadFilter(text) from error
    return sock


class Counter:
    """The number of packets that came in. A silent one is as good as any: it never ends."""

    def __init__(self, interface: str, expression: str, programs: Sequence[Program] = ()) -> None:
        self.interface = interface
        self._expression, self._programs = expression, programs
        self._reader: pcapy.Reader | None = None
        self._bound: socket.socket | None = None  # the handle's own socket, to ask where it is
        self._index: int | None = None
        self._taken = 0

    def open(self) -> bool:
        """Begin to count. False if the interface is not there or not up.

        Raises Refused, BadFilter, or OSError for what libpcap does not explain.
        """
        self.close()
        index = links.index(self.interface)
        reader = _activated(self.interface, HEADER_BYTES, _RING_SECONDS, small=True)
        if reader is None:
            return False
        self._reader, self._index = reader, index
        try:
            self._bound = _filtered(reader, self.interface, self._expression, self._programs)
        except BadFilter:
            self.close()
            raise
        self._taken = reader.stats()[0]  # only now: what came before was not filtered
        return True

    @property
    def is_open(self) -> bool:
        return self._reader is not None

    def take(self) -> int:
        """How many packets came in since the last call."""
        if self._reader is None:
            return 0
        now = self._reader.stats()[0]
        fresh: int = (now - self._taken) & _COUNTER_MASK
        self._taken = now
        return fresh

    def is_deaf(self) -> bool:
        """Whether the handle hears nothing any more, or listens to another interface than ours.

        A renamed interface goes on counting, until another one takes its name.
        """
        if self._bound is None:
            return True
        index = links.index(self.interface)
        return not self._bound.getsockname()[0] or index not in (None, self._index)

    def close(self) -> None:
        if self._bound is not None:
            self._bound.close()
        if self._reader is not None:
            self._reader.close()
        self._bound = self._reader = None


class Tap:
    """Reads the headers of the packets that count, for $dumpfile. It may lose some under load; the
    counter, which has a handle of its own, does not. The first may be some that do not count: from
    before the filter was set. They do no harm, who judges the dump leaves them out again."""

    def __init__(self, interface: str, expression: str, programs: Sequence[Program] = ()) -> None:
        self.interface = interface
        self._expression, self._programs = expression, programs
        self._reader: pcapy.Reader | None = None

    def open(self) -> bool:
        """Begin to read. False if the interface is not there or not up. Raises as Counter.open."""
        self.close()
        reader = _activated(self.interface, HEADER_BYTES, _TAP_SECONDS, small=False)
        if reader is None:
            return False
        self._reader = reader
        reader.setdirection(pcapy.PCAP_D_IN)
        try:
            _filtered(reader, self.interface, self._expression, self._programs).close()
        except BadFilter:
            self.close()
            raise
        reader.setnonblock(1)
        return True

    @property
    def is_open(self) -> bool:
        return self._reader is not None

    @property
    def linktype(self) -> int:
        return DLT_EN10MB if self._reader is None else int(self._reader.datalink())

    def fileno(self) -> int:
        return -1 if self._reader is None else int(self._reader.getfd())

    def read(self, put: Put) -> None:
        """Call put((seconds, microseconds), length, headers) for the packets that are there."""
        if self._reader is None:
            return
        try:
            self._reader.dispatch(
                _TAP_PACKETS, lambda header, data: put(header.getts(), header.getlen(), data)
            )
        except pcapy.PcapError:
            pass  # it says once that the interface went down, and reads on when that is up again

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
