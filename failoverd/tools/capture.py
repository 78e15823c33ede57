"""Reads capture files of any size, as tcpdump writes them.

They are read here, because libpcap cuts nanoseconds off and takes two to three times as long. The
format is https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BufferedReader, FileIO, RawIOBase
from typing import NamedTuple, cast

import pcapy

from failoverd.tools.words import Stop
from failoverd.watch.filters import DLT_LINUX_SLL, DLT_LINUX_SLL2, BadFilter

NANOSECONDS = 1_000_000_000
MAX_PACKET = 262144  # bytes; libpcap takes no larger ones either
SET_BACK = 60 * NANOSECONDS  # no packet is that late: the clock was set
PAUSE = 86_400 * NANOSECONDS  # without any packet: the clock was set, or nothing recorded

_BLOCK = 128 * 1024  # bytes; from more on every block is mapped again, and out of the caches
_HEADER = 24
_RECORD = 16
# Link types as files number them (LINKTYPE_), for which libpcap has other numbers on Linux (DLT_).
# All others are the same. 14 is OpenBSD's. See https://www.tcpdump.org/linktypes.html.
_LIBPCAPS = {14: 12, 100: 11, 101: 12, 102: 15, 103: 16, 106: 19}
_NAMES = {
    **{0: "NULL", 1: "ETHERNET", 9: "PPP", 101: "RAW", 105: "IEEE802_11", 108: "LOOP"},
    **{113: "LINUX_SLL", 127: "IEEE802_11_RADIOTAP", 228: "IPV4", 229: "IPV6", 239: "NFLOG"},
    **{276: "LINUX_SLL2"},
}
_KINDS = {  # first four bytes: byte order, nanoseconds in the fraction's unit
    struct.pack(order + "I", magic): (order, unit)
    for order in "<>"
    for magic, unit in ((0xA1B2C3D4, 1000), (0xA1B23C4D, 1))
}
_PCAPNG = b"\n\r\r\n"

Accept = Callable[[bytes], object]


class Unreadable(Stop):
    """There is no capture here, or it cannot be read any further."""


class Truncated(Unreadable):
    """The file ends in the middle of a packet: a capture that was cut off, or is being written."""


class Batch(NamedTuple):
    """Some packets of a capture, in nanoseconds since its first packet. Time never runs backwards.

    `counted` are the times of those that count, `now` is that of the last packet, counted or not.
    """

    counted: list[int]
    now: int


class Clock:
    """Makes times since the first packet that never run backwards.

    A packet that is a little earlier than the one before it is taken for as late as that one. If it
    is more than SET_BACK earlier, the clock was set, and time goes on from there; else all that
    comes until the old time would be taken for one moment.
    """

    def __init__(self) -> None:
        self.first: int | None = None  # nanoseconds since 1970
        self.now = 0
        self.zero = 0  # nanoseconds since 1970 at which time began, by the clock as it is now
        self.passes_over = False  # whether a pause is no time
        self.pause = (0, 0, 0)  # the longest: how long; from and to, nanoseconds since 1970
        self.set_back = 0  # by how much at most

    def tick(self, nanoseconds: int) -> int:
        """The time of a packet, from nanoseconds since 1970."""
        if self.first is None:
            self.first = self.zero = nanoseconds
        step = nanoseconds - self.zero - self.now
        if step > PAUSE:
            self.pause = max(self.pause, (step, nanoseconds - step, nanoseconds))
        self.set_back = max(self.set_back, -step if step < -SET_BACK else 0)
        if step < -SET_BACK or (step > PAUSE and self.passes_over):
            self.zero += step
        self.now = max(self.now, nanoseconds - self.zero)
        return self.now


def dlt(linktype: int) -> int:
    """libpcap's number for a link type as files number it."""
    return _LIBPCAPS.get(linktype, linktype)


def link_name(number: int) -> str:
    """What files and people call a link type of libpcap's: "101 (RAW)"."""
    linktype = {dlt: number for number, dlt in _LIBPCAPS.items()}.get(number, number)
    return f"{linktype} ({_NAMES[linktype]})" if linktype in _NAMES else f"{linktype}"


def open_capture(path: str) -> Capture:
    """The capture in this file ("-" is standard input). Raises Unreadable."""
    name = "standard input" if path == "-" else path
    try:
        file: BufferedReader[RawIOBase] = BufferedReader(FileIO(0 if path == "-" else path), _BLOCK)
        try:
            return Capture(name, file)
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise Unreadable(f"{name}: {error.strerror}") from error


