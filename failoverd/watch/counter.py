"""Counts what one interface receives, by libpcap, and says what counts at all.

The packets are not read: the kernel counts those that pass the filter, also when the ring is full,
and stats() tells how many (measured: exact at a million packets, 1.3 µs a call). So a packet costs
user space nothing. The direction must be in the filter, for setdirection() works in user space.
A handle whose interface was deleted, or went to another network namespace, receives nothing for
ever, even if the interface comes back with the same index; its socket's address tells.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Any

import pcapy

from failoverd import links
from failoverd.conf import Conf
from failoverd.conf.language import shortened
from failoverd.watch import filters
from failoverd.watch.dumpfile import DumpFile
from failoverd.watch.filters import HEADER_BYTES, BadFilter, Program
from failoverd.wire import frames
from failoverd.wire.protocol import TAG

_PCAP_ERROR_NO_SUCH_DEVICE = -5
_PCAP_ERROR_PERM_DENIED = -8
_PCAP_ERROR_IFACE_NOT_UP = -9
_NOT_THERE = (_PCAP_ERROR_NO_SUCH_DEVICE, _PCAP_ERROR_IFACE_NOT_UP)
_WHOLE = 0xFFFFFFFF  # of a word
_MARK = int(frames.MARK.replace(":", "")[:8], 16)
_COUNTER_MASK = 0xFFFFFFFF  # the kernel's counter has 32 bits
_RING_SECONDS = 60.0  # a ring that is not read need not be turned over by the kernel
_TAP_SECONDS = 0.5  # how long a packet may wait in the ring before it goes to the dump file
_TAP_PACKETS = 2000  # read at once: so few that no window waits for it

# An echo request, and where its payload begins.
_ECHO_IPV4 = "icmp[icmptype] = icmp-echo", "icmp", 8
_ECHO_IPV6 = "icmp6 and ip6[40] = 128", "ip6", 48

# What a switch itself says to every port, also to a blocked one: by the first three bytes of its
# group addresses, and by type. No host serves with these. They are numbers, for where there are no
# ethernet addresses `ether dst` would be refused; what the first word is there, none of these can
# be. The types also find what `tcpdump -i any` wrote.
_SWITCH_GROUPS = (
    0x0180C200,  # IEEE 802.1: spanning tree, pause, LACP, 802.1X, LLDP, GVRP, CFM
    0x01000C00,  # Cisco and compatible: CDP, VTP, DTP, PAgP, UDLD, PVST+
    0x01008100,  # Nortel, Avaya: topology discovery
    0x01E05200,  # Foundry, Brocade: FDP
    0x09000900,  # HP: loop protection
)
_EXTREME = 0x00E02B00  # all that there is of EDP's address: as three bytes it would be a host's
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

    tags: of the peer's heartbeats, for the heartbeat link. Without them the expression is as long,
    but only good to be tried out.
    """
    if interface == conf.plip_interface:
        return conf.plip_filter or _heartbeats(conf.secondary, tags)
    own = _own_packets(tuple(address.address for address in conf.addresses))
    theirs = f"not ({own}) and not ({_SWITCH_FRAMES})"
    return f"{theirs} and ({conf.filter})" if conf.filter else theirs


def _heartbeats(peer: str, tags: Sequence[bytes]) -> str:
    """Its echo requests with one of the tags, which is where the payload begins.

    Its replies say nothing: the kernel sends them, also if failoverd is dead there. Nor do other
    requests, which users and their programs send.
    """
    kind, head, at = _ECHO_IPV6 if ":" in peer else _ECHO_IPV4
    tagged = (
        f"({head}[{at}:4] = 0x{tag[:4].hex()} and {head}[{at + 4}:4] = 0x{tag[4:].hex()})"
        for tag in tags
    )
    return f"{kind} and src host {peer} and ({' or '.join(tagged)})"


@lru_cache(2)  # there may be thousands
def _own_packets(addresses: tuple[str, ...]) -> str:
    """The pair's own ARP (RFC 826, 5227) and neighbour packets (RFC 4861).

    In pcap-filter(7) `and` and `or` have the same precedence: hence all the parentheses.
    """
    # Just these, in as few blocks as can be: each costs instructions, of which there are not many.
    four = list(collapse_addresses(IPv4Network(one) for one in addresses if "." in one))
    six = list(collapse_addresses(IPv6Network(one) for one in addresses if ":" in one))
    arp = [_within("arp", 14, block) for block in (IPv4Network(frames.NOBODY), *four)]
    arp.append(f"arp[18:4] = {_MARK:#x}")  # a probe of a probe target
    neighbour = [_within("ip6", 8, block) for block in (IPv6Network("::"), *six)]  # 8: the source
    neighbour.append(f"ip6[0:4] & 0xfffff = {frames.FLOW_LABEL:#x}")
    neighbour += [f"ip6[40] = 136 and {_within('ip6', 48, block)}" for block in six]  # the target
    return (
        f"(arp and ({' or '.join(arp)})) or (icmp6 and (ip6[40] = 135 or ip6[40] = 136)"
        f" and ({' or '.join(f'({n})' for n in neighbour)}))"
    )


def _within(header: str, offset: int, block: IPv4Network | IPv6Network) -> str:
    """That the address at this offset of a header is in the block."""
    mask, packed = block.netmask.packed, block.network_address.packed
    parts = []
    for at in range(0, len(mask), 4):
        bits, word = (int.from_bytes(data[at : at + 4]) for data in (mask, packed))
        if bits:
            masked = "" if bits == _WHOLE else f" & {bits:#x}"
            parts.append(f"{header}[{offset + at}:4]{masked} = {word:#x}")
    return " and ".join(parts)


