"""Packets on disk: reads capture files of any size, and writes $dumpfile.

They are read here, because libpcap cuts nanoseconds off, loses the packets that it had just read at
the end of a truncated file, and refuses a pcapng file whose interfaces differ in any way. The dump
file is written here because a pcap dumper's file is empty until it is closed. The formats are
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BufferedIOBase, BufferedReader, FileIO
from itertools import chain, islice
from typing import NamedTuple

NANOSECONDS = 1_000_000_000
MAX_PACKET = 262144  # bytes; libpcap takes no larger ones either
LATEST = 0xFFFFFFFF  # seconds since 1970 of a packet; the classic format has no more
SET_BACK = 60 * NANOSECONDS  # no packet is that late: the clock was set
PAUSE = 86_400 * NANOSECONDS  # without a packet, own ones too: it was set, or nobody recorded
DUMP_BYTES = 8 * 1024 * 1024  # a dump file of this size is kept as the old one, and a new one begun

_BLOCK = 128 * 1024  # bytes; from more on every block is mapped anew, and out of the caches
_BATCH = 4096  # packets at once
_MOST = 16 * 1024 * 1024  # bytes of a block of pcapng, as libpcap has it
_HEADER = 24
_RECORD = 16
_MICROSECOND_MAGIC = 0xA1B2C3D4
_NANOSECOND_MAGIC = 0xA1B23C4D
_VERSION = (2, 4)
# Link types as files number them (LINKTYPE_), for which libpcap has other numbers on Linux (DLT_).
# All others are the same. See https://www.tcpdump.org/linktypes.html.
_LIBPCAPS = {100: 11, 101: 12, 102: 15, 103: 16, 106: 19}
_FILES = {dlt: number for number, dlt in _LIBPCAPS.items()}
_NULL = 0  # begins with four bytes in the byte order of who wrote it
_OPENBSDS_RAW = 14  # which its own tools write unchanged; nobody else has such a type
_NAMES = {
    **{0: "NULL", 1: "ETHERNET", 3: "AX25", 6: "IEEE802_5", 7: "ARCNET_BSD", 8: "SLIP", 9: "PPP"},
    **{10: "FDDI", 50: "PPP_HDLC", 51: "PPP_ETHER", 100: "ATM_RFC1483", 101: "RAW", 104: "C_HDLC"},
    **{105: "IEEE802_11", 106: "ATM_CLIP", 107: "FRELAY", 108: "LOOP", 109: "ENC"},
    **{113: "LINUX_SLL", 117: "PFLOG", 119: "IEEE802_11_PRISM", 122: "IP_OVER_FC", 123: "SUNATM"},
    **{127: "IEEE802_11_RADIOTAP", 128: "TZSP", 149: "USER2", 163: "IEEE802_11_AVS"},
    **{166: "PPP_PPPD", 187: "BLUETOOTH_HCI_H4", 189: "USB_LINUX", 192: "PPI", 195: "IEEE802_15_4"},
    **{201: "BLUETOOTH_HCI_H4_WITH_PHDR", 204: "PPP_WITH_DIR", 205: "C_HDLC_WITH_DIR"},
    **{206: "FRELAY_WITH_DIR", 219: "MPLS", 220: "USB_LINUX_MMAPPED", 226: "IPNET", 227: "CAN"},
    **{228: "IPV4", 229: "IPV6", 239: "NFLOG", 240: "NETANALYZER", 242: "IPOIB", 247: "INFINIBAND"},
    **{249: "USBPCAP", 251: "BLUETOOTH_LE_LL", 253: "NETLINK", 258: "PKTAP", 271: "VSOCK"},
    **{276: "LINUX_SLL2", 281: "DSA_TAG_BRCM", 282: "DSA_TAG_BRCM_PREPEND", 284: "DSA_TAG_DSA"},
    **{285: "DSA_TAG_EDSA"},
}
_KINDS = {  # first four bytes: byte order, nanoseconds in the fraction's unit
    struct.pack(order + "I", magic): (order, unit)
    for order in "<>"
    for magic, unit in ((_MICROSECOND_MAGIC, 1000), (_NANOSECOND_MAGIC, 1))
}

# Kinds of blocks of pcapng; there are others.
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_SECTION_MARK = _SECTION.to_bytes(4)  # the same in both byte orders
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_IF_NAME, _IF_RESOLUTION, _IF_OFFSET, _PACKET_FLAGS = 2, 9, 14, 2  # kinds of options
_DIRECTION, _OUTBOUND = 3, 2  # in a packet's flags

Accept = Callable[[bytes], object]


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
        self.passes_over = False  # whether time that nobody recorded is no time
        self.pauses = 0  # longer than PAUSE
        self.longest: tuple[int, int] = (0, 0)  # of them: from and to, nanoseconds since 1970
        self.set_back = 0  # how often the clock was
        self.first_set: tuple[int, int] = (0, 0)  # when, and by how much

    def tick(self, nanoseconds: int) -> int:
        """The time of a packet, from nanoseconds since 1970."""
        if self.first is None:
            self.first = self.zero = nanoseconds
        step = nanoseconds - self.zero - self.now
        if step < -SET_BACK:
            self.set_back += 1
            self.first_set = self.first_set if self.set_back > 1 else (self.now, -step)
            self.zero += step
        elif step > PAUSE:
            self.pauses += 1
            begin, end = self.longest
            if step > end - begin:
                self.longest = nanoseconds - step, nanoseconds
            self.zero += step if self.passes_over else 0
        self.now = max(self.now, nanoseconds - self.zero)
        return self.now


def dlt(linktype: int) -> int:
    """libpcap's number for a link type as files number it."""
    return 12 if linktype == _OPENBSDS_RAW else _LIBPCAPS.get(linktype, linktype)


