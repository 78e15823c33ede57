"""The asking child and the announcer, between real nodes on a real switch."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netns import ROOTLESS, Namespace, cable, namespaces
from processes import wait_until

from failoverd import neighbours, process
from failoverd.conf import Address, Conf, EthernetAddress
from failoverd.process import Channel, Child, Message
from failoverd.wire import frames

OURS, PEER, SHARED = "02:00:00:00:0a:01", "02:00:00:00:0b:01", "02:00:00:00:00:10"
STRANGER = "02:00:00:00:0c:01"
V4, V6 = "192.0.2.10", "2001:db8::10"
ADDRESSES = (Address("eth0", V4, 24), Address("eth0", V6, 64))
USER = "root" if ROOTLESS else "nobody"
CONF = Conf(addresses=ADDRESSES, user=USER, plip_timer=2000.0)
LIMIT = 60.0
ETH_P_ALL = 3
OUTGOING = 4  # PACKET_OUTGOING of packet(7)


def probe(identity: int = 1, span: float = 0.15, **more: Any) -> Message:
    """Three rounds in span seconds, reported at its end."""
    now = time.monotonic()
    at = [now + span * part for part in (0.0, 0.3, 0.6)]
    message = {"do": "probe", "id": identity, "interfaces": ["eth0"], "at": at}
    return {**message, "until": now + span, **more}


def answer(hwaddr: str, address: str, interface: str = "eth0") -> dict[str, str]:
    return {"interface": interface, "address": address, "hwaddr": hwaddr}


class Asker:
    """The child `neighbours` in a namespace, as failoverd sees it."""

    def __init__(self, namespace: Namespace, conf: Conf = CONF) -> None:
        def run(channel: Channel) -> None:
            namespace.move_in()
            neighbours.run(channel, conf)

        self.child: Child = process.fork_child("neighbours of a test", run)
        self.messages: list[Message] = []
        assert self.receive() == {"event": "ready"}

    def send(self, message: Message) -> None:
        assert self.child.channel.send(message)

    def receive(self) -> Message:
        """The next message; fails after LIMIT seconds."""
        limit = time.monotonic() + LIMIT
        while time.monotonic() < limit:
            if self.messages:
                return self.messages.pop(0)
            self.messages = self.child.channel.receive()
            time.sleep(0.005)
        raise AssertionError("the child says nothing")

    def ask(self, rounds: int = 1, **more: Any) -> Message:
        """The report on a probe; once more if this host was too slow to send it in time."""
        limit = time.monotonic() + LIMIT
        while True:
            self.send(probe(**more))
            report = self.receive()
            asked = report["asked"]
            assert isinstance(asked, int)
            if asked >= rounds or (rounds == 1 and report["unsent"]) or time.monotonic() > limit:
                return report

    def status(self, key: str) -> str:
        with open(f"/proc/{self.child.pid}/status", encoding="ascii") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith(key))

    def close(self) -> None:
        self.child.channel.close()
        os.waitpid(self.child.pid, 0)


class Site:
    """Us and the peer, each with an interface on the switch; no host has the addresses yet."""

    def __init__(self, us: Namespace, peer: Namespace, switch: Namespace) -> None:
        self.us, self.peer, self.switch = us, peer, switch
        switch.ip("link add sw type bridge", "link set sw up")
        self.plug(us, "eth0", OURS)
        self.plug(peer, "eth0", PEER)

    def plug(self, node: Namespace, interface: str, hwaddr: str) -> None:
        port = f"p{node.pid}{interface[-1]}"
        cable(node, interface, self.switch, port)
        self.switch.ip(f"link set {port} master sw")
        node.ip(f"link set {interface} address {hwaddr}")

    def tidy(self) -> None:
        """As it was made, whatever a test has done."""
        self.switch.ip(f"link set p{self.us.pid}0 master sw", "link delete t0", force=True)
        self.switch.ip("link delete leaf", force=True)
        for node, hwaddr in ((self.us, OURS), (self.peer, PEER)):
            node.ip(
                *("link delete eth1", "link delete br0", "address flush dev eth0"),
                *("neighbour flush dev eth0", f"link set eth0 mtu 1500 address {hwaddr} up"),
                force=True,
            )
            node.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/forwarding")
        for node in (self.us, self.peer):
            wait_until(lambda here=node: works(here, "eth0"))  # type: ignore[misc]
            self.wait_for_port(f"p{node.pid}0")

    def wait_for_port(self, port: str) -> None:
        """Wait until the switch passes on what comes in there, which it does not do at once."""

        def forwards() -> bool:
            (link,) = self.switch.show("-d", "link", "show", "dev", port)
            return bool(link["linkinfo"]["info_slave_data"]["state"] == "forwarding")

        wait_until(forwards)

    def suppress(self, hwaddr: str) -> None:
        """Put us on a switch of our own: two leaves of a fabric that suppresses ARP and neighbour
        discovery (RFC 9161). Its control plane has learnt that the addresses are at hwaddr."""
        self.switch.ip(
            *("link add leaf type bridge mcast_snooping 0", "link set leaf up"),
            f"link set p{self.us.pid}0 master leaf",
            "link add t0 type veth peer name t1",
            *("link set t0 master sw up", "link set t1 master leaf up"),
            *(f"link set {end} type bridge_slave neigh_suppress on" for end in ("t0", "t1")),
            *(f"neighbour add {a} lladdr {hwaddr} dev leaf nud permanent" for a in (V4, V6)),
        )
        for port in ("t0", "t1", f"p{self.us.pid}0"):
            self.wait_for_port(port)
        self.teach(hwaddr)

    def teach(self, hwaddr: str) -> None:
        """Have the switches learn where an interface is: a fabric answers for those it knows."""
        with self.wire(self.peer) as wire:
            frame = hardware(STRANGER) + hardware(hwaddr) + struct.pack("!H46x", 0x88B5)
            wire.sendto(frame, ("eth0", 0))

    def serve(self, node: Namespace, interface: str = "eth0") -> None:
        node.ip(f"address replace {V4}/24 dev {interface}")
        node.ip(f"address replace {V6}/64 dev {interface} nodad")
        # The kernel joins the group that is asked for it a moment later, and then adds this route.
        wait_until(lambda: node.show("-6", "route", "show", "table", "local", "exact", V6))

    def wire(self, node: Namespace) -> socket.socket:
        """A socket that sees and sends all on the node's interfaces."""
        return node.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))


