"""This node's own commands reach failoverd whatever has become of the link, and say why not."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_pair import LONG, WATCHED, context, kill, main_pid, mounted, pids, settled, start
from netns import ROOTLESS
from wire import SECRET, Pair, serve, sign, signed, two_nodes

from dev.lab import logs
from dev.lab.network import Lab
from dev.lab.node import Node
from failoverd.conf import Conf
from failoverd.listener import server
from failoverd.master import control_socket
from failoverd.master.context import Context
from failoverd.master.control_socket import ControlSocket, listening
from failoverd.tools import client
from failoverd.wire.protocol import named_end, user_of_end

BOUND = 25.0  # seconds in which a command that can do nothing has said so, however slow the host

# ---------------------------------------------------------------------------- its name

PIECES = st.sampled_from(["a", ".", "pid", ".pid", ".sock", ".socket"])
NAMES = st.lists(PIECES, max_size=6).map("".join)


@given(NAMES, NAMES)
def test_no_two_pid_files_have_the_same_socket(one: str, other: str) -> None:
    first, second = (Conf(pidfile=f"/run/x{name}") for name in (one, other))
    assert (first.control_socket == second.control_socket) is (one == other)
    assert first.control_socket != first.pidfile


def test_its_usual_name() -> None:
    assert Conf().control_socket == "/run/failoverd.sock"


# ---------------------------------------------------------------------------- making it


@pytest.fixture
def us(tmp_path: Path) -> Context:
    return context(tmp_path)


def said(us: Context) -> str:
    return Path(us.conf.log).read_text()


@pytest.fixture
def made(us: Context) -> Iterator[ControlSocket]:
    own = ControlSocket(us)
    assert own.open(0.0)
    yield own
    own.close()


def leads_to(path: str, own: ControlSocket) -> bool:
    """Whether who connects there is in its queue."""
    assert own.socket is not None
    with socket.socket(socket.AF_UNIX) as client:
        if client.connect_ex(path):
            return False
        try:
            own.socket.accept()[0].close()
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_it_is_for_its_owner_alone(us: Context, umask: int) -> None:
    before = os.umask(umask)
    own = ControlSocket(us)
    try:
        assert own.open(0.0)
    finally:
        os.umask(before)
    mode = os.stat(us.conf.control_socket).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600 & ~umask
    own.close()
    assert not os.path.lexists(us.conf.control_socket) and said(us) == ""


def test_what_a_dead_one_left_is_replaced(us: Context, made: ControlSocket) -> None:
    assert made.socket is not None
    made.socket.close()  # as with who is killed: its name stays
    own = ControlSocket(us)
    assert own.open(0.0) and leads_to(us.conf.control_socket, own)
    own.close()


def test_a_living_one_is_never_taken(us: Context, made: ControlSocket) -> None:
    other = ControlSocket(us)
    assert not other.open(0.0) and not other.keep(control_socket.RETRY_SECONDS + 1)
    other.close()
    assert said(us).count("another program is listening on it") == 1
    assert leads_to(us.conf.control_socket, made)  # the probes were let in by no other
    made.close()
    assert other.keep(2 * control_socket.RETRY_SECONDS + 2) and leads_to(
        us.conf.control_socket, other
    )
    assert "SOCKET-OK" in said(us)
    other.close()


def test_what_is_no_socket_is_left_alone(us: Context) -> None:
    Path(us.conf.control_socket).write_text("a letter")
    own = ControlSocket(us)
    assert not own.open(0.0) and own.socket is None
    own.close()
    assert Path(us.conf.control_socket).read_text() == "a letter"
    assert "something else has that name" in said(us)
    assert f"listen={us.conf.primary}:{us.conf.tcp_port}" in said(us)


def test_it_is_made_again_when_it_was_removed(us: Context, made: ControlSocket) -> None:
    assert not made.keep(0.0)
    os.unlink(us.conf.control_socket)
    assert made.keep(0.0) and leads_to(us.conf.control_socket, made)
    os.rename(us.conf.control_socket, f"{us.conf.control_socket}.old")
    assert made.keep(0.0) and leads_to(us.conf.control_socket, made) and not made.keep(0.0)


def test_the_end_takes_nothing_of_anothers_away(us: Context, made: ControlSocket) -> None:
    os.unlink(us.conf.control_socket)
    with listening(us.conf.control_socket):
        made.close()
        assert os.path.lexists(us.conf.control_socket)


def test_a_folder_may_be_deep_but_a_name_not_too_long(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder with a long name"] * 8)
    deep.mkdir(parents=True)
    us = context(deep)
    assert len(us.conf.control_socket) > 200
    own = ControlSocket(us)
    assert own.open(0.0), said(us)
    own.close()
    assert not os.path.lexists(us.conf.control_socket)
    long = context(deep, pidfile=str(deep / ("x" * 120)))
    own = ControlSocket(long)
    assert not own.open(0.0)
    assert "too long" in said(long) and "SOCKET-FAILED" in said(long)


# ---------------------------------------------------------------------------- its listener


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Pair]:
    with two_nodes(tmp_path) as made:
        yield made


class Guest:
    """A user of the Unix socket."""

    def __init__(self, pair: Pair, path: str, name: bytes = b"") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        pair.sockets.append(self.socket)
        if name:
            self.socket.bind(name)
        self._daemons = pair.daemons
        self.socket.connect(path)
        self.socket.setblocking(False)
        self.got = b""
        self.ended = False

    def read(self) -> None:
        try:
            data = self.socket.recv(4096)
        except BlockingIOError:
            return
        self.got += data
        self.ended = not data

    def wait(self, condition: Callable[[], bool]) -> None:
        def look() -> bool:
            self.read()
            return condition()

        serve(self._daemons, look)

    def nonce(self) -> str:
        self.wait(lambda: b"\n" in self.got)
        return self.got.split()[2].decode()

    def ask(self, command: str) -> str:
        self.socket.sendall(signed(self.nonce(), command))
        self.wait(lambda: self.ended)
        return self.got.partition(b"\n")[2].decode()


def test_who_uses_it_is_a_person_and_an_answer_is_signed(wired: Pair, tmp_path: Path) -> None:
    path = str(tmp_path / "own")
    with listening(path) as own:
        daemon = wired.listen(own=own)
        daemon.answers = {"fail": (True, "active"), "status": (True, "x" * 60_000)}
        guest = Guest(wired, path)
        nonce = guest.nonce()
        assert guest.ask("fail") == f"ok {sign(f'{nonce} fail ok active')} active\n"
        assert [request["origin"] for request in daemon.of("request")] == ["person"]
        assert Guest(wired, path).ask("status").endswith("x" * 60_000 + "\n")
        plain = Guest(wired, path)
        plain.socket.sendall(SECRET + b"\nfail\n")
        plain.wait(lambda: plain.ended)
        assert plain.got.endswith(b"\nok active\n")
        wrong = Guest(wired, path)
        wrong.socket.sendall(b"wrong\nfail\n")
        wrong.wait(lambda: wrong.ended)
        assert wrong.got.endswith(b"\nerror refused\n")
        serve([daemon], lambda: any('client="this node"' in line for line in daemon.logged()))


@pytest.mark.skipif(ROOTLESS, reason="of root alone it is asked")
def test_for_whom_sudo_runs_a_command_is_told(
    wired: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.suppress(OSError):  # as if no user had logged in
        login = int(Path("/proc/self/loginuid").read_bytes())
        monkeypatch.setattr(server, "NO_LOGIN", login)
    path, unique = str(tmp_path / "own"), os.urandom(8).hex()
    names = {
        named_end("alice", unique): "alice",
        named_end("\x1b[2J" + "x" * 90, unique): " [2J" + "x" * (90 - 21),
        b"\0alice " + unique.encode(): "root",
        b"\0\xff\xfe" + unique.encode(): "root",
        str(tmp_path / "mine").encode(): "root",
        b"": "root",
    }
    with listening(path) as own:
        daemon = wired.listen(own=own)
        daemon.answers = {"fail": (True, "active")}
        for name in names:
            Guest(wired, path, name).ask("fail")
        assert [request["user"] for request in daemon.of("request")] == [*names.values()]


def test_a_command_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "own")
    for user in ("alice", "\udcff", ""):
        monkeypatch.setenv("SUDO_USER", user)
        with listening(path):
            end = client.control_socket(path)
            assert end is not None
            with end:
                assert user_of_end(end.getsockname()) == user.replace("\udcff", "?")
        os.unlink(path)


def test_a_crowd_at_it_keeps_no_user_out(
    wired: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_SESSIONS", 64)
    path = str(tmp_path / "own")
    with listening(path) as own:
        daemon = wired.listen(own=own)
        daemon.answers = {"status": (True, "{}")}
        for _ in range(200):
            Guest(wired, path).nonce()
        assert Guest(wired, path).ask("status").endswith(" {}\n")
        caller = wired.call(1)
        rest = caller.say(signed(caller.greeting(), "status")).rest()
        assert rest.startswith(b"ok ")
        if not ROOTLESS:
            assert len(os.listdir(f"/proc/{daemon.child.pid}/fd")) < 100


def test_who_comes_between_two_listeners_waits_for_the_next(wired: Pair, tmp_path: Path) -> None:
    path = str(tmp_path / "own")
    with listening(path) as own:
        wired.listen(own=own).close()
        wired.daemons.clear()
        guest = Guest(wired, path)
        wired.listen(own=own, patient=True).answers = {"status": (True, "{}")}
        assert guest.ask("status").endswith(" {}\n")


# ---------------------------------------------------------------------------- a real pair


def seen_here(node: Node) -> str:
    """What ha-status shows in the line of the role."""
    found = re.search(r"(?m)^role +(\S.*)", node.command("ha-status").stdout)
    return found[1] if found else ""


LOST: dict[str, Callable[[Node], None]] = {
    "no address": lambda node: node.ip("address flush dev plip0"),
    "another address": lambda node: node.ip(
        "address flush dev plip0", "address add 10.9.8.7/24 dev plip0"
    ),
    "the address elsewhere": lambda node: node.ip(
        "address flush dev plip0", "address add 1.0.0.2/24 dev eth0"
    ),
    "no link": lambda node: node.delete_interface("plip0"),
    "link down": lambda node: node.ip("link set dev plip0 down"),
    "lo down": lambda node: node.ip("link set dev lo down"),
    "lo and address": lambda node: node.ip("link set dev lo down", "address flush dev plip0"),
}


@pytest.mark.parametrize("lost", LOST)
def test_the_node_that_is_left_answers_and_obeys(lab: Lab, lost: str) -> None:
    """Its peer has died, and its own end of the link is not what it was."""
    start(lab, **WATCHED)
    LOST[lost](lab.b)
    lab.a.power_cut()
    lab.wait_until(lambda: seen_here(lab.b).startswith("active"), "b takes over", LONG)
    shown = lab.b.command("ha-status")
    assert " is active, but " in shown.stdout.splitlines()[0]
    assert "gives no valid answer" in shown.stdout.splitlines()[0]
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "no answer from the peer" in shown.stdout or "does not answer within" in shown.stdout
    began = time.monotonic()
    kept = lab.b.command("ha-fail")
    assert kept.returncode == 1 and time.monotonic() - began < BOUND
    assert kept.stderr.startswith("ha-fail: not switched: no answer from the peer: "), kept.stderr
    assert seen_here(lab.b).startswith("active") and lab.holders() == ["b"]


@pytest.mark.parametrize("lost", ["no address", "no link", "lo and address"])
def test_a_person_takes_over_on_a_standby_whose_link_is_gone(lab: Lab, lost: str) -> None:
    """By itself it does not: its $confirm says that a host answers, whichever that is."""
    confirm = lab.b.write("confirm", "#!/bin/sh\nexit 0\n", 0o755)
    start(lab, **WATCHED, confirm=confirm, second_path=False)
    LOST[lost](lab.b)
    refused = lab.b.command("ha-fail")
    assert refused.returncode == 1
    why = "no answer from the peer, but the service still answers: "
    assert why in refused.stderr
    lab.a.power_cut()
    lab.wait_until(lambda: lab.holders() == [], "a is dead")
    taken = lab.b.command("ha-fail")
    assert (taken.returncode, taken.stderr) == (0, "")
    assert lab.holders() == ["b"] and seen_here(lab.b).startswith("active")


@pytest.mark.parametrize("back", ["the address", "the link"])
def test_the_port_serves_again_when_its_address_is_back(lab: Lab, back: str) -> None:
    start(lab, **WATCHED)
    if back == "the link":
        lab.a.delete_interface("plip0")
        lab.wait_until(lambda: logs.told(lab.a.log(), "PORT-LOCAL"), "it is noticed")
        lab.a.make_interface("plip0")
    else:
        lab.a.ip("link set dev plip0 down", "address flush dev plip0", "link set dev plip0 up")
        lab.a.ip("address add 1.0.0.1/24 dev plip0")
    lab.wait_until(lambda: lab.b.command("ha-status").returncode == 0, "b asks a", LONG)
    lab.wait_until(lambda: lab.a.command("ha-status").returncode == 0, "a asks b", LONG)
    assert settled(lab, lab.a)


def test_it_outlives_its_listener_a_reload_and_its_own_name(lab: Lab) -> None:
    start(lab)
    path = lab.a.outside / "run/pid.socket"
    lab.a.ip("address flush dev plip0")
    kill(lab.a, pids(lab.a, "failoverd: listener")[0])
    assert seen_here(lab.a).startswith("active")
    lab.a.write_conf(verbose=True)
    kill(lab.a, main_pid(lab.a), signal.SIGHUP)
    lab.wait_until(lambda: "configuration read again" in lab.a.log(), "it has read it")
    assert seen_here(lab.a).startswith("active")
    before = path.stat().st_ino
    path.unlink()
    lab.wait_until(path.exists, "it is made again")
    assert path.stat().st_ino != before and stat.S_IMODE(path.stat().st_mode) == 0o600
    lab.wait_until(lambda: seen_here(lab.a).startswith("active"), "it leads to the daemon")


def test_the_socket_of_a_dead_one_stays_and_the_next_takes_it(lab: Lab) -> None:
    start(lab)
    path = lab.a.outside / "run/pid.socket"
    kill(lab.a, main_pid(lab.a))
    lab.wait_until(lambda: not pids(lab.a, "failoverd: "), "all of it is gone")
    assert path.is_socket()
    began = time.monotonic()
    for command in ("ha-status", "ha-fail"):
        told = lab.a.command(command)
        said = told.stdout + told.stderr
        assert "failoverd is not running here" in said and "start failoverd on this node" in said, (
            said
        )
    assert time.monotonic() - began < BOUND
    daemon = lab.a.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "it is back", LONG)
    lab.a.ip("address flush dev plip0")
    assert seen_here(lab.a).startswith("active")
    kill(lab.a, main_pid(lab.a), signal.SIGTERM)
    assert daemon.wait(LONG) == 0
    assert not os.path.lexists(path)


def test_who_may_not_start_leaves_the_living_ones_socket(lab: Lab) -> None:
    """A second one, a dry run too, has its pid file's own, and none of it when it was refused."""
    start(lab)
    path = lab.a.outside / "run/pid.socket"
    before = path.stat().st_ino
    refused = lab.a.command("failoverd", "-n")
    assert refused.returncode == 1 and "already running" in refused.stderr
    conf = lab.a.read("failoverd.conf").replace("run/pid'", "run/other.pid'")
    other = lab.a.write("other.conf", f"{conf}\n$tcp_port = 2001;\n")
    refused = lab.a.run(*lab.a._command("failoverd", "-n", "-c", other))
    assert refused.returncode == 1 and "belongs to the failoverd of" in refused.stderr
    assert path.stat().st_ino == before
    lab.a.ip("address flush dev plip0")
    assert seen_here(lab.a).startswith("active")
    assert [each.name for each in (lab.a.outside / "run").iterdir() if each.is_socket()] == [
        "pid.socket"
    ]


