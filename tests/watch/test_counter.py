"""Counting and captures: what the watcher rests on, with real interfaces, packets and files."""

from __future__ import annotations

import io
import ipaddress
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pcapy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import FAR, ONLY_OURS, OWN, frame, inside, ip, sender, two_ends
from invariants import never_back
from netns import ROOTLESS, TUN, Namespace

from failoverd import links, process
from failoverd.conf import Address, Conf
from failoverd.tools import capture
from failoverd.tools.capture import Batch, Truncated, Unreadable, open_capture
from failoverd.watch import counter, dumpfile, filters
from failoverd.watch.counter import Counter, Refused, Tap
from failoverd.watch.dumpfile import DumpFile
from failoverd.watch.filters import BadFilter
from failoverd.wire import frames

FRAME = frame(size=200)
LIMIT = 60.0  # seconds in which anything must have happened


# Live: eth0 here, `far` in the other namespace at the end of its cable


@pytest.fixture
def spaces() -> Iterator[list[Namespace]]:
    with two_ends() as made:
        yield made


def send(sock: socket.socket, count: int) -> None:
    for _ in range(count):
        sock.send(FRAME)


def received(counting: Counter, count: int) -> int:
    """Take until count packets are there; a little longer, to see that it is not more."""
    total, limit = 0, time.monotonic() + LIMIT
    while total < count and time.monotonic() < limit:
        time.sleep(0.005)
        total += counting.take()
    time.sleep(0.02)
    return total + counting.take()


def test_every_packet_that_comes_in_is_counted_and_no_other(spaces: list[Namespace]) -> None:
    here, there = spaces

    def work() -> None:
        counting = Counter("eth0", ONLY_OURS)
        with sender(there, "far") as far, sender(here, "eth0") as near:
            send(far, 7)  # before: they do not count
            assert counting.open()
            send(far, 300)
            send(near, 50)
            assert received(counting, 300) == 300
            send(far, 20_000)  # many more than the ring holds, and it is not read
            assert received(counting, 20_000) == 20_000
            assert counting.take() == 0

    inside(here, work)


def test_a_port_that_only_the_switch_itself_speaks_on_is_silent(spaces: list[Namespace]) -> None:
    here, there = spaces

    def work() -> None:
        counting = Counter("eth0", counter.what_counts(PAIR, "eth0"))
        with sender(there, "far") as far:
            assert counting.open()
            for frame in SWITCH_FRAMES.values():
                far.send(frame)
            send(far, 3)
            assert received(counting, 3) == 3

    quiet(*spaces)
    inside(here, work)


def test_what_the_network_sends_back_does_not_count(spaces: list[Namespace]) -> None:
    """Also when the interface has got another hardware address meanwhile."""
    here, there = spaces

    def work() -> None:
        counting = Counter("eth0", ONLY_OURS)
        with sender(there, "far") as far:
            assert counting.open()
            for hwaddr in ("", "02:00:00:00:00:10"):
                if hwaddr:
                    ip(f"link set eth0 address {hwaddr}")
                    counting.take()
                own = bytes.fromhex((links.hwaddr("eth0") or "").replace(":", ""))
                for _ in range(7):
                    far.send(FRAME[:6] + own + FRAME[12:])
                send(far, 3)
                assert received(counting, 3) == 3

    quiet(*spaces)
    inside(here, work)


def test_the_kernels_counter_may_wrap() -> None:
    fields = {"_taken": 0xFFFFFFFE, "_reader": type("", (), {"stats": lambda self: (3, 0, 0)})()}
    counting = Counter("eth0", "ip")
    vars(counting).update(fields)
    assert counting.take() == 5


def test_an_interface_that_is_down_or_not_there_is_silent(spaces: list[Namespace]) -> None:
    here, there = spaces
    here.ip("link set eth0 down")

    def work() -> None:
        absent = Counter("nosuch0", "ip")
        assert not absent.open() and absent.take() == 0 and absent.is_lost()
        counting = Counter("eth0", ONLY_OURS)
        assert not counting.open() and counting.take() == 0
        ip("link set eth0 up")
        assert counting.open()
        with sender(there, "far") as far:
            assert sent_until_received(far, counting)
            send(far, 5)
            assert received(counting, 5) == 5
            ip("link set eth0 down")
            assert counting.take() == 0 and not counting.is_lost()
            ip("link set eth0 up")
            assert sent_until_received(far, counting)

    inside(here, work)


def sent_until_received(far: socket.socket, counting: Counter) -> bool:
    """The carrier needs a moment to come back."""
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        try:
            send(far, 1)
        except OSError:  # the far end is down while ours is
            pass
        time.sleep(0.01)
        if counting.take():
            return True
    return False


def test_a_renamed_interface_goes_on_counting(spaces: list[Namespace]) -> None:
    here, there = spaces

    def work() -> None:
        counting = Counter("eth0", ONLY_OURS)
        assert counting.open()
        ip("link set eth0 down", "link set eth0 name other", "link set other up")
        with sender(there, "far") as far:
            assert sent_until_received(far, counting) and not counting.is_lost()
        ip("link add name eth0 type veth peer name peer")
        assert counting.is_lost()  # the name is another interface's now

    inside(here, work)


