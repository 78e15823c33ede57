"""Frames: ARP and neighbour discovery as bytes, to probe for an address and to announce one.

All are complete ethernet frames, not padded to 60 bytes: the interface does that, and the kernel
does not pad its own either. What is said of IPv4 and ARP here holds for IPv6 and neighbour
discovery too; each function takes addresses of either.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD

NOBODY = "0.0.0.0"  # the sender of a probe, RFC 5227 section 1.1
BROADCAST = "ff:ff:ff:ff:ff:ff"
# By these the pair knows its own requests, and does not count them: the flow label of a
# solicitation (RFC 6437), the target's hardware address, which is sought, in an ARP request.
FLOW_LABEL = 0xFA110
MARK = "03:fa:11:0f:a1:10"

# Ethernet header and RFC 826; ethernet header, RFC 8200 and RFC 4861 (4.3, 4.4) up to the options.
_ARP = struct.Struct("!6s6sH HHBBH 6s4s6s4s")
_NEIGHBOUR = struct.Struct("!6s6sH IHBB16s16s BBHI16s")
_ICMP = 54  # where the ICMPv6 message begins

_IPV4_OVER_ETHERNET = (1, 0x0800, 6, 4)
_REQUEST, _REPLY = 1, 2
NO_HWADDR = "00:00:00:00:00:00"  # one that is sought; the loopback's

_ICMPV6, _HOP_LIMIT = 58, 255  # which proves that no router passed it on, RFC 4861 section 7.1
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ROUTER, _SOLICITED, _OVERRIDE = 1 << 31, 1 << 30, 1 << 29
_SOURCE_HWADDR, _TARGET_HWADDR = 1, 2  # options
_LINK_LOCAL = IPv6Address("fe80::").packed[:8]
_ALL_NODES = IPv6Address("ff02::1").packed
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]


@dataclass(frozen=True)
class Answer:
    """This address is at hwaddr, both in their shortest form, lower-case."""

    address: str
    hwaddr: str


def probe(hwaddr: str, target: str) -> bytes:
    """Who has target? It has no sender, so it enters no cache (RFC 5227 2.1.1, RFC 4862 5.4.2)."""
    return _ask(hwaddr, "::" if ":" in target else NOBODY, target)


def probe_to(to: str, hwaddr: str, source: str, target: str) -> bytes:
    """Does the interface `to` have target? source: IPv6 only, a link-local address of the sender.

    A network that suppresses ARP (RFC 9161) floods no probes, but passes one that goes to a single
    interface, and answers none itself, though it answers ordinary requests for the dead. Of
    neighbour discovery it passes neither what has no source nor what is answered to all nodes;
    what a kernel answers to a unicast destination differs from what it says (`parse`).
    """
    return _ask(hwaddr, source if ":" in target else NOBODY, target, to, FLOW_LABEL)


def request(hwaddr: str, source: str, target: str, to: str = "") -> bytes:
    """Who has target? As a kernel that has the address source asks, so that it counts where it is
    received. to: the interface that is asked, else all."""
    return _ask(hwaddr, source, target, to)


def marked_request(hwaddr: str, source: str, target: str) -> bytes:
    """An ordinary request, answered also where probes are not flooded, that the pair knows as its
    own."""
    return _ask(hwaddr, source, target, label=FLOW_LABEL, mark=MARK)


def _ask(
    hwaddr: str, source: str, target: str, to: str = "", label: int = 0, mark: str = NO_HWADDR
) -> bytes:
    """to: "" for all. label, mark: what an IPv6, an IPv4 request carries besides. A solicitation
    without a source says not where it comes from (RFC 4861 section 4.3)."""
    if ":" not in target:
        return _arp(_REQUEST, hwaddr, source, target, mark, to or BROADCAST)
    asker, wanted = IPv6Address(source).packed, IPv6Address(target).packed
    destination = wanted if to else _SOLICITED_NODE + wanted[13:]
    option = _SOURCE_HWADDR if any(asker) else 0
    return _neighbour(_SOLICITATION, hwaddr, asker, destination, wanted, option, to, label)


def gratuitous_arp(hwaddr: str, address: str) -> list[bytes]:
    """The frames by which all learn that address, of IPv4, is at hwaddr now.

    The request is what RFC 5227 section 3 recommends; some hosts update only on a reply, whose
    target hardware address must then be the new one (RFC 5944 section 4.6).
    """
    return [
        _arp(_REQUEST, hwaddr, address, address),
        _arp(_REPLY, hwaddr, address, address, hwaddr),
    ]


def unsolicited_advertisement(hwaddr: str, address: str, router: bool = False) -> bytes:
    """The same for IPv6 (RFC 4861 7.2.6). router: whether this node forwards; hosts drop a default
    router that says it is none."""
    source = IPv6Address(address).packed
    flags = _OVERRIDE | (_ROUTER if router else 0)
    return _neighbour(
        _ADVERTISEMENT, hwaddr, source, _ALL_NODES, source, _TARGET_HWADDR, flags=flags
    )


def link_local(hwaddr: str) -> str:
    """A link-local address to ask from where there is none: of this interface, but not the one that
    a kernel makes of it (RFC 4291 appendix A has ff:fe in the middle), so that nothing uses it."""
    own = _hardware(hwaddr)
    return str(IPv6Address(_LINK_LOCAL + own[:3] + b"\xfa\x11" + own[3:]))


def parse(frame: bytes) -> Answer | None:
    """Who proves by this frame that it has an address, None if it proves nothing. Never raises.

    In ARP that is the sender of an announcement, of a request, and of the answer to a probe: all
    mean that the address is in use (RFC 5227 2.1.1). A probe has no sender. The answer to an
    ordinary request, such as a kernel's, proves nothing: a network that suppresses ARP gives it
    for the dead as well (RFC 9161). The same in neighbour discovery, where answers to what has no
    source are not `solicited`, and those to `probe_to` do not `override`.
    """
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETHERTYPE_ARP and len(frame) >= _ARP.size:
        return _parse_arp(frame)
    if ethertype == ETHERTYPE_IPV6 and len(frame) >= _NEIGHBOUR.size:
        return _parse_advertisement(frame)
    return None


def _parse_arp(frame: bytes) -> Answer | None:
    _, _, _, *kind, operation, hwaddr, sender, _, target = _ARP.unpack_from(frame)
    if tuple(kind) != _IPV4_OVER_ETHERNET or operation not in (_REQUEST, _REPLY):
        return None
    is_to_request = operation == _REPLY and any(target) and target != sender
    if not any(sender) or is_to_request:
        return None
    return Answer(str(IPv4Address(sender)), hwaddr.hex(":"))


def _parse_advertisement(frame: bytes) -> Answer | None:
    """The checks are those of RFC 4861 section 7.1.2, but for the last of the flags."""
    fields = _NEIGHBOUR.unpack_from(frame)
    first, length, next_header, hop_limit, source, destination = fields[3:9]
    kind, code, _, flags, target = fields[9:]
    body = frame[_ICMP : _ICMP + length]
    if first >> 28 != 6 or next_header != _ICMPV6 or hop_limit != _HOP_LIMIT:
        return None
    if not 24 <= length == len(body) or kind != _ADVERTISEMENT or code != 0:
        return None
    if _is_multicast(target):
        return None
    if flags & _SOLICITED and (_is_multicast(destination) or flags & _OVERRIDE):
        return None
    options = _options(body[24:])
    if options is None or _checksum(source, destination, body) != 0:
        return None
    hwaddr = options.get(_TARGET_HWADDR, fields[1])[:6]
    return Answer(str(IPv6Address(target)), hwaddr.hex(":"))


def _options(data: bytes) -> dict[int, bytes] | None:
    """The options by type, None if they are malformed (RFC 4861 section 4.6)."""
    options: dict[int, bytes] = {}
    while data:
        size = data[1] * 8 if len(data) > 1 else 0
        if size == 0 or size > len(data):
            return None
        options[data[0]] = data[2:size]
        data = data[size:]
    return options


def _arp(
    operation: int,
    hwaddr: str,
    sender: str,
    target: str,
    target_hwaddr: str = NO_HWADDR,
    to: str = BROADCAST,
) -> bytes:
    own = _hardware(hwaddr)
    addresses = IPv4Address(sender).packed, _hardware(target_hwaddr), IPv4Address(target).packed
    head = _hardware(to), own, ETHERTYPE_ARP, *_IPV4_OVER_ETHERNET
    return _ARP.pack(*head, operation, own, *addresses)


def _neighbour(
    kind: int,
    hwaddr: str,
    source: bytes,
    destination: bytes,
    target: bytes,
    option: int,
    to: str = "",
    label: int = 0,
    flags: int = 0,
) -> bytes:
    own = _hardware(hwaddr)
    options = bytes((option, 1)) + own if option else b""
    link = _hardware(to) if to else b"\x33\x33" + destination[12:]  # RFC 2464 section 7
    header = 6 << 28 | label, 24 + len(options), _ICMPV6, _HOP_LIMIT, source, destination
    frame = _NEIGHBOUR.pack(link, own, ETHERTYPE_IPV6, *header, kind, 0, 0, flags, target) + options
    checksum = struct.pack("!H", _checksum(source, destination, frame[_ICMP:]))
    return frame[: _ICMP + 2] + checksum + frame[_ICMP + 4 :]


def _checksum(source: bytes, destination: bytes, body: bytes) -> int:
    """RFC 4443 section 2.3. Over a body that carries its checksum the result is 0."""
    data = source + destination + struct.pack("!II", len(body), _ICMPV6) + body
    data += b"\x00" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _is_multicast(address: bytes) -> bool:
    return address[0] == 0xFF


def _hardware(hwaddr: str) -> bytes:
    return bytes.fromhex(hwaddr.replace(":", ""))
