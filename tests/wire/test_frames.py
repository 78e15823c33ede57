"""Our frames are, byte for byte, what the kernel itself sends; what it sends back is understood."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterator

import invariants
import pytest
from hypothesis import given
from hypothesis import strategies as st
from netns import Namespace, cable, namespaces

from dev.fuzzer.targets import resummed
from failoverd.wire import frames
from failoverd.wire.frames import Answer

HWADDR = "02:00:00:00:0a:01"
PEER = "02:00:00:00:0b:01"
V4, V4_PEER = "192.0.2.10", "192.0.2.11"
V6, V6_PEER = "2001:db8::10", "2001:db8::abcd:11"
ETH_P_ALL = 3

hwaddrs = st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))
v4_addresses = st.ip_addresses(v=4).map(str)
v6_addresses = st.ip_addresses(v=6).map(str)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


ETHERNET = "ffffffffffff 020000000a01 0806"
PROBE = unhex(f"{ETHERNET} 0001 0800 06 04 0001 020000000a01 00000000 000000000000 c000020a")
GRATUITOUS = [
    unhex(f"{ETHERNET} 0001 0800 06 04 0001 020000000a01 c000020a 000000000000 c000020a"),
    unhex(f"{ETHERNET} 0001 0800 06 04 0002 020000000a01 c000020a 020000000a01 c000020a"),
]


def test_arp_frames_are_those_of_the_rfcs() -> None:
    assert frames.probe(HWADDR, V4) == PROBE
    assert frames.gratuitous_arp(HWADDR, V4) == GRATUITOUS


ARP = GRATUITOUS[1]
ADVERTISEMENT = frames.unsolicited_advertisement(HWADDR, V6)
SOURCE = "fe80::5"
OVERRIDE, SOLICITED = 0x20, 0x40
NO_OPTION = ADVERTISEMENT[:78]


def test_a_probe_to_one_interface_differs_in_what_it_must() -> None:
    assert frames.probe_to(PEER, HWADDR, "", V4) == hardware(PEER) + PROBE[6:]
    asked = frames.probe_to(PEER, HWADDR, SOURCE, V6)
    assert asked[:14] == hardware(PEER) + hardware(HWADDR) + b"\x86\xdd"
    assert asked[14:18] == b"\x60\x0f\xa1\x10"  # the label is the same in every version
    assert asked[22:54] == packed(SOURCE) + packed(V6)
    assert asked[62:] == packed(V6) + b"\1\1" + hardware(HWADDR)


def test_an_ordinary_request_of_the_pair_is_marked() -> None:
    """By what every version knows."""
    head = f"{ETHERNET} 0001 0800 06 04 0001 020000000a01"
    asked = unhex(f"{head} c000020b 03fa110fa110 c000020a")
    assert frames.marked_request(HWADDR, V4_PEER, V4) == asked
    asked = frames.marked_request(HWADDR, SOURCE, V6_PEER)
    assert asked[:20] == unhex("3333ffcd0011 020000000a01 86dd 600fa110 0020")
    assert asked[20:54] == unhex("3aff") + packed(SOURCE) + packed("ff02::1:ffcd:11")
    assert asked[54:56] + asked[58:62] == unhex("8700 00000000")
    assert asked[62:] == packed(V6_PEER) + b"\1\1" + hardware(HWADDR)


def test_a_request_that_counts_is_as_a_kernel_s() -> None:
    """But for what marks the pair's own."""
    asked = frames.request(HWADDR, V4_PEER, V4)
    assert asked == changed(PROBE, 28, *socket.inet_aton(V4_PEER))
    assert frames.request(HWADDR, V4_PEER, V4, PEER) == hardware(PEER) + asked[6:]
    marked = frames.marked_request(HWADDR, SOURCE, V6)
    asked = frames.request(HWADDR, SOURCE, V6)
    assert asked == marked[:14] + b"\x60\0\0\0" + marked[18:]
    marked = frames.probe_to(PEER, HWADDR, SOURCE, V6)
    asked = frames.request(HWADDR, SOURCE, V6, PEER)
    assert asked == marked[:14] + b"\x60\0\0\0" + marked[18:]


