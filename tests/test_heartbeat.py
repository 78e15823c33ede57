"""Heartbeats: whose echo requests are the peer's, and what pings do to a pair: nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import IO, Any

import pytest
from inside import inside
from live_pair import kill, main_pid, pids, role_changes, start
from netns import ROOTLESS, Namespace, cable, namespaces

from dev.lab.network import ROUTER, Lab
from dev.lab.node import SECRET, Node, Value
from dev.lab.spaces import Process
from failoverd import heartbeat, process
from failoverd.conf import Conf
from failoverd.master.context import Context
from failoverd.master.control_socket import ControlSocket
from failoverd.master.service_checks import ServiceChecks
from failoverd.master.supervisor import Slot, Supervisor
from failoverd.master.watchers import Watchers
from failoverd.master.workers import Workers
from failoverd.process import Message
from failoverd.watch import counter
from failoverd.wire.protocol import Tags, heartbeat_tags, parse_tags

IPV4, IPV6 = ("1.0.0.1", "1.0.0.2"), ("fd00::1", "fd00::2")
WORD, BEFORE = b"open sesame", b"the word before"
PATIENCE = 60.0  # seconds in which anything must have happened
WATCHED: dict[str, Value] = {"low_water": 1, "witness": [f"eth0 {ROUTER}"]}


# The tags


def tag(secret: bytes, sender: str, receiver: str) -> bytes:
    """Written down a second time."""
    text = f"failoverd heartbeat {sender} {receiver}".encode()
    return hmac.new(secret, text, hashlib.sha256).digest()[:8]


def test_the_tag_is_the_secrets_and_the_directions() -> None:
    us, peer = IPV4
    tags = heartbeat_tags(WORD, us, peer)
    assert tags == Tags((tag(WORD, us, peer),), (tag(WORD, peer, us),))
    assert heartbeat_tags(WORD, peer, us) == Tags(tags.peers, tags.ours)
    others = [heartbeat_tags(BEFORE, us, peer), heartbeat_tags(WORD, us, "1.0.0.3")]
    seen = [*tags.ours, *tags.peers, *others[0].ours, *others[1].ours, *others[1].peers]
    assert len(set(seen)) == len(seen)


def test_the_tag_before_lasts_until_the_peer_has_the_new_one() -> None:
    first, second, third = (heartbeat_tags(word, *IPV4) for word in (b"1", b"2", b"3"))
    both = first.then(second)
    assert both == Tags((*second.ours, *first.ours), (*second.peers, *first.peers))
    assert both.newest == second
    assert both.then(third) == first.then(third), "the peer may still have the first"
    assert second.then(third).newest == third
    assert both.then(first) == first, "it is undone"


def test_tags_are_told_from_process_to_process() -> None:
    first, second = (heartbeat_tags(word, *IPV6) for word in (b"1", b"2"))
    for tags in (first, first.then(second)):
        assert parse_tags(json.loads(json.dumps(tags.message()))) == tags
    good: list[Any] = first.message()["ours"]  # type: ignore[assignment]
    wrong: list[Any] = [None, good[0], [], good * 3, good * 2, [good[0][:-2]], [good[0].upper()]]
    for odd in [*wrong, [good[0] + "00"], [b"".hex()], [1], [None], {good[0]: 1}]:
        with pytest.raises(ValueError, match=r"ours|as many tags of this node"):
            parse_tags({"ours": odd, "peers": good})
    with pytest.raises(ValueError, match="peers: missing"):
        parse_tags({"ours": good})


# One end, with a hand at the other: plip0 is the heartbeat link, eth0 another cable to it


@pytest.fixture
def spaces() -> Iterator[list[Namespace]]:
    with namespaces(2) as made:
        here, there = made
        cable(here, "plip0", there, "plip0")
        cable(here, "eth0", there, "eth0")
        for space, ipv4, ipv6, host in zip(made, IPV4, IPV6, (1, 2), strict=True):
            space.ip(
                f"address add {ipv4}/24 dev plip0",
                f"address add {ipv6}/64 dev plip0 nodad",
                f"address add 192.0.2.{host}/24 dev eth0",
                f"address add 2001:db8::{host}/64 dev eth0 nodad",
            )
            for name in ("all", "default", "plip0", "eth0"):
                switch = f"/proc/sys/net/ipv4/conf/{name}/rp_filter"
                space.run("sh", "-c", f"echo 0 >{switch}")
        hwaddr = here.show("link", "show", "dev", "eth0")[0]["address"]
        there.ip(
            f"neigh add {IPV6[0]} lladdr {hwaddr} dev eth0",
            f"route add 1.0.0.0/24 dev eth0 src {IPV4[1]} metric 2000",
            "route add fd00::/64 dev eth0 metric 2000",
        )
        yield made


class Other:
    """The peer's address and a sender of anything from it."""

    def __init__(self, there: Namespace, ends: tuple[str, str]) -> None:
        self.context, self.peer = ends
        self.v6 = ":" in self.context
        family = socket.AF_INET6 if self.v6 else socket.AF_INET
        protocol = socket.IPPROTO_ICMPV6 if self.v6 else socket.IPPROTO_ICMP
        self.link, self.ethernet = (there.socket(family, socket.SOCK_RAW, protocol) for _ in "12")
        for sock, name in ((self.link, b"plip0"), (self.ethernet, b"eth0")):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
            sock.bind((self.peer, 0))
            sock.settimeout(PATIENCE)

    def send(self, payload: bytes, kind: int = -1, by: socket.socket | None = None) -> None:
        """An echo request, or another message of this type."""
        kind = (128 if self.v6 else 8) if kind < 0 else kind
        packet = struct.pack("!BBHHH", kind, 0, 0, 77, 1) + payload
        if not self.v6:
            packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
        (by or self.link).sendto(packet, (self.context, 0))

    def requests(self, count: int) -> list[bytes]:
        """The payloads of so many echo requests that come here."""
        found: list[bytes] = []
        while len(found) < count:
            data = self.link.recv(2048)[0 if self.v6 else 20 :]
            if data[0] == (128 if self.v6 else 8):
                assert self.v6 or checksum(data) == 0
                found.append(data[8:])
        return found


