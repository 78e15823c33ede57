"""The watcher as failoverd's child and by hand, with real interfaces, packets and signals."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from inside import FAR, ONLY_OURS, OWN, Nothing, frame, inside, ip, sender, two_ends
from netns import ROOTLESS, Namespace, cable, namespaces
from processes import wait_until
from watched_by_hand import ENVIRONMENT, WATCHD, by_hand, conf_file, run

from failoverd import links, process
from failoverd.commands import watchd as command
from failoverd.conf import Address, Conf, Witness
from failoverd.master.messages import Logged
from failoverd.process import Message
from failoverd.tools.watching import CANNOT_READ
from failoverd.watch import counter
from failoverd.watch.watcher import (
    Instruments,
    ProbeTargets,
    Watcher,
    instruments,
    run_child,
)
from failoverd.wire import frames
from failoverd.wire.protocol import heartbeat_tags
from failoverd.wire.typed import decode

ROOT = Path(__file__).resolve().parent.parent.parent
USER = "root" if ROOTLESS else "nobody"
GENEROUS = 60.0  # seconds in which anything must have happened
OURS = "02:00:00:00:0a:01"


@pytest.fixture
def spaces() -> Iterator[list[Namespace]]:
    with two_ends() as made:
        yield made


# The child


class Watching:
    """A watcher that was forked as failoverd does it."""

    def __init__(self, conf: Conf, handed: dict[str, Any] | None = None) -> None:
        self.messages: list[dict[str, Any]] = []
        self.logged: list[str] = []
        tools = partial(instruments, conf, "eth0", counter.what_counts(conf, "eth0"))
        self.child = process.fork_child(
            "test: watchd eth0",
            lambda channel: run_child(channel, conf, "eth0", handed, tools),
        )

    @property
    def pid(self) -> int:
        return self.child.pid

    def wait(self, events: str, which: Callable[[Any], bool] = lambda _: True) -> dict[str, Any]:
        """The next message of these kinds; those before it are dropped."""
        limit = time.monotonic() + GENEROUS
        while time.monotonic() < limit:
            while self.messages:
                message = self.messages.pop(0)
                assert message["event"] != "died", message
                self.logged += [worded(message)] if message["event"] == "log" else []
                if message["event"] in events.split() and which(message):
                    return message
            select.select([self.child.channel], [], [], 1)
            self.messages += self.child.channel.receive()
        raise AssertionError(f"no {events}")

    def alarm(self, which: Callable[[Any], bool] = lambda _: True) -> dict[str, Any]:
        """The next such end of a window that the host let end in time. If the first window did
        not, it begins again."""
        while True:
            alarm = self.wait("alarm", lambda m: m["verdict"] == "late" or which(m))
            if alarm["verdict"] != "late":
                return alarm
            if alarm["boot"]:
                self.tell({"do": "restart"})

    def alarms_in_a_row(self, count: int, which: Callable[[Any], bool]) -> None:
        """Wait for so many such windows without another between: a busy host may break a row."""
        limit, row = time.monotonic() + GENEROUS, 0
        while row < count:
            assert time.monotonic() < limit
            row = row + 1 if which(self.wait("alarm")) else 0

    def tell(self, message: dict[str, Any]) -> None:
        assert self.child.channel.send(message)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.child.channel.close()


@contextmanager
def watching(conf: Conf, handed: dict[str, Any] | None = None) -> Iterator[Watching]:
    watcher = Watching(conf, handed)
    try:
        watcher.wait("ready")
        yield watcher
    finally:
        watcher.close()


def quick(**variables: Any) -> Conf:
    """Short windows, in which only frames of these tests count."""
    usual: dict[str, Any] = {"timer_seconds": 0.2, "filter": ONLY_OURS, "user": USER}
    return Conf(**{"low_water": 1, "packet_count": 10, "plip_timer": 0.1, **usual, **variables})


def filled(watcher: Watching, far: socket.socket) -> dict[str, Any]:
    """The event of a window that ten frames made full: all ten, none ended between them."""
    while True:
        for _ in range(10):
            far.send(frame())
        left = 10
        while left > 0:
            message = watcher.wait("alarm full")
            if message["event"] == "full":
                return message
            left -= message["packets"]


def test_a_child_tells_what_happens(spaces: list[Namespace]) -> None:
    here, there = spaces

    def work() -> None:
        with watching(quick()) as watcher, sender(there, "far") as far:
            assert watcher.alarm()["verdict"] == "boot"
            silent = watcher.alarm()
            assert (silent["verdict"], silent["packets"]) == ("fail", 0)
            full = filled(watcher, far)
            assert (full["packets"], full["interface"]) == (10, "eth0")
            after = watcher.alarm()
            assert (after["last"], after["boot"], after["verdict"]) == (10, False, "fail")
            assert after["t"] - full["t"] > 0.19
            watcher.tell({"do": "restart"})
            assert watcher.alarm(lambda m: m["boot"])["verdict"] == "boot"
        with watching(quick(timer_seconds=GENEROUS)) as watcher:
            watcher.wait("alive")

    inside(here, work)


@pytest.mark.skipif(ROOTLESS, reason="without root there is no other user to become")
def test_a_child_gives_up_root(spaces: list[Namespace]) -> None:
    here, _ = spaces

    def work() -> None:
        with watching(quick()) as watcher:
            status = Path(f"/proc/{watcher.pid}/status").read_text()
            facts = dict(line.split(":\t", 1) for line in status.splitlines())
            assert "0" not in facts["Uid"].split() + facts["Gid"].split()
            assert int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == 0
            assert facts["NoNewPrivs"] == "1"

    inside(here, work)


def test_a_lost_interface_is_silent_and_a_successor_goes_on(spaces: list[Namespace]) -> None:
    here, there = spaces
    conf = quick(user="nobody") if not ROOTLESS else quick()

    def remake() -> None:
        ip(f"link add name eth0 type veth peer name far netns {there.pid}")
        ip("link set eth0 up")
        ip("link set far up", at=there)

    def receives(watcher: Watching) -> None:
        with sender(there, "far") as far:
            limit = time.monotonic() + GENEROUS
            while time.monotonic() < limit:
                far.send(frame())
                if watcher.wait("alarm")["packets"]:
                    return
        raise AssertionError("the new interface was never received")

    def work() -> None:
        with watching(conf) as watcher:
            watcher.wait("alarm")
            ip("link del eth0")
            watcher.wait("log", lambda m: worded(m) == "LINK-STATE missing")  # or first another
            last = watcher.wait("alarm")
            remake()
            if ROOTLESS:
                receives(watcher)
                return
            message = watcher.wait("reopen")
        window = message["window"]
        assert window["boot"] is False and window["deadline"] > last["t"]
        with watching(conf, message) as successor:
            after = successor.wait("alarm")
            assert after["t"] > last["t"] and not after["boot"]
            receives(successor)

    inside(here, work)


@pytest.mark.parametrize("state", ["down", "no-carrier"])
def test_an_interface_that_does_not_work_at_start_counts_later(
    spaces: list[Namespace], state: str
) -> None:
    here, there = spaces
    if state == "down":
        here.ip("link set eth0 down")
    else:
        there.ip("link set far down")

    def work() -> None:
        wait_until(lambda: not links.works("eth0"))  # the kernel tells it a moment later
        with watching(quick(user="root")) as watcher, sender(there, "far") as far:
            assert watcher.logged == [f"LINK-STATE {state}"]
            assert watcher.alarm(lambda m: not m["boot"])["verdict"] == "fail"
            if state == "down":
                ip("link set eth0 up")
            else:
                ip("link set far up", at=there)
            limit = time.monotonic() + GENEROUS
            while time.monotonic() < limit:
                try:
                    far.send(frame())
                except OSError:  # its carrier is not back yet
                    pass
                if watcher.wait("alarm")["packets"]:
                    return
            raise AssertionError("it was never received")

    inside(here, work)


@pytest.mark.parametrize(
    ("witness", "answers"),
    [("192.0.2.1", "arp"), ("2001:db8::1", "icmp6 and ip6[40] = 136")],
)
def test_a_witness_keeps_a_quiet_night_quiet(
    spaces: list[Namespace], witness: str, answers: str
) -> None:
    here, there = spaces
    there.ip("address add 192.0.2.1/24 dev far", "address add 2001:db8::1/64 dev far nodad")
    conf = quick(filter=answers, addresses=(Address("eth0", "192.0.2.10", 24),))

    def work() -> None:
        with watching(conf) as watcher:
            assert watcher.alarm(lambda m: not m["boot"])["verdict"] == "fail"
        asked = Conf(**{**vars(conf), "witness": (Witness("eth0", witness),)})
        with watching(asked) as watcher:
            watcher.wait("alarm", lambda m: m["packets"] > 0)
            watcher.alarms_in_a_row(3, lambda m: (m["packets"], m["verdict"]) == (1, "ok"))

    inside(here, work)


@pytest.mark.parametrize(
    ("witness", "own"),
    [("192.0.2.1", "192.0.2.2/24"), ("2001:db8::1", "fe80::2/64")],
)
def test_a_witness_is_found_where_no_probe_is_passed_on(witness: str, own: str) -> None:
    """By a network that suppresses ARP and neighbour discovery."""
    with namespaces(3) as (here, fabric, there):
        cable(here, "eth0", fabric, "p0")
        cable(there, "eth0", fabric, "p1")
        fabric.ip(
            *("link add leaf type bridge mcast_snooping 0", "link set leaf up"),
            *("link set p0 master leaf", "link set p1 master leaf"),
            "link set p1 type bridge_slave neigh_suppress on",
        )
        there.ip("address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0 nodad")
        here.ip("address flush dev eth0")
        conf = quick(witness=(Witness("eth0", witness),), filter="arp or (icmp6 and ip6[40] = 136)")

        def work() -> None:
            with watching(conf) as watcher:
                assert watcher.alarm(lambda m: not m["boot"])["verdict"] == "fail"
                ip(f"address add {own} dev eth0" + (" nodad" if ":" in own else ""))
                watcher.wait("alarm", lambda m: m["packets"] > 0)
                watcher.alarms_in_a_row(3, lambda m: m["verdict"] == "ok")

        inside(here, work)


@pytest.mark.parametrize(
    ("own", "witness", "expected"),
    [
        ("192.0.2.2/24", "192.0.2.1", frames.marked_request(OURS, "192.0.2.2", "192.0.2.1")),
        ("192.0.2.10/24", "192.0.2.1", frames.probe(OURS, "192.0.2.1")),
        ("192.0.2.2/31", "192.0.2.1", frames.probe(OURS, "192.0.2.1")),
        ("fe80::2/64", "fe80::1", frames.marked_request(OURS, "fe80::2", "fe80::1")),
        ("fe80::10/64", "fe80::1", frames.probe(OURS, "fe80::1")),
        ("2001:db8::2/64", "fe80::1", frames.probe(OURS, "fe80::1")),
    ],
)
def test_a_witness_is_asked_from_an_address_that_is_only_ours(
    own: str, witness: str, expected: bytes
) -> None:
    """And in the witness's network; else as if there were none."""
    shared = (Address("eth0", "192.0.2.10", 24), Address("eth0", "fe80::10", 64))
    conf = Conf(witness=(Witness("eth0", witness),), addresses=shared)
    with namespaces(2) as (here, there):
        cable(here, "eth0", there, "eth0")
        here.ip("address flush dev eth0", f"link set eth0 address {OURS}")
        here.ip(f"address add {own} dev eth0" + (" nodad" if ":" in own else ""))
        kind = socket.htons(int.from_bytes(expected[12:14], "big"))
        with there.socket(socket.AF_PACKET, socket.SOCK_RAW, kind) as wire:
            wire.settimeout(GENEROUS)
            here.call(lambda: _asks(conf))
            while wire.recv(2048) != expected:
                pass


