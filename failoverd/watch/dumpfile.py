"""$dumpfile: packet headers in a pcap file that can be read at any time.

It is written here because a pcap dumper's file is empty until it is closed. The format is
https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

DUMP_BYTES = 8 * 1024 * 1024  # a dump file of this size is kept as the old one, and a new one begun

_MAGIC, _VERSION = 0xA1B2C3D4, (2, 4)  # in the host's byte order, with microseconds
_IN_FILES = {12: 101}  # raw IP: libpcap's number of the link type, and that of files
_HEADER = 24
_RECORD = 16


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
        self._errno = 0  # of the last write, if that failed
        self._waiting: list[bytes] = []
        self._file = _open_private(path)
        try:
            self._old = _open_private(path + ".1")
        except OSError:
            os.close(self._file)
            raise

    def begin(self, linktype: int) -> None:
        """What follows is of this link type (DLT_EN10MB, say)."""
        fields = (_MAGIC, *_VERSION, 0, 0, self._snaplen, _IN_FILES.get(linktype, linktype))
        self._header = struct.pack("=IHHiIII", *fields)
        self._is_ours = False  # look again whether it fits

    def put(self, when: tuple[int, int], length: int, data: bytes) -> None:
        """One packet, with seconds and microseconds; written by the next flush."""
        data = data[: self._snaplen]
        self._waiting.append(struct.pack("=IIII", *when, len(data), length) + data)

    def flush(self) -> None:
        """Write what is waiting, or lose it. Raises OSError (no space, say), and again as long as
        nothing more is waiting: that there is nothing to write completes no file."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        if data:
            self._errno = 0
            try:
                self._append(data)
            except OSError as error:
                self._errno = error.errno or errno.EIO
        if self._errno:
            raise OSError(self._errno, os.strerror(self._errno))

    def _append(self, data: bytes) -> None:
        """Whole packets, unless another process writes the file. Raises OSError."""
        if not self._own():
            return
        if self._size + len(data) > DUMP_BYTES:
            self._rotate()
        self._write(data if self._size else self._header + data)

    def _own(self) -> bool:
        """Whether this process has it. When it gets it, go on behind its last whole packet."""
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
        """Append data wholly or not at all: the file shall always hold whole packets."""
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
    """Open this user's own file for reading and writing, made with mode 0600 if it is not there.

    Raises OSError for a link, another user's file and what is no file at all: a user who may write
    in that directory must not have something overwritten, nor read along.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    foreign = FileExistsError(errno.EEXIST, "is not a plain file of this user: remove it", path)
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
