"""Facts about this node's network interfaces: index, up, carrier, hardware address, addresses.

Asked of the kernel by ioctl (netdevice(7)) and rtnetlink(7), which answer for the network namespace
of this process; /sys answers for the one it was mounted in. No function raises for an interface
that is not there: it may vanish at any moment. All but `names` and what is set for IPv6 is asked by
sockets that are kept: a process that has no descriptor left must not take its interfaces for
missing.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Container, Iterable, Iterator
from functools import cache
from itertools import count
from typing import Any, NamedTuple

from failoverd.conf import Conf, survey
from failoverd.conf.survey import Held as Held
from failoverd.wire.protocol import LOOK_THERE

IFF_UP, IFF_RUNNING = 0x1, 0x40
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
_WITH_NEIGHBOURS = (ARPHRD_ETHER, ARPHRD_LOOPBACK)
MOST_FIXED = 4  # addresses of one interface: one will do

FREEBIND = {  # names that the socket module has not before Python 3.13
    socket.AF_INET: (socket.IPPROTO_IP, 15),  # ip(7)
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),  # linux/in6.h
}
_SIOCGIFNAME, _SIOCGIFFLAGS = 0x8910, 0x8913
_SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8927, 0x8933
_NAME_SIZE = 16  # IFNAMSIZ, with the final NUL

_RTM_GETADDR, RTM_GETROUTE, _RTM_GETNEIGH = 22, 26, 30
NLMSG_ERROR, NLMSG_DONE = 2, 3
_NLM_F_DUMP_INTR = 0x10  # an address came or went meanwhile, so that some may be missing
_ASK, _ASK_FOR_ALL = 0x001, 0x301  # NLM_F_REQUEST, and the same with NLM_F_DUMP
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
_IFA_F_SECONDARY = _IFA_F_TEMPORARY = 0x01  # of IPv4, of IPv6
_IFA_F_DADFAILED = 0x08
RTA_DST, _RTA_SRC, RTA_OIF, RTA_GATEWAY = 1, 2, 4, 5
FIB_MATCH = 0x2000  # the route itself, and none where the kernel would try without one
_NDA_DST = 1
_NUD_INCOMPLETE, _NUD_FAILED = 0x01, 0x20
MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, number, port
ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, prefix, ..., table, protocol, ...
_NEIGHBOUR = struct.Struct("=BBHiHBB")  # struct ndmsg: family, ..., index, state, flags, type
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_ANSWER_SIZE = 64 * 1024  # the kernel fills no more than half of it at once
_TRIES = 5

_LAST = (NLMSG_DONE, NLMSG_ERROR)
_SORTS = {
    "ioctl": (socket.AF_INET, socket.SOCK_DGRAM),
    "route": (socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK),  # it answers in the call
}
_read: dict[bytes, Entry | None] = {}  # asked for all the time, and there may be thousands
_kept: dict[str, socket.socket] = {}  # those that are asked, once there are any
_numbers = count(1)


class Entry(NamedTuple):
    """An IP address that this node has, as the kernel tells it.

    number: of the interface; peer: the far end's, where a link has one; primary: the kernel may
    take others along with it; content: all that it tells.
    """

    number: int
    family: int
    prefix: int
    flags: int
    local: bytes
    peer: bytes
    address: str
    primary: bool
    duplicate: bool
    temporary: bool
    content: bytes

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


class Route(NamedTuple):
    """The route to an address. prefix: of where it leads, in bits; gateway: "" if it is on link."""

    prefix: int
    gateway: str


def _forget_kept() -> None:
    """In a forked worker: it closes what is its parent's, and may move to another namespace."""
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
    found = _ask(name, _SIOCGIFINDEX, "=i")
    return int(found[0]) if found else None


def flags(name: str) -> int:
    """The IFF_ bits of the interface, 0 if there is none."""
    found = _ask(name, _SIOCGIFFLAGS, "=H")
    return int(found[0]) if found else 0


def is_up(name: str) -> bool:
    """Whether the interface is there and enabled. It may still have no carrier."""
    return bool(flags(name) & IFF_UP)


def works(name: str) -> bool:
    """Whether the interface is up and has a carrier."""
    return flags(name) & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING


def takes_ipv6(name: str) -> bool:
    """What cannot be read counts for yes."""
    return _ipv6_setting(name, "disable_ipv6") in ("0", "")


def forwards_ipv6(name: str) -> bool:
    """Whether this node is an IPv6 router there."""
    return _ipv6_setting(name, "forwarding") not in ("0", "")


