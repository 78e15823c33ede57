"""Puts and takes service addresses, IP and hardware ones, by rtnetlink(7) (RFC 3549).

Whatever is as it should be already is a success, and only what is in a list is ever taken away.

A worker does it: whoever changes an address waits in the kernel, whatever its socket is told, while
others change interfaces (rtnl_lock). Of root's rights it keeps the one that this needs.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from errno import EADDRNOTAVAIL, EBUSY, EEXIST, ENODEV
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from failoverd import links, process
from failoverd.conf import Conf, is_of_link
from failoverd.log import told_shortly
from failoverd.process import CAP_NET_ADMIN, Channel, Message

MOST_ORDERED = 1 << 24  # bytes
_KNOWN = 1 << 13  # addresses that need not be put into a message twice
BATCH = 100  # requests: even if all are refused, the socket has room for the answers

# rtnetlink(7), netlink(7), linux/rtnetlink.h
_NEWADDR, _DELADDR = 20, 21
_NEWROUTE = 24
_NEWLINK, _GETLINK, _SETLINK = 16, 18, 19
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_ACK_TLVS, _ACK_MESSAGE = 0x200, 1
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, kind, index, flags, change
_NODAD, _NOPREFIXROUTE = 0x02, 0x200
_RTA_CACHEINFO, _RTA_VIA, _RTA_NH_ID = 12, 18, 30
_TABLE_MAIN, _PROTO_KERNEL = 254, 2
_IFLA_ADDRESS, _IFLA_AF_SPEC, _IFLA_PERM_ADDRESS = 1, 26, 54
_INET_CONF, _PROMOTE_SECONDARIES = 1, 20
_NESTED = 0x8000

_HWADDR = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_SIXTEEN = 16  # bytes of an IPv6 address
_FAMILIES = {4: socket.AF_INET, _SIXTEEN: socket.AF_INET6}  # by the length of an address
_WHOLE = {size: struct.Struct(f"=BBBBIHH{size}sHH{size}sHHI") for size in _FAMILIES}


class Request(NamedTuple):
    """One message to the kernel. what: what it is for, in words that are put together only if they
    are needed; fine: errors that are none."""

    kind: int
    flags: int
    body: bytes
    what: tuple[object, ...]
    fine: tuple[int, ...] = ()


@dataclass(frozen=True)
class Result:
    """problems: what could not be done, with the kernel's word; notes: what else a person may want
    to know; done: how many addresses came or went."""

    problems: list[str]
    notes: list[str]
    done: int = 0


def order(file: int, number: int, work: Mapping[str, object]) -> None:
    """Write down what the worker is to do: "do" is "put" or "take", and the rest its arguments."""
    data = json.dumps({**work, "number": number}).encode()
    os.ftruncate(file, 0)
    os.pwrite(file, data, 0)


def run(channel: Channel, conf: Conf, orders: int) -> None:
    """The worker `addresses`: does what is written in a file as often as that is another order."""
    if conf.realtime:
        process.try_realtime("addresses", conf.user, channel.send)
    process.give_up_root(conf.user, frozenset({CAP_NET_ADMIN}))
    kernel = Kernel(lambda: channel.send({"event": "alive"}))  # now: later it may get no descriptor
    _adding(_entries(map(str, conf.addresses)), {})
    interval = process.report_interval(conf.plip_timer)
    done: object = None
    channel.send({"event": "ready"})
    while True:
        select.select([channel], [], [], interval)
        if channel.receive():
            told = process.parse_message(os.pread(orders, MOST_ORDERED, 0)) or {}
            number = told.pop("number", done)  # there is none while it is being written
            if number != done:
                done = number
                channel.send({"event": "placed", "number": number, **_obey(told, kernel)})
                with suppress(OSError):
                    links.entries()  # so that it knows them when they are to be taken
        channel.send({"event": "alive"})


def _obey(work: dict[str, Any], kernel: Kernel) -> Message:
    do = work.pop("do")
    try:
        result = (put if do == "put" else take)(kernel, **work)
    except OSError as error:
        done = "add" if do == "put" else "remove"
        result = Result([f"the kernel does not {done} addresses: {error.strerror}"], [])
    problem, note = map(told_shortly, (result.problems, result.notes))
    return {"count": result.done, "problem": problem, "note": note}


class _Entry(NamedTuple):
    """Where an address is to be. text: with its prefix, as it is written."""

    name: str
    text: str
    packed: bytes
    prefix: int


def _entries(lines: Iterable[str]) -> list[_Entry]:
    """What of the lines is an interface and an address."""
    return [entry for entry in map(_entry, lines) if entry]


@lru_cache(_KNOWN)
def _entry(line: str) -> _Entry | None:
    name, _, text = line.partition(" ")
    address, _, prefix = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return _Entry(name, text, socket.inet_pton(family, address), int(prefix))
    except (OSError, ValueError):
        return None


def _hardware(lines: Iterable[str]) -> list[tuple[str, str]]:
    """What of the lines is an interface and a hardware address."""
    found = (line.partition(" ") for line in lines)
    return [(name, hwaddr) for name, _, hwaddr in found if _HWADDR.fullmatch(hwaddr)]


# ------------------------------------------------------------------ a conversation with the kernel


class Kernel:
    """Carries requests out. Raises OSError if the kernel cannot be asked. alive is called before
    each batch.

    A socket that has lost an answer is replaced once: every request may be sent twice.
    """

    def __init__(self, alive: Callable[[], object] = bool) -> None:
        self._alive = alive
        self._sent = 0  # requests, by which each has a number of its own
        self._socket = self._opened()

    @staticmethod
    def _opened() -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        sock.setblocking(False)  # the kernel answers within the call, or never
        for option in (_CAP_ACK, _EXT_ACK):
            with suppress(OSError):  # an older kernel tells more, or less
                sock.setsockopt(_SOL_NETLINK, option, 1)
        return sock

    def carry_out(self, requests: list[Request]) -> list[str]:
        """Send at most BATCH requests at once. What was refused, in words."""
        assert len(requests) <= BATCH
        self._alive()
        try:
            errors = self._answers(requests)
        except OSError:
            self._socket.close()
            self._socket = self._opened()
            errors = self._answers(requests)
        return [
            f"cannot {' '.join(map(str, requests[number].what))}: {why or os.strerror(error)}"
            for number, (error, why) in sorted(errors.items())
            if error not in requests[number].fine
        ]

    def _answers(self, requests: list[Request]) -> dict[int, tuple[int, str]]:
        """By number, the error of each that was refused and what the kernel says of it. Only the
        last is asked to be acknowledged: with its answer all that is to come has come."""
        if not requests:
            return {}
        messages = []
        first, self._sent = self._sent, self._sent + len(requests)
        for number, one in enumerate(requests, first):
            flags = one.flags | _REQUEST | (_ACK if one is requests[-1] else 0)
            messages.append(
                links.MESSAGE.pack(links.MESSAGE.size + len(one.body), one.kind, flags, number, 0)
                + one.body
            )
        self._socket.sendto(b"".join(messages), (0, 0))
        errors: dict[int, tuple[int, str]] = {}
        while True:
            data, sender = self._socket.recvfrom(1 << 16)
            if sender[0] != 0:
                continue  # not the kernel: other processes may send to this socket
            for number, (_, flags, content) in links.messages(data):
                error = -struct.unpack_from("=i", content)[0]
                if error and number >= first:
                    errors[number - first] = error, _said(flags, content)
                if number == self._sent - 1:
                    return errors


def _said(flags: int, content: bytes) -> str:
    """The kernel's own words, if it has any."""
    if not flags & _ACK_TLVS:
        return ""
    told = links.attributes(content[4 + links.MESSAGE.size :]).get(_ACK_MESSAGE, b"")
    return told.rstrip(b"\0").decode(errors="replace")