def checksum(data: bytes) -> int:
    """RFC 1071."""
    words: tuple[int, ...] = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


ENDS = pytest.mark.parametrize("ends", [IPV4, IPV6], ids=["IPv4", "IPv6"])


@ENDS
def test_only_the_tag_by_the_private_link_is_a_heartbeat(
    spaces: list[Namespace], ends: tuple[str, str]
) -> None:
    """It neither counts in the kernel nor shows as an age: one end feeds both."""
    here, there = spaces
    conf = Conf(primary=ends[0], secondary=ends[1])
    tags = heartbeat_tags(WORD, *ends)
    (ours,), (theirs,) = tags.ours, tags.peers
    other = Other(there, ends)
    reply = 129 if other.v6 else 0
    none_of_them: list[tuple[bytes, int, socket.socket]] = [
        (b"", -1, other.link),
        (bytes(range(56)), -1, other.link),
        (ours, -1, other.link),  # thrown back at us
        (theirs[:7], -1, other.link),
        (bytes(8) + theirs, -1, other.link),
        (theirs, reply, other.link),
        (theirs, -1, other.ethernet),
    ]

    def work() -> None:
        pinger = heartbeat.Pinger(*ends, "plip0", tags)
        counting = counter.Counter("plip0", counter.what_counts(conf, "plip0", tags.peers))
        everything = [counter.Counter(name, echoes(other.v6)) for name in ("plip0", "eth0")]
        assert all(each.open() for each in (counting, *everything))
        for payload, kind, by in none_of_them:
            other.send(payload, kind, by)
        until(lambda: sum(each.take() for each in everything), len(none_of_them))
        pinger.drain(1.0)
        assert (pinger.heard, counting.take()) == (None, 0)
        other.send(theirs)
        until(counting.take, 1)
        assert select.select([pinger], [], [], PATIENCE)[0]
        pinger.drain(2.0)
        assert pinger.heard == 2.0
        pinger.close()

    inside(here, work)


def echoes(v6: bool) -> str:
    return "icmp6 and (ip6[40] = 128 or ip6[40] = 129)" if v6 else "icmp"


def until(more: Callable[[], int], count: int) -> None:
    """Wait until so many have come, and no more."""
    seen, end = 0, time.monotonic() + PATIENCE
    while seen < count and time.monotonic() < end:
        seen += more()
        time.sleep(0.01)
    assert seen == count