class Capture:
    """A capture file that is open for reading, once. Closed by close() or a with statement."""

    def __init__(self, name: str, file: BufferedReader[RawIOBase]) -> None:
        """Raises Unreadable and OSError."""
        self._name, self._file = name, file
        self.clock = Clock()
        self.problem: Unreadable | None = None
        head = file.read(_HEADER)
        if head[:4] == _PCAPNG:
            way = "tcpdump -r FILE -w OTHER.pcap converts it"
            raise Unreadable(f"{name}: this is pcapng, which is not read here: {way}")
        if head[:4] not in _KINDS or len(head) < _HEADER:
            raise Unreadable(f"{name}: no capture such as tcpdump -w writes")
        order, self._unit = _KINDS[head[:4]]
        self._record = struct.Struct(order + "IIII")
        self.linktype = dlt(struct.unpack_from(order + "I", head, 20)[0] & 0xFFFF)  # libpcap's

    def batches(self, accept: Accept) -> Iterator[Batch]:
        """All packets, in constant memory; those count for which accept(packet) is true.

        A batch is what is there: from a pipe that is not a whole block. After the last packet that
        could be read `problem` says why there are no more, if the capture does not end there.
        """
        rest = b""
        while self.problem is None:
            counted: list[int] = []
            try:
                block = self._file.read1(_BLOCK)
                if not block:
                    break
                data = rest + block
                rest = data[self._take(data, accept, counted) :]
            except Unreadable as error:
                self.problem = Unreadable(f"{self._name}: {error}")
            except OSError as error:
                self.problem = Unreadable(f"{self._name}: {error.strerror}")
            if self.clock.first is not None:
                yield Batch(counted, self.clock.now)
        if rest and self.problem is None:
            self.problem = Truncated(f"{self._name}: the file ends in the middle of a packet")

    def _take(self, data: bytes, accept: Accept, counted: list[int]) -> int:
        """A capture has millions: what need not be done for each is not done in this loop."""
        unpack, unit, clock = self._record.unpack_from, self._unit, self.clock
        now, second, base = clock.now, -1, 0
        at, size = 0, len(data)
        try:
            while (begin := at + _RECORD) <= size:
                seconds, fraction, stored, length = unpack(data, at)
                end = begin + stored
                if stored > MAX_PACKET:
                    raise Unreadable(f"a packet of {stored} bytes is damage, not a packet")
                if end > size:
                    break
                then = base + fraction * unit
                if seconds == second and then >= now:
                    now = then
                elif seconds != second or then < now - SET_BACK:
                    second, whole = seconds, seconds * NANOSECONDS
                    clock.now = now
                    now = clock.tick(whole + fraction * unit)
                    base = whole - clock.zero
                packet = data[begin:end]
                if accept(packet if stored == length else _whole(packet, length)):
                    counted.append(now)
                at = end
        finally:
            clock.now = now
        return at

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _whole(packet: bytes, length: int) -> bytes:
    """The packet as long as it was on the wire, for filters that ask for a length."""
    return packet if length <= len(packet) else packet.ljust(min(length, 0xFFFF), b"\0")


# What counts

# Where cooked packets have their type; 4 is what has a length instead: spanning tree, CDP, ...
_COOKED = {DLT_LINUX_SLL: "not ether[14:2] = 4", DLT_LINUX_SLL2: "not ether[0:2] = 4"}
_LOAD = 0  # BPF_LD
_KERNELS = 0xFFFFF000  # what is loaded from here on is the kernel's, not the packet's: SKF_AD_OFF


def counts_in_capture(expression: str, linktype: int, own: str | None) -> Callable[[bytes], int]:
    """A test of packets in a capture file of this link type, without those that `own` has sent.

    Raises BadFilter.
    """
    terms = (_inbound(linktype, own), _COOKED.get(linktype, ""), f"({expression})")
    try:
        program = _compiled(linktype, " and ".join(term for term in terms if term))
    except (pcapy.PcapError, ValueError) as error:
        raise BadFilter(str(error)) from error
    return cast(Callable[[bytes], int], program.filter)


def knows_direction(linktype: int, own: str | None) -> bool:
    """Whether packets that a capture's host has sent itself can be told from the others."""
    return bool(_inbound(linktype, own))


def _inbound(linktype: int, own: str | None) -> str:
    """What admits only received packets, if such packets tell: by a direction or an address."""
    if _compiles(linktype, "inbound"):
        return "inbound"
    by_address = f"not ether src {own}"
    return by_address if own is not None and _compiles(linktype, by_address) else ""


def _compiles(linktype: int, expression: str) -> bool:
    """Whether that can be asked of the packet alone, as it is in a file."""
    try:
        program = _compiled(linktype, expression).get_bpf()
    except (pcapy.PcapError, ValueError):
        return False
    loads = (k for code, _, _, k in program if code & 7 == _LOAD)
    return all(k < _KERNELS for k in loads)


def _compiled(linktype: int, expression: str) -> pcapy.BPFProgram:
    return pcapy.compile(linktype, MAX_PACKET, expression, 1, 0)