def _in_batches(requests: Iterable[Request]) -> Iterator[list[Request]]:
    rest = iter(requests)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _network_of(one: links.Entry) -> tuple[int, int, int, int]:
    return _network(one.number, one.peer, one.prefix)


@lru_cache(_KNOWN)
def _network(number: int, address: bytes, prefix: int) -> tuple[int, int, int, int]:
    bits = 8 * len(address)
    return number, bits, prefix, int.from_bytes(address) >> (bits - prefix)


# ------------------------------------------------------------------ put


def put(kernel: Kernel, addresses: Iterable[str], hwaddrs: Iterable[str]) -> Result:
    """Give interfaces these hardware addresses ("eth0 02:00:00:00:00:10"), then these addresses
    ("eth0 192.0.2.10/24"). Raises OSError if the kernel cannot be asked."""
    problems: dict[str, None] = {}  # each is told once
    notes: list[str] = []
    for name, hwaddr in _hardware(hwaddrs):
        problems |= dict.fromkeys(_set_hwaddr(kernel, name, hwaddr, notes))
    requests = _adding(_entries(addresses), problems)
    for batch in _in_batches(requests):
        problems |= dict.fromkeys(kernel.carry_out(batch))
    return Result(list(problems), notes, sum(one.kind == _NEWADDR for one in requests))