def _asks(conf: Conf) -> None:
    targets = ProbeTargets(conf, "eth0")
    assert targets.ask() == ""
    targets.close()


def test_a_watcher_that_stood_still_blames_itself(spaces: list[Namespace]) -> None:
    here, _ = spaces

    def work() -> None:
        with watching(quick()) as watcher:
            watcher.wait("alarm", lambda m: m["verdict"] == "fail")
            os.kill(watcher.pid, signal.SIGSTOP)
            time.sleep(0.7)
            os.kill(watcher.pid, signal.SIGCONT)
            late = watcher.wait("alarm", lambda m: m["verdict"] != "fail")
            assert late["verdict"] == "late" and "s late" in late["reason"]
            after = watcher.wait("alarm")
            assert after["t"] - late["t"] > 0.19  # missed windows are not made up

    inside(here, work)


def test_an_idle_watcher_sleeps(spaces: list[Namespace]) -> None:
    here, _ = spaces

    def switches(pid: int) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    def work() -> None:
        with watching(Conf(user=USER)) as watcher:
            time.sleep(0.2)
            began, before = time.monotonic(), switches(watcher.pid)
            time.sleep(2.5)
            after, passed = switches(watcher.pid), time.monotonic() - began
            assert after - before <= 2 * passed / 2.5

    inside(here, work)


class Scripted(Nothing):
    """A counter that has counted what it is told to."""

    fresh = 0

    def take(self) -> int:
        fresh, self.fresh = self.fresh, 0
        return fresh


class Timed:
    """A watcher with a window of 100 s, in a time of its own."""

    def __init__(self, **variables: Any) -> None:
        self.counter, self.said = Scripted(), list[dict[str, Any]]()
        usual: dict[str, Any] = {"timer_seconds": 100.0, "low_water": 1, "packet_count": 50}
        conf = Conf(**{**usual, **variables})
        self.watcher = Watcher(
            conf, "lo", Instruments(self.counter), lambda m: self.said.append(dict(m))
        )

    def count(self, packets: int) -> None:
        self.counter.fresh += packets

    def alarm(self, late: float = 0.0) -> dict[str, Any]:
        """The event at the end of the window, so many seconds after it."""
        self.watcher.turn(self.watcher.window.deadline + late)
        return self.said.pop()


def test_what_comes_right_after_the_opening_is_in_the_first_window() -> None:
    timed = Timed()
    timed.count(3)  # while the watcher itself is still opening what else it needs
    timed.watcher.open()
    first = timed.alarm()
    assert (first["packets"], first["last"], first["verdict"]) == (3, 0, "boot")
    assert timed.watcher.total == 3


def test_what_came_before_a_switch_is_in_no_window_after_it() -> None:
    timed = Timed()
    timed.watcher.open()
    timed.alarm()
    timed.count(7)
    now = timed.watcher.window.deadline - 10
    timed.watcher.restart(now)
    assert timed.watcher.window.deadline == now + 100
    first = timed.alarm()
    assert (first["packets"], first["last"], first["verdict"]) == (0, 0, "boot")
    assert timed.watcher.total == 7


def test_a_late_window_is_one_and_its_packets_are_those_of_none() -> None:
    """Neither are they taken for a window's, nor is the window before forgotten."""
    timed = Timed()
    timed.watcher.open()
    timed.count(5)
    timed.alarm()
    timed.count(3)
    late = timed.alarm(late=60)
    assert (late["packets"], late["last"], late["verdict"]) == (3, 5, "late")
    after = timed.alarm()
    assert (after["packets"], after["last"], after["verdict"]) == (0, 5, "fail")
    assert after["t"] - late["t"] == pytest.approx(100)
    timed.count(1)
    in_time = timed.alarm(late=49)
    assert (in_time["packets"], in_time["last"], in_time["verdict"]) == (1, 0, "ok")


def test_an_ok_may_be_about_nothing_that_came_and_says_so() -> None:
    """No packet is no failure with $low_water 0, nor at first on the heartbeat link."""
    for timed in (Timed(plip_interface="lo", plip_timer=100.0), Timed(low_water=0)):
        timed.watcher.open()
        timed.count(2)
        timed.alarm()
        quiet = timed.alarm()
        assert (quiet["packets"], quiet["last"], quiet["verdict"]) == (0, 2, "ok")
        assert quiet["reason"] == "silent once"


def test_a_child_says_why_it_cannot_start(spaces: list[Namespace], tmp_path: Path) -> None:
    here, _ = spaces

    def death(**variables: Any) -> str:
        watcher = Watching(quick(**variables))
        select.select([watcher.child.channel], [], [], GENEROUS)
        (message,) = watcher.child.channel.receive()
        watcher.close()
        assert message["event"] == "died"
        return str(message["message"])

    def work() -> None:
        assert "syntax error" in death(filter="foo bar")
        os.symlink("/etc/hostname", tmp_path / "dump.eth0")
        assert "not a plain file" in death(dumpfile=str(tmp_path / "dump"))

    inside(here, work)


def test_a_dump_file_is_written_by_a_child_without_root(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    here, there = spaces
    path = tmp_path / "dump.eth0"

    def work() -> None:
        with (
            watching(quick(dumpfile=str(tmp_path / "dump"))) as watcher,
            sender(there, "far") as far,
        ):
            limit = time.monotonic() + GENEROUS
            while path.stat().st_size < 24 + 16 + 60 and time.monotonic() < limit:
                far.send(frame())
                watcher.wait("alarm")

    inside(here, work)
    more = ("-r", str(path), "--until", "60", "--json", "eth0")
    judged = run("-c", conf_file(tmp_path, filter=ONLY_OURS), *more)
    assert judged.returncode == 0, judged.stderr
    assert len(path.read_bytes()) >= 24 + 16 + 60


# By hand


def piped(shell: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A line of sh in which "$@" is the command with these arguments."""
    return subprocess.run(
        ["sh", "-c", shell, "sh", *WATCHD, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_by_hand_it_tells_a_line_an_event_and_ends_with_a_summary(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    here, _ = spaces
    conf = conf_file(tmp_path, timer_seconds=0.1, low_water=3, packet_count=2, filter=ONLY_OURS)
    lines, out, err = watched_in_time(here, conf)
    assert lines[0].startswith("watching eth0: window 0.1 s")
    assert lines[1].split() == ["time", "verdict", "packets", "previous", "reason"]
    assert "boot" in lines[2] and "below low water" in lines[3]
    assert out.splitlines()[-1] == "packets per window: min 0, avg 0.0, max 0"
    assert "low_water (3) is more than $packet_count (2)" in err
    assert ONLY_OURS in err  # -v


def watched_in_time(here: Namespace, conf: str) -> tuple[list[str], str, str]:
    """The first lines, the rest and stderr of a watchd whose first windows all ended in time."""
    for _ in range(20):
        with by_hand(here, "-v", "-c", conf, "eth0") as watcher:
            assert watcher.stdout is not None
            lines = [watcher.stdout.readline() for _ in range(5)]
            watcher.send_signal(signal.SIGINT)
            out, err = watcher.communicate(timeout=GENEROUS)
        assert watcher.returncode == 0
        if not any("late" in line for line in lines):
            return lines, out, err
    raise AssertionError("the windows always end late")


def test_by_hand_json_is_nothing_but_events(spaces: list[Namespace], tmp_path: Path) -> None:
    here, _ = spaces
    conf = conf_file(tmp_path, timer_seconds=0.1)
    with by_hand(here, "-c", conf, "--json", "eth0") as watcher:
        assert watcher.stdout is not None
        first = [json.loads(watcher.stdout.readline()) for _ in range(2)]
        watcher.send_signal(signal.SIGINT)
        out, _ = watcher.communicate(timeout=GENEROUS)
    assert [line["boot"] for line in first] == [True, False]
    assert all(json.loads(line)["interface"] == "eth0" for line in out.splitlines())
    assert watcher.returncode == 0


def test_by_hand_a_reader_that_has_seen_enough_ends_it_quietly(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    here, _ = spaces
    conf = conf_file(tmp_path, timer_seconds=0.1)
    with by_hand(here, "-c", conf, "--json", "eth0") as watcher:
        assert watcher.stdout is not None and watcher.stderr is not None
        assert json.loads(watcher.stdout.readline())["boot"]
        watcher.stdout.close()
        assert watcher.wait(GENEROUS) == 128 + signal.SIGPIPE
        err = watcher.stderr.read()
    assert "Traceback" not in err and "pipe" not in err


def test_on_a_terminal_there_is_a_live_line(spaces: list[Namespace], tmp_path: Path) -> None:
    here, _ = spaces
    conf = conf_file(tmp_path, timer_seconds=0.3, packet_count=7)
    ours, theirs = pty.openpty()
    seen = b""
    with by_hand(here, "-c", conf, "eth0", stdout=theirs, stderr=theirs) as watcher:
        os.close(theirs)
        limit = time.monotonic() + GENEROUS
        while not (b"silent" in seen and b"s left" in seen) and time.monotonic() < limit:
            seen += os.read(ours, 4096)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(GENEROUS) == 0
    os.close(ours)
    assert b"\r" in seen and b"of 7 packets" in seen and b"packets/s" in seen


def test_by_hand_the_defaults_will_do(spaces: list[Namespace]) -> None:
    here, _ = spaces
    here.run("sh", "-c", "! test -d /etc/failover || mount -t tmpfs none /etc/failover")
    with by_hand(here, "lo") as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline().startswith("watching lo: window 20 s or 500 packets")
        watcher.send_signal(signal.SIGINT)
        _, err = watcher.communicate(timeout=GENEROUS)
    assert "there is no /etc/failover/failoverd.conf: using the defaults" in err
    assert watcher.returncode == 0


def test_by_hand_it_says_what_is_odd(spaces: list[Namespace], tmp_path: Path) -> None:
    here, _ = spaces
    here.ip("link set eth0 down")
    with by_hand(here, "-c", conf_file(tmp_path), "eth0") as watcher:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        watcher.send_signal(signal.SIGINT)
        _, err = watcher.communicate(timeout=GENEROUS)
    assert "eth0 is down" in err and "eth0 has no address" in err


def test_by_hand_errors_name_the_thing_and_the_way_out(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    here, _ = spaces
    conf = conf_file(tmp_path)
    found = here.run(*WATCHD, "-c", conf, "eth7", env=ENVIRONMENT, check=False)
    assert found.returncode == 1
    assert found.stderr == "watchd: there is no interface eth7; there are lo, eth0\n"
    powerless = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw"]
    found = here.run(*powerless, *WATCHD, "-c", conf, "lo", env=ENVIRONMENT, check=False)
    assert found.returncode == 1
    assert "lo: not permitted to count packets; run it as root" in found.stderr
    assert len(found.stderr.splitlines()) == 1, found.stderr
    missing = run("-c", str(tmp_path / "none.conf"), "lo")
    why = "1: there is no such file: name another with -c, or make it\n"
    assert (missing.returncode, missing.stderr) == (1, f"watchd: {tmp_path}/none.conf:{why}")
    broken = run("-c", conf_file(tmp_path, low_water="many", nonsense=1), "lo")
    assert broken.returncode == 1
    assert "failoverd.conf:1: " in broken.stderr and "failoverd.conf:2: " in broken.stderr
    bad = run("-c", conf_file(tmp_path, filter="foo bar"), "lo")
    assert bad.returncode == 1
    assert "$filter is not a pcap expression: can't parse filter expression" in bad.stderr


USAGE = [(), ("-x", "lo"), ("lo", "eth0"), ("--until", "3", "lo"), ("--mac", OWN, "lo")]
USAGE += [("-r", "x", "--until", "-1", "lo"), ("-r", "x", "--mac", "zz", "lo")]
USAGE += [("-r", "", "lo"), ("--track", "", "lo"), ("--exec", "", "lo")]
USAGE += [("--addresses", "x", "lo"), ("--probe-target", "192.0.2.1/24", "lo")]


@pytest.mark.parametrize("arguments", USAGE)
def test_usage_errors_exit_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: watchd"), done.stderr


def test_help_and_version() -> None:
    assert run("--version").stdout.startswith("watchd ")
    help_text = run("-h").stdout
    assert "--until" in help_text and "--tune" in help_text


# Over a capture


def pcap(times: list[float], source: str = FAR) -> bytes:
    """Frames at these seconds."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for when in times:
        seconds, micro = divmod(round(1_700_000_000_000_000 + when * 1e6), 1_000_000)
        parts.append(struct.pack("<IIII", seconds, micro, 60, 60) + frame(source))
    return b"".join(parts)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Ten packets in the first second, then one every 30 s."""
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([n / 10 for n in range(10)] + [30.0, 60.0, 90.0]))
    return file


def judged(capture: Path, conf: str, *more: str) -> tuple[int, list[tuple[Any, ...]]]:
    done = run("-c", conf, "-r", str(capture), "--json", *more)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    keys = ("t", "event", "packets", "last", "boot", "verdict")
    return done.returncode, [tuple(line[key] for key in keys) for line in lines]


def test_a_capture_is_judged_in_its_own_time(capture: Path, tmp_path: Path) -> None:
    conf = conf_file(tmp_path, packet_count=4, timer_seconds=20, low_water=1)
    expected = [
        (0.3, "full", 4, 0, True, "ok"),
        (0.7, "full", 4, 4, True, "ok"),
        (20.7, "alarm", 2, 4, True, "boot"),
        (40.7, "alarm", 1, 2, False, "ok"),
        (60.7, "alarm", 1, 1, False, "ok"),
        (80.7, "alarm", 0, 1, False, "fail"),
    ]
    assert judged(capture, conf, "eth0") == (1, expected)
    more = [(100.7, "alarm", 1, 0, False, "ok"), (120.7, "alarm", 0, 1, False, "fail")]
    assert judged(capture, conf, "--until", "130", "eth0") == (1, expected + more)
    assert judged(capture, conf, "--until", "60.7", "eth0") == (0, expected[:5])


def test_the_exit_status_says_whether_it_would_have_failed_over(
    capture: Path, tmp_path: Path
) -> None:
    conf = conf_file(tmp_path, packet_count=4, low_water=1)
    told = run("-c", conf, "-r", str(capture), "--mac", OWN, "eth0")
    when = datetime.fromtimestamp(1_700_000_080.7).isoformat(" ", "milliseconds")
    assert told.returncode == 1
    assert told.stdout.splitlines()[-1] == (
        f"would have failed over 80.700 s after the first packet, at {when}: below low water"
    )
    peaceful = conf_file(tmp_path, packet_count=4, low_water=0)
    told = run("-c", peaceful, "-r", str(capture), "--mac", OWN, "eth0")
    assert (told.returncode, told.stderr) == (0, "")
    assert "would not have failed over (6 windows)" in told.stdout.splitlines()[-1]


def test_own_packets_of_a_capture_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([0.0, 15.0, 21.0, 50.0], source=OWN))
    conf = conf_file(tmp_path)
    assert [line[2] for line in judged(file, conf, "eth99")[1]] == [2, 1]
    assert [line[2] for line in judged(file, conf, "--mac", OWN.upper(), "eth99")[1]] == [0, 0]
    unknown = run("-c", conf, "-r", str(file), "eth99")
    assert "all count" in unknown.stderr
    configured = Path(conf)
    configured.write_text(f"@ethernet_addresses = ('eth99 {OWN}');\n@interfaces = ('eth99');\n")
    assert [line[2] for line in judged(file, conf, "eth99")[1]] == [0, 0]


def test_the_private_link_has_its_own_timer_and_packets(capture: Path, tmp_path: Path) -> None:
    conf = conf_file(tmp_path, plip_timer=30, plip_filter="tcp")
    status, lines = judged(capture, conf, "plip0")
    assert (status, [line[0] for line in lines]) == (1, [30.0, 60.0, 90.0])
    assert [line[2:] for line in lines][-1] == (0, 0, False, "fail")
    conf = conf_file(tmp_path, plip_timer=30, plip_filter=ONLY_OURS)
    assert [line[2] for line in judged(capture, conf, "plip0")[1]] == [10, 1, 1]


def heartbeats(payload: bytes, times: list[float]) -> bytes:
    """Echo requests of the peer at these seconds, as a capture."""
    icmp = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0)
    packet = bytes(12) + b"\x08\0" + ip + bytes([1, 0, 0, 2, 1, 0, 0, 1]) + icmp
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for when in times:
        record = struct.pack("<IIII", 1_700_000_000, round(when * 1e6), len(packet), len(packet))
        parts.append(record + packet)
    return b"".join(parts)


def secret_file(folder: Path, word: str = "open sesame") -> str:
    file = folder / "secret"
    file.write_text(f"{word}\n")
    file.chmod(0o600)
    return str(file)


def test_a_capture_of_the_private_link_is_judged_by_the_tag(tmp_path: Path) -> None:
    """The secret is read in a process of its own: from then on no other may look into that."""
    (tag,) = heartbeat_tags(b"open sesame", "1.0.0.1", "1.0.0.2").peers
    file = tmp_path / "x.pcap"
    conf = conf_file(tmp_path, plip_timer=0.2, plip_hbeat=0.1, secret=secret_file(tmp_path))
    for payload, status, packets in (
        (tag, 0, [2, 2]),
        (bytes(56), 1, [0, 0]),
        (tag[:7], 1, [0, 0]),
    ):
        file.write_bytes(heartbeats(payload, [0.0, 0.1, 0.2, 0.3, 0.4]))
        done = piped('"$@"', "-r", str(file), "-c", conf, "--until", "0.6", "--json", "plip0")
        found = [json.loads(line)["packets"] for line in done.stdout.splitlines()]
        assert (found[:2], done.returncode) == (packets, status), done.stderr


def test_without_the_secret_it_says_what_is_missing(tmp_path: Path, capture: Path) -> None:
    secret = tmp_path / "secret"
    conf = conf_file(tmp_path, secret=str(secret))
    (tmp_path / "live").mkdir()
    live = conf_file(tmp_path / "live", secret=str(secret), plip_interface="lo")
    for status, arguments in (
        (CANNOT_READ, ("-r", str(capture), "-c", conf, "plip0")),
        (command.CANNOT_WATCH, ("-c", live, "lo")),
    ):
        done = piped('"$@"', *arguments)
        assert (done.returncode, done.stdout) == (status, "")
        assert "only heartbeats with the pair's tag count" in done.stderr
        assert f"{secret}:1: is missing" in done.stderr and "$plip_filter" in done.stderr
    conf = conf_file(tmp_path, secret=str(secret), plip_filter="icmp")
    assert piped('"$@"', "-r", str(capture), "-c", conf, "plip0").returncode == 1


def test_a_truncated_capture_is_judged_as_far_as_it_goes(capture: Path, tmp_path: Path) -> None:
    conf = conf_file(tmp_path, packet_count=4, low_water=1)
    whole = run("-c", conf, "-r", str(capture), "--json", "eth0")
    capture.write_bytes(capture.read_bytes()[:-5])
    cut = run("-c", conf, "-r", str(capture), "--json", "eth0")
    assert cut.returncode == 0  # the verdict of what is left
    assert cut.stdout.splitlines() == whole.stdout.splitlines()[: len(cut.stdout.splitlines())]
    assert len(cut.stdout.splitlines()) == 4
    assert "ends in the middle of a packet; what comes before counts" in cut.stderr


def test_what_cannot_be_read_is_no_verdict(tmp_path: Path) -> None:
    conf = conf_file(tmp_path)
    for argument in (conf, str(tmp_path), str(tmp_path / "none")):
        done = run("-c", conf, "-r", argument, "eth0")
        assert done.returncode == 3 and done.stderr.startswith(f"watchd: {argument}: ")
        assert done.stdout == ""
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(pcap([]))
    done = run("-c", conf, "-r", str(empty), "--until", "100", "eth0")
    assert (done.returncode, done.stdout) == (3, "there is no packet in it: nothing was judged\n")
    empty.write_bytes(pcap([0.0]) + struct.pack("<IIII", 1, 1, 0x7FFFFFFF, 60) + bytes(1000))
    assert run("-c", conf, "-r", str(empty), "eth0").returncode == 3


def test_a_capture_may_come_through_a_pipe(capture: Path, tmp_path: Path) -> None:
    arguments = ("-c", conf_file(tmp_path, packet_count=4, low_water=1), "--json", "eth0", "-r")
    done = piped(f'cat "{capture}" | "$@"', *arguments, "-")
    assert done.stdout == run(*arguments, str(capture)).stdout
    assert done.returncode == 1


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    file.write_bytes(pcap([n / 100 for n in range(20_000)]))
    conf = conf_file(tmp_path, packet_count=1)
    line = '("$@"; echo $? >&2) | head -n 1'
    done = piped(line, "-c", conf, "-r", str(file), "--mac", OWN, "eth0")
    assert done.stderr == "141\n" and len(done.stdout.splitlines()) == 1


def worded(message: Message) -> str:
    """An event that a watcher logs, and the state that it tells."""
    told = decode(Logged, message)
    return " ".join([told.name, *told.values.values()])