@ENDS
def test_what_is_sent_carries_the_tag_and_has_its_round_trip(
    spaces: list[Namespace], ends: tuple[str, str]
) -> None:
    here, there = spaces
    tags = heartbeat_tags(WORD, *ends)
    other = Other(there, ends)

    def work() -> None:
        pinger = heartbeat.Pinger(*ends, "plip0", tags)
        assert pinger.send(time.monotonic()) == ""
        assert select.select([pinger], [], [], PATIENCE)[0]
        pinger.drain(time.monotonic())
        assert pinger.rtt is not None and 0 < pinger.rtt < PATIENCE and pinger.heard is None
        pinger.close()

    inside(here, work)
    assert other.requests(1) == list(tags.ours)


@ENDS
def test_a_new_secret_is_waited_for(spaces: list[Namespace], ends: tuple[str, str]) -> None:
    """Both tags are sent and taken, until the peer's first one with the new secret."""
    here, there = spaces
    old, new = heartbeat_tags(BEFORE, *ends), heartbeat_tags(WORD, *ends)
    other = Other(there, ends)

    requests = counter.Counter("plip0", "icmp6 and ip6[40] = 128" if other.v6 else "icmp[0] = 8")

    def receive(pinger: heartbeat.Pinger, payload: bytes, now: float) -> None:
        other.send(payload)
        until(requests.take, 1)  # what can be read may be replies to its own
        pinger.drain(now)

    def work() -> None:
        pinger = heartbeat.Pinger(*ends, "plip0", old)
        assert requests.open()
        pinger.told({"do": "tags", **old.then(new).message()})
        assert pinger.send(0.0) == ""
        receive(pinger, old.peers[0], 1.0)
        assert (pinger.heard, pinger.renewed) == (1.0, False)
        receive(pinger, new.peers[0], 2.0)
        assert (pinger.heard, pinger.renewed, pinger.tags) == (2.0, True, new)
        receive(pinger, old.peers[0], 3.0)
        assert pinger.heard == 2.0
        assert pinger.send(4.0) == ""
        pinger.close()

    inside(here, work)
    assert other.requests(3) == [*new.ours, *old.ours, *new.ours]


@contextmanager
def beating(conf: Conf, tags: Tags) -> Iterator[process.Child]:
    child = process.fork_child(
        "test: heartbeat", lambda channel: heartbeat.run(channel, conf, True, tags)
    )
    try:
        yield child
    finally:
        os.kill(child.pid, 9)
        os.waitpid(child.pid, 0)
        child.channel.close()


def test_the_child_says_when_the_peer_has_the_new_secret(spaces: list[Namespace]) -> None:
    here, there = spaces
    old, new = heartbeat_tags(BEFORE, *IPV4), heartbeat_tags(WORD, *IPV4)
    other = Other(there, IPV4)
    user = "root" if ROOTLESS else "nobody"
    conf = Conf(user=user, plip_timer=PATIENCE, plip_hbeat=0.1)

    def work() -> None:
        with beating(conf, old.then(new)) as child:
            said: list[process.Message] = []
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and not [m for m in said if m["event"] == "renewed"]:
                if select.select([child.channel], [], [], 0.05)[0]:
                    said += child.channel.receive()
                other.send(new.peers[0])
        (renewed,) = (message for message in said if message["event"] == "renewed")
        assert renewed["tag"] == new.peers[0].hex()

    inside(here, work)


def test_a_flood_does_not_keep_it_from_sending(spaces: list[Namespace]) -> None:
    """One look at what has come ends, however fast more comes."""
    here, _ = spaces
    reads = 0

    class Endless:
        def recvmsg(self, *_: int) -> tuple[bytes, list[Any], int, tuple[str, int]]:
            nonlocal reads
            reads += 1
            assert reads < 10_000, "it never comes to an end"
            return bytes(28), [], 0, (IPV4[1], 0)

    def work() -> None:
        pinger = heartbeat.Pinger(*IPV4, "plip0", heartbeat_tags(WORD, *IPV4))
        pinger.close()
        pinger._socket = Endless()  # type: ignore[assignment]
        pinger.drain(1.0)
        assert reads > 100

    inside(here, work)


# Who is told


class Slots(Supervisor):
    """The children's places, of which none is ever taken."""

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}
        self.sent: list[tuple[str, Message]] = []

    def send(self, name: str, message: Message) -> bool:
        self.sent.append((name, message))
        return True


class Quiet(Context):
    def __init__(self, settings: Conf) -> None:
        self.conf = settings
        self.dry = False

    def say(self, *_: object, **__: object) -> None:
        pass


