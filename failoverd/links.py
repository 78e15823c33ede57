"""Facts about this machine's network interfaces: index, up, carrier, hardware address, addresses.

Asked of the kernel by ioctl (netdevice(7)) and rtnetlink(7), which answer for the network namespace
that we are in; /sys answers for the one it was mounted in. No function raises for an interface that
is not there: it may vanish at any moment. All but `names` and `route` ask by sockets that are kept:
a process that has no descriptor left must not take its cards for missing.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Container, Iterable, Iterator
from itertools import count
from typing import NamedTuple

from failoverd.conf import Conf, survey
from failoverd.wire.protocol import LOOK_THERE

IFF_UP = 0x1
IFF_RUNNING = 0x40

_SIOCGIFNAME = 0x8910
_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_SIOCGIFHWADDR = 0x8927
_SIOCGIFINDEX = 0x8933
ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772
_NAME_SIZE = 16  # IFNAMSIZ, with the final NUL

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWNEIGH, _RTM_GETNEIGH = 28, 30
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_DUMP_INTR = 0x10  # an address came or went meanwhile, so that some may be missing
_ASK, _ASK_FOR_ALL = 0x001, 0x301  # NLM_F_REQUEST, and the same with NLM_F_DUMP
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_DADFAILED = 0x08
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY = 1, 2, 4, 5
_RTM_F_FIB_MATCH = 0x2000  # the route itself, and none where the kernel would try without one
_NDA_DST = 1
_NUD_INCOMPLETE, _NUD_FAILED = 0x01, 0x20
_MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, number, port
_ENTRY = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, prefix, ..., flags
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # struct ndmsg: family, ..., index, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
MOST_FIXED = 4  # addresses of one interface: one will do
_ANSWER_SIZE = 64 * 1024  # the kernel fills no more than half of it at once
_TRIES = 5

_kept: dict[str, socket.socket] = {}  # those that are asked, once there are any
_numbers = count(1)


class Held(NamedTuple):
    """An IP address that this machine has. prefix: of its network, in bits.

    duplicate: another machine was found to have it, so that the kernel does not answer for it
    (IPv6).
    """

    interface: str
    address: str
    prefix: int
    duplicate: bool


class Route(NamedTuple):
    """The route to an address. prefix: of where it leads, in bits; gateway: "" if it is on link."""

    prefix: int
    gateway: str


def _forget_kept() -> None:
    """In a forked child: it closes what is its parent's, and may move to another namespace."""
    while _kept:
        _kept.popitem()[1].close()


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
    return address.hex(":") if kind in (ARPHRD_ETHER, ARPHRD_LOOPBACK) else None


def kind(name: str) -> int | None:
    """What sort of link the interface is: one of ARPHRD_ in linux/if_arp.h."""
    answer = _ask(name, _SIOCGIFHWADDR)
    return None if answer is None else int(struct.unpack_from("=H", answer, _NAME_SIZE)[0])


def addresses(name: str) -> list[str]:
    """The IPv4 and IPv6 addresses that the interface has now, without prefix or scope.

    Raises OSError if the kernel does not tell, for want of memory or of a descriptor.
    """
    return [one.address for one in held() if one.interface == name]


def held() -> list[Held]:
    """Every IP address of this machine, on whatever interface, by the interface's name of now.

    What an address is labelled with, such as eth0:0, is no name. Raises OSError as `addresses`.
    """
    for _ in range(_TRIES):
        found, whole = _all_entries()
        if whole:
            names = {number: _name(number) for number in {number for number, _ in found}}
            return [one._replace(interface=names[number]) for number, one in found if names[number]]
    raise OSError(errno.EAGAIN, "the addresses change all the time")


def fixed(found: Iterable[Held], served: Container[str]) -> dict[str, tuple[str, ...]]:
    """By interface, the addresses that are this machine's own, such as "192.0.2.1/24".

    Those that the pair serves are left out, and so is what has no neighbours. Of each network the
    first is told.
    """
    by_network: dict[str, dict[object, str]] = {}
    for one in found:
        own = ipaddress.ip_interface((one.address, one.prefix))
        alone = one.prefix == own.max_prefixlen or own.is_loopback
        if not (alone or one.duplicate or one.address in served):
            by_network.setdefault(one.interface, {}).setdefault(own.network, str(own))
    return {name: tuple(own.values())[:MOST_FIXED] for name, own in by_network.items()}


def network(name: str) -> ipaddress.IPv4Interface | None:
    """The interface's first IPv4 address with its network, None if it has none."""
    words = [_ask(name, request) for request in (_SIOCGIFADDR, _SIOCGIFNETMASK)]
    address, mask = (word and socket.inet_ntoa(word[_NAME_SIZE + 4 :][:4]) for word in words)
    return ipaddress.IPv4Interface(f"{address}/{mask}") if address and mask else None


def route(name: str, address: str, source: str = "") -> Route | None:
    """How packets for the address leave by the interface, None if no route leads there.

    source: an address of this machine that they come from, "" for whichever the kernel takes.
    Raises OSError if the kernel cannot be asked.
    """
    number = index(name)
    if number is None:
        return None
    target = ipaddress.ip_address(address)
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, target.max_prefixlen, 0, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
    body += _attribute(_RTA_DST, target.packed) + _attribute(_RTA_OIF, struct.pack("=I", number))
    if source:
        body += _attribute(_RTA_SRC, ipaddress.ip_address(source).packed)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
        sock.setblocking(False)
        for kind, _, content in _asked(sock, _RTM_GETROUTE, _ASK, body):
            return _route(content) if kind == _RTM_NEWROUTE else None
    return None