def works(node: Namespace, interface: str) -> bool:
    """Whether it has a carrier, as the kernel tells it, a moment later."""
    (link,) = node.show("link", "show", "dev", interface)
    return bool(link["operstate"] == "UP")


def hardware(hwaddr: str) -> bytes:
    return bytes.fromhex(hwaddr.replace(":", ""))


@pytest.fixture(scope="module")
def lasting_site() -> Iterator[Site]:
    with namespaces(3) as nodes:
        yield Site(*nodes)


@pytest.fixture
def site(lasting_site: Site) -> Site:
    lasting_site.tidy()
    return lasting_site


@pytest.fixture
def make_asker() -> Iterator[Callable[..., Asker]]:
    made: list[Asker] = []

    def make(namespace: Namespace, conf: Conf = CONF) -> Asker:
        made.append(Asker(namespace, conf))
        return made[-1]

    yield make
    for asker in made:
        asker.close()


MakeAsker = Callable[..., Asker]


def test_no_host_answers(site: Site, make_asker: MakeAsker) -> None:
    report = make_asker(site.us).ask(3, identity=7)
    assert report == {
        **{"event": "answers", "id": 7, "asked": 3},
        **{"unsent": {}, "answers": []},
    }


def test_the_peer_answers_for_every_address(site: Site, make_asker: MakeAsker) -> None:
    asker = make_asker(site.us)
    site.serve(site.peer)
    assert asker.ask()["answers"] == [answer(PEER, V4), answer(PEER, V6)]
    site.peer.ip("address flush dev eth0")
    assert asker.ask()["answers"] == []


def test_a_probe_enters_no_cache(site: Site, make_asker: MakeAsker) -> None:
    site.serve(site.peer)
    make_asker(site.us).ask()
    assert not [entry for entry in site.peer.show("neighbour") if entry.get("lladdr") == OURS]


