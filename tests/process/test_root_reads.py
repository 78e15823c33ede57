"""The root process reads no byte from the network: its system calls while the pair lives."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from live_pair import LONG, WATCHED, main_pid, settled

from dev.lab.network import Lab
from dev.lab.node import Node
from dev.lab.spaces import ROOT, Process

READING = (
    *("read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg", "recvmmsg"),
    *("splice", "tee", "sendfile", "copy_file_range", "io_uring_setup", "io_uring_enter"),
    *("accept", "accept4", "mmap", "socket", "listen"),
)
CALL = re.compile(r"^(?P<name>\w+)\((?P<what>.*)$")
# As strace -yy shows descriptors that lead to the network. A route socket is asked for the
# addresses of our own interfaces, and reads from the kernel alone.
NETWORK = re.compile(r"<(TCP|UDP|RAW|ICMP|PING|PACKET|SCTP|UDPLITE)(v6)?:|<socket:|<NETLINK:")
KERNEL = "<NETLINK:[ROUTE"


def start_traced(node: Node) -> Process:
    """failoverd, whose own calls, not its children's, go to the file `trace`."""
    launch = str(ROOT / "dev" / "launch.py")
    command = (sys.executable, "-I", launch, "failoverd", "-f", "-c", node.conf)
    trace = ("strace", "-yy", "-o", f"{node.folder}/trace", "-e", f"trace={','.join(READING)}")
    with (node.outside / "terminal").open("ab") as terminal:
        return node.popen(*trace, *command, stdout=terminal, stderr=subprocess.STDOUT)


def calls(node: Node) -> list[tuple[str, str]]:
    found = (CALL.match(line) for line in node.read("trace").splitlines())
    return [(each["name"], each["what"]) for each in found if each]


def from_network(name: str, what: str) -> bool:
    """Whether the call takes in what another process has sent, or could."""
    if name == "socket":  # a packet socket with a protocol receives
        return what.startswith("AF_PACKET") and not re.search(r", (htons\()?0\b", what)
    if name == "listen":  # the Unix socket is ours to make, and the listener's to read
        return "<UNIX" not in what
    if name in ("accept", "accept4", "io_uring_setup", "io_uring_enter"):
        return True
    return bool(NETWORK.search(what)) and KERNEL not in what


def test_what_counts_as_a_read_from_the_network() -> None:
    for name, what, counts in (
        ("recvfrom", '7<TCP:[1.0.0.1:2000->1.0.0.2:40000]>, "x", 1, 0, NULL, NULL) = 1', True),
        ("read", '7<UDP:[12]>, "x", 1) = 1', True),
        ("recvfrom", '4<PACKET:[19]>, "x", 1) = 1', True),
        ("mmap", "NULL, 4096, PROT_READ, MAP_SHARED, 4<PACKET:[19]>, 0) = 0x7f0000000000", True),
        ("socket", "AF_PACKET, SOCK_RAW|SOCK_CLOEXEC, htons(ETH_P_ARP)) = 4<PACKET:[19]>", True),
        ("socket", "AF_PACKET, SOCK_RAW|SOCK_CLOEXEC, 0) = 4<PACKET:[19]>", False),
        ("socket", "AF_PACKET, SOCK_RAW, htons(0 /* ETH_P_??? */)) = 8<socket:[1]>", False),
        ("recvmsg", "4<NETLINK:[ROUTE:18]>, {msg_name=", False),
        ("recvmsg", "4<NETLINK:[KOBJECT_UEVENT:18]>, {msg_name=", True),
        ("recvfrom", '9<UNIX-SEQPACKET:[17->18]>, "{}", 65536, 0, NULL, NULL) = 2', False),
        ("read", '3</etc/failover/failoverd.conf>, "#", 4096) = 1', False),
        ("accept4", "3<TCP:[1.0.0.1:2000]>, ", True),
        ("accept4", '3<UNIX-STREAM:[17,"/run/failoverd.sock"]>, ', True),
        ("listen", '3<UNIX-STREAM:[17,"/run/failoverd.sock"]>, 128', False),
        ("listen", "3<TCP:[1.0.0.1:2000]>, 128", True),
    ):
        assert from_network(name, what) is counts, (name, what)


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace: install it")
def test_root_reads_no_byte_from_the_network(lab: Lab) -> None:
    for node in lab.nodes:
        node.write_conf(**WATCHED)
        start_traced(node)
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)
    lab.wait_until(lambda: lab.a.status()["us"]["plip"]["state"] == "ok", "heartbeats are received")
    assert lab.a.command("ha-fail").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.b), "b is active, a stands by", LONG)
    lab.b.power_cut()
    lab.wait_until(lambda: lab.a.role() == "active", "a takes over by silence", LONG)
    lab.a.write_conf(verbose=True, **WATCHED)
    lab.a.check("kill", "-HUP", str(main_pid(lab.a)))
    lab.wait_until(lambda: "configuration read again" in lab.a.log(), "it reads again")
    lab.wait_until(lambda: lab.a.role() == "active", "it answers")
    for node in lab.nodes:
        told = calls(node)
        assert [call for call in told if from_network(*call)] == []
        # The trace is of the right process, and shows what it should.
        assert sum("<UNIX" in what for name, what in told if name == "read") > 20
        assert any(name == "socket" and what.startswith("AF_PACKET") for name, what in told)
    assert Path(lab.a.outside / "trace").stat().st_size > 0
