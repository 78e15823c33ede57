"""The example for conntrackd on a real pair of firewalls: what goes through them survives a switch.

Two switches are tried; SWITCHES=100 in the environment has so many of them.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from live_pair import LONG, settled, start

from dev.lab.network import SERVICE, Lab
from dev.lab.node import Interface, Node
from dev.lab.spaces import ROOT, search_path

OUTSIDE, SERVER, PORT = "198.51.100.10", "198.51.100.200", 7
SWITCHES = int(os.environ.get("SWITCHES", "2"))
STREAMS = 10
PATIENCE = 20.0  # seconds that TCP may take to notice that the way is open again
BLOCK = 1000

# A firewall that knows connections, and hides the client.
RULES = f"""
table ip filter {{
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname eth0 ct state new accept
    }}
}}
table ip nat {{
    chain postrouting {{
        type nat hook postrouting priority 100;
        oifname eth1 snat to {OUTSIDE}
    }}
}}
"""
KNOBS = {
    "ipv4/ip_forward": 1,
    "netfilter/nf_conntrack_events": 1,
    "netfilter/nf_conntrack_tcp_loose": 0,
}


class Stream:
    """A connection from the client to the server, whose bytes come back as they were sent."""

    def __init__(self, client: Node, server: socket.socket) -> None:
        self.client = client.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.client.settimeout(LONG)
        self.client.connect((SERVER, PORT))
        self.server, (self.seen_from, _) = server.accept()
        self.sent = self.back = 0
        for end in (self.client, self.server):
            end.setblocking(False)

    def go_on(self, source: socket.socket) -> None:
        """Something has come to one end. Raises OSError if the connection was reset."""
        data = source.recv(4 * BLOCK)
        if not data:
            raise ConnectionResetError("it was closed")
        if source is self.server:
            self.server.send(data)
            return
        expected = bytes(at % 251 for at in range(self.back, self.back + len(data)))
        assert data == expected
        self.back += len(data)

    def send(self) -> None:
        if self.sent == self.back:
            self.sent += self.client.send(
                bytes(at % 251 for at in range(self.sent, self.sent + BLOCK))
            )

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Streams:
    """Many at once, each with something under way all the time."""

    def __init__(self, client: Node, server: Node) -> None:
        self.reset: list[str] = []
        with server.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
            listening.bind((SERVER, PORT))
            listening.listen(STREAMS)
            listening.settimeout(LONG)
            self.all = [Stream(client, listening) for _ in range(STREAMS)]

    def go_on(self, seconds: float = 0.01) -> None:
        """Have them send and receive for a moment."""
        end = time.monotonic() + seconds
        while self.all and time.monotonic() < end:
            owners = {end: stream for stream in self.all for end in (stream.client, stream.server)}
            for source in select.select([*owners], [], [], 0.005)[0]:
                self.try_to(owners[source], source)
            for stream in self.all:
                self.try_to(stream, None)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Go on until the condition holds."""
        end = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < end, what
            self.go_on()

    def try_to(self, stream: Stream, source: socket.socket | None) -> None:
        try:
            stream.send() if source is None else stream.go_on(source)
        except BlockingIOError:
            pass
        except OSError as error:
            self.reset.append(str(error))
            self.all = [each for each in self.all if each is not stream]
            stream.close()

    def prove(self) -> None:
        """Each that is left carries bytes from now on."""
        before = {stream: stream.back for stream in self.all}
        end = time.monotonic() + PATIENCE
        while any(s.back < before[s] + 2 * BLOCK for s in self.all) and time.monotonic() < end:
            self.go_on()
        stuck = [s for s in self.all if s.back < before[s] + 2 * BLOCK]
        self.reset += ["nothing comes any more"] * len(stuck)
        self.all = [stream for stream in self.all if stream not in stuck]


def firewall(node: Node, peer: Node) -> None:
    """A router between both networks, with conntrackd as in the example."""
    for knob, value in KNOBS.items():
        node.check("sh", "-c", f"echo {value} >/proc/sys/net/{knob}")
    node.check("nft", "-f", "-", text=RULES)
    text = (ROOT / "examples/conntrackd/conntrackd.conf").read_text()
    ours, theirs = (
        node.interfaces["plip0"].addresses[0].partition("/")[0] for node in (node, peer)
    )
    for line, other in {
        "IPv4_address 1.0.0.1\n        IPv4_Dest": f"IPv4_address {ours}\n        IPv4_Dest",
        "Address 1.0.0.2\n        Port": f"Address {theirs}\n        Port",
        "Syslog on": f"LogFile {node.folder}/conntrackd.log",
        "/var/lock/": f"{node.folder}/run/",
        "/var/run/": f"{node.folder}/run/",
    }.items():
        assert text.count(line) == 1, line
        text = text.replace(line, other)
    conf = node.write("conntrackd.conf", text)
    assert conf == f"{node.folder}/conntrackd.conf"
    start_conntrackd(node)