@pytest.mark.parametrize("hwaddr", [OURS, SHARED])
def test_a_probe_to_one_interface_leaves_there_what_is_true(
    site: Site, make_asker: MakeAsker, hwaddr: str
) -> None:
    """Its kernel keeps where we are. While our interface has another address, that is nowhere."""
    site.us.ip(f"link set eth0 address {hwaddr}", "address add fe80::a/64 dev eth0 nodad")
    site.serve(site.peer)
    asker = make_asker(site.us)
    assert answer(PEER, V6) in list(asker.ask(own={"eth0": OURS}, peer=[PEER])["answers"])  # type: ignore[call-overload]
    (link,) = site.us.show("-6", "address", "show", "dev", "eth0")
    real = {entry["local"] for entry in link["addr_info"] if entry["scope"] == "link"}
    left = {one["dst"] for one in site.peer.show("neighbour") if one.get("lladdr") == OURS}
    assert left and left <= (real if hwaddr == OURS else {frames.link_local(OURS)})


def test_the_active_node_does_not_count_its_own_answers(site: Site, make_asker: MakeAsker) -> None:
    site.serve(site.us)
    assert make_asker(site.us).ask()["answers"] == []


def test_the_active_node_finds_the_peer_under_the_shared_address(
    site: Site, make_asker: MakeAsker
) -> None:
    asker = make_asker(site.us)
    for node in (site.us, site.peer):
        node.ip(f"link set eth0 address {SHARED}")
        site.serve(node)
    report = asker.ask(own={"eth0": OURS})
    assert report["answers"] == [answer(SHARED, V4), answer(SHARED, V6)]


def test_our_other_interface_is_not_the_peer(site: Site, make_asker: MakeAsker) -> None:
    """It answers for any address of the node; the peer's interfaces are told from it."""
    site.plug(site.us, "eth1", "02:00:00:00:0a:02")
    site.us.ip(f"link set eth0 address {SHARED}")
    site.serve(site.us)
    asker = make_asker(site.us)
    with site.wire(site.us) as wire:
        assert asker.ask(own={"eth0": OURS})["answers"] == []
        came = {frames.parse(frame) for frame in waiting(wire)}
    assert frames.Answer(V4, "02:00:00:00:0a:02") in came, "eth1 did not answer: nothing is shown"
    site.peer.ip(f"link set eth0 address {SHARED}")
    site.serve(site.peer)
    assert answer(SHARED, V4) in list(asker.ask(own={"eth0": OURS})["answers"])  # type: ignore[call-overload]


@pytest.mark.parametrize("hwaddr", [PEER, SHARED])
def test_a_fabric_that_suppresses_arp_hides_no_host(
    site: Site, make_asker: MakeAsker, hwaddr: str
) -> None:
    """It floods no probe; one that goes to the peer's interface passes, if that is known."""
    site.peer.ip(f"link set eth0 address {hwaddr}")
    site.serve(site.peer)
    site.suppress(hwaddr)
    unknown = make_asker(site.us)
    assert unknown.ask()["answers"] == [], "it floods probes: nothing is shown"
    there = [answer(hwaddr, V4), answer(hwaddr, V6)]
    assert unknown.ask(peer=[STRANGER, hwaddr])["answers"] == there
    shared = (EthernetAddress("eth0", SHARED),)
    knows = make_asker(site.us, Conf(addresses=ADDRESSES, ethernet_addresses=shared, user=USER))
    assert knows.ask()["answers"] == (there if hwaddr == SHARED else [])


def test_only_interfaces_are_asked_one_by_one(site: Site, make_asker: MakeAsker) -> None:
    """Other link layers have other addresses, and none is every host's."""
    site.serve(site.peer)
    others = ["", "x", "01:00:5e:00:00:01", frames.BROADCAST, ":".join(["02"] * 20), PEER[:-1]]
    with site.wire(site.peer) as wire:
        assert make_asker(site.us).ask(peer=[*others, PEER])["answers"] == BOTH
        asked = [frame[:6] for frame in waiting(wire) if frame[6:12] == hardware(OURS)]
    multicast = {to for to in asked if to[0] & 1}
    assert set(asked) - multicast == {hardware(PEER)}
    assert {to[:2] for to in multicast} == {b"\xff\xff", b"\x33\x33"}


def test_a_fabric_hides_no_host_from_the_active_node(site: Site, make_asker: MakeAsker) -> None:
    """Its interface's address is not the one that it asks from, and it has no IPv6 for that."""
    site.us.ip(f"link set eth0 address {SHARED}")
    site.serve(site.peer)
    site.suppress(PEER)
    report = make_asker(site.us).ask(own={"eth0": OURS}, peer=[PEER])
    assert report["answers"] == [answer(PEER, V4), answer(PEER, V6)]


