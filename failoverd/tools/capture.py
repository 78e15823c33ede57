"""Reads capture files of any size: classic pcap, and pcapng as Wireshark and dumpcap write it.

They are read here, because libpcap cuts nanoseconds off and, of a pcapng file with several
interfaces, does not tell which a packet is from. The formats are
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader, FileIO, RawIOBase
from typing import NamedTuple, cast

import pcapy

from failoverd.watch.filters import DLT_LINUX_SLL, DLT_LINUX_SLL2, BadFilter

NANOSECONDS = 1_000_000_000
MAX_PACKET = 262144  # bytes; libpcap takes no larger ones either
LATEST = 0xFFFFFFFF  # seconds since 1970 of a packet; the classic format has no more
SET_BACK = 60 * NANOSECONDS  # no packet is that late: the clock was set
PAUSE = 86_400 * NANOSECONDS  # without any packet: the clock was set, or nothing recorded

_BLOCK = 128 * 1024  # bytes; from more on every block is mapped again, and out of the caches
_MOST = 16 * 1024 * 1024  # bytes of a block of pcapng, as libpcap has it
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
# Kinds of blocks of pcapng, and of options of an interface; there are others.
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_SECTION_MARK = _SECTION.to_bytes(4)  # the same in both byte orders
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_NAME, _RESOLUTION = 2, 9

Accept = Callable[[bytes], object]
DAMAGE = (struct.error, IndexError, ValueError)


class Unreadable(Exception):
    """There is no capture here, or it cannot be read any further. Says why in one sentence."""


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


def open_capture(path: str, interface: str = "") -> Capture:
    """The capture in this file ("-" is standard input). Raises Unreadable.

    If it knows several interfaces, and one of this name, only the packets of that one are read.
    """
    name = "standard input" if path == "-" else path
    try:
        file: BufferedReader[RawIOBase] = BufferedReader(FileIO(0 if path == "-" else path), _BLOCK)
        try:
            return Capture(name, file, interface)
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise Unreadable(f"{name}: {error.strerror}") from error


class Capture:
    """A capture file that is open for reading, once. Closed by close() or a with statement."""

    def __init__(self, name: str, file: BufferedReader[RawIOBase], interface: str = "") -> None:
        """Reads as far as the first packet. Raises Unreadable and OSError."""
        self._name, self._file = name, file
        self.clock = Clock()
        self.problem: Unreadable | None = None
        self._ahead = file.read(_HEADER)
        self._format: _Classic | _Sections
        if self._ahead[:4] in _KINDS and len(self._ahead) == _HEADER:
            self._format, self._ahead = _Classic(self._ahead), b""
        elif self._ahead[:4] == _SECTION_MARK:
            self._format = self._sections(_Sections(interface))
        else:
            raise Unreadable(f"{name}: no capture such as tcpdump -w writes")
        self.linktype = self._format.linktype  # as libpcap numbers it
        self.interfaces = self._format.interfaces  # whose packets it holds, if that is known

    def _sections(self, found: _Sections) -> _Sections:
        """They know their link type when the first packet has been seen, which is read again."""
        try:
            while not found.interfaces and (block := self._file.read1(_BLOCK)):
                self._ahead += block
                found.take(self._ahead, bool, Clock(), [])
        except Unreadable as error:
            if not found.interfaces:
                raise Unreadable(f"{self._name}: {error}") from None
        except DAMAGE:
            pass  # it comes again
        return found

    def batches(self, accept: Accept) -> Iterator[Batch]:
        """All packets, in constant memory; those count for which accept(packet) is true.

        A batch is what is there: from a pipe that is not a whole block. After the last packet that
        could be read `problem` says why there are no more, if the capture does not end there.
        """
        rest, why = b"", ""
        while not why:
            counted: list[int] = []
            try:
                block, self._ahead = self._ahead or self._file.read1(_BLOCK), b""
                if not block:
                    break
                data = rest + block
                rest = data[self._format.take(data, accept, self.clock, counted) :]
            except Unreadable as error:
                why = str(error)
            except OSError as error:
                why = str(error.strerror)
            except DAMAGE:
                why = "a block that makes no sense is damage"
            if self.clock.first is not None:
                yield Batch(counted, self.clock.now)
        if why:
            self.problem = Unreadable(f"{self._name}: {why}")
        elif rest:
            self.problem = Truncated(f"{self._name}: the file ends in the middle of a packet")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Classic:
    """The classic format: both byte orders, microseconds and nanoseconds."""

    interfaces: Sequence[str] = ()

    def __init__(self, head: bytes) -> None:
        order, self._unit = _KINDS[head[:4]]
        self._record = struct.Struct(order + "IIII")
        self.linktype = dlt(struct.unpack_from(order + "I", head, 20)[0] & 0xFFFF)

    def take(self, data: bytes, accept: Accept, clock: Clock, counted: list[int]) -> int:
        """A capture has millions: what need not be done for each is not done in this loop."""
        unpack, unit = self._record.unpack_from, self._unit
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


class _Interface(NamedTuple):
    """One that packets of a section of a pcapng file are from."""

    name: str
    linktype: int
    ticks: int  # in a second


class _Sections:
    """pcapng: blocks in sections, each with its byte order and its interfaces."""

    def __init__(self, interface: str) -> None:
        self.linktype = 1
        self.interfaces: Sequence[str] = ()  # of which packets are taken, once there is a packet
        self._named = interface
        self._order = "<"
        self._section: list[_Interface] = []

    def take(self, data: bytes, accept: Accept, clock: Clock, counted: list[int]) -> int:
        at = 0
        while at + 12 <= len(data):
            if data[at : at + 4] == _SECTION_MARK:
                self._order, self._section = _ORDERS.get(data[at + 8 : at + 12], ""), []
            kind, size = self._unpack("II", data, at)
            end = at + size
            if not self._order or not 12 <= size <= _MOST or size % 4:
                raise Unreadable(f"a block of {size} bytes is damage, not a block")
            if end > len(data):
                break
            if data[end - 4 : end] != data[at + 4 : at + 8]:
                raise Unreadable("a block that does not end as it began is damage")
            body, at = data[at + 8 : end - 4], end
            if kind == _INTERFACE:
                self._section.append(self._interface(body))
            elif kind in (_OLD_PACKET, _SIMPLE_PACKET):
                raise Unreadable("its packets are of an old kind: editcap -F pcap converts them")
            elif kind == _PACKET and (packet := self._packet(body)):
                now = clock.tick(packet[0])
                if accept(packet[1]):
                    counted.append(now)
        return at

    def _packet(self, body: bytes) -> tuple[int, bytes] | None:
        """Nanoseconds since 1970, and the packet; None if it is of an interface not asked for."""
        number, high, low, stored, length = self._unpack("IIIII", body)
        interface, data = self._section[number], body[20 : 20 + stored]
        when = (high << 32 | low) * NANOSECONDS // interface.ticks
        if len(data) < stored or stored > MAX_PACKET or when > LATEST * NANOSECONDS:
            raise ValueError
        if not self.interfaces:
            chosen = [i for i in self._section if i.name == self._named] or self._section
            self._agree(chosen, chosen[0].linktype)
            self.linktype, self.interfaces = chosen[0].linktype, [i.name for i in chosen]
        if self._named in self.interfaces and interface.name != self._named:
            return None
        self._agree([interface], self.linktype)
        return when, _whole(data, length)

    def _agree(self, interfaces: Sequence[_Interface], linktype: int) -> None:
        if any(i.linktype != linktype for i in interfaces):
            kinds = (f"{i.name or 'one'}: {link_name(i.linktype)}" for i in self._section)
            raise Unreadable(
                f"it holds packets of several link types ({', '.join(kinds)}): name the interface "
                "that is meant, or capture one at a time"
            )

    def _interface(self, body: bytes) -> _Interface:
        options, at = {}, 8
        while at + 4 <= len(body):
            kind, size = self._unpack("HH", body, at)
            options[kind] = body[at + 4 : at + 4 + size]
            at += 4 + size + -size % 4
        resolution = options.get(_RESOLUTION, b"\x06")[0]
        ticks = 2 ** (resolution & 127) if resolution & 128 else 10**resolution
        name = options.get(_NAME, b"").rstrip(b"\0").decode(errors="replace")
        shown = "".join(c if c.isprintable() else "?" for c in name)
        return _Interface(shown, dlt(self._unpack("H", body)[0]), ticks)

    def _unpack(self, fields: str, data: bytes, at: int = 0) -> tuple[int, ...]:
        return struct.unpack_from(self._order + fields, data, at)


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


def can_be_filtered(linktype: int) -> bool:
    """Whether libpcap knows where in packets of this link type to look for what they are."""
    return _compiles(linktype, "ip or ip6")


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