def link_name(number: int) -> str:
    """What files and people call a link type of libpcap's: "101 (RAW)"."""
    linktype = _FILES.get(number, number)
    name = _NAMES.get(linktype)
    return f"{linktype} ({name})" if name else f"{linktype}"


class Capture:
    """A capture file that is open for reading, once. Closed by close() or a with statement."""

    linktype: int  # as libpcap numbers it
    clock: Clock
    tells_direction = False  # apart from what its packets begin with
    interfaces: Sequence[str] = ()  # whose packets it holds, all of them together, if that is known

    def batches(self, accept: Accept) -> Iterator[Batch]:
        """All packets, in constant memory; those count for which accept(packet) is true.

        Raises Unreadable or Truncated after the batch with the last packet that could be read.
        """
        raise NotImplementedError

    def close(self) -> None:
        pass

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_capture(path: str, interface: str = "") -> Capture:
    """The capture in this file ("-" is standard input). Raises Unreadable.

    If it knows several interfaces, and one of this name, only the packets of that one are read.
    """
    name = "standard input" if path == "-" else path
    try:
        file = BufferedReader(FileIO(0 if path == "-" else path), _BLOCK)
    except OSError as error:
        raise Unreadable(f"{name}: {error.strerror}") from error
    try:
        head = file.read(_HEADER)
        if head[:4] in _KINDS:
            return ClassicCapture(name, file, head)
        if head[:4] == _SECTION_MARK:
            return SectionsCapture(name, file, head, interface)
        raise Unreadable(f"{name}: no capture such as tcpdump -w writes")
    except OSError as error:
        file.close()
        raise Unreadable(f"{name}: {error.strerror}") from error
    except Unreadable:
        file.close()
        raise


