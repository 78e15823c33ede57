"""Facts about this machine's network interfaces: index, up, carrier, hardware address, addresses.

Asked of the kernel by ioctl (netdevice(7)) and getifaddrs(3), which answer for the network
namespace that we are in; /sys answers for the one it was mounted in. No function raises for an
interface that is not there: it may vanish at any moment. All but `addresses` and `names` ask by one
socket that is kept: a process that has no descriptor left must not take its cards for missing.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

IFF_UP = 0x1
IFF_RUNNING = 0x40

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_SIOCGIFHWADDR = 0x8927
_SIOCGIFINDEX = 0x8933
_ARPHRD_ETHER = 1
_ARPHRD_LOOPBACK = 772
_NAME_SIZE = 16  # IFNAMSIZ, with the final NUL
_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[socket.socket] = []  # the socket that is asked, once there is one


def _forget_kept() -> None:
    """In a forked child: it closes what is its parent's, and may move to another namespace."""
    while _kept:
        _kept.pop().close()


os.register_at_fork(after_in_child=_forget_kept)


def names() -> list[str]:
    """All interfaces that there are; none if the kernel does not tell."""
    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError:
        return []


def index(name: str) -> int | None:
    """The kernel's number of the interface; another one if it was deleted and made again."""
    answer = _ask(name, _SIOCGIFINDEX)
    return None if answer is None else int(struct.unpack_from("=i", answer, _NAME_SIZE)[0])


def flags(name: str) -> int:
    """The IFF_ bits of the interface, 0 if there is none."""
    answer = _ask(name, _SIOCGIFFLAGS)
    return 0 if answer is None else int(struct.unpack_from("=H", answer, _NAME_SIZE)[0])


def is_up(name: str) -> bool:
    """Whether the interface is there and enabled. It may still be unplugged."""
    return bool(flags(name) & IFF_UP)


def works(name: str) -> bool:
    """Whether the interface is up and has a carrier."""
    return flags(name) & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING


def hwaddr(name: str) -> str | None:
    """The hardware address that an ethernet interface has now, "02:00:00:00:00:10"."""
    answer = _ask(name, _SIOCGIFHWADDR)
    if answer is None:
        return None
    kind, address = struct.unpack_from("=H6s", answer, _NAME_SIZE)
    return address.hex(":") if kind in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK) else None


def addresses(name: str) -> list[str]:
    """The IPv4 and IPv6 addresses that the interface has now, without prefix or scope.

    Those with a label, such as eth0:0, too: after a card was renamed and back, most have one.
    Raises OSError if the kernel does not tell, for want of memory or of a descriptor.
    """
    first = ctypes.POINTER(_Ifaddrs)()
    if _libc.getifaddrs(ctypes.byref(first)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        return [
            address
            for entry in _chain(first)
            if entry.name.partition(b":")[0] == name.encode()
            and (address := _address(entry.address)) is not None
        ]
    finally:
        _libc.freeifaddrs(first)


def network(name: str) -> ipaddress.IPv4Interface | None:
    """The interface's first IPv4 address with its network, None if it has none."""
    words = [_ask(name, request) for request in (_SIOCGIFADDR, _SIOCGIFNETMASK)]
    address, mask = (word and socket.inet_ntoa(word[_NAME_SIZE + 4 :][:4]) for word in words)
    return ipaddress.IPv4Interface(f"{address}/{mask}") if address and mask else None


def _ask(name: str, request: int) -> bytes | None:
    """The kernel's struct ifreq for one SIOCGIF request."""
    encoded = name.encode()
    if len(encoded) >= _NAME_SIZE:
        return None
    try:
        if not _kept:
            _kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        return fcntl.ioctl(_kept[0], request, struct.pack("40s", encoded))
    except OSError:
        return None


class _Ifaddrs(ctypes.Structure):
    """The start of struct ifaddrs of getifaddrs(3)."""


_Ifaddrs._fields_ = [
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]


def _chain(pointer: ctypes._Pointer[_Ifaddrs]) -> Iterator[_Ifaddrs]:
    while pointer:
        yield pointer.contents
        pointer = pointer.contents.next


def _address(sockaddr: int | None) -> str | None:
    """The IP address in a struct sockaddr (ip(7), ipv6(7)), None if it is of another family."""
    if not sockaddr:
        return None
    family = ctypes.c_ushort.from_address(sockaddr).value
    if family == socket.AF_INET:
        return socket.inet_ntop(family, ctypes.string_at(sockaddr + 4, 4))
    if family == socket.AF_INET6:
        return socket.inet_ntop(family, ctypes.string_at(sockaddr + 8, 16))
    return None