@pytest.mark.parametrize("way", ["made again", "with the same index", "moved there and back"])
def test_a_lost_interface_is_noticed_and_opened_again(spaces: list[Namespace], way: str) -> None:
    here, there = spaces
    index = here.show("link", "show", "dev", "eth0")[0]["ifindex"]

    def work() -> None:
        counting = Counter("eth0", ONLY_OURS)
        assert counting.open() and not counting.is_lost()
        if way == "moved there and back":
            ip(f"link set eth0 netns {there.pid}")
            assert counting.is_lost() and counting.take() == 0
            ip(f"link set eth0 netns {here.pid}", at=there)
        else:
            ip("link del eth0")
            assert counting.is_lost() and counting.take() == 0
            wish = f"index {index}" if way == "with the same index" else ""
            ip(f"link add name eth0 {wish} type veth peer name far netns {there.pid}")
        ip("link set eth0 up")
        ip("link set far up", at=there)
        with sender(there, "far") as far:
            send(far, 3)
            assert counting.is_lost() and counting.take() == 0
            assert counting.open() and not counting.is_lost()
            assert sent_until_received(far, counting)

    inside(here, work)


@pytest.mark.skipif(ROOTLESS, reason="without root there is no other user to become")
def test_counting_goes_on_without_root_but_opening_does_not(spaces: list[Namespace]) -> None:
    here, there = spaces

    def work() -> None:
        counting, second = Counter("eth0", ONLY_OURS), Counter("eth0", ONLY_OURS)
        assert counting.open()
        with sender(there, "far") as far:
            process.give_up_root("nobody")
            send(far, 9)
            assert received(counting, 9) == 9 and not counting.is_lost()
        with pytest.raises(Refused, match=r"^eth0: not permitted"):
            second.open()

    inside(here, work)


def test_loopback_counts_once_what_goes_out_and_comes_in(spaces: list[Namespace]) -> None:
    def work() -> None:
        counting = Counter("lo", counter.what_counts(Conf(), "lo") + " and udp")
        assert counting.open()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(20):
                sock.sendto(b"x", ("127.0.0.1", 9))
        assert received(counting, 20) == 20

    inside(spaces[0], work)


@pytest.mark.skipif(not os.access(TUN, os.R_OK | os.W_OK), reason=f"{TUN} may not be opened")
def test_a_tunnel_counts_what_comes_in(spaces: list[Namespace]) -> None:
    def work() -> None:
        tunnel = make_tun("tun0")
        ip("address add 10.9.9.1/24 dev tun0", "link set tun0 up")
        counting = Counter("tun0", counter.what_counts(Conf(), "tun0"))
        assert counting.open()
        for _ in range(30):
            os.write(tunnel, ipv4("10.9.9.2", "10.9.9.1", 17, bytes(8)))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(7):
                sock.sendto(b"x", ("10.9.9.2", 9))
        assert received(counting, 30) == 30
        with pytest.raises(BadFilter, match="tun0"):
            Counter("tun0", "arp").open()  # this link type has no ARP

    inside(spaces[0], work)


def make_tun(name: str) -> int:
    import fcntl

    set_interface, tun_without_header = 0x400454CA, 0x1001
    tunnel = os.open(TUN, os.O_RDWR)
    fcntl.ioctl(tunnel, set_interface, struct.pack("16sH22x", name.encode(), tun_without_header))
    return tunnel


def test_a_dump_can_be_read_while_it_is_written(spaces: list[Namespace], tmp_path: Path) -> None:
    here, there = spaces
    path = str(tmp_path / "dump.eth0")

    def work() -> None:
        tap = Tap("eth0", ONLY_OURS, (), DumpFile(path, filters.HEADER_BYTES))
        assert tap.open()
        with sender(there, "far") as far, sender(here, "eth0") as near:
            send(near, 5)
            send(far, 40)
            limit = time.monotonic() + LIMIT
            found = list[tuple[int, bytes]]()
            while len(found) < 40 and time.monotonic() < limit:
                time.sleep(0.05)
                tap.write()
                if os.path.getsize(path):
                    found = list(packets_by_libpcap(path))
        assert found == [(200, FRAME[:128])] * 40
        assert os.stat(path).st_mode & 0o777 == 0o600

    inside(here, work)


def packets_by_libpcap(path: str) -> Iterator[tuple[int, bytes]]:
    reader = pcapy.open_offline(path)
    header, data = reader.next()
    while header is not None:
        yield header.getlen(), data
        header, data = reader.next()


# The kernel's own filter


def types(count: int) -> str:
    """An expression that admits FRAME, with about twice as many instructions as it names types."""
    return " or ".join(
        [ONLY_OURS, *(f"ether proto {number}" for number in range(2000, count + 2000))]
    )


OTHER, ONLY_OTHERS = frame()[:12] + b"\x88\xb6" + bytes(46), "ether proto 0x88b6"
ALMOST_TOO_LONG, TOO_LONG = types(2160), types(2300)


@pytest.mark.parametrize("what", [Counter, Tap])
def test_a_filter_that_the_kernel_refuses_is_an_error(
    spaces: list[Namespace], tmp_path: Path, what: type[Counter] | type[Tap]
) -> None:
    """libpcap would run it in user space, where nothing is counted: every packet would pass."""
    more = ((), DumpFile(str(tmp_path / "dump"), 64)) if what is Tap else ()

    def work() -> None:
        refused = what("eth0", TOO_LONG, *more)
        with pytest.raises(BadFilter, match=r"^eth0: the filter .* 4096 are the most; shorten it"):
            refused.open()
        assert not refused.is_open
        assert what("eth0", ALMOST_TOO_LONG, *more).open()

    inside(spaces[0], work)