class ClassicCapture(Capture):
    """The classic format: both byte orders, microseconds and nanoseconds."""

    def __init__(self, name: str, file: BufferedIOBase, head: bytes) -> None:
        if len(head) < _HEADER:
            raise Unreadable(f"{name}: the file ends in the middle of its first header")
        self._order, self._unit = _KINDS[head[:4]]
        order = self._order
        self._name, self._file = name, file
        self.clock = Clock()
        self._record = struct.Struct(order + "IIII")
        self.linktype = dlt(struct.unpack_from(order + "I", head, 20)[0] & 0xFFFF)

    def batches(self, accept: Accept) -> Iterator[Batch]:
        accept = _in_our_order(accept, self.linktype, self._order)
        rest = b""
        while block := self._read():
            data = rest + block
            counted, end, problem = self._hop(data, accept)
            if end:
                yield Batch(counted, self.clock.now)
            if problem:
                raise Unreadable(f"{self._name}: {problem}")
            rest = data[end:]
        if rest:
            raise Truncated(f"{self._name}: the file ends in the middle of a packet")

    def _read(self) -> bytes:
        """What is there; from a pipe that is not a whole block."""
        try:
            return self._file.read1(_BLOCK)
        except OSError as error:
            raise Unreadable(f"{self._name}: {error.strerror}") from error

    def _hop(self, data: bytes, accept: Accept) -> tuple[list[int], int, str]:
        """Go through the whole packets in data: times that count, where they end, what is wrong.

        A capture has millions: what need not be done for each of them is not done in this loop.
        """
        counted: list[int] = []
        clock, unpack, unit = self.clock, self._record.unpack_from, self._unit
        now, second, base = clock.now, -1, 0
        at, size, stored = 0, len(data), 0
        while (begin := at + _RECORD) <= size:
            seconds, fraction, stored, length = unpack(data, at)
            end = begin + stored
            if end > size or stored > MAX_PACKET:
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
        clock.now = now
        damaged = stored > MAX_PACKET
        problem = f"a packet of {stored} bytes is damage, not a packet" if damaged else ""
        return counted, at, problem

    def close(self) -> None:
        self._file.close()


class _Interface(NamedTuple):
    """One that packets of a section of a pcapng file are from."""

    name: str
    linktype: int
    snaplen: int
    ticks: int  # in a second
    offset: int  # seconds to be added


class _Packet(NamedTuple):
    """One of a pcapng file. when: nanoseconds since 1970; None: not known."""

    interface: _Interface
    when: int | None
    length: int
    data: bytes
    direction: int