def start_conntrackd(node: Node) -> None:
    words = ("conntrackd", "-C", f"{node.folder}/conntrackd.conf")
    node.popen(*words)
    asked = lambda: node.run(*words, "-s").returncode == 0  # noqa: E731
    node.lab.wait_until(asked, "conntrackd answers", LONG)


def use_hook(node: Node) -> None:
    text = (ROOT / "examples/switch.d/conntrackd").read_text()
    assert text.count("\nconf=/etc/conntrackd/conntrackd.conf\n") == 1
    conf = f"{node.folder}/conntrackd.conf"
    node.write("switch.d/conntrackd", text.replace("/etc/conntrackd/conntrackd.conf", conf), 0o755)


@contextmanager
def streams(lab: Lab) -> Iterator[Streams]:
    """From the client through the active node to a server on the other network."""
    interface = Interface("eth1", "net1", "02:00:00:00:01:c8", (f"{SERVER}/24",))
    server = Node(lab, "server", [interface])
    lab.switch.ip(*server.plugging())
    server.ip(*server.configuring())
    lab.client.ip("link set dev eth1 down", f"route add 198.51.100.0/24 via {SERVICE}")
    with ExitStack() as stack:
        made = Streams(lab.client, server)
        for stream in made.all:
            stack.callback(stream.close)
        assert {stream.seen_from for stream in made.all} == {OUTSIDE}
        yield made


def switch(lab: Lab, made: Streams) -> None:
    """A switchover, with the streams under way."""
    with lab.a.popen(*lab.a._command("ha-fail"), stderr=subprocess.DEVNULL) as typed:
        while typed.poll() is None:
            made.go_on()
    assert typed.poll() == 0


@pytest.fixture
def firewalls(make_lab: object) -> Lab:
    needed = ("conntrackd", "conntrack", "nft")
    missing = [each for each in needed if not shutil.which(each, path=search_path())]
    if missing:
        pytest.skip(f"there is no {' and no '.join(missing)}: install it")
    lab: Lab = make_lab(interfaces=2)  # type: ignore[operator]
    addresses = [f"eth0 {SERVICE}/24", f"eth1 {OUTSIDE}/24"]
    start(lab, addresses=addresses, switch_timeout=10.0)
    firewall(lab.a, lab.b)
    firewall(lab.b, lab.a)
    return lab


def test_streams_through_firewalls_survive_switches(firewalls: Lab) -> None:
    lab = firewalls
    for node in lab.nodes:
        use_hook(node)
    with streams(lab) as made:
        made.prove()
        for number in range(SWITCHES):
            switch(lab, made)
            made.prove()
            assert settled(lab, lab.a if number % 2 else lab.b)
        print(f"{SWITCHES} switches of {STREAMS} streams, reset: {len(made.reset)}")
        assert not made.reset
    for node in lab.nodes:
        assert "failed with status" not in node.log()


def test_streams_survive_a_power_cut_and_the_return_of_the_node(firewalls: Lab) -> None:
    """Which knows nothing when it comes, and has its role back."""
    lab = firewalls
    for node in lab.nodes:
        use_hook(node)
    with streams(lab) as made:
        made.prove()
        for _ in range(SWITCHES // 2):
            lab.a.power_cut()
            lab.a.check("conntrack", "-F")
            made.until(lambda: lab.b.role() == "active", "b takes over")
            made.prove()
            lab.a.power_on()
            start_conntrackd(lab.a)
            lab.a.start_failoverd()
            made.until(lambda: settled(lab, lab.a), "a is back")
            made.prove()
        print(f"{SWITCHES // 2} power cuts of {STREAMS} streams, reset: {len(made.reset)}")
        assert not made.reset


def test_without_the_hook_they_do_not(firewalls: Lab) -> None:
    """Or else the test above would prove nothing."""
    with streams(firewalls) as made:
        made.prove()
        switch(firewalls, made)
        made.prove()
        assert len(made.reset) == STREAMS