def _ipv6_setting(name: str, which: str) -> str:
    """One of ip-sysctl, "" if it cannot be read. /proc/sys/net is that of this process's network
    namespace."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{name}/{which}", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def hwaddr(name: str) -> str | None:
    """The hardware address that an Ethernet interface has now, "02:00:00:00:00:10"."""
    kind, address = _ask(name, _SIOCGIFHWADDR, "=H6s") or (None, b"")
    return address.hex(":") if kind in _WITH_NEIGHBOURS else None


def hwaddrs(names: Iterable[str]) -> dict[str, str]:
    """The hardware address of each interface, "" of one that has none."""
    return {name: hwaddr(name) or "" for name in names}


def kind(name: str) -> int | None:
    """What sort of link the interface is: one of ARPHRD_ in linux/if_arp.h."""
    found = _ask(name, _SIOCGIFHWADDR, "=H")
    return int(found[0]) if found else None


def has_neighbours(name: str) -> bool:
    """Whether hosts on the link ask for an address, by ARP or neighbour solicitation: not in a
    tunnel. One that is missing may come back."""
    return kind(name) in (None, *_WITH_NEIGHBOURS)


def addresses(name: str) -> list[str]:
    """The IPv4 and IPv6 addresses that the interface has now, without prefix or scope.

    Raises OSError if the kernel does not tell, for want of memory or of a descriptor.
    """
    return [one.address for one in held() if one.interface == name]


def held() -> list[Held]:
    """Every IP address of this node, on whatever interface, by the interface's name of now.

    What an address is labelled with, such as eth0:0, is no name. Raises OSError as `addresses`.
    """
    name_of = cache(name)
    return [
        Held(name_of(one.number), one.address, one.prefix, one.duplicate, one.temporary)
        for one in entries()
        if name_of(one.number)
    ]


def fixed(found: Iterable[Held], served: Container[str]) -> dict[str, tuple[str, ...]]:
    """By interface, the addresses that are this node's own, such as "192.0.2.1/24".

    Those that the pair serves are left out, and so is what has no neighbours or does not last. Of
    each network the first is told.
    """
    by_network: dict[str, dict[object, str]] = {}
    for one in found:
        if one.duplicate or one.temporary or one.address in served:
            continue  # first, as there may be thousands
        own = ipaddress.ip_interface((one.address, one.prefix))
        alone = one.prefix == own.max_prefixlen or own.is_loopback
        if not alone:
            by_network.setdefault(one.interface, {}).setdefault(own.network, str(own))
    return {name: tuple(own.values())[:MOST_FIXED] for name, own in by_network.items()}


def network(name: str) -> ipaddress.IPv4Interface | None:
    """The interface's first IPv4 address with its network, None if it has none. Raises as
    `addresses`."""
    for one in held():
        if one.interface == name and ":" not in one.address:
            return ipaddress.IPv4Interface((one.address, one.prefix))
    return None


def route(name: str, address: str, source: str = "") -> Route | None:
    """How packets for the address leave by the interface, None if no route leads there.

    source: an address of this node that they come from, "" for whichever the kernel takes.
    Raises OSError if the kernel cannot be asked.
    """
    number = index(name)
    if number is None:
        return None
    family, packed = _packed(address)
    body = ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, FIB_MATCH)
    body += attribute(RTA_DST, packed) + attribute(RTA_OIF, struct.pack("=I", number))
    if source:
        body += attribute(_RTA_SRC, _packed(source)[1])
    content = told(RTM_GETROUTE, body)
    if content is None:
        return None
    gateway = attributes(content[ROUTE.size :]).get(RTA_GATEWAY)
    return Route(content[1], str(ipaddress.ip_address(gateway)) if gateway else "")


def is_unanswered(name: str, address: str) -> bool:
    """Whether the kernel has just asked on the interface who has the address, without an answer.

    By ARP, or by neighbour solicitation. False if it has not asked, or cannot be asked itself.
    """
    family, packed = _packed(address)
    body = _NEIGHBOUR.pack(family, 0, 0, index(name) or 0, 0, 0, 0) + attribute(_NDA_DST, packed)
    try:
        content = told(_RTM_GETNEIGH, body)
    except OSError:
        return False
    state = _NEIGHBOUR.unpack_from(content)[4] if content else 0
    return bool(state & (_NUD_INCOMPLETE | _NUD_FAILED))


def way_out(conf: Conf) -> str:
    """What to do where the peer is not reached, by what this end of the heartbeat link shows."""
    link, peer = conf.plip_interface, conf.secondary
    here = survey.trouble(link, survey.Interface(is_up(link), works(link)))
    if here or not is_unanswered(link, peer):
        return here or LOOK_THERE
    return (
        f"no host has {peer} on {link}: see where the cables of both nodes lead, which address the "
        "peer has there, and whether the peer is up"
    )


def _ask(name: str, request: int, form: str) -> tuple[Any, ...] | None:
    """What the kernel's struct ifreq (netdevice(7)) has behind the name, for one SIOCGIF request;
    None if there is no such interface."""
    encoded = name.encode()
    if len(encoded) >= _NAME_SIZE:
        return None
    try:
        answer = fcntl.ioctl(_keep("ioctl"), request, struct.pack("40s", encoded))
    except OSError:
        return None
    return struct.unpack_from(form, answer, _NAME_SIZE)


def name(number: int) -> str:
    """The name of the interface with this index now, "" if there is none. Raises OSError."""
    sock = _keep("ioctl")
    try:
        answer = fcntl.ioctl(sock, _SIOCGIFNAME, struct.pack("=16si20x", b"", number))
    except OSError:
        return ""
    return answer[:_NAME_SIZE].partition(b"\0")[0].decode(errors="surrogateescape")


def _keep(kind: str) -> socket.socket:
    if kind not in _kept:
        _kept[kind] = socket.socket(*_SORTS[kind])
    return _kept[kind]


# ------------------------------------------------------------------ rtnetlink(7)

_Message = tuple[int, int, bytes]  # type, flags and content


def _asked(request: int, how: int, body: bytes) -> list[_Message]:
    """All messages of the kernel's answer. Raises OSError if it does not answer."""
    number = next(_numbers) & 0xFFFFFFFF
    head = MESSAGE.pack(MESSAGE.size + len(body), request, how, number, 0)
    found: list[_Message] = []
    try:
        sock = _keep("route")
        sock.sendto(head + body, (0, 0))
        while not found or (how == _ASK_FOR_ALL and found[-1][0] not in _LAST):
            data, sender = sock.recvfrom(_ANSWER_SIZE)
            if sender[0] == 0:  # the kernel
                found += [one for told, one in messages(data) if told == number]
    except (OSError, MemoryError):
        if "route" in _kept:  # the rest of an answer may be in it
            _kept.pop("route").close()
        raise
    return found