def test_a_fabric_does_not_answer_for_the_dead(site: Site, make_asker: MakeAsker) -> None:
    """Not even while a kernel here asks for the address, and is told a lie."""
    site.suppress(PEER)
    site.us.ip("address add 192.0.2.2/24 dev eth0", "address add 2001:db8::2/64 dev eth0 nodad")
    asker = make_asker(site.us)
    lies: set[str] = set()
    limit = time.monotonic() + LIMIT
    with site.wire(site.us) as wire:
        while lies != {V4, V6}:
            assert time.monotonic() < limit, "the fabric answers for no host: nothing is shown"
            site.teach(PEER)
            asker.send(probe(peer=[PEER]))
            for _ in range(3):
                site.us.ip("neighbour flush dev eth0")
                site.us.run("ping", "-c1", "-W0.01", V4, check=False)
                site.us.run("ping", "-6", "-c1", "-W0.01", V6, check=False)
            assert asker.receive()["answers"] == []
            lies |= {address for frame in waiting(wire) if (address := claimed(frame, PEER))}


def claimed(frame: bytes, hwaddr: str) -> str:
    """For which of the addresses a frame of that interface is an answer, proof or not."""
    if frame[6:12] != hardware(hwaddr):
        return ""
    arp = frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2"
    return V4 if arp else V6 if frame[12:14] == b"\x86\xdd" and frame[54] == 136 else ""


class Injected:
    """What counts of the frames that come in while a probe is under way: a stranger's always does,
    and tells that those before it came in as well."""

    def __init__(self, site: Site, asker: Asker) -> None:
        self._site, self._asker = site, asker

    def __call__(self, *sent: bytes, interface: str = "eth0", **more: Any) -> list[dict[str, str]]:
        limit = time.monotonic() + LIMIT
        last = answer(STRANGER, V4)
        while True:
            answers = self._ask((*sent, *frames.gratuitous_arp(STRANGER, V4)), interface, more)
            if last in answers:
                return [found for found in answers if found != last]
            assert time.monotonic() < limit, "the stranger is not found either"

    def _ask(self, sent: tuple[bytes, ...], interface: str, more: dict[str, Any]) -> Any:
        with self._site.wire(self._site.peer) as wire:
            wire.settimeout(LIMIT)
            self._asker.send(probe(span=0.5, **more))
            unasked = set(more.get("interfaces", ["eth0"]))
            while unasked:
                frame, (asked_on, *_) = wire.recvfrom(2048)
                if frame[12:14] == b"\x08\x06" and frame[28:32] == bytes(4):
                    unasked.discard(asked_on)
            for frame in sent:
                wire.sendto(frame, (interface if frame in sent[:-2] else "eth0", 0))
        return self._asker.receive()["answers"]


def tagged(frame: bytes, vlan: int, priority: int = 0) -> bytes:
    """The frame with an IEEE 802.1Q tag."""
    return frame[:12] + struct.pack("!HH", 0x8100, priority << 13 | vlan) + frame[12:]


CLAIMS = [
    frames.gratuitous_arp(PEER, V4)[0],
    hardware(OURS) + frames.gratuitous_arp(PEER, V4)[1][6:],
    frames.unsolicited_advertisement(PEER, V6),
]
BOTH = [answer(PEER, V4), answer(PEER, V6)]


def test_what_another_vlan_carries_is_no_answer(site: Site, make_asker: MakeAsker) -> None:
    """On a trunk it comes without its tag, if the VLAN has no device here."""
    injected = Injected(site, make_asker(site.us))
    assert injected(*CLAIMS) == BOTH
    assert injected(*(tagged(frame, 5) for frame in CLAIMS)) == []
    assert injected(*(tagged(frame, 5) for frame in CLAIMS), own={"eth0": OURS}) == []
    assert injected(*(tagged(frame, 0, 6) for frame in CLAIMS)) == BOTH, "no VLAN, but a priority"
    site.us.ip(f"link set eth0 address {SHARED}")
    assert injected(CLAIMS[1], own={"eth0": OURS}) == BOTH[:1]
    assert injected(tagged(CLAIMS[1], 5)) == [], "what was for our own address once is so no more"


def test_what_we_say_ourselves_is_no_answer(site: Site, make_asker: MakeAsker) -> None:
    """Some switches send a frame back to where it came from."""
    injected = Injected(site, make_asker(site.us))
    ours = frames.gratuitous_arp(OURS, V4)
    assert injected(*ours) == []
    site.us.ip(f"link set eth0 address {SHARED}")
    own = {"eth0": OURS}
    assert injected(*ours, own=own) == []
    assert injected(*frames.gratuitous_arp(SHARED, V4), own=own) == [answer(SHARED, V4)]


