"""Privileges: what a child of failoverd may still do, and what it could tell whoever breaks it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_pair import main_pid, start
from processes import try_in_child

from dev.lab.network import Lab
from dev.lab.node import SECRET, Node
from failoverd import process
from failoverd.process import privileges

_KEYCTL_GET_KEYRING_ID, _SESSION_KEYRING = 0, -3
_PR_SET_KEEPCAPS = 8

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which is given up in it")


def in_child(work: Callable[[], object]) -> str:
    """What work returns, as text, in a child that has become nobody."""

    def run(_: process.Channel) -> None:
        process.give_up_root("nobody")
        raise ValueError(str(work()))

    return try_in_child("test", run, 20.0)


def status_of(pid: int | str) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def still_open(number: int) -> bool:
    """Not what listdir itself had open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def capabilities(status: dict[str, str]) -> list[int]:
    return [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]


# ------------------------------------------------------------------ one child


@needs_root
def test_nothing_is_left_even_if_the_starter_wanted_to_keep_it() -> None:
    def stubborn(_: process.Channel) -> None:
        process.libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([0, 4, 27])
        process.give_up_root("nobody")
        status = status_of("self")
        assert not any(capabilities(status)), status
        assert status["Groups"] == ""
        assert status["NoNewPrivs"] == "1"

    assert try_in_child("test", stubborn, 20.0) == ""


@needs_root
def test_a_capability_that_the_starter_has_withheld_is_named() -> None:
    def wanting(_: process.Channel) -> None:
        process.give_up_root("nobody")
        privileges._drop_capabilities(frozenset({process.CAP_NET_ADMIN}))

    assert "cannot keep CAP_NET_ADMIN, with which" in try_in_child("test", wanting, 20.0)


@needs_root
def test_no_keyring_of_roots_no_core_and_no_process() -> None:
    number = privileges._KEYCTL.get(os.uname().machine)
    libc = ctypes.CDLL(None, use_errno=True)
    if number is not None:
        ask = (number, _KEYCTL_GET_KEYRING_ID, _SESSION_KEYRING, 0)
        ours = libc.syscall(*ask)
        theirs = int(in_child(lambda: libc.syscall(*ask)))
        assert ours != theirs or ours == -1  # -1: the kernel has none, or forbids it
    assert in_child(lambda: resource.getrlimit(resource.RLIMIT_CORE)) == "(0, 0)"
    assert in_child(lambda: libc.prctl(3, 0, 0, 0, 0)) == "0"  # PR_GET_DUMPABLE
    assert "temporarily unavailable" in in_child(os.fork)


def test_a_child_holds_no_terminal(tmp_path: Path) -> None:
    def look(_: process.Channel) -> None:
        held = {number: os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)}
        assert set(held.values()) == {os.devnull}, held
        assert os.getsid(0) == os.getpid()
        names = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
        rest = [os.readlink(f"/proc/self/fd/{name}") for name in names if still_open(int(name))]
        assert len(rest) == 1 and rest[0].startswith("socket:"), rest

    with (tmp_path / "open").open("w"):
        assert try_in_child("test", look, 20.0) == ""


def test_another_watcher_gets_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_A_TEST", "x")
    program = sys.executable
    code = "import json, os; print(json.dumps(dict(os.environ)), flush=True)"
    child = process.start_program([program, "-Ic", code], "root")
    os.waitpid(child.pid, 0)
    (message,) = child.channel.receive()
    child.channel.close()
    assert message["PATH"] == process.CLEAN_ENVIRONMENT["PATH"]
    assert "LD_PRELOAD_OF_A_TEST" not in message


# ------------------------------------------------------------------ the whole family


def family(node: Node) -> tuple[int, dict[str, int]]:
    """failoverd and its children by their titles, as pids of this process's own namespace."""
    inside = str(main_pid(node))
    theirs = f"/proc/{node.lab.spaces.pid}/ns/pid_for_children"
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            same = os.stat(folder / "ns/pid").st_ino == os.stat(theirs).st_ino
            if same and status_of(folder.name)["NSpid"].split()[-1] == inside:
                return int(folder.name), children_of(folder)
    raise LookupError(f"no failoverd on {node.name}")