def test_the_address_to_ask_from_is_of_the_interface_and_of_no_other() -> None:
    assert packed(frames.link_local(HWADDR))[8:] == unhex("020000 fa11 000a01")


def hardware(hwaddr: str) -> bytes:
    return unhex(hwaddr.replace(":", ""))


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def changed(frame: bytes, offset: int, *values: int) -> bytes:
    return frame[:offset] + bytes(values) + frame[offset + len(values) :]


def answered(advertisement: bytes, flags: int) -> bytes:
    """As it is sent to one who has asked."""
    return resummed(changed(changed(advertisement, 38, *packed(SOURCE)), 58, flags))


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        pytest.param(ARP, Answer(V4, HWADDR), id="reply"),
        pytest.param(ARP + bytes(18), Answer(V4, HWADDR), id="padded to 60 bytes"),
        pytest.param(GRATUITOUS[0], Answer(V4, HWADDR), id="gratuitous request"),
        pytest.param(
            frames.request(HWADDR, V4, V4_PEER), Answer(V4, HWADDR), id="ordinary request"
        ),
        pytest.param(PROBE, None, id="probe claims nothing"),
        pytest.param(changed(ARP, 38, 0, 0, 0, 0), Answer(V4, HWADDR), id="answer to a probe"),
        pytest.param(changed(ARP, 41, 11), None, id="answer to an ordinary request"),
        pytest.param(changed(ARP, 21, 3), None, id="reverse ARP"),
        pytest.param(changed(ARP, 15, 6), None, id="not ethernet"),
        pytest.param(changed(ARP, 19, 16), None, id="not IPv4"),
        pytest.param(ARP[:41], None, id="cut ARP"),
        pytest.param(b"", None, id="empty"),
        pytest.param(ADVERTISEMENT, Answer(V6, HWADDR), id="advertisement"),
        pytest.param(resummed(NO_OPTION), Answer(V6, HWADDR), id="no option: the frame's sender"),
        pytest.param(
            answered(NO_OPTION, SOLICITED), Answer(V6, HWADDR), id="answer to a probe to it"
        ),
        pytest.param(
            answered(ADVERTISEMENT, SOLICITED | OVERRIDE), None, id="answer to a kernel's request"
        ),
        pytest.param(frames.probe(HWADDR, V6), None, id="solicitation"),
        pytest.param(changed(ADVERTISEMENT, 57, 0xFF), None, id="checksum"),
        pytest.param(changed(ADVERTISEMENT, 21, 64), None, id="came over a router"),
        pytest.param(resummed(changed(ADVERTISEMENT, 54, 135)), None, id="type"),
        pytest.param(resummed(changed(ADVERTISEMENT, 55, 1)), None, id="code"),
        pytest.param(resummed(changed(ADVERTISEMENT, 58, 0x60)), None, id="solicited multicast"),
        pytest.param(resummed(changed(ADVERTISEMENT, 62, 0xFF)), None, id="multicast target"),
        pytest.param(resummed(changed(ADVERTISEMENT, 79, 0)), None, id="option of no length"),
        pytest.param(resummed(changed(ADVERTISEMENT, 79, 2)), None, id="option too long"),
        pytest.param(changed(ADVERTISEMENT, 20, 17), None, id="UDP"),
        pytest.param(changed(ADVERTISEMENT, 14, 0x40), None, id="version"),
        pytest.param(ADVERTISEMENT[:-1], None, id="cut advertisement"),
        pytest.param(ADVERTISEMENT + bytes(9), Answer(V6, HWADDR), id="padded advertisement"),
        pytest.param(changed(NO_OPTION, 18, 0, 32), None, id="shorter than it says"),
        pytest.param(changed(ADVERTISEMENT, 18, 0, 16), None, id="too short by what it says"),
        pytest.param(
            resummed(changed(NO_OPTION, 58, SOLICITED)), None, id="solicited, but sent to all"
        ),
        pytest.param(
            resummed(changed(ADVERTISEMENT, 58, OVERRIDE | 1)), Answer(V6, HWADDR), id="reserved"
        ),
        pytest.param(
            resummed(changed(ADVERTISEMENT, 79, 2) + bytes(8)), Answer(V6, HWADDR), id="long option"
        ),
        pytest.param(resummed(ADVERTISEMENT[:77]), None, id="cut target"),
    ],
)
def test_parse(frame: bytes, answer: Answer | None) -> None:
    assert frames.parse(frame) == answer