def test_each_address_is_asked_and_answered_on_its_own_interface(
    site: Site, make_asker: MakeAsker
) -> None:
    """Another network may have the same addresses."""
    cable(site.us, "eth1", site.peer, "eth1")
    other = "198.51.100.10"
    asker = make_asker(site.us, Conf(addresses=(*ADDRESSES, Address("eth1", other, 24)), user=USER))
    injected = Injected(site, asker)
    right = frames.gratuitous_arp(PEER, other)[0]
    two = {"interfaces": ["eth0", "eth1"]}
    with site.wire(site.peer) as wire:
        answers = injected(*CLAIMS, right, interface="eth1", **two)
        asked = {(interface, target) for interface, target in map(probed, received(wire)) if target}
    assert answers == [answer(PEER, other, "eth1")]
    assert asked == {("eth0", V4), ("eth1", other)}


def received(sock: socket.socket) -> Iterator[tuple[str, bytes]]:
    """The frames that wait, and the interface that each came in by."""
    sock.setblocking(False)
    while True:
        try:
            frame, (interface, _, kind, *_) = sock.recvfrom(2048)
        except BlockingIOError:
            return
        if kind != OUTGOING:
            yield interface, frame


def probed(came: tuple[str, bytes]) -> tuple[str, str]:
    """The interface, and the IPv4 address that a probe there asks for, "" if it is none."""
    interface, frame = came
    probe = frame[12:14] == b"\x08\x06" and frame[28:32] == bytes(4)
    return interface, socket.inet_ntoa(frame[38:42]) if probe else ""


@pytest.mark.parametrize(("rounds", "asked"), [(1, (1, 1)), (2, (1, 1)), (3, (2, 1))])
def test_of_many_addresses_all_and_the_peer_are_asked_in_turns(
    site: Site, make_asker: MakeAsker, rounds: int, asked: tuple[int, int]
) -> None:
    """How often of all hosts, and how often of the peer; with few addresses each time of both."""
    many = [f"198.51.{100 + n // 100}.{n % 100 + 1}" for n in range(neighbours.MANY + 1)]
    for names in (many, many[:2]):
        asker = make_asker(
            site.us, Conf(addresses=tuple(Address("eth0", one, 24) for one in names), user=USER)
        )
        with site.wire(site.us) as wire:
            now = time.monotonic()
            at = [now + 0.1 * n for n in range(rounds)]
            asker.send(probe(at=at, until=now + 0.5, peer=[PEER]))
            assert asker.receive()["asked"] == rounds
            came = [(frame[:6], probed(("", frame))[1]) for frame in waiting(wire)]
        found = Counter(one for one in came if one[1])
        for name in names:
            counts = found[hardware("ff:ff:ff:ff:ff:ff"), name], found[hardware(PEER), name]
            assert counts == (asked if names is many else (rounds, rounds))


def test_an_answer_to_our_own_address_reaches_a_bridge(site: Site, make_asker: MakeAsker) -> None:
    """Unlike a veth, a bridge drops what is sent to an address that is not its own."""
    site.us.ip("link add br0 type bridge", "link set br0 up", "link set eth0 master br0")
    site.us.ip(f"link set br0 address {SHARED}")
    wait_until(lambda: works(site.us, "br0"))
    site.peer.ip(f"address add {V4}/24 dev eth0")
    conf = Conf(addresses=(Address("br0", V4, 24),), user=USER, plip_timer=2000.0)
    asker = make_asker(site.us, conf)
    own = "02:00:00:00:0a:0b"
    for _ in range(2):
        report = asker.ask(interfaces=["br0"], own={"br0": own})
        assert report["answers"] == [answer(PEER, V4, "br0")]
        assert promiscuity(site.us, "br0") == 0, "the interface is left listening to everything"


def promiscuity(namespace: Namespace, interface: str) -> int:
    (link,) = namespace.show("-d", "link", "show", "dev", interface)
    return int(link["promiscuity"])


def waiting(sock: socket.socket) -> Iterator[bytes]:
    sock.setblocking(False)
    while True:
        try:
            yield sock.recv(2048)
        except BlockingIOError:
            return