def _adding(wanted: list[_Entry], problems: dict[str, None]) -> list[Request]:
    """What puts those that are not there, or are there in vain."""
    found = links.entries()
    there = {(one.number, one.local): one for one in found}
    networks = set(map(_network_of, found))
    routed: dict[tuple[int, int, int, int], bool] = {}
    numbers = {name: links.index(name) for name in {entry.name for entry in wanted}}
    requests = []
    for name, text, packed, prefix in wanted:
        number = numbers[name]
        if number is None:
            problems[f"{name}: there is no such interface"] = None
            continue
        if held := there.get((number, packed)):
            if not held.duplicate:
                continue
            requests.append(_removal(held, name))
        network = _network(number, packed, prefix)
        if network not in networks and network not in routed:
            routed[network] = _has_route(packed, prefix)
        flags = _NOPREFIXROUTE if routed.get(network) else 0
        requests.append(_addition(number, packed, prefix, flags, text, "to", name))
    return requests


@lru_cache(_KNOWN)
def _addition(number: int, packed: bytes, prefix: int, flags: int, *what: object) -> Request:
    flags |= _NODAD if len(packed) == _SIXTEEN else 0
    body = _whole(number, prefix, packed, packed, flags)
    return Request(_NEWADDR, _CREATE | _EXCL, body, ("add", *what), (EEXIST,))


def _whole(number: int, prefix: int, local: bytes, peer: bytes, flags: int) -> bytes:
    """A struct ifaddrmsg with what makes an address, in one go, as there may be thousands."""
    size = len(local)
    return _WHOLE[size].pack(
        *(_FAMILIES[size], prefix, 0, 0, number),
        *(4 + size, links.IFA_LOCAL, local, 4 + size, links.IFA_ADDRESS, peer),
        *(8, links.IFA_FLAGS, flags),
    )


def _has_route(packed: bytes, prefix: int) -> bool:
    """Whether a route to this very network is there already. It serves the node's own traffic,
    which would leave with the service's address if the kernel added another in front of it."""
    bits = 8 * len(packed)
    if prefix == bits:
        return False
    body = links.ROUTE.pack(_FAMILIES[len(packed)], bits, 0, 0, 0, 0, 0, 0, links.FIB_MATCH)
    content = links.told(links.RTM_GETROUTE, body + links.attribute(links.RTA_DST, packed))
    if content is None:
        return False
    found = links.ROUTE.unpack_from(content)
    return bool(found[1] == prefix and found[4] == _TABLE_MAIN)


# ------------------------------------------------------------------ take


def take(
    kernel: Kernel, addresses: Iterable[str], hwaddrs: Iterable[str], own: Mapping[str, str]
) -> Result:
    """Take the addresses from whatever interface has them, with whatever prefix, link-local ones
    from their own; then give each interface that may have one of the hardware addresses its own
    back. Raises as `put`."""
    problems: dict[str, None] = {}
    wanted, shared = _entries(addresses), _hardware(hwaddrs)
    notes = _absent([entry.name for entry in wanted] + [name for name, _ in shared])
    named = {(entry.name, entry.packed, entry.prefix) for entry in wanted}
    served = {entry.packed for entry in wanted if not is_of_link(entry.text)}
    linked = {(links.index(each.name), each.packed) for each in wanted if is_of_link(each.text)}
    found = links.entries()
    going = [one for one in found if one.local in served or (one.number, one.local) in linked]
    names = {number: links.name(number) for number in {one.number for one in going}}
    for batch in _in_batches(_removing(found, going, names)):
        problems |= dict.fromkeys(kernel.carry_out(batch))
    for one in going:
        if (names[one.number], one.local, one.prefix) not in named:
            notes.append(f"{names[one.number]}: removed {one}, which was there too")
    for name, hwaddr in shared:
        for bearer in _bearers(name, hwaddr, notes):
            problems |= dict.fromkeys(_give_back(kernel, bearer, hwaddr, own.get(name, ""), notes))
    return Result(list(problems), notes, len(going))


