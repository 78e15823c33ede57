"""Hard use: what a careless or hostile hand does to a failoverd that should go on as it was."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from live_pair import hang_up, kill, main_pid, role_changes, runs, settled, start
from netns import TUN
from processes import try_in_child

from dev.lab import logs
from dev.lab.network import FAST, Lab
from dev.lab.node import Node
from dev.lab.spaces import ROOT
from failoverd import process, statefile
from failoverd.log import Log
from failoverd.master.supervisor import Supervisor
from failoverd.process import Channel
from failoverd.process.leftover import worker_of
from failoverd.wire import frames

SLOW = """#!/bin/sh
echo begin $1
while [ ! -e {folder}/go ]; do sleep 0.02; done
exec {folder}/real-switch $1
"""


@pytest.fixture
def patient(make_lab: Callable[..., Lab]) -> Lab:
    """A lab whose nodes leave a switch script much time."""
    return make_lab({**FAST, "switch_timeout": 60.0})


def hold_up(node: Node) -> None:
    """Have the node's switch script wait until it may go on."""
    node.write("real-switch", node.read("ha-switch"), 0o755)
    node.write("ha-switch", SLOW.format(folder=node.folder), 0o755)


def go_on(node: Node) -> None:
    node.write("go", "")


def was_answered(node: Node) -> bool:
    """Whether the peer's answer to `fail` ended the switchover, and no long search."""
    told = node.log().split("told to take over")[-1]
    return "PEER-DONE" in told.split(" role: standby")[0]


def knows(node: Node, secret: str) -> bool:
    try:
        return node.say("status", secret).startswith("ok")
    except OSError:
        return False  # the listener is being replaced