@pytest.mark.parametrize("trouble", ["down", "unplugged", "gone"])
def test_an_interface_that_cannot_send_was_not_asked(
    site: Site, make_asker: MakeAsker, trouble: str
) -> None:
    asker = make_asker(site.us)
    site.serve(site.peer)
    if trouble == "down":
        site.us.ip("link set eth0 down")
    elif trouble == "unplugged":
        site.switch.ip(f"link set p{site.us.pid}0 down")
        wait_until(lambda: not works(site.us, "eth0"))
    else:
        site.us.ip("link delete eth0")
    report = asker.ask()
    assert (report["asked"], report["answers"]) == (0, [])
    assert list(report["unsent"]) == ["eth0"]  # type: ignore[call-overload]
    if trouble == "gone":
        site.plug(site.us, "eth0", OURS)
    site.us.ip("link set eth0 up")
    site.switch.ip(f"link set p{site.us.pid}0 up")
    limit = time.monotonic() + LIMIT
    while len(list(report["answers"])) < 2:  # type: ignore[call-overload]
        assert time.monotonic() < limit
        report = asker.ask()
    assert report["answers"] == [answer(PEER, V4), answer(PEER, V6)]


def test_only_what_was_sent_was_asked(site: Site, make_asker: MakeAsker) -> None:
    """Of three rounds the interface that goes down has sent one."""
    asker = make_asker(site.us)
    limit = time.monotonic() + LIMIT
    asked = 0
    with site.wire(site.peer) as wire:
        wire.settimeout(LIMIT)
        while asked != 1:  # it took too long to take the interface down
            assert time.monotonic() < limit, f"{asked} rounds are said to have been asked"
            site.us.ip("link set eth0 up")
            now = time.monotonic()
            asker.send(probe(at=[now, now + 1.0, now + 1.1], until=now + 1.2))
            while wire.recv(2048)[6:12] != hardware(OURS):
                pass
            site.us.ip("link set eth0 down")
            report = asker.receive()
            asked = int(str(report["asked"]))
            list(waiting(wire))
            wire.settimeout(LIMIT)
    assert list(report["unsent"]) == ["eth0"]  # type: ignore[call-overload]


def test_what_was_sent_in_part_was_not_asked(site: Site, make_asker: MakeAsker) -> None:
    """The probe to the peer's interface alone is too long for this wire."""
    site.us.ip("link set eth0 mtu 68")
    asker = make_asker(site.us)
    assert asker.ask(3)["asked"] == 3
    report = asker.ask(peer=[PEER])
    assert (report["asked"], report["unsent"]) == (0, {"eth0": "Message too long"})


def test_a_missing_interface_does_not_silence_the_other(site: Site, make_asker: MakeAsker) -> None:
    site.serve(site.peer)
    conf = Conf(addresses=(Address("eth9", "192.0.2.9", 24), *ADDRESSES), user=USER)
    report = make_asker(site.us, conf).ask(3, interfaces=["eth9", "eth0"])
    assert report["asked"] == 3
    assert report["unsent"] == {"eth9": "there is no such interface, or it has no hardware address"}
    assert report["answers"] == [answer(PEER, V4), answer(PEER, V6)]


def test_what_serves_nothing_is_not_asked(site: Site, make_asker: MakeAsker) -> None:
    """There is nothing wrong with a tunnel beside the service interface, say."""
    site.serve(site.peer)
    report = make_asker(site.us).ask(3, interfaces=["eth0", "lo", "tun0"])
    assert (report["asked"], report["unsent"]) == (3, {})
    assert report["answers"] == [answer(PEER, V4), answer(PEER, V6)]


def test_rounds_that_came_late_are_no_burst(site: Site, make_asker: MakeAsker) -> None:
    """Each is asked, half as far apart as was wanted, and the last has its time for an answer."""
    asker = make_asker(site.us)
    limit = time.monotonic() + LIMIT
    took = LIMIT
    while took > 0.45:  # this host was slow, or they are too far apart
        began = time.monotonic()
        assert began < limit, f"three rounds took {took} s"
        asker.send(probe(at=[began - 3, began - 2.8, began - 2.6], until=began - 2.5))
        assert asker.receive()["asked"] == 3
        took = time.monotonic() - began
        assert took >= 2 * 0.1 + 0.1


def test_forget(site: Site, make_asker: MakeAsker) -> None:
    asker = make_asker(site.us)
    asker.send(probe(1, LIMIT))
    asker.send({"do": "forget"})
    assert asker.ask(identity=2)["id"] == 2