def _absent(names: Iterable[str]) -> list[str]:
    return [
        f"{name}: there is no such interface, so there is nothing to remove from it"
        for name in dict.fromkeys(names)
        if links.index(name) is None
    ]


def _removing(
    found: list[links.Entry], going: list[links.Entry], names: Mapping[int, str]
) -> Iterator[Request]:
    """In the order in which they came, so that none is away for longer than the others; but a
    primary address goes after its secondaries, and where one that is to stay depends on it, the
    kernel is told to promote that one."""
    gone = {one.content for one in going}
    staying = {
        _network_of(one)
        for one in found
        if one.family == socket.AF_INET and not one.primary and one.content not in gone
    }
    for one in sorted(going, key=lambda one: one.primary):
        removal = _removal(one, names[one.number])
        if one.primary and _network_of(one) in staying and not _promotes(one.number):
            yield from (_promote(one.number, True), removal, _promote(one.number, False))
        else:
            yield removal


def _removal(one: links.Entry, name: str) -> Request:
    body = _whole(one.number, one.prefix, one.local, one.peer, 0)
    what = ("remove", one, "from", name or one.number)
    return Request(_DELADDR, 0, body, what, (EADDRNOTAVAIL, ENODEV))


def _promotes(number: int) -> bool:
    """Whether the interface's promote_secondaries is on."""
    told = _link(number).get(_IFLA_AF_SPEC, b"")
    inet = links.attributes(told).get(socket.AF_INET, b"")
    values = links.attributes(inet).get(_INET_CONF, b"")
    at = 4 * (_PROMOTE_SECONDARIES - 1)
    return any(values[at : at + 4])


def _promote(number: int, on: bool) -> Request:
    conf = links.attribute(_PROMOTE_SECONDARIES, struct.pack("=I", on))
    conf = links.attribute(_NESTED | _INET_CONF, conf)
    spec = links.attribute(_NESTED | _IFLA_AF_SPEC, links.attribute(_NESTED | socket.AF_INET, conf))
    body = _LINK.pack(socket.AF_UNSPEC, 0, number, 0, 0) + spec
    return Request(_SETLINK, 0, body, ("keep the secondary addresses",), (ENODEV,))


def _link(number: int) -> dict[int, bytes]:
    """What the kernel tells of an interface, by the kind of attribute."""
    content = links.told(_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, number, 0, 0))
    return links.attributes((content or b"")[_LINK.size :])


# ------------------------------------------------------------------ hardware addresses


def _bearers(name: str, shared: str, notes: list[str]) -> Iterator[str]:
    """The interface, or if it was renamed what has its hardware address. One by one, as others
    follow the first of them, such as a bridge its port."""
    if links.index(name) is not None:
        yield name
        return
    for other in links.names():
        if links.hwaddr(other) == shared:
            notes.append(f"{other}: had {shared}, the hardware address of {name}")
            yield other


def _give_back(kernel: Kernel, name: str, shared: str, own: str, notes: list[str]) -> list[str]:
    number = links.index(name)
    if number is None:
        return []
    permanent = _link(number).get(_IFLA_PERM_ADDRESS, b"").hex(":")
    hwaddr = own or permanent
    if _HWADDR.fullmatch(hwaddr):
        return _set_hwaddr(kernel, name, hwaddr, notes)
    if links.hwaddr(name) != shared:
        return []
    # Any will do but the one that the peer uses now. No maker gives this one to an interface.
    hwaddr = f"02:{os.urandom(5).hex(':')}"
    notes.append(f"{name}: its own hardware address is not known, {hwaddr} takes its place")
    return _set_hwaddr(kernel, name, hwaddr, notes)


def _set_hwaddr(kernel: Kernel, name: str, hwaddr: str, notes: list[str]) -> list[str]:
    number, current = links.index(name), links.hwaddr(name)
    if number is None:
        return [f"{name}: there is no such interface"]
    if current == hwaddr:
        return []
    change = _address(number, name, hwaddr)
    up = links.is_up(name)
    refused = kernel.carry_out([change._replace(fine=(EBUSY,)) if up else change])
    if refused or links.hwaddr(name) == hwaddr or current is None:
        return refused
    return _while_down(kernel, number, name, change, _address(number, name, current), notes)