def test_who_does_not_forward_says_that_it_is_no_router() -> None:
    assert ADVERTISEMENT[58] == OVERRIDE
    assert frames.unsolicited_advertisement(HWADDR, V6, router=True)[58] == OVERRIDE | 0x80


@given(st.binary(max_size=120))
def test_garbage_never_raises(data: bytes) -> None:
    invariants.framed(data)
    for start in (ARP[:14], ARP[:22], ADVERTISEMENT[:14], ADVERTISEMENT[:58]):
        invariants.framed(start + data)
    invariants.framed(resummed(ADVERTISEMENT[:78] + data))


@given(st.integers(0, 85), st.integers(0, 255))
def test_a_damaged_frame_never_raises(offset: int, value: int) -> None:
    invariants.framed(changed(ARP, min(offset, 41), value))
    invariants.framed(resummed(changed(ADVERTISEMENT, offset, value)))
    invariants.framed(ADVERTISEMENT[:offset])


@given(hwaddrs, v4_addresses)
def test_what_we_announce_is_read_back(hwaddr: str, address: str) -> None:
    expected = None if address == frames.NOBODY else Answer(address, hwaddr)
    assert [frames.parse(frame) for frame in frames.gratuitous_arp(hwaddr, address)] == [
        expected,
        expected,
    ]
    assert frames.parse(frames.probe(hwaddr, address)) is None


@given(hwaddrs, v6_addresses.filter(lambda address: not address.startswith("ff")), st.booleans())
def test_what_we_advertise_is_read_back(hwaddr: str, address: str, router: bool) -> None:
    frame = frames.unsolicited_advertisement(hwaddr, address, router)
    assert frames.parse(frame) == Answer(address, hwaddr)
    assert frames.parse(frames.probe(hwaddr, address)) is None
    assert frames.parse(frames.probe_to(PEER, hwaddr, SOURCE, address)) is None


class Wire:
    """Two namespaces on one cable, and everything that passes over it."""

    def __init__(self, near: Namespace, far: Namespace) -> None:
        self.near, self.far = near, far
        cable(near, "eth0", far, "eth0")
        near.ip(f"link set eth0 address {HWADDR}")
        far.ip(f"link set eth0 address {PEER}")
        self.socket = near.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))

    def set(self, namespace: Namespace, key: str, value: int) -> None:
        namespace.run("sh", "-c", f"echo {value} >/proc/sys/net/{key}")

    def expect(self, wanted: Callable[[bytes], bool]) -> bytes:
        """The next frame that is wanted; fails after 20 s."""
        limit = time.monotonic() + 20
        while (left := limit - time.monotonic()) > 0:
            self.socket.settimeout(left)
            frame = self.socket.recv(2048)
            if wanted(frame):
                return frame
        raise AssertionError("no such frame came")


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with namespaces(2) as (near, far):
        made = Wire(near, far)
        with made.socket:
            made.near.ip(f"address add {V4}/24 dev eth0", f"address add {V6}/64 dev eth0 nodad")
            made.far.ip(f"address add {V4_PEER}/24 dev eth0")
            made.far.ip(f"address add {V6_PEER}/64 dev eth0 nodad")
            yield made


def test_the_kernel_asks_by_arp_as_we_do(wire: Wire) -> None:
    ours = frames.request(HWADDR, V4, V4_PEER)
    with wire.near.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"who are you?", (V4_PEER, 9))
    assert wire.expect(lambda frame: frame[6:14] == ours[6:14]) == ours