def test_two_probes_at_a_time(site: Site, make_asker: MakeAsker) -> None:
    asker = make_asker(site.us)
    site.serve(site.peer)
    asker.send(probe(1, 0.6))
    asker.send(probe(2, 0.2))
    reports = [asker.receive(), asker.receive()]
    assert [report["id"] for report in reports] == [2, 1]
    assert all(report["answers"] == [answer(PEER, V4), answer(PEER, V6)] for report in reports)


def test_what_was_said_before_the_probe_is_no_answer(site: Site, make_asker: MakeAsker) -> None:
    asker = make_asker(site.us)
    in_time = False
    with site.wire(site.peer) as wire:
        while not in_time:
            ask_at = time.monotonic() + 0.4
            asker.send(probe(1, 0.1))
            asker.send(probe(2, at=[ask_at], until=ask_at + 0.2))
            assert asker.receive()["id"] == 1  # so it knows of the second, too
            wire.sendto(frames.gratuitous_arp(PEER, V4)[1], ("eth0", 0))
            in_time = time.monotonic() < ask_at
            answers = asker.receive()["answers"]
    assert answers == []


def test_liars_and_garbage_do_no_harm(site: Site, make_asker: MakeAsker) -> None:
    asker = make_asker(site.us)
    with site.wire(site.peer) as wire:
        asker.send(probe(span=0.5))
        ethertypes = itertools.cycle((frames.ETHERTYPE_ARP, frames.ETHERTYPE_IPV6))
        for number, ethertype in zip(range(300), ethertypes, strict=False):
            liar = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
            wire.sendto(frames.gratuitous_arp(liar, V4)[0], ("eth0", 0))
            garbage = b"\xff" * 12 + struct.pack("!H", ethertype) + os.urandom(number)
            wire.sendto(garbage, ("eth0", 0))
    answers = asker.receive()["answers"]
    assert isinstance(answers, list)
    assert len(answers) <= neighbours.MAX_ANSWERS
    assert asker.ask()["answers"] == []


