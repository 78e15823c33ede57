"""Packets on disk: reads capture files of any size, and writes $dumpfile.

Classic pcap files are read here, in blocks, because libpcap cuts nanoseconds off and, at the end of
a truncated file, loses the packets that it had just read. Everything else (pcapng, say) goes
through libpcap. The dump file is written here because a pcap dumper's file is empty until it is
closed. The format is https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterator
from io import BufferedIOBase, BufferedReader, FileIO
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pcapy

NANOSECONDS = 1_000_000_000
MAX_PACKET = 262144  # bytes; libpcap takes no larger ones either
LATEST = 0xFFFFFFFF  # seconds since 1970 of a packet; the classic format has no more
DUMP_BYTES = 8 * 1024 * 1024  # a dump file of this size is kept as the old one, and a new one begun

_BLOCK = 128 * 1024  # bytes; from more on every block is mapped anew, and out of the caches
_BATCH = 4096  # packets at once from libpcap
_HEADER = 24
_RECORD = 16
_MICROSECOND_MAGIC = 0xA1B2C3D4
_NANOSECOND_MAGIC = 0xA1B23C4D
_VERSION = (2, 4)
_KINDS = {  # first four bytes: byte order, nanoseconds in the fraction's unit
    struct.pack(order + "I", magic): (order, unit)
    for order in "<>"
    for magic, unit in ((_MICROSECOND_MAGIC, 1000), (_NANOSECOND_MAGIC, 1))
}

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
    """Makes times since the first packet that never run backwards."""

    def __init__(self) -> None:
        self.first: int | None = None  # nanoseconds since 1970
        self.now = 0

    def began(self, nanoseconds: int) -> int:
        """The time of the first packet, when one of this time has come."""
        if self.first is None:
            self.first = nanoseconds
        return self.first

    def tick(self, nanoseconds: int) -> int:
        """The time of a packet since the first one, or of an earlier packet that was later."""
        self.now = max(self.now, nanoseconds - self.began(nanoseconds))
        return self.now


class Capture:
    """A capture file that is open for reading, once. Closed by close() or a with statement."""

    linktype: int
    clock: Clock

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


def open_capture(path: str) -> Capture:
    """The capture in this file ("-" is standard input). Raises Unreadable."""
    name = "standard input" if path == "-" else path
    try:
        file = BufferedReader(FileIO(0 if path == "-" else path), _BLOCK)
    except OSError as error:
        raise Unreadable(f"{name}: {error.strerror}") from error
    try:
        head = file.read(_HEADER)
        if head[:4] in _KINDS:
            return ClassicCapture(name, file, head)
        if path == "-" or not file.seekable():
            raise Unreadable(f"{name}: only classic pcap can be read from a pipe: name a file")
    except OSError as error:
        file.close()
        raise Unreadable(f"{name}: {error.strerror}") from error
    except Unreadable:
        file.close()
        raise
    file.close()
    return OtherCapture(path)


class ClassicCapture(Capture):
    """The classic format: both byte orders, microseconds and nanoseconds."""

    def __init__(self, name: str, file: BufferedIOBase, head: bytes) -> None:
        if len(head) < _HEADER:
            raise Unreadable(f"{name}: the file ends in the middle of its first header")
        order, self._unit = _KINDS[head[:4]]
        self._name, self._file = name, file
        self.clock = Clock()
        self._record = struct.Struct(order + "IIII")
        self.linktype = struct.unpack_from(order + "I", head, 20)[0] & 0xFFFF

    def batches(self, accept: Accept) -> Iterator[Batch]:
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
            if seconds != second:
                second, whole = seconds, seconds * NANOSECONDS
                base = whole - clock.began(whole + fraction * unit)
            then = base + fraction * unit
            if then > now:
                now = then
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


class OtherCapture(Capture):
    """Whatever else libpcap can read."""

    def __init__(self, path: str) -> None:
        import pcapy

        self._path = path
        self.clock = Clock()
        self._error = pcapy.PcapError
        try:
            self._reader = pcapy.open_offline(path)
        except pcapy.PcapError as error:
            text = f"{path}: no capture such as tcpdump -w writes: {error}"
            raise Unreadable(text) from error
        self.linktype = int(self._reader.datalink())

    def batches(self, accept: Accept) -> Iterator[Batch]:
        counted: list[int] = []
        seen, damage = 0, ""

        def put(header: pcapy.Pkthdr, data: bytes) -> None:
            nonlocal seen, damage
            seconds, microseconds = header.getts()
            if not 0 <= seconds <= LATEST:
                damage = f"a packet {seconds} s after 1970 is damage, not a packet"
            if damage:
                return
            seen += 1
            now = self.clock.tick(seconds * NANOSECONDS + microseconds * 1000)
            if accept(_whole(data, header.getlen())):
                counted.append(now)

        while True:
            problem = self._dispatch(put) or damage
            if seen:
                yield Batch(counted, self.clock.now)
            if problem:
                kind = Truncated if problem.startswith("truncated") else Unreadable
                raise kind(f"{self._path}: {problem}")
            if not seen:
                return
            counted, seen = [], 0

    def _dispatch(self, put: Callable[[pcapy.Pkthdr, bytes], None]) -> str:
        """Read one batch; what is wrong then."""
        try:
            self._reader.dispatch(_BATCH, put)
        except self._error as error:
            return str(error)
        return ""

    def close(self) -> None:
        self._reader.close()


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
        fields = (_MICROSECOND_MAGIC, *_VERSION, 0, 0, self._snaplen, linktype)
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