def test_those_who_send_and_count_follow_the_listeners_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[tuple[bytes, ...]] = []
    slots = Slots()
    us = Quiet(Conf())
    watchers = Watchers(us, slots, None, lambda _: None)
    checks = ServiceChecks(us, slots)
    workers = Workers(us, slots, watchers, (), ControlSocket(us), -1, checks)
    monkeypatch.setattr(process, "fork_child", lambda *_: None)
    monkeypatch.setattr(
        "failoverd.master.workers.what_counts", lambda _, __, tags: counted.append(tags)
    )

    def peers() -> tuple[bytes, ...]:
        """What the heartbeat link's watcher would count by if it were started now."""
        slots.slots["watchd plip0"].make(None)
        return counted[-1]

    old, new = (heartbeat_tags(word, *IPV4) for word in (b"old", b"new"))
    recount = ("watchd plip0", {"do": "reopen"})
    assert not slots.slots, "the secret is not known yet"
    workers.told_tags(old.message())
    assert {*slots.slots} == {"heartbeat", "watchd plip0"} and peers() == old.peers
    workers.told_tags(old.message())
    assert slots.sent == [], "the listener was only started again"
    workers.told_tags(new.message())
    assert slots.sent == [
        ("heartbeat", {"do": "tags", **old.then(new).message()}),
        recount,
    ]
    assert peers() == new.peers + old.peers
    workers.told_renewed({"tag": old.peers[0].hex()})
    assert peers() == new.peers + old.peers and len(slots.sent) == 2, "that is not the new one"
    workers.told_renewed({"tag": new.peers[0].hex()})
    assert peers() == new.peers and slots.sent[2:] == [recount]


# A pair, and a host that pings


PINGS = """
import socket, struct, sys, time
target, payload = sys.argv[1], bytes.fromhex(sys.argv[2])
v6 = ":" in target
family, protocol = (socket.AF_INET6, 58) if v6 else (socket.AF_INET, 1)
sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
number = 0
while True:
    number = number % 65000 + 1
    packet = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 0, number) + payload
    try:
        sock.sendto(packet, (target, 0))
    except OSError:
        pass
    time.sleep(0.05)
"""


def ping_on(node: Node, target: str, payload: bytes) -> Process:
    """As ping(8) of an ordinary user does it, twenty times a second."""
    node.check("sysctl", "-qw", "net.ipv4.ping_group_range=0 0")
    return node.popen(sys.executable, "-c", PINGS, target, payload.hex())