def test_a_storm_does_not_keep_it_from_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop in the network brings more frames than it can read, without end."""
    frame = frames.gratuitous_arp(STRANGER, V4)[0]
    storm = itertools.repeat(("eth0", 0, frame), 100_000)
    monkeypatch.setattr(neighbours, "_received", lambda _: storm)
    prober = neighbours._Prober.__new__(neighbours._Prober)
    prober._sockets = [socket.socket()]
    prober._known, prober._memberships = frozenset(), {}
    prober._receive()
    assert next(storm, None) is not None


def test_the_neighbours_chatter_wakes_no_process(site: Site, make_asker: MakeAsker) -> None:
    asker = make_asker(site.us)
    asker.ask()
    with site.wire(site.us) as near, site.wire(site.peer) as far:
        before = int(asker.status("voluntary_ctxt_switches"))
        near.settimeout(LIMIT)
        for frame in frames.gratuitous_arp(PEER, V4) * 50:
            far.sendto(frame, ("eth0", 0))
            while near.recv(2048)[6:12] != frame[6:12]:
                pass
            time.sleep(0.002)  # so that each would wake it
        assert int(asker.status("voluntary_ctxt_switches")) - before < 20


def test_it_says_that_it_is_alive_and_is_not_root(site: Site, make_asker: MakeAsker) -> None:
    conf = Conf(addresses=ADDRESSES, user=USER, plip_timer=0.2)
    asker = make_asker(site.us, conf)
    assert [asker.receive() for _ in range(3)] == [{"event": "alive"}] * 3
    if not ROOTLESS:
        assert "0" not in asker.status("Uid").split()
        assert int(asker.status("CapPrm"), 16) == 0
    asker.send(probe(span=1.0))
    messages = (asker.receive() for _ in range(1000))
    report = next(message for message in messages if message["event"] == "answers")
    assert report["asked"], "without root it cannot ask"


# ---------------------------------------------------------------------------- announcing


def wrong(told: list[tuple[Address, str]]) -> list[str]:
    return [f"{entry.interface} {entry.address}: {error}" for entry, error in told if error]


def announced(announcer: neighbours.Announcer, interfaces: list[str]) -> list[tuple[Address, str]]:
    """Each address, and what went wrong at last."""
    told = filter(None, announcer.announce(interfaces))
    return list({entry: error for entries, error in told for entry in entries}.items())


def announce(namespace: Namespace, interfaces: list[str], conf: Conf = CONF) -> list[str]:
    """What Announcer.announce could not do there."""
    reading, writing = os.pipe()

    def work() -> None:
        announcer = neighbours.Announcer(conf)
        os.write(writing, "\n".join(wrong(announced(announcer, interfaces))).encode())
        announcer.close()

    try:
        namespace.call(work)
        os.close(writing)
        return os.read(reading, 4096).decode().splitlines()
    finally:
        os.close(reading)


def test_it_announces_with_the_address_that_the_interface_has_now(site: Site) -> None:
    site.us.ip(f"link set eth0 address {SHARED}")
    request, reply = frames.gratuitous_arp(SHARED, V4)
    expected = [request, frames.unsolicited_advertisement(SHARED, V6), reply]
    with site.wire(site.peer) as wire:
        assert announce(site.us, ["eth0"]) == []
        source = bytes.fromhex(SHARED.replace(":", ""))
        limit = time.monotonic() + LIMIT
        came: list[bytes] = []
        while len(came) < len(expected) and time.monotonic() < limit:
            came += [
                frame for frame in waiting(wire) if frame[6:12] == source and frames.parse(frame)
            ]
    assert came == expected


def test_a_router_says_so(site: Site) -> None:
    site.us.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/forwarding")
    expected = frames.unsolicited_advertisement(OURS, V6, router=True)
    with site.wire(site.peer) as wire:
        wire.settimeout(LIMIT)
        announce(site.us, ["eth0"])
        while wire.recv(2048) != expected:
            pass


def test_it_announces_only_where_it_is_told(site: Site) -> None:
    conf = Conf(addresses=(*ADDRESSES, Address("eth9", "192.0.2.9", 24)))
    assert announce(site.us, ["eth1"], conf) == []
    assert announce(site.us, ["eth0"], conf) == []


def test_what_cannot_be_announced_is_said(site: Site) -> None:
    conf = Conf(addresses=(*ADDRESSES[:1], Address("eth9", "192.0.2.9", 24)))
    site.us.ip("link set eth0 down")
    assert announce(site.us, ["eth0", "eth9"], conf) == [
        "eth0 192.0.2.10: the interface is down or has no carrier",
        "eth9 192.0.2.9: there is no such interface, or it has no hardware address",
    ]


@pytest.mark.skipif(shutil.which("tc") is None, reason="needs tc, of iproute2")
def test_a_queue_that_nothing_leaves_is_waited_for_once(site: Site) -> None:
    """And again when something has been sent meanwhile."""

    def work() -> None:
        announcer = neighbours.Announcer(CONF)

        def told(queue: str) -> tuple[bool, set[str]]:
            """Whether it has waited, and what went wrong."""
            subprocess.run(
                ["tc", "qdisc", "replace", "dev", "eth0", "root", *queue.split()], check=True
            )
            steps = list(announcer.announce(["eth0"]))
            return None in steps, {step[1] for step in steps if step}

        wrong = {os.strerror(errno.ENOBUFS)}
        assert told("pfifo limit 0") == (True, wrong)
        assert told("pfifo limit 0") == (False, wrong)
        assert told("pfifo limit 100") == (False, {""})
        assert told("pfifo limit 0") == (True, wrong)

    site.us.call(work)


def test_the_announcer_never_receives(site: Site) -> None:
    def work() -> None:
        announcer = neighbours.Announcer(CONF)
        announced(announcer, ["eth0"])
        with open("/proc/net/packet", encoding="ascii") as file:
            protocols = [line.split()[3] for line in file.readlines()[1:]]
        assert protocols == ["0000"]

    site.us.call(work)


@pytest.mark.parametrize(
    ("after", "due"),
    [(-1, 0), (0, 0.1), (0.1, 0.5), (0.7, 1), (1, 2), (2, 5), (5, 60), (60, 120), (130, 180)],
)
def test_the_schedule(after: float, due: float) -> None:
    assert neighbours.next_announcement(1000.0, 1000.0 + after) == pytest.approx(1000.0 + due)


@given(st.floats(0, 1e7), st.floats(-100, 1e6))
def test_the_schedule_never_stands_still_nor_pauses(start: float, delay: float) -> None:
    after = start + delay
    due = neighbours.next_announcement(start, after)
    assert due > after
    assert due - after <= 60.001 or due == start