def launched(node: Node, shell: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which "$@" starts the daemon."""
    launch = str(ROOT / "dev" / "launch.py")
    command = (sys.executable, "-I", launch, "failoverd", "-c", node.conf)
    return node.run("sh", "-c", shell, "sh", *command)


# ------------------------------------------------------------------ a restart is no event


def test_a_restart_is_no_change_of_role(lab: Lab) -> None:
    for node in lab.nodes:
        note = f'#!/bin/sh\necho "$@" >>{node.folder}/notes\n'
        node.write("notify", note, 0o755)
    start(lab, notify_prog="")
    for node in lab.nodes:
        node.write_conf(notify_prog=f"{node.folder}/notify")
    since = lab.a.status()["us"]["since"]
    changes, scripts = role_changes(lab.a), runs(lab.a, "master")
    kill(lab.a, main_pid(lab.a))
    assert lab.a.command("failoverd").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.a), "a goes on where it was")
    assert lab.a.status()["us"]["since"] == since
    assert role_changes(lab.a) == changes
    assert runs(lab.a, "master") == scripts
    assert "role" not in lab.a.read("notes")
    assert lab.a.command("ha-fail").returncode == 0
    lab.wait_until(
        lambda: lab.a.read("notes") == "role standby ROLE\n", "the next change is told once"
    )


def test_who_is_not_up_yet_does_not_say_that_it_stands_by(patient: Lab) -> None:
    """A peer that is told "standby" from one that holds the addresses takes its role back."""
    lab = patient
    start(lab)
    hold_up(lab.b)
    with lab.a.popen(*lab.a._command("ha-fail")):
        lab.wait_until(lambda: "begin master" in lab.b.log(), "the script runs")
        kill(lab.b, main_pid(lab.b))
        lab.b.start_failoverd()
        lab.wait_until(lambda: logs.told(lab.b.log(), "LEFTOVER-WAIT"), "it waits for it")
        lab.wait_until(lambda: lab.b.role() != "", "its port answers")
        lab.b.write_conf(verbose=True)
        hold_up(lab.b)
        hang_up(lab.b, said="configuration read again")
        lab.wait_until(lambda: lab.b.role() != "", "its port answers after HUP")
        assert lab.b.role() == "switching"
        go_on(lab.b)
    lab.wait_until(lambda: settled(lab, lab.a) or settled(lab, lab.b), "the pair is well again")


def test_a_stop_in_the_middle_of_a_takeover_is_answered(patient: Lab) -> None:
    lab = patient
    start(lab)
    hold_up(lab.b)
    with lab.a.popen(*lab.a._command("ha-fail")) as typed:
        lab.wait_until(lambda: "begin master" in lab.b.log(), "the script runs")
        kill(lab.b, main_pid(lab.b), signal.SIGTERM)
        lab.wait_until(lambda: logs.told(lab.b.log(), "STOP"), "b has received it")
        go_on(lab.b)
        assert typed.wait(20) == 0
    assert was_answered(lab.a)
    lab.wait_until(lambda: not (lab.b.outside / "run/pid").exists(), "b has stopped")
    assert lab.holders() == ["b"]
    assert json.loads(lab.b.read("run/state"))["role"] == "active"


# ------------------------------------------------------------------ HUP


def test_hup_takes_a_configuration_wholly_or_not_at_all(lab: Lab) -> None:
    start(lab)
    before = [role_changes(node) for node in lab.nodes]
    a = lab.a

    def refused(why: str) -> None:
        hang_up(a, said="configuration stays as it was")
        assert why in a.log().split("configuration stays as it was")[-2]
        assert settled(lab, a)

    a.write("secret", "\n", 0o600)
    refused("is empty")
    a.write_conf(primary="1.0.0.77")
    refused("1.0.0.77 is on no interface of this node")
    a.write_conf(dumpfile=f"{a.folder}/missing/dump")
    refused("there is no directory")
    a.write_conf(log=f"{a.folder}/run")
    refused("is a directory")
    a.write_conf(realtime=True)
    refused("cannot change while failoverd runs")
    a.write_conf(filter=" or ".join(f"ether proto {number}" for number in range(2000, 4300)))
    refused("4096 are the most; shorten it")
    a.write_conf()
    with a.popen("nc", "-l", "-s", "1.0.0.1", "-p", "2001"):
        lab.wait_until(lambda: ":2001" in a.check("ss", "-ltn"), "the port is taken")
        a.write_conf(tcp_port=2001)
        refused("cannot listen on 1.0.0.1 port 2001: it is in use")
    a.write_conf()
    hang_up(a, said="nothing changed")
    assert [role_changes(node) for node in lab.nodes] == before


def test_what_left_the_configuration_leaves_the_interface_with_the_role(lab: Lab) -> None:
    """Else both nodes would have it: the script never touches what it is not told of."""
    old, new = "eth0 192.0.2.11/24", "eth0 192.0.2.12/24"
    addresses = [*lab.a.settings()["addresses"], old]  # type: ignore[misc]
    shared = "02:00:00:00:00:10"
    start(lab, addresses=addresses, ethernet_addresses=[f"eth0 {shared}"])
    assert lab.a.hwaddr("eth0") == shared
    for node in lab.nodes:
        node.write_conf(addresses=[*addresses[:-1], new])
        hang_up(node, said="configuration read again")
    assert logs.told(lab.a.log(), "CONFIG-LATER")
    kill(lab.a, main_pid(lab.a))  # who comes after it knows nothing of the old configuration
    assert lab.a.command("failoverd").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.a), "a goes on where it was")
    assert lab.a.command("ha-fail").returncode == 0
    assert lab.a.addresses("eth0") == list(lab.a.interfaces["eth0"].addresses)
    assert lab.a.hwaddr("eth0") == lab.a.interfaces["eth0"].hwaddr
    assert new.split()[1] in lab.b.addresses("eth0")


def test_what_is_new_in_the_middle_of_a_takeover_is_said_to_come_later(patient: Lab) -> None:
    """The switch under way adds what the file said when it began."""
    lab, new = patient, "eth0 192.0.2.12/24"
    start(lab)
    hold_up(lab.b)
    with lab.a.popen_command("ha-fail") as typed:
        lab.wait_until(lambda: "begin master" in lab.b.log(), "the script runs")
        addresses = [*lab.b.settings()["addresses"], new]  # type: ignore[misc]
        lab.b.write_conf(addresses=addresses)
        hang_up(lab.b, said="configuration read again")
        lab.wait_until(lambda: logs.told(lab.b.log(), "CONFIG-LATER"), "and what comes later")
        go_on(lab.b)
        assert typed.wait(20) == 0
    assert new.split()[1] not in lab.b.addresses("eth0")
    lab.wait_until(
        lambda: "192.0.2.12 is not on" in lab.b.command("ha-status").stdout, "ha-status says so"
    )


def test_what_no_interface_has_yet_is_not_announced(lab: Lab) -> None:
    """Else clients of another host, which has the address still, would lose it."""
    start(lab)
    new = "192.0.2.12"
    wire = lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(frames.ETHERTYPE_ARP))
    with wire:
        wire.bind(("eth0", frames.ETHERTYPE_ARP))
        wire.settimeout(20.0)
        lab.a.write_conf(addresses=[f"eth0 {new}/24", *lab.a.settings()["addresses"]])  # type: ignore[misc]
        kill(lab.a, main_pid(lab.a))
        assert lab.a.command("failoverd").returncode == 0
        lab.wait_until(lambda: settled(lab, lab.a), "a goes on where it was")
        told = ""
        while told != lab.service:  # they are announced in the order of the file
            answer = frames.parse(wire.recv(2048))
            told = answer.address if answer and answer.hwaddr == lab.a.hwaddr("eth0") else ""
            assert told != new


needs_tun = pytest.mark.skipif(
    not os.access(TUN, os.R_OK | os.W_OK), reason=f"{TUN} may not be opened"
)


@contextlib.contextmanager
def tunnel(lab: Lab, node: Node) -> Iterator[None]:
    """With nothing else to serve on: tun0, which is up and has no ARP."""
    hold = (
        f"import fcntl, os, struct, time; tun = os.open({TUN!r}, os.O_RDWR);"
        "fcntl.ioctl(tun, 0x400454CA, struct.pack('16sH', b'tun0', 0x1001)); time.sleep(999)"
    )
    with node.popen(sys.executable, "-c", hold):
        lab.wait_until(lambda: node.has("tun0"), "the tunnel is there")
        node.ip("link set dev tun0 up")
        node.write_conf(interfaces=["tun0"], addresses=["tun0 192.0.2.10/24"])
        yield


@needs_tun
def test_where_no_host_can_be_asked_that_is_said(lab: Lab) -> None:
    """A tunnel has no ARP, and $confirm "arp" would wait for ever without a word."""
    b = lab.b
    with tunnel(lab, b):
        assert "  never  no ARP on tun0\n" in b.command("failoverd", "-t").stdout
        b.start_failoverd()
        lab.wait_until(lambda: logs.told(b.log(), "PROBE-FAILED", "interface tun0"), "where")
        lab.wait_until(lambda: logs.told(b.log(), "TAKEOVER-BLOCKED"), "what it means")
    assert b.role() == "standby"


@needs_tun
def test_where_no_client_asks_for_an_address_it_is_no_alarm_that_it_is_not_announced(
    lab: Lab,
) -> None:
    b = lab.b
    with tunnel(lab, b):
        b.write_conf(interfaces=["tun0"], addresses=["tun0 192.0.2.10/24"], confirm="none")
        b.start_failoverd()
        lab.wait_until(lambda: b.role() == "active", "it takes over by silence")
        assert logs.told(b.log(), "ADDRESSES-PLACED")
        assert "GARP" not in b.log()


def test_the_log_is_rotated_without_a_word_lost_to_the_peer(patient: Lab) -> None:
    """HUP ends no exchange: the listener is replaced only for another secret."""
    lab = patient
    start(lab)
    hold_up(lab.b)
    with lab.a.popen(*lab.a._command("ha-fail")) as typed:
        lab.wait_until(lambda: "begin master" in lab.b.log(), "the script runs")
        hang_up(lab.b, said="nothing changed")
        go_on(lab.b)
        assert typed.wait(20) == 0
    assert was_answered(lab.a)
    for node in lab.nodes:
        node.write("secret", "another word\n", 0o600)
        hang_up(node, said="nothing changed")
    lab.wait_until(lambda: knows(lab.b, "another word"), "the new secret is in force")


# ------------------------------------------------------------------ a stall


def test_a_stall_of_the_node_is_no_worker_s_silence(lab: Lab) -> None:
    start(lab)
    seconds = process.patience(float(str(FAST["plip_timer"])))
    for _ in range(3):
        stalls = lab.b.log().count("STALLED")
        lab.b.freeze()
        time.sleep(1.5 * seconds)
        lab.b.thaw()
        lab.wait_until(lambda n=stalls: lab.b.log().count("STALLED") > n, "b notices")  # type: ignore[misc]
        time.sleep(seconds / 2)  # it would have been told by now
    assert "WORKER-LOST" not in lab.b.log()


# ------------------------------------------------------------------ how it is started


def test_started_with_everything_closed_or_ignored(lab: Lab) -> None:
    lab.a.write_conf()
    careless = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]);"
        "os.closerange(0, 3); os.execv(sys.argv[1], sys.argv[1:])"
    )
    folder = f"{lab.a.folder}/gone"
    result = launched(
        lab.a,
        f"mkdir {folder}; cd {folder}; rmdir {folder};"
        f"{shlex.quote(sys.executable)} -c '{careless}' \"$@\"; echo $?",
    )
    assert result.stdout == "0\n"
    again = lab.a.command("failoverd")
    assert again.stderr == f"failoverd: already running (pid {main_pid(lab.a)})\n"
    held = lab.a.check("sh", "-c", f"ls -l /proc/{main_pid(lab.a)}/fd/[012]")
    assert held.count("/dev/null") == 3
    kill(lab.a, main_pid(lab.a), signal.SIGTERM)
    lab.wait_until(lambda: not (lab.a.outside / "run/pid").exists(), "it received TERM")


def test_no_file_of_another_is_overwritten(lab: Lab) -> None:
    lab.a.write_conf()
    lab.a.write("run/pid", "root:x:0:0\n")
    assert "is something else" in lab.a.command("failoverd").stderr
    assert lab.a.read("run/pid") == "root:x:0:0\n"
    (lab.a.outside / "run/pid").unlink()
    (lab.a.outside / "run/pid").symlink_to("other")
    assert "it is a symbolic link" in lab.a.command("failoverd").stderr
    (lab.a.outside / "run/pid").unlink()
    secret = lab.a.outside / "secret"
    os.mkfifo(lab.a.outside / "run/pid")
    assert "is not a plain file of root's alone" in lab.a.command("failoverd").stderr
    (lab.a.outside / "run/pid").unlink()
    os.link(secret, lab.a.outside / "run/pid")
    assert "is not a plain file of root's alone" in lab.a.command("failoverd").stderr
    (lab.a.outside / "run/pid").unlink()
    (lab.a.outside / "log").unlink()
    os.link(secret, lab.a.outside / "log")
    assert "it has another name too" in lab.a.command("failoverd").stderr
    assert lab.a.read("secret").count("\n") == 1
    (lab.a.outside / "log").unlink()
    os.mkfifo(lab.a.outside / "fifo")
    lab.a.write_conf(log=f"{lab.a.folder}/fifo")
    assert "cannot open $log" in lab.a.command("failoverd").stderr
    assert not (lab.a.outside / "run/pid").exists()


def test_no_other_user_can_stop_the_next_start_or_forge_the_log(lab: Lab) -> None:
    """A lock needs no right to write: whoever may read the pid file may hold it."""
    lab.a.write_conf()
    lab.a.write("run/pid", "", 0o666)
    lab.a.write("log", "", 0o666)
    assert lab.a.command("failoverd").returncode == 0
    assert (lab.a.outside / "run/pid").stat().st_mode & 0o077 == 0
    assert (lab.a.outside / "log").stat().st_mode & 0o022 == 0
    kill(lab.a, main_pid(lab.a))
    (lab.a.outside / "run").chmod(0o777)
    result = lab.a.command("failoverd")
    (lab.a.outside / "run").chmod(0o755)
    assert result.stderr.count("can be written by others than root: chmod go-w") == 2
    if not lab.spaces.rootless:
        os.chown(lab.a.outside / "run/pid", 65534, 65534)
        assert "is not a plain file of root's alone" in lab.a.command("failoverd").stderr


def test_two_on_one_node_never_share_a_state(lab: Lab) -> None:
    lab.a.write_conf()
    assert lab.a.command("failoverd").returncode == 0
    lab.wait_until(lambda: lab.a.read("run/state"), "it has noted its role")
    lab.a.write_conf(pidfile=f"{lab.a.folder}/run/pid2", tcp_port=2001)
    result = lab.a.command("failoverd")
    assert result.returncode == 1
    assert f"belongs to the failoverd of {lab.a.folder}/run/pid" in result.stderr
    lab.a.write_conf(pidfile=f"{lab.a.folder}/run/pid2", state=f"{lab.a.folder}/run/state2")
    assert "port 2000 is in use by another program: ss -ltnp" in lab.a.command("failoverd").stderr
    other = {"pidfile": "run/pid2", "state": "run/state2", "log": "log2"}
    lab.a.write_conf(tcp_port=2001, **{k: f"{lab.a.folder}/{v}" for k, v in other.items()})
    assert lab.a.command("failoverd").returncode == 0
    kill(lab.a, int(lab.a.read("run/pid2")))
    assert lab.a.command("failoverd").returncode == 0
    assert not logs.told(lab.a.log() + lab.a.read("log2"), "LEFTOVER-ENDED")


def test_only_what_a_dead_one_of_this_pidfile_left_is_ended(lab: Lab) -> None:
    lab.a.write_conf()
    ours = f"failoverd: watchd eth0 [{lab.a.folder}/run/pid]"
    sleeper = (
        "import sys, time; from failoverd import process;"
        "process.set_title(sys.argv[1]); time.sleep(99)"
    )
    left = lab.a.popen(sys.executable, "-c", sleeper, ours)
    others = [
        lab.a.popen(sys.executable, "-c", sleeper, ours.replace("run/pid", "run/pid2")),
        lab.a.popen(sys.executable, "-c", sleeper, f"vi {ours}"),
        lab.a.popen(sys.executable, "-c", sleeper, "watchd eth0"),
        # in a container the same path is another file
        lab.a.popen("unshare", "-m", sys.executable, "-c", sleeper, ours),
    ]
    titles = ("vi failoverd", "watchd eth0", "failoverd: watchd")
    listing = ("ps", "ax", "-o", "args=")

    def titled() -> list[str]:
        return [line for line in lab.a.check(*listing).splitlines() if line.startswith(titles)]

    lab.wait_until(lambda: len(titled()) == 5, "all have their titles")
    assert lab.a.command("failoverd").returncode == 0
    assert left.wait(10) != 0
    assert logs.told(lab.a.log(), "LEFTOVER-ENDED", f"worker {worker_of(ours)}: ")
    assert [other.poll() for other in others] == [None] * 4


def test_errors_of_the_children_are_sentences(lab: Lab) -> None:
    lab.a.write_conf()
    lab.a.write("secret", "a\nb\n", 0o600)
    result = lab.a.command("failoverd")
    assert result.returncode == 1
    assert result.stderr.startswith("failoverd: listener: ")
    assert "has more than one line" in result.stderr
    assert "Error" not in result.stderr
    if lab.spaces.rootless:
        return  # all files are ours there, and no right can be dropped
    lab.a.write_conf()
    powerless = 'setpriv --bounding-set -net_raw --inh-caps -net_raw "$@"'
    assert "failoverd cannot run without CAP_NET_RAW" in launched(lab.a, powerless).stderr


# ------------------------------------------------------------------ the parts


def test_a_child_that_is_removed_while_its_message_waits() -> None:
    selector = selectors.DefaultSelector()
    told: list[Mapping[str, object]] = []
    supervisor = Supervisor(selector, lambda _, message: told.append(message), lambda *_: None)

    def talk(channel: Channel) -> None:
        channel.send({"event": "ready"})
        while True:
            channel.send({"event": "more"})
            time.sleep(0.01)

    supervisor.add("talker", lambda _: process.fork_child("talker", talk), 10.0)
    supervisor.tend(time.monotonic())
    waiting = selector.select(10.0)
    supervisor.remove("talker")
    for key, _ in waiting:
        key.data()
    assert (waiting != [], told, len(selector.get_map())) == (True, [], 0)


def test_a_child_that_floods_us_does_not_hold_us_up() -> None:
    def flood(channel: Channel) -> None:
        while True:
            channel.send({"event": "more"})

    child = process.fork_child("flooder", flood)
    try:
        for _ in range(20):
            assert len(child.channel.receive()) <= process.MAX_BURST
    finally:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        child.channel.close()


def test_what_a_child_has_been_told_it_does_before_the_end(tmp_path: Path) -> None:
    def write(channel: Channel) -> None:
        selector = selectors.DefaultSelector()
        selector.register(channel, selectors.EVENT_READ)
        channel.send({"event": "ready"})
        while True:
            selector.select()
            for message in channel.receive():
                (tmp_path / "done").write_text(str(message["do"]))
            channel.send({"event": "unread"})

    selector = selectors.DefaultSelector()
    supervisor = Supervisor(selector, lambda *_: None, lambda *_: None)
    supervisor.add("writer", lambda _: process.fork_child("writer", write), 10.0)
    supervisor.tend(time.monotonic())
    while not supervisor.all_ready:
        for key, _ in selector.select(10.0):
            key.data()
    supervisor.send("writer", {"do": "this"})
    supervisor.end_all()
    assert (tmp_path / "done").read_text() == "this"


def test_a_check_in_a_child() -> None:
    def fail(_: Channel) -> None:
        raise ValueError("the sentence")

    def hang(_: Channel) -> None:
        time.sleep(1000)

    def stumble(_: Channel) -> None:
        raise KeyError("no such thing")

    assert try_in_child("check", lambda _: None, 10.0) == ""
    assert try_in_child("check", fail, 10.0) == "the sentence"
    assert try_in_child("check", hang, 0.1) == "it did not end within 0.1 s"
    assert "test_hard_use.py line" in try_in_child("check", stumble, 10.0)


def test_locked_memory_does_not_end_who_gives_up_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, which is given up in it")

    def grow(_: Channel) -> None:
        try:
            process.be_realtime("nobody")
        except OSError:
            pass  # it may be forbidden here: then nothing is locked
        process.give_up_root("nobody")
        bytearray(64 << 20)

    assert try_in_child("grower", grow, 20.0) == ""


def test_a_state_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    statefile.write(path, statefile.Saved(role="active"))

    def fill_the_disk(_: Channel) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
        statefile.write(path, statefile.Saved(role="standby"))

    assert "No space left" in try_in_child("writer", fill_the_disk, 10.0)
    assert statefile.read(path).role == "active"


def test_a_terminal_that_is_stopped_stops_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as terminal:
        log = Log(str(tmp_path / "log"), terminal)
        for number in range(5000):
            log.write("STATUS", "role", f"status {number}", {"status": 100 * "x"})
        log.close()
    os.close(reading)
    assert (tmp_path / "log").read_text().count("\n") == 5000


def test_a_program_that_cannot_be_executed_says_why(tmp_path: Path) -> None:
    program = tmp_path / "watcher"
    program.write_text("no program")
    program.chmod(0o755)
    child = process.start_program([str(program), "eth0"], "root")
    os.waitpid(child.pid, 0)
    assert child.channel.receive() == []
    said = child.channel.printed()
    child.channel.close()
    why = f"cannot be run as root: {program}: Exec format error"
    assert said == f"; it printed: {why}"