def is_unanswered(name: str, address: str) -> bool:
    """Whether the kernel has just asked on the interface who has the address, and nobody has said.

    By ARP, or by neighbour solicitation. False if it has not asked, or cannot be asked itself.
    """
    number = index(name)
    target = ipaddress.ip_address(address)
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    body = _NEIGHBOUR.pack(family, 0, 0, number or 0, 0, 0, 0)
    body += _attribute(_NDA_DST, target.packed)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
            sock.setblocking(False)
            for kind, _, content in _asked(sock, _RTM_GETNEIGH, _ASK, body):
                if kind != _RTM_NEWNEIGH:
                    return False
                return bool(_NEIGHBOUR.unpack_from(content)[4] & (_NUD_INCOMPLETE | _NUD_FAILED))
    except OSError:
        pass
    return False


def _ask(name: str, request: int) -> bytes | None:
    """The kernel's struct ifreq for one SIOCGIF request."""
    encoded = name.encode()
    if len(encoded) >= _NAME_SIZE:
        return None
    try:
        sock = _keep("ioctl", socket.AF_INET, socket.SOCK_DGRAM)
        return fcntl.ioctl(sock, request, struct.pack("40s", encoded))
    except OSError:
        return None


def _name(number: int) -> str:
    """The name of the interface with this index now, "" if there is none. Raises OSError."""
    sock = _keep("ioctl", socket.AF_INET, socket.SOCK_DGRAM)
    try:
        answer = fcntl.ioctl(sock, _SIOCGIFNAME, struct.pack("=16si20x", b"", number))
    except OSError:
        return ""
    return answer[:_NAME_SIZE].partition(b"\0")[0].decode(errors="surrogateescape")


def _keep(kind: str, family: int, type_: int) -> socket.socket:
    if kind not in _kept:
        _kept[kind] = socket.socket(family, type_)
    return _kept[kind]


# ------------------------------------------------------------------ rtnetlink(7)

_Entry = tuple[int, Held]  # the interface's index, and all but its name


def _all_entries() -> tuple[list[_Entry], bool]:
    """All addresses, and whether none may be missing."""
    try:
        return _dump(_keep("route", socket.AF_NETLINK, socket.SOCK_RAW))
    except (OSError, MemoryError):
        if "route" in _kept:  # the rest of an answer may be in it
            _kept.pop("route").close()
        raise


def _dump(sock: socket.socket) -> tuple[list[_Entry], bool]:
    sock.setblocking(False)  # the kernel answers within the call, or never
    found: list[_Entry] = []
    whole = True
    body = _ENTRY.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for kind, flags, content in _asked(sock, _RTM_GETADDR, _ASK_FOR_ALL, body):
        whole = whole and not flags & _NLM_F_DUMP_INTR
        if kind == _NLMSG_DONE:
            break
        if kind == _NLMSG_ERROR:
            wrong = -struct.unpack_from("=i", content)[0]
            raise OSError(wrong, os.strerror(wrong))
        if kind == _RTM_NEWADDR and (entry := _entry(content)) is not None:
            found.append(entry)
    return found, whole


def _asked(
    sock: socket.socket, request: int, how: int, body: bytes
) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and content of each message of the answer. Raises OSError if no more comes."""
    number = next(_numbers) & 0xFFFFFFFF
    head = _MESSAGE.pack(_MESSAGE.size + len(body), request, how, number, 0)
    sock.sendto(head + body, (0, 0))
    while True:
        data, sender = sock.recvfrom(_ANSWER_SIZE)
        for kind, flags, answered, content in _messages(data):
            if sender[0] == 0 and answered == number:  # of the kernel, and what we asked
                yield kind, flags, content


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, number and content of each message in a datagram."""
    at = 0
    while at + _MESSAGE.size <= len(data):
        length, kind, flags, number, _ = _MESSAGE.unpack_from(data, at)
        if length < _MESSAGE.size:
            return
        yield kind, flags, number, data[at + _MESSAGE.size : at + length]
        at += (length + 3) & ~3


def _entry(content: bytes) -> _Entry | None:
    """What a struct ifaddrmsg and its attributes say, None if it is no IP address."""
    family, prefix, flags, _, number = _ENTRY.unpack_from(content)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    told = dict(_attributes(content[_ENTRY.size :]))
    ours = told.get(_IFA_LOCAL) or told.get(_IFA_ADDRESS)  # the latter is a peer's if there is one
    if ours is None:
        return None
    if _IFA_FLAGS in told:
        flags = struct.unpack("=I", told[_IFA_FLAGS])[0]
    duplicate = family == socket.AF_INET6 and bool(flags & _IFA_F_DADFAILED)
    return number, Held("", socket.inet_ntop(family, ours), prefix, duplicate)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data  # all of ours fill whole words


def _route(content: bytes) -> Route:
    """What a struct rtmsg and its attributes say."""
    told = dict(_attributes(content[_ROUTE.size :]))
    gateway = told.get(_RTA_GATEWAY)
    family = socket.AF_INET if gateway and len(gateway) == 4 else socket.AF_INET6
    return Route(content[1], socket.inet_ntop(family, gateway) if gateway else "")


def way_out(conf: Conf) -> str:
    """What to do where the peer is not reached, by what this end of the private link shows."""
    link, peer = conf.plip_interface, conf.secondary
    here = survey.trouble(link, survey.Interface(is_up(link), works(link)))
    if here or not is_unanswered(link, peer):
        return here or LOOK_THERE
    return (
        f"nobody has {peer} on {link}: see whether the machine is up, which address its private "
        "link has, and where the cables of both lead"
    )
