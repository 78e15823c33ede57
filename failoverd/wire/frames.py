"""Frames: ARP and neighbour discovery as bytes, to ask who holds an address and to say that we do.

All frames are complete ethernet frames. They are not padded to 60 bytes: the card does that, and
the kernel does not pad its own either. Nothing here knows of sockets or of time.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD

NOBODY = "0.0.0.0"  # the sender of a probe, RFC 5227 section 1.1

BROADCAST = "ff:ff:ff:ff:ff:ff"
# By these the pair knows its own questions that have a sender, and does not count them: the flow
# label of a solicitation (RFC 6437), the target's hardware address, which is sought, in a request.
FLOW_LABEL = 0xFA110
MARK = "03:fa:11:0f:a1:10"

_NO_HWADDR = b"\x00" * 6
_ARP_HEADER = struct.pack("!HHBB", 1, 0x0800, 6, 4)  # IPv4 over ethernet, RFC 826
_ARP_REQUEST = 1
_ARP_REPLY = 2

_ICMPV6 = 58
_NEIGHBOUR_SOLICITATION = 135
_NEIGHBOUR_ADVERTISEMENT = 136
_HOP_LIMIT = 255  # proves that no router passed it on, RFC 4861 section 7.1
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
_SOURCE_HWADDR_OPTION, _TARGET_HWADDR_OPTION = 1, 2
_UNSPECIFIED = bytes(16)
_LINK_LOCAL = ipaddress.IPv6Address("fe80::").packed[:8]
_ALL_NODES = ipaddress.IPv6Address("ff02::1").packed
_SOLICITED_NODE = ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13]


@dataclass(frozen=True)
class Answer:
    """Somebody says that address is at hwaddr, both in their shortest form, lower-case."""

    address: str
    hwaddr: str


def arp_request(hwaddr: str, sender: str, target: str, to: str = BROADCAST) -> bytes:
    """Who has target? With NOBODY as sender it is a probe that enters no cache (RFC 5227 2.1.1).

    to: the card that is asked. A network that floods no probes (RFC 9161) passes one that goes to
    a single card, and answers no probe itself, though it answers ordinary requests for the dead.
    """
    return _hardware(to) + _arp(_ARP_REQUEST, hwaddr, sender, _NO_HWADDR, target)[6:]


def marked_request(hwaddr: str, sender: str, target: str) -> bytes:
    """Who has target? An ordinary request of a machine that has an address, and so is answered also
    where probes are not passed on; and known to the pair as its own."""
    return _arp(_ARP_REQUEST, hwaddr, sender, _hardware(MARK), target)


def question(hwaddr: str, sender: str, target: str, to: str = "") -> bytes:
    """Who has target? As the kernel of a machine asks that has sender, so nothing marks it as the
    pair's, and it counts where it comes in.

    to: the card that is asked, else everybody.
    """
    if ":" not in target:
        return arp_request(hwaddr, sender, target, to or BROADCAST)
    wanted = ipaddress.IPv6Address(target).packed
    if to:
        return _hardware(to) + _solicitation(hwaddr, sender, wanted, wanted)[6:]
    return _solicitation(hwaddr, sender, wanted, _SOLICITED_NODE + wanted[13:])


def gratuitous_arp(hwaddr: str, address: str) -> list[bytes]:
    """The frames that tell everybody that address is at hwaddr now.

    The request is what RFC 5227 section 3 recommends; some hosts update only on a reply, whose
    target hardware address must then be the new one (RFC 5944 section 4.6).
    """
    return [
        _arp(_ARP_REQUEST, hwaddr, address, _NO_HWADDR, address),
        _arp(_ARP_REPLY, hwaddr, address, _hardware(hwaddr), address),
    ]


def neighbour_solicitation(hwaddr: str, target: str) -> bytes:
    """Who has target? As in duplicate address detection, so it enters no cache (RFC 4862 5.4.2).

    The answer goes to all nodes.
    """
    wanted = ipaddress.IPv6Address(target).packed
    body = struct.pack("!BBHI", _NEIGHBOUR_SOLICITATION, 0, 0, 0) + wanted
    return _icmpv6(hwaddr, _UNSPECIFIED, _SOLICITED_NODE + wanted[13:], body)


def solicitation_to(to: str, hwaddr: str, source: str, target: str) -> bytes:
    """Does the card `to` have target? Answered to source, a link-local address of the asker.

    A network that suppresses neighbour discovery passes neither what has no source nor what is
    answered to all nodes. What a machine answers to a question with a unicast destination differs
    from what such a network says for it (`parse`).
    """
    wanted = ipaddress.IPv6Address(target).packed
    return _hardware(to) + _solicitation(hwaddr, source, wanted, wanted, FLOW_LABEL)[6:]


def marked_solicitation(hwaddr: str, source: str, target: str) -> bytes:
    """As `marked_request`, from a link-local address."""
    wanted = ipaddress.IPv6Address(target).packed
    return _solicitation(hwaddr, source, wanted, _SOLICITED_NODE + wanted[13:], FLOW_LABEL)


def _solicitation(
    hwaddr: str, source: str, wanted: bytes, destination: bytes, label: int = 0
) -> bytes:
    body = struct.pack("!BBHI", _NEIGHBOUR_SOLICITATION, 0, 0, 0) + wanted
    body += bytes((_SOURCE_HWADDR_OPTION, 1)) + _hardware(hwaddr)
    asker = ipaddress.IPv6Address(source).packed
    return _icmpv6(hwaddr, asker, destination, body, label)


def link_local(hwaddr: str) -> str:
    """A link-local address to ask from where there is none: of this card, but not the one that a
    kernel makes of it (RFC 4291 appendix A has ff:fe in the middle), so that nobody uses it."""
    card = _hardware(hwaddr)
    return str(ipaddress.IPv6Address(_LINK_LOCAL + card[:3] + b"\xfa\x11" + card[3:]))


def unsolicited_advertisement(hwaddr: str, address: str, router: bool = False) -> bytes:
    """Tell everybody that address is at hwaddr now (RFC 4861 7.2.6).

    router: whether this machine forwards. Hosts drop a default router that says it is none.
    """
    source = ipaddress.IPv6Address(address).packed
    flags = _OVERRIDE | (_ROUTER if router else 0)
    body = struct.pack("!BBHB3x", _NEIGHBOUR_ADVERTISEMENT, 0, 0, flags) + source
    body += bytes((_TARGET_HWADDR_OPTION, 1)) + _hardware(hwaddr)
    return _icmpv6(hwaddr, source, _ALL_NODES, body)


def parse(frame: bytes) -> Answer | None:
    """Who proves by this frame that it has an address, None if nobody does. Never raises.

    In ARP that is the sender of an announcement, of a request, and of the answer to a probe: all
    mean that the address is in use (RFC 5227 2.1.1). A probe has no sender. The answer to an
    ordinary question, such as a kernel's, proves nothing: a network that suppresses ARP gives it
    for the dead as well (RFC 9161). The same in neighbour discovery, where answers to a question
    without source are not `solicited`, and those to `solicitation_to` do not `override`.
    """
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETHERTYPE_ARP:
        return _parse_arp(frame[14:])
    if ethertype == ETHERTYPE_IPV6:
        return _parse_advertisement(frame[6:12], frame[14:])
    return None


def _parse_arp(packet: bytes) -> Answer | None:
    if len(packet) < 28 or packet[:6] != _ARP_HEADER:
        return None
    operation, hwaddr, sender, target = struct.unpack_from("!H6s4s6x4s", packet, 6)
    if operation not in (_ARP_REQUEST, _ARP_REPLY) or not any(sender):
        return None
    if operation == _ARP_REPLY and any(target) and target != sender:
        return None  # to an ordinary request
    return Answer(str(ipaddress.IPv4Address(sender)), hwaddr.hex(":"))


def _parse_advertisement(source_hwaddr: bytes, packet: bytes) -> Answer | None:
    """The checks are those of RFC 4861 section 7.1.2, but for the last of the flags."""
    if len(packet) < 64 or packet[0] >> 4 != 6:
        return None
    length, next_header, hop_limit = struct.unpack_from("!HBB", packet, 4)
    source, destination, body = packet[8:24], packet[24:40], packet[40 : 40 + length]
    if next_header != _ICMPV6 or hop_limit != _HOP_LIMIT or not 24 <= length == len(body):
        return None
    kind, code, flags, target = struct.unpack_from("!BBxxB3x16s", body)
    if kind != _NEIGHBOUR_ADVERTISEMENT or code != 0 or _is_multicast(target):
        return None
    if flags & _SOLICITED and (_is_multicast(destination) or flags & _OVERRIDE):
        return None
    options = _options(body[24:])
    if options is None or _checksum(source, destination, body) != 0:
        return None
    hwaddr = options.get(_TARGET_HWADDR_OPTION, source_hwaddr)[:6]
    return Answer(str(ipaddress.IPv6Address(target)), hwaddr.hex(":"))


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


def _arp(operation: int, hwaddr: str, sender: str, target_hwaddr: bytes, target: str) -> bytes:
    ours = _hardware(hwaddr)
    return b"".join(
        (
            _hardware(BROADCAST) + ours + struct.pack("!H", ETHERTYPE_ARP),
            _ARP_HEADER + struct.pack("!H", operation),
            ours + ipaddress.IPv4Address(sender).packed,
            target_hwaddr + ipaddress.IPv4Address(target).packed,
        )
    )


def _icmpv6(hwaddr: str, source: bytes, destination: bytes, body: bytes, label: int = 0) -> bytes:
    """The multicast frame with body, whose checksum is filled in here."""
    checksum = struct.pack("!H", _checksum(source, destination, body))
    return b"".join(
        (
            b"\x33\x33" + destination[12:] + _hardware(hwaddr),  # RFC 2464 section 7
            struct.pack("!H", ETHERTYPE_IPV6),
            struct.pack("!IHBB", 6 << 28 | label, len(body), _ICMPV6, _HOP_LIMIT),
            source + destination,
            body[:2] + checksum + body[4:],
        )
    )


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