def test_the_kernel_announces_by_arp_as_we_do(wire: Wire) -> None:
    wire.set(wire.near, "ipv4/conf/eth0/arp_notify", 1)
    request = frames.gratuitous_arp(HWADDR, V4)[0]
    wire.near.ip("link set eth0 address 02:00:00:00:0a:02", f"link set eth0 address {HWADDR}")
    assert wire.expect(lambda frame: frame[6:14] == request[6:14]) == request


def test_the_kernel_detects_duplicates_as_we_ask(wire: Wire) -> None:
    wire.set(wire.near, "ipv6/conf/all/enhanced_dad", 0)  # else it adds a nonce, RFC 7527
    wire.set(wire.near, "ipv6/conf/eth0/enhanced_dad", 0)
    wire.set(wire.near, "ipv6/conf/eth0/accept_dad", 1)
    ours = frames.probe(HWADDR, "2001:db8::7:77")
    wire.near.ip("address add 2001:db8::7:77/64 dev eth0")
    assert wire.expect(lambda frame: frame[54:55] == ours[54:55] and frame[62:] == ours[62:]) == (
        ours
    )


@pytest.mark.parametrize("router", [False, True])
def test_the_kernel_advertises_as_we_do(wire: Wire, router: bool) -> None:
    wire.set(wire.near, "ipv6/conf/eth0/forwarding", int(router))
    wire.set(wire.near, "ipv6/conf/eth0/ndisc_notify", 1)
    wire.near.ip("link set eth0 address 02:00:00:00:0a:02", f"link set eth0 address {HWADDR}")
    ours = frames.unsolicited_advertisement(HWADDR, V6, router)
    assert wire.expect(lambda frame: frame[6:12] == ours[6:12] and frame[62:78] == ours[62:78]) == (
        ours
    )


@pytest.mark.parametrize(
    ("probe", "answer"),
    [
        (frames.probe(HWADDR, V4_PEER), Answer(V4_PEER, PEER)),
        (frames.probe(HWADDR, V6_PEER), Answer(V6_PEER, PEER)),
        (frames.probe_to(PEER, HWADDR, "", V4_PEER), Answer(V4_PEER, PEER)),
        (frames.probe_to(PEER, HWADDR, SOURCE, V6_PEER), Answer(V6_PEER, PEER)),
    ],
)
def test_the_kernel_answers_a_probe(wire: Wire, probe: bytes, answer: Answer) -> None:
    wire.socket.sendto(probe, ("eth0", 0))
    frame = wire.expect(lambda frame: frames.parse(frame) == answer)
    assert frame[6:12] == bytes.fromhex(PEER.replace(":", ""))


def test_the_address_to_ask_from_is_no_kernels(wire: Wire) -> None:
    """One of ours that has no other; the kernel makes its own of the hardware address as well."""
    for hwaddr in (HWADDR, PEER):
        made = ipaddress.IPv6Address(frames.link_local(hwaddr))
        assert made.is_link_local and hwaddr[-8:].replace(":", "") in made.exploded.replace(":", "")
    (interface,) = wire.near.show("address", "show", "dev", "eth0")
    known = {entry["local"] for entry in interface["addr_info"] if entry["scope"] == "link"}
    assert known and frames.link_local(HWADDR) not in known


def test_a_neighbour_believes_our_announcement(wire: Wire) -> None:
    def known(address: str) -> list[str]:
        return [entry.get("lladdr") for entry in wire.far.show("neighbour", "show", "to", address)]

    moved = "02:00:00:00:0c:01"
    gratuitous_arp = [
        (V4, frames.gratuitous_arp(moved, V4)[:1]),
        (V4, frames.gratuitous_arp(moved, V4)[1:]),
        (V6, [frames.unsolicited_advertisement(moved, V6)]),
    ]
    for address, announcement in gratuitous_arp:
        entry = f"neighbour replace {address} lladdr {HWADDR} dev eth0 nud reachable"
        wire.far.ip(entry)
        for frame in announcement:
            wire.socket.sendto(frame, ("eth0", 0))
        limit = time.monotonic() + 20
        while known(address) != [moved]:
            assert time.monotonic() < limit, f"{address} is still at {known(address)}"
            time.sleep(0.01)