@pytest.mark.parametrize("ignoring", [False, True], ids=["", "while the kernels answer no ping"])
def test_pings_of_a_node_without_failoverd_hold_no_takeover_up(lab: Lab, ignoring: bool) -> None:
    if ignoring:
        for node in lab.nodes:
            node.check("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    start(lab, **WATCHED)
    ours = heartbeat_tags(SECRET.encode(), *IPV4).ours[0]
    shown = ("", "00", "ff" * 56, (ours[::-1] + bytes(40)).hex(), (bytes(16) + ours * 3).hex())
    for payload in shown:
        ping_on(lab.a, IPV4[1], bytes.fromhex(payload))
    kill(lab.a, main_pid(lab.a))
    lab.wait_until(lambda: not pids(lab.a, "failoverd"), "a's failoverd is gone")
    gone = len(lab.b.log())
    lab.a.kill_port("eth0")
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    log = lab.b.log()
    assert "HEARTBEAT-LOST" in log and "HEARTBEAT-OK" not in log[gone:]
    before = age(lab.b)
    lab.wait_until(lambda: age(lab.b) > before + 0.3, "the last heartbeat grows old")


def test_a_person_sees_what_failoverd_sees(lab: Lab) -> None:
    """watchd by hand counts the heartbeats and no ping; with -v it does not tell the tag."""
    start(lab, **WATCHED)
    ping_on(lab.a, IPV4[1], bytes(56))
    windows = seen_by_hand(lab.b, 4)
    seconds = [later["t"] - one["t"] for one, later in pairwise(windows)]
    received = [window["packets"] for window in windows[1:]]
    sent = [span / 0.1 + 2 for span in seconds]  # each $plip_hbeat; pings would be twice as many
    assert sum(received) > 0, windows
    assert all(one <= most for one, most in zip(received, sent, strict=True)), windows
    kill(lab.a, main_pid(lab.a))
    lab.wait_until(lambda: not pids(lab.a, "failoverd"), "a's failoverd is gone")
    verdicts = [window["verdict"] for window in seen_by_hand(lab.b, 6)]
    assert {*verdicts[2:]} - {"late"} == {"fail"}, verdicts


def seen_by_hand(node: Node, count: int) -> list[dict[str, Any]]:
    """The windows that watchd tells of the heartbeat link, until there are so many."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        argv = node._command("watchd", "-v", "--json", "plip0")
        running = node.popen(*argv, stdout=out, stderr=errors)
        end = time.monotonic() + PATIENCE
        while len(lines := text(out).split("\n")[:-1]) < count and time.monotonic() < end:
            time.sleep(0.05)
        running.kill()
        said = text(errors)
    ours = heartbeat_tags(SECRET.encode(), *IPV4).ours[0]
    assert "(the tag)" in said and ours[:4].hex() not in said
    return [json.loads(line) for line in lines[:count]]


def text(file: IO[bytes]) -> str:
    """What is in it so far."""
    return os.pread(file.fileno(), 1 << 20, 0).decode()


def age(node: Node) -> float:
    word, _, text = node.say("status").partition(" ")
    assert word == "ok"
    return float(json.loads(text)["plip"]["heartbeat_age"])


def test_a_pair_whose_kernels_answer_no_ping_is_as_any(lab: Lab) -> None:
    for node in lab.nodes:
        node.check("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    start(lab, **WATCHED)
    for node in lab.nodes:
        lab.wait_until(
            lambda here=node: here.status()["us"]["plip"]["state"] == "ok",  # type: ignore[misc]
            f"{node.name} receives heartbeats",
        )
        assert node.status()["us"]["plip"]["rtt_ms"] is None


def hup(node: Node) -> None:
    kill(node, main_pid(node), signal.SIGHUP)


def test_a_secret_is_changed_while_the_pair_runs(lab: Lab) -> None:
    """One node after the other, with many windows in between, in which the standby cannot ask:
    the active one's heartbeats keep it where it is. Its own may stop, as it is of no use."""
    start(lab, **WATCHED, verbose=True, confirm="none")
    before = [role_changes(node) for node in lab.nodes]
    lab.a.write("secret", "another word\n", 0o600)
    hup(lab.a)
    lab.wait_until(lambda: "SECRET-CHANGED" in lab.a.log(), "a has the new secret")
    judge_windows(lab.b)
    lab.b.write("secret", "another word\n", 0o600)
    hup(lab.b)
    done = "the peer has the new secret too"
    lab.wait_until(lambda: all(done in node.log() for node in lab.nodes), "both know")
    judge_windows(lab.b)
    assert "HEARTBEAT-LOST" not in lab.b.log()
    assert [role_changes(node) for node in lab.nodes] == before
    lab.wait_until(lambda: settled_with(lab, "another word"), "all is as it was")
    judge_windows(lab.a)
    # A busy host may end any one window late.
    good = 'reason="packets came in"'
    lab.wait_until(lambda: last_window(lab.a).endswith(good), "a receives heartbeats")


def judge_windows(node: Node) -> None:
    """Wait until the heartbeat link was judged some times more."""
    before = node.log().count("WINDOW interface plip0")
    node.lab.wait_until(
        lambda: node.log().count("WINDOW interface plip0") > before + 5,
        f"{node.name} has judged windows",
    )


def last_window(node: Node) -> str:
    return [line for line in node.log().splitlines() if " WINDOW interface plip0: " in line][-1]


def settled_with(lab: Lab, word: str) -> bool:
    told = [json.loads(node.say("status", word)[3:])["role"] for node in lab.nodes]
    return told == ["active", "standby"] and lab.holders() == ["a"]


def test_a_node_with_another_secret_is_not_received(lab: Lab) -> None:
    """Its heartbeats have a tag that is not known here."""
    for node in lab.nodes:
        node.write_conf(**WATCHED)
    lab.b.write("secret", "another word\n", 0o600)
    for node in lab.nodes:
        node.start_failoverd()
    for node, word in ((lab.a, SECRET), (lab.b, "another word")):
        lab.wait_until(
            lambda here=node: "HEARTBEAT-LOST" in here.log(),  # type: ignore[misc]
            f"{node.name} receives nothing",
        )
        told = json.loads(node.say("status", word).removeprefix("ok "))
        assert told["plip"]["heartbeat_age"] is None