def listed(request: int, body: bytes) -> list[bytes]:
    """The content of each entry of a list of the kernel's. Raises OSError if it does not tell."""
    for _ in range(_TRIES):
        *entries, (kind, _, content) = _asked(request, _ASK_FOR_ALL, body)
        if kind == NLMSG_ERROR:
            wrong = -struct.unpack_from("=i", content)[0]
            raise OSError(wrong, os.strerror(wrong))
        if not any(flags & _NLM_F_DUMP_INTR for _, flags, _ in entries):
            return [content for _, _, content in entries]
    raise OSError(errno.EAGAIN, "the addresses change all the time")


def entries() -> list[Entry]:
    """What the kernel tells of each IP address of this node. Raises as `listed`.

    The kernel is asked for one family after the other: the list of all in one waits while others
    change interfaces. Where it has none of a family it may tell of the other.
    """
    families = socket.AF_INET, socket.AF_INET6
    found = [(one, listed(_RTM_GETADDR, ADDRESS.pack(one, 0, 0, 0, 0))) for one in families]
    told = (each for family, contents in found for each in contents if each[0] == family)
    now = {each: _read.get(each) or _entry(each) for each in told}
    _read.clear()  # each tells when it came, so that none comes again once it has gone
    _read.update(now)
    return [one for one in now.values() if one]


def told(request: int, body: bytes) -> bytes | None:
    """The content of the answer to one request, None if it is an error. Raises OSError."""
    kind, _, content = _asked(request, _ASK, body)[0]
    return None if kind == NLMSG_ERROR else content


def messages(data: bytes) -> Iterator[tuple[int, _Message]]:
    """Those in a datagram, each with the number of the request that it answers."""
    at = 0
    while at + MESSAGE.size <= len(data):
        length, kind, flags, number, _ = MESSAGE.unpack_from(data, at)
        if length < MESSAGE.size:
            return
        yield number, (kind, flags, data[at + MESSAGE.size : at + length])
        at += (length + 3) & ~3


def _entry(content: bytes) -> Entry | None:
    """What a struct ifaddrmsg and its attributes say, if it is an IP address."""
    family, prefix, flags, _, number = ADDRESS.unpack_from(content)
    told = attributes(content[ADDRESS.size :])
    peer = told.get(IFA_ADDRESS)
    local = told.get(IFA_LOCAL) or peer
    if local is None:
        return None
    if IFA_FLAGS in told:
        (flags,) = struct.unpack("=I", told[IFA_FLAGS])
    six = family == socket.AF_INET6
    return Entry(
        *(number, family, prefix, flags, local, peer or local, socket.inet_ntop(family, local)),
        primary=not six and not flags & _IFA_F_SECONDARY,
        duplicate=six and bool(flags & _IFA_F_DADFAILED),
        temporary=six and bool(flags & _IFA_F_TEMPORARY),
        content=content,
    )


def attributes(data: bytes) -> dict[int, bytes]:
    """By type, the value of each attribute."""
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, filled up to whole words."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _packed(address: str) -> tuple[int, bytes]:
    packed = ipaddress.ip_address(address).packed
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed
