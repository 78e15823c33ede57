"""The lab itself: what it measures is there, what it takes away is gone, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.lab.eyes import Eyes
from dev.lab.network import SERVICE, SERVICE6, Lab
from dev.lab.node import Node, perl
from dev.lab.record import Record, scale, strip
from dev.lab.spaces import ROOT, LabError

ANY_ETHERTYPE = 0x0003
TEST_ETHERTYPE = 0x88B5  # IEEE 802: for local experiments


def give(lab: Lab, node: str, address: str = SERVICE) -> None:
    prefix, extra = ("64", " nodad") if ":" in address else ("24", "")
    getattr(lab, node).ip(f"address add {address}/{prefix} dev eth0{extra}")


def receives(lab: Lab, sender: str, receiver: str, interface: str) -> bool:
    """Whether a raw frame that one node sends on an interface reaches the other's."""
    with contextlib.ExitStack() as stack:
        ends = []
        for name in (sender, receiver):
            end = getattr(lab, name).socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            ends.append(stack.enter_context(end))
            end.bind((interface, TEST_ETHERTYPE))
        frame = b"\xff" * 6 + b"\x02" + bytes(5) + TEST_ETHERTYPE.to_bytes(2, "big") + b"x" * 46
        ends[1].settimeout(0.1)
        for _ in range(5):
            ends[0].send(frame)
            with contextlib.suppress(TimeoutError):
                return bool(ends[1].recv(100))
    return False


def test_the_client_sees_how_long_no_answer_came(lab: Lab) -> None:
    give(lab, "a")
    lab.client.start_probing(interval=0.002)
    lab.wait_until(lab.client.answering, "the service answers")
    assert lab.holders() == ["a"]
    cut = time.monotonic()
    lab.a.power_cut()
    time.sleep(0.3)
    assert lab.holders() == []
    back = time.monotonic()
    lab.a.power_on()
    give(lab, "a")
    lab.wait_until(lambda: lab.client.answering(back), "the service answers again")
    assert 0.3 <= lab.client.outage(cut) < 10