def test_a_filter_of_almost_4096_instructions_is_still_the_kernels(
    spaces: list[Namespace],
) -> None:
    here, there = spaces
    assert 4000 < filters.translate(ALMOST_TOO_LONG, filters.DLT_EN10MB).length <= 4096

    def work() -> None:
        counting = Counter("eth0", f"not ({ALMOST_TOO_LONG})")
        assert counting.open()
        with sender(there, "far") as far:
            send(far, 100)
            for _ in range(9):
                far.send(OTHER)
            assert received(counting, 9) == 9

    quiet(*spaces)
    inside(here, work)


def test_memory_that_the_kernel_does_not_give_is_an_error_with_the_way_out(
    spaces: list[Namespace],
) -> None:
    here, _ = spaces
    limit = "/proc/sys/net/core/optmem_max"
    lowered = here.run("sh", "-c", f"echo 20480 >{limit}", check=False)
    if lowered.returncode:
        pytest.skip(f"{limit} cannot be set for one namespace here: {lowered.stderr.strip()}")

    def work() -> None:
        long = types(1500)
        way_out = r"optmem_max is too small: sysctl -w net.core.optmem_max=262144"
        with pytest.raises(BadFilter, match=way_out):
            filters.prepare(long, long, ["eth0"], "test: filter")
        with pytest.raises(BadFilter, match=way_out):
            Counter("eth0", long).open()
        with open(limit, "w") as file:
            file.write("262144")
        assert filters.prepare(long, long, ["eth0"], "test: filter")

    inside(here, work)


def test_who_is_handed_a_program_translates_nothing(
    spaces: list[Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = spaces

    def work() -> None:
        expression = f"not ({ONLY_OURS}) and {ONLY_OTHERS}"
        found = filters.prepare(expression, "", ["lo", "eth0"], "test: filter")
        assert [program.linktype for program in found] == [filters.DLT_EN10MB]
        handed = filters.unpacked(json.loads(json.dumps(filters.packed(found))))
        assert handed == found
        monkeypatch.setattr(filters, "translate", None)
        counting, again = Counter("eth0", expression, handed), Counter("eth0", expression, handed)
        assert counting.open() and again.open()
        with sender(there, "far") as far:
            send(far, 5)
            for _ in range(2):
                far.send(OTHER)
            assert received(counting, 2) == 2
        with pytest.raises(TypeError):
            Counter("eth0", "arp", handed).open()  # another expression has no program

    quiet(*spaces)
    inside(here, work)


def test_a_program_for_another_kind_of_link_is_left_alone(spaces: list[Namespace]) -> None:
    def work() -> None:
        wrong = filters.Program(ONLY_OURS, 12, filters.translate("ip", 12).code)
        counting = Counter("eth0", ONLY_OURS, [wrong])
        assert counting.open()
        with sender(spaces[1], "far") as far:
            send(far, 4)
            assert received(counting, 4) == 4

    inside(spaces[0], work)


HOSTS = " or ".join(f"host 198.51.{100 + n // 200}.{1 + n % 200}" for n in range(900))


def test_a_translation_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "TRANSLATION_SECONDS", 0.2)
    with pytest.raises(BadFilter, match=r"^it cannot be compiled within 0\.2 s: shorten it"):
        filters.prepare(HOSTS, HOSTS, ["lo"], "test: filter")


def test_a_translation_may_take_a_busy_node_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a filter that was sound would keep failoverd from starting at a boot."""
    monkeypatch.setattr(filters, "TRANSLATION_SECONDS", 2.0)

    def slow(expression: str, _: int) -> filters.Program:
        time.sleep(3.0)  # as if others had the processor
        return filters.Program(expression, filters.DLT_EN10MB, bytes.fromhex("0600000000000400"))

    monkeypatch.setattr(filters, "translate", slow)
    assert filters.prepare("ip", "ip", ["lo"], "test: filter")


def test_what_is_no_expression_is_told_by_the_part_that_a_person_wrote() -> None:
    def wrong(own: str) -> str:
        with pytest.raises(BadFilter) as raised:
            filters.prepare(f"not arp and ({own})", own, ["lo"], "test: filter")
        return str(raised.value)

    assert wrong("foo bar").startswith("not a pcap expression: ")
    assert wrong("ip) or (ip").startswith("not a pcap expression: ")
    assert wrong("ip and arp") == "expression rejects all packets"


def test_all_interfaces_at_once_are_counted_without_their_headers(
    spaces: list[Namespace],
) -> None:
    """libpcap shows such packets, as those of PPP, with a header that the kernel does not have."""
    here, there = spaces

    def work() -> None:
        ip("address add 10.9.9.1/24 dev eth0")
        ip("address add 10.9.9.2/24 dev far", at=there)
        counting = Counter("any", "udp dst port 9 and src host 10.9.9.2")
        assert counting.open()
        for port in (9, 9, 10):
            far.sendto(b"x", ("10.9.9.1", port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
            near.sendto(b"x", ("10.9.9.2", 9))
        assert received(counting, 2) == 2
        with pytest.raises(BadFilter, match="cannot filter on this kind"):
            Counter("any", "ether[6:2] = 1").open()

    with there.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        inside(here, work)


FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.bind(("far", 0))
print("begun", flush=True)
while True:
    sock.send(bytes.fromhex(sys.argv[1]))
"""


@contextmanager
def flooded(namespace: Namespace, frame: bytes) -> Iterator[None]:
    """A host sends this frame from `far` again and again."""
    command = namespace.enter([sys.executable, "-c", FLOOD, frame.hex()])
    flooder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert flooder.stdout is not None and flooder.stdout.readline()
        yield
    finally:
        flooder.kill()
        flooder.communicate()


def test_what_came_before_the_filter_does_not_count(spaces: list[Namespace]) -> None:
    """Between the opening of a handle and its filter every packet passes."""
    here, there = spaces

    def work() -> None:
        with sender(there, "far") as far:
            for _ in range(20):
                counting = Counter("eth0", ONLY_OTHERS)
                assert counting.open()
                for _ in range(3):
                    far.send(OTHER)
                assert received(counting, 3) == 3  # nor is one missed that came right after it
                counting.close()

    quiet(*spaces)
    with flooded(there, FRAME):
        inside(here, work)


def test_a_dump_has_only_what_passes_the_filter(spaces: list[Namespace], tmp_path: Path) -> None:
    here, there = spaces
    path = str(tmp_path / "dump.eth0")

    def work() -> None:
        tap, found = Tap("eth0", ONLY_OTHERS, (), DumpFile(path, 128)), list[bytes]()
        assert tap.open()
        with sender(there, "far") as far:
            for _ in range(5):
                send(far, 10)
                far.send(OTHER)
        limit = time.monotonic() + LIMIT
        while len(found) < 5 and time.monotonic() < limit:
            time.sleep(0.01)
            tap.write()
            if os.path.getsize(path):
                found = [data for _, data in packets_by_libpcap(path)]
        assert found == [OTHER] * 5

    quiet(*spaces)
    inside(here, work)


def quiet(*spaces: Namespace) -> None:
    """Nothing is sent but what a test sends."""
    for namespace in spaces:
        namespace.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")


# What counts

SERVICE, SERVICE6, ROUTER6 = "192.0.2.10", "2001:db8::10", "2001:db8::1"
PAIR = Conf(
    addresses=(Address("eth0", SERVICE, 24), Address("eth1", SERVICE6, 64)),
    secondary="1.0.0.2",
)
NARROW = Conf(addresses=PAIR.addresses, filter="ip or ip6 or arp")
PLIP6 = Conf(primary="fd00::1", secondary="fd00::2")


def icmpv6(source: str, target: str, kind: int) -> bytes:
    """An ICMPv6 packet over ethernet; its checksum is not looked at here."""
    return ipv6(source, kind, socket.inet_pton(socket.AF_INET6, target))


def ipv6(source: str, kind: int, payload: bytes) -> bytes:
    pack = socket.inet_pton
    body = struct.pack("!BBHI", kind, 0, 0, 0) + payload
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 255)
    head += pack(socket.AF_INET6, source) + pack(socket.AF_INET6, "ff02::1")
    return bytes(12) + struct.pack("!H", 0x86DD) + head + body