@pytest.mark.parametrize("who", ["failoverd", "listener"])
def test_a_daemon_that_is_stopped_costs_a_bounded_wait(lab: Lab, who: str) -> None:
    start(lab)
    main, (listener,) = main_pid(lab.a), pids(lab.a, "failoverd: listener")
    lab.a.ip("address flush dev plip0")
    for pid in (main,) if who == "failoverd" else (main, listener):
        kill(lab.a, pid, signal.SIGSTOP)
    try:
        for command in ("ha-status", "ha-fail"):
            began = time.monotonic()
            told = lab.a.command(command)
            assert time.monotonic() - began < BOUND
            said = told.stdout + told.stderr
            assert told.returncode and "failoverd here does not answer within" in said
            assert "stopped or hangs" in said and "Traceback" not in said
    finally:
        kill(lab.a, main, signal.SIGCONT)


def make_way(node: Node, obstacle: str) -> Callable[[], object]:
    """Have something in the way of the socket. What takes it away."""
    if obstacle == "a folder":
        path = node.outside / "run/pid.socket"
        path.mkdir(parents=True)
        return path.rmdir
    folder = mounted(node, "run", "-o", "nr_inodes=8")  # itself, the pid file, and six more
    fillers = [f"{folder}/{n}" for n in range(6)]
    node.check("touch", *fillers)
    return lambda: node.check("rm", *fillers)


@pytest.mark.parametrize(
    ("obstacle", "why"),
    [("a folder", "something else has that name"), ("no room", "No space left on device")],
)
def test_where_it_cannot_be_made_that_is_said_and_the_port_remains(
    lab: Lab, obstacle: str, why: str
) -> None:
    mend = make_way(lab.a, obstacle)
    start(lab)
    assert f'socket={lab.a.folder}/run/pid.socket error="{why}"' in lab.a.log()
    assert seen_here(lab.a).startswith("active")
    mend()
    lab.wait_until(lambda: logs.told(lab.a.log(), "SOCKET-OK"), "it is tried again", LONG)
    lab.a.ip("address flush dev plip0")
    lab.wait_until(lambda: seen_here(lab.a).startswith("active"), "the next listener has it")