def test_ipv6_is_there_when_it_is_asked_for(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(ipv6=True, interfaces=2)
    give(lab, "b", SERVICE6)
    lab.client.start_probing(SERVICE6)
    lab.wait_until(lab.client.answering, "the service answers")
    assert lab.b.addresses("eth1") == ["198.51.100.2/24", "2001:db8:1::2/64"]


def test_two_holders_are_seen_both(lab: Lab) -> None:
    assert lab.client.arp_holders() == set()
    give(lab, "a")
    give(lab, "b")
    assert lab.client.arp_holders() == {lab.a.hwaddr("eth0"), lab.b.hwaddr("eth0")}
    assert lab.holders() == ["a", "b"]


def test_the_eyes_have_seen_whatever_has_happened(lab: Lab) -> None:
    slow = lambda *_: time.sleep(0.05)  # noqa: E731 - as their thread is on a busy host
    with Eyes(lab, slow) as eyes:
        for number in range(1, 21):
            lab.a.ip(f"address add {SERVICE}/24 dev eth0")
            assert eyes.gained("a") and eyes.holders == {"a"}
            lab.a.ip(f"address del {SERVICE}/24 dev eth0")
            lab.b.ip(f"address add {SERVICE}/24 dev eth0")
            assert eyes.holders == {"b"} and not eyes.overlaps()
            lab.b.ip(f"address del {SERVICE}/24 dev eth0")
            assert eyes.holders == set() and len(eyes.changes) == 4 * number


def test_a_power_cut_takes_what_a_node_would_lose(lab: Lab) -> None:
    give(lab, "a")
    lab.a.ip("link set dev eth0 address 02:00:00:00:00:10")
    lab.a.write("run/state", "active")
    lab.a.write("log", "a line\n")
    process = lab.a.popen("sleep", "60")
    lab.a.power_cut()
    assert process.wait() == -signal.SIGKILL
    lab.wait_until(lambda: has_no_carrier(lab.b, "plip0"), "the link's carrier is lost")
    assert lab.a.read("run/state") == ""
    lab.a.power_on()
    assert lab.a.addresses("eth0") == ["192.0.2.1/24"]
    assert lab.a.hwaddr("eth0") == lab.a.interfaces["eth0"].hwaddr
    assert lab.a.read("log") == "a line\n"
    lab.wait_until(lambda: receives(lab, "a", "b", "plip0"), "the heartbeat link works")


def test_a_dead_port_keeps_its_carrier(lab: Lab) -> None:
    lab.a.kill_port("eth0")
    assert "LOWER_UP" in lab.a.check("ip", "link", "show", "dev", "eth0")
    assert not receives(lab, "b", "a", "eth0")
    assert not receives(lab, "a", "b", "eth0")
    lab.a.revive_port("eth0")
    assert receives(lab, "b", "a", "eth0")


def test_the_private_link_can_be_cut_in_one_direction(lab: Lab) -> None:
    lab.cut_link(toward=lab.a)
    assert receives(lab, "a", "b", "plip0")
    assert not receives(lab, "b", "a", "plip0")
    lab.cut_link()
    assert not receives(lab, "a", "b", "plip0")
    lab.mend_link()
    assert receives(lab, "b", "a", "plip0")


def test_a_cable_is_pulled_and_an_interface_made_again(lab: Lab) -> None:
    lab.a.unplug("eth0")
    lab.wait_until(lambda: has_no_carrier(lab.a, "eth0"), "the carrier is lost")
    lab.a.plug("eth0")
    lab.wait_until(lambda: receives(lab, "b", "a", "eth0"), "the cable is plugged in")
    lab.a.delete_interface("eth0")
    assert lab.a.addresses("eth0") == []
    lab.a.make_interface("eth0")
    assert lab.a.addresses("eth0") == ["192.0.2.1/24"]
    lab.wait_until(lambda: receives(lab, "b", "a", "eth0"), "the new interface works")


def has_no_carrier(node: Node, interface: str) -> bool:
    """Linux before 6.8 shows it a moment later."""
    return "NO-CARRIER" in node.check("ip", "link", "show", "dev", interface)


def test_a_frozen_node_goes_on_after_the_thaw(lab: Lab) -> None:
    process = lab.a.popen("sleep", "60")
    other = lab.b.popen("sleep", "60")
    lab.a.freeze()
    both = ("ps", "-o", "stat=", "-p", f"{process.pid},{other.pid}")

    def only_one_is_stopped() -> bool:
        return sorted(word[0] for word in lab.a.check(*both).split()) == ["S", "T"]

    # One has to run to be stopped, and the other may still be loading.
    lab.wait_until(only_one_is_stopped, "the one is stopped, the other sleeps")
    lab.a.thaw()
    state = lab.a.check("ps", "-o", "stat=", "-p", str(process.pid)).split()
    assert state[0][0] != "T"
    process.close()
    other.close()


def test_commands_and_their_ends(lab: Lab) -> None:
    result = lab.a.run("sh", "-c", "cat; echo no >&2; exit 3", text="yes")
    assert (result.stdout, result.stderr, result.returncode) == ("yes", "no\n", 3)
    with pytest.raises(LabError, match="nosuch"):
        lab.a.run("nosuch")
    with pytest.raises(LabError, match="link set"):
        lab.a.check("ip", "link", "set", "dev", "nosuch", "up")
    with pytest.raises(subprocess.TimeoutExpired):
        lab.a.run("sleep", "60", timeout=0.1)
    daemon = lab.a.run("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!").stdout.strip()
    lab.a.check("kill", "-9", daemon)
    gone = lambda: lab.a.run("ps", "-p", daemon).returncode != 0  # noqa: E731
    lab.wait_until(gone, "process 1 reaps an orphan")


def test_a_lab_in_the_background_can_still_interrupt_its_processes(
    make_lab: Callable[..., Lab],
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `command &`
    try:
        lab = make_lab()
    finally:
        signal.signal(signal.SIGINT, before)
    with lab.a.popen("sleep", "60") as sleeping:
        sleeping.send_signal(signal.SIGINT)
        assert sleeping.wait() == -signal.SIGINT


def test_a_condition_that_never_comes_tells_both_logs(lab: Lab) -> None:
    lab.b.write("log", "what b saw\n")
    with pytest.raises(TimeoutError, match=r"(?s)a miracle.*what b saw"):
        lab.wait_until(lambda: False, "a miracle", limit=0.01)


def test_the_nodes_files(lab: Lab) -> None:
    secret = lab.a.write("secret", "word\n", 0o600)
    assert stat.S_IMODE((lab.a.outside / "secret").stat().st_mode) == 0o600
    assert lab.a.check("cat", secret) == "word\n"
    text = "".join([perl("log", "it's"), perl("verbose", True), perl("interfaces", ["a", "b"])])
    assert text == "$log = 'it\\'s';\n$verbose = 'yes';\n@interfaces = ('a', 'b');\n"


def test_nothing_is_left_when_its_owner_is_killed(lab: Lab, tmp_path: Path) -> None:
    """`lab` only says whether one can be made; the owner is a process of its own."""
    before = subprocess.run(["ip", "-br", "link"], capture_output=True, check=True).stdout
    program = """if True:
        from dev.lab.network import Lab
        lab = Lab()
        lab.a.popen("setsid", "sleep", "987654.25")
        lab.client.start_probing()
        print("made", flush=True)
        input()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"made\n"
        # A process that becomes another program has no command line for a moment.
        lab.wait_until(lambda: bool(processes_with("987654.25")), "a process runs")
        owner.kill()
    lab.wait_until(lambda: not processes_with("987654.25"), "all processes are gone")
    assert list(tmp_path.iterdir()) == []
    assert subprocess.run(["ip", "-br", "link"], capture_output=True, check=True).stdout == before


def processes_with(word: str) -> list[str]:
    """The processes of this host with a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


# ---------------------------------------------------------------------------- the record


def times(*ranges: tuple[float, float]) -> list[float]:
    """One time a tenth of a second in each range, ends left out."""
    return [begin + n / 10 for begin, end in ranges for n in range(round((end - begin) * 10))]


@pytest.mark.parametrize(
    ("sent", "replies", "outage"),
    [
        ([(0, 10)], [(0, 10)], 0.0),
        ([(0, 10)], [(0, 4), (6, 10)], 2.0),
        ([(0, 10)], [(0, 4)], 6.0),
        ([(0, 10)], [], 10.0),
        ([(0, 4), (6, 10)], [(0, 4), (6, 10)], 0.0),  # the prober itself stood still
        ([], [], 0.0),
    ],
)
def test_an_outage_is_from_the_first_unanswered_probe_to_the_next_reply(
    sent: list[tuple[float, float]], replies: list[tuple[float, float]], outage: float
) -> None:
    record = Record(times(*sent), [at + 0.001 for at in times(*replies)])
    assert record.outage(0.0, 10.0) == pytest.approx(outage, abs=0.11)


def test_the_picture_has_a_column_for_each_time() -> None:
    record = Record(times((0, 10)), times((0, 4), (6, 8), (8.5, 10)))
    shares = record.shares(0.0, 12.0, 12)
    assert strip(shares, fancy=True) == "████··██▄█  "
    assert strip(shares, fancy=False) == "####__##:#  "
    assert scale(12.0, 60, fancy=False).startswith("'0        '2")
    assert all(len(scale(n / 7, 70, fancy=True)) <= 79 for n in range(1, 400))
