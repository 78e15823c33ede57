"""Many frames with one call, sendmmsg(2): a loop over thousands would take twice the time."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Sequence

from failoverd import links

_libc = ctypes.CDLL(None, use_errno=True)
_MOST = 1024  # frames that one call takes (UIO_MAXIOV)
_ADDRESS = struct.Struct("=HHiHBB8x")  # struct sockaddr_ll, packet(7)
_BUFFER = struct.Struct("@PN")  # struct iovec
_MESSAGE = struct.Struct("@PIPNPNi0PI0P")  # struct mmsghdr


class Burst:
    """Complete ethernet frames, laid out once for the kernel, to be sent as often as is wanted."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self.count = len(frames)
        self._kinds = [int.from_bytes(frame[12:14], "big") for frame in frames]
        self._content = ctypes.create_string_buffer(b"".join(frames))
        self._to = {kind: ctypes.create_string_buffer(_ADDRESS.size) for kind in {*self._kinds}}
        self._buffers = ctypes.create_string_buffer(_BUFFER.size * self.count)
        self._messages = ctypes.create_string_buffer(_MESSAGE.size * self.count)
        names = {kind: ctypes.addressof(to) for kind, to in self._to.items()}
        content, buffers = ctypes.addressof(self._content), ctypes.addressof(self._buffers)
        for number, (kind, frame) in enumerate(zip(self._kinds, frames, strict=True)):
            at = number * _BUFFER.size
            _BUFFER.pack_into(self._buffers, at, content, len(frame))
            head = names[kind], _ADDRESS.size, buffers + at, 1, 0, 0, 0, 0
            _MESSAGE.pack_into(self._messages, number * _MESSAGE.size, *head)
            content += len(frame)

    def send(self, sock: socket.socket, interface: str, first: int = 0, most: int = _MOST) -> int:
        """Send at most so many, from the frame with number `first` on. How many were sent, at least
        one. Raises OSError if that one cannot be sent."""
        index = links.index(interface)
        if index is None:
            raise OSError(errno.ENODEV, "no interface with this name")
        for kind, to in self._to.items():
            family = int(socket.AF_PACKET)
            _ADDRESS.pack_into(to, 0, family, socket.htons(kind), index, 0, 0, 0)
        count = min(most, _MOST, self.count - first)
        at = ctypes.byref(self._messages, first * _MESSAGE.size)
        sent = int(_libc.sendmmsg(sock.fileno(), at, count, socket.MSG_DONTWAIT))
        if sent < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return sent

    def send_all(self, sock: socket.socket, interface: str) -> None:
        """Raises OSError if one cannot be sent; the others after it are not."""
        sent = 0
        while sent < self.count:
            sent += self.send(sock, interface, sent)