def ipv4(source: str, target: str, protocol: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(target) + body


def spoken(group: str, kind: int = 0x88B5, source: str = FAR) -> bytes:
    """A frame to a hardware address; kind is a type, or a length if it is less than 1536."""
    to, by = (bytes.fromhex(address.replace(":", "")) for address in (group, source))
    return (to + by + struct.pack("!H", kind)).ljust(60, b"x")


def said_by_llc(group: str, header: str) -> bytes:
    """A frame with a length instead of a type, and this LLC header."""
    body = bytes.fromhex(header)
    return (spoken(group, 40)[:14] + body).ljust(60, b"\0")


def ping(source: str, kind: int, payload: bytes = b"") -> bytes:
    packet = ipv4(source, "1.0.0.1", 1, struct.pack("!BBHHH", kind, 0, 0, 1, 1) + payload)
    return bytes(12) + struct.pack("!H", 0x0800) + packet


def arp_reply(sender: str, target: str) -> bytes:
    request = frames.request(FAR, sender, target)
    return (
        request[:20]
        + bytes((0, 2))
        + request[22:32]
        + bytes.fromhex(FAR.replace(":", ""))
        + (request[38:])
    )


def relabelled(frame: bytes, label: int) -> bytes:
    """The IPv6 packet with another flow label, of a class that a switch has given it."""
    return frame[:14] + struct.pack("!I", 6 << 28 | 0xC0 << 20 | label) + frame[18:]


PROBE = frames.probe(FAR, "192.0.2.1")
ANNOUNCED = frames.gratuitous_arp(FAR, SERVICE)
ASKED = frames.probe(FAR, ROUTER6)
ASKED_ONE = frames.probe_to("02:00:00:00:00:01", FAR, "fe80::5", SERVICE6)
MARKED = frames.marked_request(FAR, "192.0.2.2", "192.0.2.1")
MARKED6 = frames.marked_request(FAR, "fe80::5", ROUTER6)
WANTED = frames.request(FAR, "192.0.2.2", "192.0.2.1")
WANTED6 = frames.request(FAR, "fe80::5", "fe80::6")
OTHER6 = icmpv6("fe80::5", "ff02::16", 143)
TOLD = frames.unsolicited_advertisement(FAR, SERVICE6)

NEW, OLD = b"\x00new\xffTAG", b"old tag."
TAGGED = NEW + bytes(range(40))
PATTERN = bytes(16) + NEW * 5  # as `ping -p` makes it, behind its time stamp
BPDU = said_by_llc("01:80:c2:00:00:00", "424203")
CDP = said_by_llc("01:00:0c:cc:cc:cc", "aaaa0300000c2000")
PVST = said_by_llc("01:00:0c:cc:cc:cd", "aaaa0300000c010b")
TAGGED_PVST = PVST[:12] + struct.pack("!HH", 0x8100, 7) + PVST[12:]
SWITCH_FRAMES = {
    "spanning tree": BPDU,
    "pause": spoken("01:80:c2:00:00:01", 0x8808),
    "LACP": spoken("01:80:c2:00:00:02", 0x8809),
    "802.1X": spoken("01:80:c2:00:00:03", 0x888E),
    "LLDP": spoken("01:80:c2:00:00:0e", 0x88CC),
    "GVRP": said_by_llc("01:80:c2:00:00:21", "424203"),
    "CFM": spoken("01:80:c2:00:00:35", 0x8902),
    "CDP": CDP,
    "PVST+": PVST,
    "PVST+ of a VLAN": TAGGED_PVST,
    "UDLD": said_by_llc("01:00:0c:cc:cc:cc", "aaaa0300000c0111"),
    "Nortel's discovery": said_by_llc("01:00:81:00:01:00", "aaaa0300008101a2"),
    "Foundry's discovery": said_by_llc("01:e0:52:cc:cc:cc", "aaaa0300e0522000"),
    "Extreme's discovery": said_by_llc("00:e0:2b:00:00:00", "aaaa0300e02b00bb"),
    "HP's loop protection": spoken("09:00:09:09:13:a6", 40),
    "a port's keepalive to itself": spoken("00:00:5e:00:53:01", 0x9000, "00:00:5e:00:53:01"),
    "loop detection to all": spoken("ff:ff:ff:ff:ff:ff", 0x9000),
    "Realtek's loop detection": spoken("ff:ff:ff:ff:ff:ff", 0x8899),
    "MikroTik's loop protection": spoken("ff:ff:ff:ff:ff:ff", 0x9003),
}
HOSTS_FRAMES = {
    "to one interface": spoken("02:00:00:00:00:01"),
    "to an interface of a switch maker": spoken("00:e0:2b:01:00:01"),
    "to all": spoken("ff:ff:ff:ff:ff:ff"),
    "IPv4 to a group": spoken("01:00:5e:00:00:12"),
    "IPv6 to a group": spoken("33:33:00:00:00:01"),
    "of a cluster": spoken("03:bf:c0:00:02:0a"),
    "of an industrial protocol": spoken("01:0c:cd:01:00:01", 0x88B8),
    "beside the bridges' groups": spoken("01:80:c3:00:00:00"),
}

WHAT_COUNTS = [
    *((what, "eth0", PAIR, frame, False) for what, frame in SWITCH_FRAMES.items()),
    *((what, "eth0", PAIR, frame, True) for what, frame in HOSTS_FRAMES.items()),
    ("LLDP that $filter admits", "eth0", Conf(filter="greater 0"), SWITCH_FRAMES["LLDP"], False),
    ("the last of the sixteen groups", "eth0", PAIR, spoken("01:80:c2:00:00:0f"), False),
    ("without @addresses, a BPDU", "eth0", Conf(), BPDU, False),
    (
        "on the heartbeat link all that $plip_filter says",
        "plip0",
        Conf(plip_filter="greater 0"),
        BPDU,
        True,
    ),
    ("any traffic", "eth0", PAIR, ping("192.0.2.77", 8), True),
    ("an unknown protocol", "eth0", PAIR, FRAME, True),
    ("a probe", "eth0", PAIR, PROBE, False),
    ("our announcement", "eth0", PAIR, ANNOUNCED[0], False),
    ("our announcement too", "eth0", PAIR, ANNOUNCED[1], False),
    ("on any of them", "eth1", PAIR, ANNOUNCED[0], False),
    ("a client's", "eth0", PAIR, frames.request(FAR, "192.0.2.77", SERVICE), True),
    ("a probe with $filter", "eth0", NARROW, PROBE, False),
    ("$filter admits", "eth0", NARROW, ping("192.0.2.77", 8), True),
    ("$filter bars", "eth0", NARROW, FRAME, False),
    ("our probe of a probe target", "eth0", PAIR, MARKED, False),
    ("its answer", "eth0", PAIR, arp_reply("192.0.2.1", "192.0.2.2"), True),
    ("the peer's probe of us", "eth0", PAIR, WANTED, True),
    ("the peer's answer", "eth0", PAIR, arp_reply("192.0.2.2", "192.0.2.1"), True),
    ("the peer's probe of us, IPv6", "eth0", PAIR, WANTED6, True),
    ("to our interface alone", "eth0", PAIR, frames.request(FAR, "fe80::5", "fe80::6", OWN), True),
    ("our probe of a probe target, IPv6", "eth0", PAIR, MARKED6, False),
    ("solicitation from no address", "eth0", PAIR, ASKED, False),
    ("solicitation from us", "eth0", PAIR, icmpv6(SERVICE6, ROUTER6, 135), False),
    ("solicitation of one interface from us", "eth0", PAIR, ASKED_ONE, False),
    ("and by way of a switch", "eth0", PAIR, relabelled(ASKED_ONE, frames.FLOW_LABEL), False),
    ("the same from a client", "eth0", PAIR, relabelled(ASKED_ONE, 0xFA111), True),
    ("other ICMPv6 with our label", "eth0", PAIR, relabelled(OTHER6, frames.FLOW_LABEL), True),
    ("solicitation for us", "eth0", PAIR, icmpv6(ROUTER6, SERVICE6, 135), True),
    ("our advertisement", "eth0", PAIR, TOLD, False),
    ("our advertisement from elsewhere", "eth0", PAIR, icmpv6("fe80::5", SERVICE6, 136), False),
    ("a witness's answer", "eth0", PAIR, icmpv6(ROUTER6, ROUTER6, 136), True),
    ("other ICMPv6 from no address", "eth0", PAIR, icmpv6("::", "ff02::16", 143), True),
    ("without @addresses", "eth0", Conf(), ANNOUNCED[0], True),
    ("heartbeat", "plip0", PAIR, ping("1.0.0.2", 8, NEW), True),
    ("with more behind it", "plip0", PAIR, ping("1.0.0.2", 8, TAGGED), True),
    ("of the secret before", "plip0", PAIR, ping("1.0.0.2", 8, OLD), True),
    ("its answer", "plip0", PAIR, ping("1.0.0.2", 0, NEW), False),
    ("a stranger's heartbeat", "plip0", PAIR, ping("1.0.0.3", 8, NEW), False),
    ("the peer's ping", "plip0", PAIR, ping("1.0.0.2", 8), False),
    ("of the usual size", "plip0", PAIR, ping("1.0.0.2", 8, bytes(range(56))), False),
    ("with a pattern", "plip0", PAIR, ping("1.0.0.2", 8, PATTERN), False),
    ("cut short", "plip0", PAIR, ping("1.0.0.2", 8, NEW[:7]), False),
    ("half of each", "plip0", PAIR, ping("1.0.0.2", 8, NEW[:4] + OLD[4:]), False),
    ("heartbeat, IPv6", "plip0", PLIP6, ipv6("fd00::2", 128, TAGGED), True),
    ("of the secret before, IPv6", "plip0", PLIP6, ipv6("fd00::2", 128, OLD), True),
    ("its answer, IPv6", "plip0", PLIP6, ipv6("fd00::2", 129, NEW), False),
    ("a stranger's, IPv6", "plip0", PLIP6, ipv6("fd00::3", 128, NEW), False),
    ("the peer's ping, IPv6", "plip0", PLIP6, ipv6("fd00::2", 128, bytes(range(56))), False),
    ("with a pattern, IPv6", "plip0", PLIP6, ipv6("fd00::2", 128, PATTERN), False),
    ("$plip_filter", "plip0", Conf(plip_filter="greater 0"), ping("1.0.0.2", 0), True),
]


@pytest.mark.parametrize(("what", "interface", "conf", "packet", "counts"), WHAT_COUNTS)
def test_what_counts(what: str, interface: str, conf: Conf, packet: bytes, counts: bool) -> None:
    expression = counter.what_counts(conf, interface, (NEW, OLD))
    accept = capture.counts_in_capture(expression, filters.DLT_EN10MB, None)
    assert bool(accept(packet)) == counts, what


BLOCK = ("192.0.2.8", "192.0.2.9", "192.0.2.10", "192.0.2.11", "192.0.2.13")
BLOCK6 = ("2001:db8::fffe:ffff:ffff", "2001:db8::ffff:0:0", "2001:db8::ffff:0:1")
BESIDE = ("192.0.2.7", "192.0.2.12", "192.0.2.14", "192.0.3.9")
BESIDE6 = ("2001:db8::fffe:ffff:fffe", "2001:db8::ffff:0:2", "2001:db8:0:1::ffff:0:1")


def test_addresses_that_follow_one_another_are_told_in_one_and_none_beside() -> None:
    served = tuple(Address("eth0", one, 24) for one in (*BLOCK, *BLOCK6))
    expression = counter.what_counts(Conf(addresses=served), "eth0")
    accept = capture.counts_in_capture(expression, filters.DLT_EN10MB, None)
    for address in (*BLOCK, *BESIDE):
        frame = frames.gratuitous_arp(FAR, address)[0]
        assert bool(accept(frame)) == (address in BESIDE), address
    for address in (*BLOCK6, *BESIDE6):
        for frame in (icmpv6(address, ROUTER6, 135), icmpv6("fe80::5", address, 136)):
            assert bool(accept(frame)) == (address in BESIDE6), address


@pytest.mark.parametrize("network", ["10.20.0.0", "2001:db8::"])
def test_the_kernel_has_room_for_thousands_of_them(network: str) -> None:
    first = ipaddress.ip_address(network) + 1
    served = tuple(Address("eth0", str(first + n), 16) for n in range(3000))
    expression = counter.what_counts(Conf(addresses=served), "eth0")
    assert filters.translate(expression, filters.DLT_EN10MB).length < 500


@pytest.mark.parametrize("what", SWITCH_FRAMES)
def test_in_a_capture_of_all_interfaces_a_switch_is_told_by_its_types(what: str) -> None:
    """`tcpdump -i any` keeps no address that a frame was sent to, only that it was to a group."""
    expression = counter.what_counts(PAIR, "eth0")
    accept = capture.counts_in_capture(expression, filters.DLT_LINUX_SLL, None)
    assert not accept(cooked(SWITCH_FRAMES[what]))


def cooked(ethernet: bytes, direction: int = 2) -> bytes:
    """The frame as Linux hands it out without its header: pcap-linktype(7), LINKTYPE_LINUX_SLL."""
    kind = int.from_bytes(ethernet[12:14])
    kind, rest = (kind, ethernet[14:]) if kind >= 1536 else (4, ethernet[14:])
    if kind == 0x8100:  # the kernel has taken the tag off
        return cooked(ethernet[:12] + ethernet[16:], direction)
    return struct.pack("!HHH6s2xH", direction, 1, 6, ethernet[6:12], kind) + rest


# The three link types of live interfaces, and one of each kind that captures have.
LINKTYPES = [filters.DLT_EN10MB, 12, filters.DLT_LINUX_SLL, 0, 9, 10, 105, 127, 104]


@pytest.mark.parametrize("linktype", LINKTYPES)
def test_what_counts_can_be_said_of_every_link_type(linktype: int) -> None:
    for conf in (Conf(), PAIR, NARROW):
        capture.counts_in_capture(counter.what_counts(conf, "eth0"), linktype, None)


@pytest.mark.parametrize("packet", ["10.9.9.2", "144.0.1.2", "136.153.1.2", "2001:db8::7"])
def test_a_tunnels_packet_is_no_frame_of_a_switch(packet: str) -> None:
    """Where a frame has its type, such a packet has its source."""
    accept = capture.counts_in_capture(counter.what_counts(PAIR, "eth0"), 12, None)
    six = icmpv6(packet, ROUTER6, 128)[14:] if ":" in packet else b""
    assert accept(six or ipv4(packet, SERVICE, 17, bytes(8)))


def test_own_packets_of_a_capture_are_left_out() -> None:
    accept = capture.counts_in_capture("ip or ether proto 0x88b5", filters.DLT_EN10MB, FAR)
    assert not accept(FRAME) and accept(ping("1.0.0.2", 8))
    accept = capture.counts_in_capture("greater 0", filters.DLT_LINUX_SLL, None)
    assert accept(cooked(FRAME, 0)) and not accept(cooked(FRAME, 4))


def test_a_bad_expression_is_explained_without_privileges() -> None:
    assert filters.check_filter("tcp port 80 or arp") is None
    for bad in ("foo bar", "ip) or (ip", "\0", "\udcff"):
        assert filters.check_filter(bad), bad
    assert "syntax error" in str(filters.check_filter("tcp and and"))
    with pytest.raises(BadFilter):
        capture.counts_in_capture("ether proto 1", 10_000, None)


# Captures

Packet = tuple[int, bytes]  # nanoseconds since 1970, data
START = 1_700_000_000 * capture.NANOSECONDS


def pcap(packets: list[Packet], order: str = "<", nano: bool = False, length: int = 0) -> bytes:
    magic, unit = (0xA1B23C4D, 1) if nano else (0xA1B2C3D4, 1000)
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)]
    for when, data in packets:
        seconds, rest = divmod(when, capture.NANOSECONDS)
        sizes = len(data), length or len(data)
        parts += [struct.pack(order + "IIII", seconds, rest // unit, *sizes), data]
    return b"".join(parts)


def read(path: Path, accept: Callable[[bytes], object] = bool) -> tuple[list[int], int, str]:
    """Times of the packets that count, time of the last one, how reading ended."""
    counted: list[int] = []
    now, end = 0, ""
    with open_capture(str(path)) as opened:
        for batch in opened.batches(accept):
            assert isinstance(batch, Batch)
            counted += batch.counted
            now = batch.now
        if opened.problem is not None:
            end = str(opened.problem)
        if isinstance(opened.problem, Truncated):
            end = "truncated"
    return counted, now, end


PACKETS = [(START + 1001 * n, bytes(20 + n % 7)) for n in range(50)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_classic_captures_are_read_exactly(tmp_path: Path, order: str, nano: bool) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap(PACKETS, order, nano))
    unit = 1 if nano else 1000
    times = [(when - START) // unit * unit for when, _ in PACKETS]
    assert read(file) == (times, times[-1], "")


def test_pcapng_is_named_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    file.write_bytes(bytes.fromhex("0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000"))
    with pytest.raises(Unreadable, match=r"is pcapng, .*: tcpdump -r FILE -w OTHER.pcap converts"):
        open_capture(str(file))


def test_what_comes_before_a_truncation_counts(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    data = pcap(PACKETS[:3])
    ends = [24, *(24 + sum(16 + len(d) for _, d in PACKETS[: n + 1]) for n in range(3))]
    for size in range(24, len(data)):
        file.write_bytes(data[:size])
        counted, _, end = read(file)
        assert len(counted) == sum(size >= e for e in ends[1:])
        assert end == ("" if size in ends else "truncated")


def test_time_never_runs_backwards(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    offsets = [5, 7, 3, -100, 8, 2]
    file.write_bytes(pcap([(START + n * 1000, b"yes") for n in offsets]))
    assert read(file)[0] == [0, 2000, 2000, 2000, 3000, 3000]


class Drip(io.RawIOBase):
    """A file of which a few bytes come at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        self._rest = io.BytesIO(content)
        self._size = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._rest.read(min(self._size, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


records = st.tuples(
    st.integers(0, 3), st.integers(0, 2**32 - 1) | st.integers(0, 3), st.binary(max_size=9)
)


@settings(deadline=None)
@given(st.lists(records, max_size=30), st.sampled_from("<>"), st.booleans(), st.integers(1, 90))
def test_any_capture_is_read_as_by_the_book(
    packets: list[tuple[int, int, bytes]], order: str, nano: bool, size: int
) -> None:
    """However it is cut into pieces: first, count, the latest time so far, or a clock set back."""
    parts = [struct.pack(order + "IIII", *when, len(d), len(d)) + d for *when, d in packets]
    moments = [s * capture.NANOSECONDS + f * (1 if nano else 1000) for s, f, _ in packets]
    latest = never_back(moments)
    content = pcap([], order, nano) + b"".join(parts)
    opened = capture.Capture("x", io.BufferedReader(Drip(content, size), size))
    batches = list(opened.batches(lambda packet: len(packet) % 2))
    counted = [when for when, (_, _, d) in zip(latest, packets, strict=True) if len(d) % 2]
    assert [when for batch in batches for when in batch.counted] == counted
    assert [batch.now for batch in batches][-1:] == latest[-1:]
    assert opened.clock.first == (moments[0] if moments else None)


def test_packets_that_do_not_count_still_take_time(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([(START, b"no"), (START + 9000, b"yes"), (START + 20_000, b"no")]))
    assert read(file, lambda packet: packet == b"yes") == ([9000], 20_000, "")


def test_a_filter_sees_the_length_on_the_wire(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([(START, b"short")], length=1000))
    assert read(file, lambda packet: len(packet) == 1000)[0] == [0]


def test_what_is_no_capture_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for content in (b"", b"hello, world, this is not a capture", pcap([])[:20]):
        file.write_bytes(content)
        with pytest.raises(Unreadable, match=str(file)):
            open_capture(str(file))
    with pytest.raises(Unreadable, match="No such file"):
        open_capture(str(tmp_path / "none"))
    with pytest.raises(Unreadable, match="directory"):
        open_capture(str(tmp_path))
    damaged = pcap(PACKETS[:2]) + struct.pack("<IIII", 1, 1, 0x7FFFFFFF, 60) + bytes(1000)
    file.write_bytes(damaged)
    counted, _, end = read(file)
    assert len(counted) == 2 and "damage" in end


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=300), cut=st.integers(0, 200))
def test_no_bytes_can_do_more_than_be_unreadable(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.pcap"
    file.write_bytes(pcap(PACKETS[:4])[:cut] + data)
    try:
        read(file)
    except Unreadable as error:
        assert str(file) in str(error)


# The dump file


def dumped(path: Path, packets: int, linktype: int = 1) -> DumpFile:
    """A dump file that is still open, after so many packets."""
    dump = DumpFile(str(path), 64)
    dump.begin(linktype)
    put(dump, packets)
    return dump


def put(dump: DumpFile, packets: int) -> None:
    for n in range(packets):
        dump.put((1_700_000_000, n), 200, FRAME)
    dump.flush()


def held(path: Path) -> int:
    return len(list(packets_by_libpcap(str(path))))


def test_a_dump_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "dump.eth0"
    dumped(path, 3).close()
    assert held(path) == 3
    dumped(path, 2).close()
    assert held(path) == 5
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 10)  # a power cut in the last packet
    dumped(path, 1).close()
    assert held(path) == 5
    dumped(path, 1, linktype=12).close()  # another kind of interface: the old packets are kept
    assert held(path) == 1 and held(tmp_path / "dump.eth0.1") == 5


def test_a_dump_has_a_size_and_one_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumpfile, "DUMP_BYTES", 24 + 100 * 80)
    path = tmp_path / "dump.eth0"
    dump = dumped(path, 0)
    for _ in range(13):
        put(dump, 20)
    dump.close()
    assert held(path) == 60 and held(tmp_path / "dump.eth0.1") == 100
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dump.eth0", "dump.eth0.1"]


def test_only_one_writes_a_dump(tmp_path: Path) -> None:
    path = tmp_path / "dump.eth0"
    first, second = dumped(path, 2), dumped(path, 5)
    assert held(path) == 2
    first.close()
    put(second, 1)
    second.close()
    assert held(path) == 3


def test_a_dump_never_goes_where_another_user_leads_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for plant in (os.symlink, os.link):
        for name in ("dump.eth0", "dump.eth0.1"):
            plant(victim, tmp_path / name)
            with pytest.raises(OSError, match="not a plain file of this user"):
                DumpFile(str(tmp_path / "dump.eth0"), 64)
            (tmp_path / name).unlink()
            (tmp_path / "dump.eth0").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "dump.eth0")
    with pytest.raises(OSError, match="not a plain file"):
        DumpFile(str(tmp_path / "dump.eth0"), 64)
    assert victim.read_text() == "precious"


def test_a_full_disk_loses_packets_and_leaves_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "dump.eth0"
    dump = dumped(path, 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            put(dump, 10)
        for _ in range(2):  # packets are still missing, though there is nothing to write
            with pytest.raises(OSError, match="File too large"):
                put(dump, 0)
        assert held(path) == 10
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    put(dump, 2)
    put(dump, 0)
    dump.close()
    assert held(path) == 12