class SectionsCapture(Capture):
    """pcapng: blocks in sections, each with its byte order and its interfaces."""

    def __init__(self, name: str, file: BufferedIOBase, head: bytes, interface: str) -> None:
        """Reads as far as the first packet. Raises Unreadable."""
        self._name, self._file, self._ahead = name, file, head
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self.clock = Clock()
        self._problem: Unreadable | None = None
        packets = self._read_packets()
        first = list(islice(packets, 1))
        self._packets = chain(first, packets)
        self._wanted = interface if interface in [i.name for i in self._interfaces] else None
        chosen = [i for i in self._interfaces if self._wanted in (None, i.name)]
        self.linktype = chosen[0].linktype if chosen else 1
        if any(i.linktype != self.linktype for i in chosen):
            raise self._mixed()
        self.interfaces = [i.name for i in chosen]
        self.tells_direction = any(packet.direction for packet in first)

    def batches(self, accept: Accept) -> Iterator[Batch]:
        counted: list[int] = []
        seen = 0
        for packet in self._packets:
            if self._wanted not in (None, packet.interface.name):
                continue
            if packet.interface.linktype != self.linktype:
                self._problem = self._mixed()
                break
            seen += 1
            now = self.clock.now if packet.when is None else self.clock.tick(packet.when)
            admits = accept if self.linktype else _in_our_order(accept, _NULL, self._order)
            if packet.direction != _OUTBOUND and admits(_whole(packet.data, packet.length)):
                counted.append(now)
            if seen == _BATCH:
                yield Batch(counted, now)
                counted, seen = [], 0
        if seen:
            yield Batch(counted, self.clock.now)
        if self._problem is not None:
            raise self._problem

    def _mixed(self) -> Unreadable:
        kinds = (f"{i.name or 'one'}: {link_name(i.linktype)}" for i in self._interfaces)
        return Unreadable(
            f"{self._name}: it holds packets of several link types ({', '.join(kinds)}): name the "
            "interface that is meant, or capture one at a time"
        )

    def _read_packets(self) -> Iterator[_Packet]:
        """All, and then why there are no more, in self._problem."""
        try:
            for kind, body in self._blocks():
                packet = self._packet_in(kind, body)
                if packet is not None:
                    yield packet
        except Unreadable as error:
            self._problem = error
        except (struct.error, IndexError, ValueError):
            self._problem = Unreadable(f"{self._name}: a block that makes no sense is damage")

    def _packet_in(self, kind: int, body: bytes) -> _Packet | None:
        """Take in a block. Raises struct.error, IndexError, ValueError."""
        if kind == _INTERFACE:
            self._interfaces.append(self._interface(body))
        elif kind == _PACKET:
            return self._packet(body, "IIIII")
        elif kind == _OLD_PACKET:
            return self._packet(body, "HxxIIII")
        elif kind == _SIMPLE_PACKET:
            interface, (length,) = self._interfaces[0], self._unpack("I", body)
            kept = min(length, interface.snaplen or length)
            return _Packet(interface, None, length, body[4 : 4 + kept], 0)
        return None

    def _unpack(self, fields: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack_from(self._order + fields, data)

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """The kind of each block, and what is in it. Raises Unreadable or Truncated."""
        while head := self._take(8):
            mark = self._take(4) if head[:4] == _SECTION_MARK else b""
            if mark:
                self._order, self._interfaces = _ORDERS.get(mark, ""), []
            if len(head) < 8 or (head[:4] == _SECTION_MARK and len(mark) < 4):
                raise self._truncated()
            kind, size = self._unpack("II", head)
            if not self._order or not 12 + len(mark) <= size <= _MOST or size % 4:
                raise Unreadable(f"{self._name}: a block of {size} bytes is damage, not a block")
            body = mark + self._take(size - 8 - len(mark))
            if len(body) < size - 8:
                raise self._truncated()
            if body[-4:] != head[4:]:
                raise Unreadable(f"{self._name}: a block that does not end as it began is damage")
            yield kind, body[:-4]

    def _truncated(self) -> Truncated:
        return Truncated(f"{self._name}: the file ends in the middle of a block")

    def _take(self, size: int) -> bytes:
        try:
            if not self._ahead:
                return self._file.read(size)
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data if len(data) == size else data + self._file.read(size - len(data))
        except OSError as error:
            raise Unreadable(f"{self._name}: {error.strerror}") from error

    def _interface(self, body: bytes) -> _Interface:
        linktype, snaplen = self._unpack("HxxI", body)
        options = dict(self._options(body[8:]))
        resolution = options.get(_IF_RESOLUTION, b"\x06")[0]
        ticks = 2 ** (resolution & 127) if resolution & 128 else 10**resolution
        (offset,) = self._unpack("q", options.get(_IF_OFFSET, bytes(8)))
        name = options.get(_IF_NAME, b"").rstrip(b"\0").decode(errors="replace")
        shown = "".join(c if c.isprintable() else "?" for c in name)
        return _Interface(shown, dlt(linktype), snaplen, ticks, offset)

    def _packet(self, body: bytes, fields: str) -> _Packet:
        number, high, low, stored, length = self._unpack(fields, body)
        interface = self._interfaces[number]
        when = (high << 32 | low) * NANOSECONDS // interface.ticks + interface.offset * NANOSECONDS
        data = body[20 : 20 + stored]
        if len(data) < stored or stored > MAX_PACKET or not 0 <= when <= LATEST * NANOSECONDS:
            raise ValueError
        direction, end = 0, 20 + stored + -stored % 4
        if len(body) > end:
            options = dict(self._options(body[end:]))
            direction = self._unpack("I", options.get(_PACKET_FLAGS, bytes(4)))[0] & _DIRECTION
        return _Packet(interface, when, length, data, direction)

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at + 4 <= len(data):
            kind, size = self._unpack("HH", data[at : at + 4])
            if kind == 0:
                return
            yield kind, data[at + 4 : at + 4 + size]
            at += 4 + size + -size % 4

    def close(self) -> None:
        self._file.close()


def _in_our_order(accept: Accept, linktype: int, order: str) -> Accept:
    """For packets that another kind of machine wrote."""
    if linktype != _NULL or order == ("<" if sys.byteorder == "little" else ">"):
        return accept
    return lambda packet: accept(packet[3::-1] + packet[4:])


def _whole(packet: bytes, length: int) -> bytes:
    """The packet as long as it was on the wire, for filters that ask for a length."""
    return packet if length <= len(packet) else packet.ljust(min(length, 0xFFFF), b"\0")


class DumpFile:
    """Packet headers as a pcap file that can be read at any time, and the old one before it.

    Both files are opened here, before root is given up, and nothing is opened or renamed later:
    when the first has its size, it is copied into the second and emptied. Only one process at a
    time writes; the others throw away what they are given until that one is gone.
    """

    def __init__(self, path: str, snaplen: int) -> None:
        """Open path and path + ".1"; of a packet at most snaplen bytes are kept. Raises OSError."""
        self.path = path
        self._snaplen = snaplen
        self._header = b""
        self._size = 0
        self._is_ours = False
        self._waiting: list[bytes] = []
        self._file = _open_private(path)
        try:
            self._old = _open_private(path + ".1")
        except OSError:
            os.close(self._file)
            raise

    def begin(self, linktype: int) -> None:
        """What follows is of this link type (DLT_EN10MB, say)."""
        number = _FILES.get(linktype, linktype)
        fields = (_MICROSECOND_MAGIC, *_VERSION, 0, 0, self._snaplen, number)
        self._header = struct.pack("=IHHiIII", *fields)
        self._is_ours = False  # look again whether it fits

    def put(self, when: tuple[int, int], length: int, data: bytes) -> None:
        """One packet, with seconds and microseconds; written by the next flush."""
        data = data[: self._snaplen]
        self._waiting.append(struct.pack("=IIII", *when, len(data), length) + data)

    def flush(self) -> None:
        """Write what is waiting, or lose it. Raises OSError (no space, say)."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        if not data or not self._own():
            return
        if self._size + len(data) > DUMP_BYTES:
            self._rotate()
        self._write(data if self._size else self._header + data)

    def _own(self) -> bool:
        """Whether the file is ours. When it becomes so, go on behind its last whole packet."""
        if self._is_ours:
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        content = os.pread(self._file, DUMP_BYTES + 1, 0)
        self._is_ours = True
        if content.startswith(self._header) and len(content) <= DUMP_BYTES:
            self._cut(_end_of_packets(content))
        elif content:
            self._rotate()
        return True

    def _rotate(self) -> None:
        """Keep what there is as the old file, and begin a new one even if that fails."""
        try:
            os.ftruncate(self._old, 0)
            os.lseek(self._old, 0, os.SEEK_SET)
            at = 0
            while sent := os.sendfile(self._old, self._file, at, DUMP_BYTES):
                at += sent
        finally:
            self._cut(0)

    def _write(self, data: bytes) -> None:
        """Append data wholly or not at all: who reads the file shall find whole packets."""
        at = self._size
        try:
            while data:
                written = os.pwrite(self._file, data, at)
                at, data = at + written, data[written:]
        except OSError:
            self._cut(self._size)
            raise
        self._size = at

    def _cut(self, size: int) -> None:
        os.ftruncate(self._file, size)
        self._size = size

    def close(self) -> None:
        os.close(self._file)
        os.close(self._old)


def _open_private(path: str) -> int:
    """Open a file of our own for reading and writing, made with mode 0600 if it is not there.

    Raises OSError for a link, somebody else's file and what is no file at all: who may write in
    that folder must not lead us to overwrite something, or let somebody read along.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    foreign = FileExistsError(errno.EEXIST, "is not a plain file of our own: remove it", path)
    try:
        file = os.open(path, flags, 0o600)
    except OSError as error:
        raise foreign if error.errno in (errno.ELOOP, errno.ENXIO) else error from None
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
        os.close(file)
        raise foreign
    os.fchmod(file, 0o600)
    return file


def _end_of_packets(content: bytes) -> int:
    """Where the last whole packet of a dump file ends."""
    at = _HEADER
    while at + _RECORD <= len(content):
        end = at + _RECORD + int(struct.unpack_from("=I", content, at + 8)[0])
        if end > len(content):
            break
        at = end
    return at