def _while_down(
    kernel: Kernel, number: int, name: str, change: Request, undo: Request, notes: list[str]
) -> list[str]:
    """Take the interface down for the change, and put back what it loses by that. The kernel is
    told all of it at once: whoever is killed meanwhile leaves nothing half done."""
    down, up = (_switched(number, on, change.what) for on in (False, True))
    lost = _what_goes_down(number, name)

    def carried_out(wanted: Request) -> list[str]:
        batches = _in_batches([down, wanted, up, *lost])
        return [why for batch in batches for why in kernel.carry_out(batch)]

    problems = carried_out(change)
    if not links.is_up(name):
        carried_out(undo)
        return problems[:1]  # the rest could not come back yet
    if not problems:
        notes.append(f"{name}: was down for a moment, as it refuses a hardware address while up")
    return problems


def _address(number: int, name: str, hwaddr: str) -> Request:
    body = _LINK.pack(socket.AF_UNSPEC, 0, number, 0, 0)
    body += links.attribute(_IFLA_ADDRESS, bytes.fromhex(hwaddr.replace(":", "")))
    return Request(_SETLINK, 0, body, ("give", name, "the hardware address", hwaddr))


def _switched(number: int, up: bool, what: tuple[object, ...]) -> Request:
    body = _LINK.pack(socket.AF_UNSPEC, 0, number, links.IFF_UP if up else 0, links.IFF_UP)
    return Request(_NEWLINK, 0, body, what)


def _what_goes_down(number: int, name: str) -> list[Request]:
    """What brings back what an interface may lose when it goes down. Routes through a gateway come
    after those that lead to it."""
    own = (one for one in links.entries() if one.number == number)
    six = [one for one in own if one.family == socket.AF_INET6 and not _makes_itself(one)]
    routes = sorted(_routes(number), key=_is_far)
    return [_again(one, name) for one in six] + [_route_again(one, name) for one in routes]


def _makes_itself(one: links.Entry) -> bool:
    """An address that the kernel makes of the hardware address, or for privacy."""
    return one.temporary or (one.local[:2] == b"\xfe\x80" and one.local[11:13] == b"\xff\xfe")


def _again(one: links.Entry, name: str) -> Request:
    """An IPv6 address as it was, but for the search for duplicates, which would take a second."""
    size = links.ADDRESS.size
    told = links.attributes(one.content[size:])
    told[links.IFA_FLAGS] = struct.pack("=I", one.flags | _NODAD)
    body = one.content[:size] + _packed(told)
    return Request(_NEWADDR, _CREATE | _EXCL, body, ("restore", one, "on", name), (EEXIST,))


def _packed(attributes: Mapping[int, bytes]) -> bytes:
    return b"".join(links.attribute(kind, value) for kind, value in attributes.items())


def _routes(number: int) -> list[bytes]:
    """The interface's routes that it does not make itself, as they can be added again."""
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = links.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        body += links.attribute(links.RTA_OIF, struct.pack("=I", number))
        with suppress(OSError):  # a kernel without this family
            found += [_tidy(content, number) for content in links.listed(links.RTM_GETROUTE, body)]
    return [route for route in found if route]


def _tidy(content: bytes, number: int) -> bytes:
    """What makes the route; nothing if it makes itself, passes by itself, or leads elsewhere."""
    head = links.ROUTE.unpack_from(content)
    told = links.attributes(content[links.ROUTE.size :])
    cache = told.pop(_RTA_CACHEINFO, bytes(12))
    told.pop(_RTA_NH_ID, None)
    expires = any(cache[8:12])
    if head[5] == _PROTO_KERNEL or expires or told.get(links.RTA_OIF) != struct.pack("=I", number):
        return b""
    return links.ROUTE.pack(*head[:-1], 0) + _packed(told)


def _is_far(route: bytes) -> bool:
    told = links.attributes(route[links.ROUTE.size :])
    return links.RTA_GATEWAY in told or _RTA_VIA in told


def _route_again(route: bytes, name: str) -> Request:
    family, prefix, *_ = links.ROUTE.unpack_from(route)
    target = links.attributes(route[links.ROUTE.size :]).get(links.RTA_DST)
    where = f"{socket.inet_ntop(family, target)}/{prefix}" if target else "default"
    what = ("restore the route to", where, "on", name)
    return Request(_NEWROUTE, _CREATE | _EXCL, route, what, (EEXIST,))