class Refused(PermissionError):
    """This process may not open the interface."""


class _Handle:
    """An interface as libpcap has it open, not promiscuous, with the filter in the kernel."""

    _wait = _RING_SECONDS
    _ring = 0  # bytes; 0 is what libpcap takes

    def __init__(self, interface: str, expression: str, programs: Sequence[Program] = ()) -> None:
        """programs: of which one is for the expression, perhaps, and for this kind of link."""
        self.interface = interface
        self._expression, self._programs = expression, programs
        self._reader: pcapy.Reader | None = None
        self._socket: socket.socket | None = None  # the handle's own, to ask where it is
        self._index: int | None = None
        self._program: Program | None = None
        self._own = ""  # the hardware address whose frames are left out

    def open(self) -> bool:
        """False if the interface is not there or not up.

        Raises Refused, BadFilter, or OSError for what libpcap does not explain.
        """
        self.close()
        self._index = links.index(self.interface)
        reader = pcapy.create(self.interface)
        reader.set_snaplen(HEADER_BYTES)
        reader.set_promisc(0)
        reader.set_timeout(int(self._wait * 1000))
        if self._ring:
            reader.set_buffer_size(self._ring)
        code = reader.activate()
        if code < 0:
            reader.close()
            if code in _NOT_THERE or not links.is_up(self.interface):
                return False
            if code == _PCAP_ERROR_PERM_DENIED:
                raise Refused(f"{self.interface}: not permitted to count packets; run it as root")
            raise OSError(f"{self.interface}: cannot count packets: libpcap's error {code}")
        os.set_inheritable(reader.getfd(), False)
        self._reader = reader
        self._socket = socket.socket(fileno=os.dup(reader.getfd()))
        wanted = self._expression, int(reader.datalink())
        ready = (each for each in self._programs if (each.expression, each.linktype) == wanted)
        try:
            self._program, self._own = next(ready, None) or filters.translate(*wanted), ""
            filters.attach(self._socket, self._program)
            self._leave_out_own()
        except BadFilter as error:
            self.close()
            text = f"{self.interface}: the filter {shortened(self._expression)} is invalid: {error}"
            raise BadFilter(text) from error
        return True

    def _leave_out_own(self) -> None:
        """Leave out what comes back to where it came from: a loop in the network, or a hypervisor's
        port, makes an interface that receives nothing else look alive. Raises BadFilter.

        The hardware address changes with the role (@ethernet_addresses).
        """
        own, known = links.hwaddr(self.interface), (None, frames.NO_HWADDR, self._own)
        if self._socket is None or self._program is None or own in known:
            return
        filters.attach(self._socket, filters.without_source(self._program, own))
        self._own = own

    @property
    def is_open(self) -> bool:
        return self._reader is not None

    def close(self) -> None:
        for part in (self._socket, self._reader):
            if part is not None:
                part.close()
        self._socket = self._reader = None


class Counter(_Handle):
    """The number of packets received. A silent interface is as good as any: it never ends."""

    _ring = 1  # the smallest that there is

    def __init__(self, interface: str, expression: str, programs: Sequence[Program] = ()) -> None:
        super().__init__(interface, expression, programs)
        self._taken = 0

    def open(self) -> bool:
        is_open = super().open()
        if self._reader is not None:
            self._taken = self._reader.stats()[0]  # what came before was not filtered
        return is_open

    def take(self) -> int:
        if self._reader is None:
            return 0
        with contextlib.suppress(BadFilter):  # for want of memory: it is tried again
            self._leave_out_own()
        now = self._reader.stats()[0]
        fresh: int = (now - self._taken) & _COUNTER_MASK
        self._taken = now
        return fresh

    def is_lost(self) -> bool:
        """Whether the handle receives nothing any more, or has another interface than this one.

        A renamed interface goes on counting, until another one takes its name.
        """
        if self._socket is None:
            return True
        index = links.index(self.interface)
        return not self._socket.getsockname()[0] or index not in (None, self._index)


class Tap(_Handle):
    """Puts the headers of the packets that count into $dumpfile. It may lose some under load; the
    counter, which has a handle of its own, does not. The first may be some that do not count: from
    before the filter was set. They do no harm: `watchd -r` leaves them out again."""

    _wait = _TAP_SECONDS

    def __init__(
        self, interface: str, expression: str, programs: Sequence[Program], file: DumpFile
    ) -> None:
        super().__init__(interface, expression, programs)
        self.file = file

    def open(self) -> bool:
        is_open = super().open()
        if self._reader is not None:
            self._reader.setdirection(pcapy.PCAP_D_IN)
            self._reader.setnonblock(1)
            self.file.begin(int(self._reader.datalink()))
        return is_open

    def fileno(self) -> int:
        return -1 if self._reader is None else int(self._reader.getfd())

    def write(self) -> None:
        """Write the packets that are there to the file. Raises OSError."""
        if self._reader is not None:
            with contextlib.suppress(pcapy.PcapError):  # once if it went down; it reads on when up
                self._reader.dispatch(_TAP_PACKETS, self._put)
        self.file.flush()

    def _put(self, header: Any, data: bytes) -> None:
        self.file.put(header.getts(), header.getlen(), data)