def children_of(process: Path) -> dict[str, int]:
    found = {}
    for pid in (process / "task" / process.name / "children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
            found[title.split(" [")[0].removeprefix("failoverd: ")] = int(pid)
    return found


def held_by(pid: int) -> Iterator[str]:
    """What a process has open, but for what it closes meanwhile, as after a query."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(link)


@pytest.fixture
def served(lab: Lab) -> Iterator[tuple[int, dict[str, int]]]:
    """A running pair that has exchanged much: failoverd of a, and its children by name."""
    start(lab)
    lab.wait_until(lambda: lab.a.command("ha-status").returncode == 0, "all is well")
    assert lab.a.say("status").startswith("ok")
    main, children = 0, dict[str, int]()

    def has_its_workers() -> bool:
        """And no errand is under way, as after a change of the role."""
        nonlocal main, children
        main, children = family(lab.a)
        return set(children) == {
            "listener", "neighbours", "heartbeat", "watchd eth0", "watchd plip0", "log",
            "addresses",
        }  # fmt: skip

    lab.wait_until(has_its_workers, "its workers, and no others")
    yield main, children


def memory(pid: int) -> Iterator[bytes]:
    """What is in the process's memory, piece by piece."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            where, rights = line.split()[:2]
            first, end = (int(word, 16) for word in where.split("-"))
            if not rights.startswith("rw"):
                continue
            mem.seek(first)
            try:
                yield mem.read(end - first)
            except OSError:
                continue  # [vvar], a guard page


def knows(pid: int, secret: bytes) -> bool:
    return any(secret in piece for piece in memory(pid))


def test_every_child_has_nothing_and_the_listener_alone_has_the_secret(
    lab: Lab, served: tuple[int, dict[str, int]]
) -> None:
    main, children = served
    secret = SECRET.encode()
    for name, pid in children.items():
        status = status_of(pid)
        assert status["NoNewPrivs"] == "1", name
        plain = {each for each in held_by(pid) if each.startswith("/") and each != os.devnull}
        may_hold = {"log": {f"{lab.a.folder}/log"}, "addresses": {"/memfd:orders (deleted)"}}
        assert plain <= may_hold.get(name, set()), f"{name} holds {plain}"
        if not lab.spaces.rootless:
            assert status["Uid"].split() == ["65534"] * 4, name
            assert status["Gid"].split() == ["65534"] * 4, name
            assert status["Groups"] == "", name
            may = 1 << process.CAP_NET_ADMIN if name == "addresses" else 0
            assert set(capabilities(status)) == {may}, name
            # not dumpable: to the kernel its files are root's, and no other user may look
            assert os.stat(f"/proc/{pid}/environ").st_uid == 0, name
        if os.geteuid() == 0:
            assert knows(pid, secret) is (name == "listener"), name
    if os.geteuid() == 0:
        assert not knows(main, secret)
    for pid in (main, *children.values()):
        for shown in ("cmdline", "environ"):
            assert secret not in Path(f"/proc/{pid}/{shown}").read_bytes()
    for file in lab.spaces.folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a new $state has taken its name meanwhile
            assert not file.is_file() or file.name == "secret" or secret not in file.read_bytes()


def test_every_process_has_one_thread(served: tuple[int, dict[str, int]]) -> None:
    """So a fork copies no lock that another holds."""
    main, children = served
    for pid in (main, *children.values()):
        assert status_of(pid)["Threads"] == "1"


@needs_root
def test_no_core_of_the_listener_and_another_comes(
    lab: Lab, served: tuple[int, dict[str, int]]
) -> None:
    _, children = served
    limits = Path(f"/proc/{children['listener']}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max core"))
    assert line.split()[4:6] == ["0", "0"]
    os.kill(children["listener"], signal.SIGSEGV)
    lab.wait_until(
        lambda: family(lab.a)[1].get("listener", children["listener"]) != children["listener"],
        "another listener",
    )
    lab.wait_until(lambda: lab.a.role() == "active", "it answers")
    assert not list(lab.spaces.folder.rglob("core*"))
