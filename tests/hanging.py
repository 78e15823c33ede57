"""A disk that hangs on demand: a file system in user space (FUSE) in which every file is there.

    hanging.py MOUNTPOINT STORE SWITCH

What is written to the file `log` in MOUNTPOINT is appended to STORE, the rest is lost. While the
file SWITCH exists, the first write is neither done nor refused: its writer waits in the kernel, and
not even SIGKILL ends that. Whoever wants anything of the disk then waits, too, but can be killed.
When this process ends, so does the waiting. It is run by path in an isolated interpreter.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time

# linux/fuse.h, version 7.31
_LOOKUP, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _RELEASE = 1, 3, 4, 14, 15, 16, 18
_FLUSH, _INIT = 25, 26
_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_WRITE_IN = struct.Struct("=QQIIQII")
_ENOSYS = 38
_DIRECT_IO = 1
_FOLDER, _LOG = 1, 2  # the numbers of their nodes
names = ["", "/", "log"]


def attributes(node: int, store: str) -> bytes:
    size = os.stat(store).st_size if node == _LOG else 0
    mode = 0o040755 if node == _FOLDER else 0o100600
    return struct.pack("=6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(kind: int, node: int, body: bytes, store: str) -> bytes | int:
    """What the kernel is told: the answer's body, or an errno."""
    if kind == _INIT:
        return struct.pack("=4I2H2I2H8I", 7, 31, 0, 0, 1, 1, 65536, 1, 16, 0, *[0] * 8)
    if kind == _LOOKUP:
        name = body.rstrip(b"\0").decode()
        if name not in names:
            names.append(name)
        node = names.index(name)
        return struct.pack("=4Q2I", node, 0, 0, 0, 0, 0) + attributes(node, store)
    if kind in (_GETATTR, _SETATTR):
        return struct.pack("=Q2I", 0, 0, 0) + attributes(node, store)
    if kind == _OPEN:
        return struct.pack("=Q2I", 0, _DIRECT_IO, 0)
    if kind == _WRITE:
        if node == _LOG:
            with open(store, "ab") as file:
                file.write(body[_WRITE_IN.size :])
        return struct.pack("=2I", len(body) - _WRITE_IN.size, 0)
    return b"" if kind in (_READ, _FLUSH, _RELEASE) else _ENOSYS


def main() -> None:
    folder, store, switch = sys.argv[1:]
    open(store, "a").close()
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hanging", folder.encode(), b"fuse", 0, options.encode()) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    while True:
        data = os.read(device, 1 << 18)
        _, kind, unique, node, *_ = _IN.unpack_from(data)
        while kind == _WRITE and os.path.exists(switch):
            time.sleep(0.01)
        said = answer(kind, node, data[_IN.size :], store)
        body, error = (b"", -said) if isinstance(said, int) else (said, 0)
        if kind not in (2, 42):  # FORGET and BATCH_FORGET want no answer
            os.write(device, _OUT.pack(_OUT.size + len(body), error, unique) + body)


if __name__ == "__main__":
    main()
