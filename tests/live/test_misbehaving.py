"""A node that misbehaves: disks, descriptors, processes, memory, interfaces. No role changes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from live_pair import (
    WATCHED,
    kill,
    main_pid,
    mounted,
    pids,
    role_changes,
    settled,
    start,
    workers,
)

from dev.lab import logs
from dev.lab.network import SERVICE, Lab
from dev.lab.node import Node
from dev.lab.spaces import Process

# ------------------------------------------------------------------ disks


def switch_over(lab: Lab) -> None:
    """From a to b and back, by a person, who notices nothing of what ails the nodes."""
    for node in (lab.b, lab.a):
        result = lab.a.command("ha-fail")
        assert result.returncode == 0, result.stderr
        assert settled(lab, node)


def alive(lab: Lab, mains: list[int]) -> bool:
    """Whether these are still the main processes, and the pair is as it was in the beginning."""
    return mains == [main_pid(node) for node in lab.nodes] and settled(lab, lab.a)


def test_a_disk_that_is_full(lab: Lab) -> None:
    """Neither for the log nor for $state and the pid file is there any room."""
    folder = mounted(lab.a, "run", "-o", "size=64k")
    lab.a.run("sh", "-c", f"cat /dev/zero >{folder}/x")
    lab.a.write_conf(log=f"{folder}/log")
    lab.b.write_conf()
    for node in lab.nodes:
        node.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by")
    assert "cannot write $pidfile" in lab.a.read("terminal")
    assert "STATE-FAILED" in lab.a.read("terminal")
    switch_over(lab)
    lab.a.check("rm", f"{folder}/x")
    lab.wait_until(lambda: json.loads(lab.a.read("run/state") or "{}"), "the state is written")
    assert json.loads(lab.a.read("run/state"))["role"] == "active"
    lab.wait_until(lambda: lab.a.read("run/pid"), "and so is the pid file")
    kill(lab.a, pids(lab.a, "failoverd: heartbeat ")[0])
    lab.wait_until(lambda: "worker heartbeat" in lab.a.read("run/log"), "the log goes on")
    assert "lines lost; count=" in lab.a.read("run/log")


def test_a_run_folder_that_is_read_only_and_then_away(lab: Lab) -> None:
    start(lab)
    mains = [main_pid(node) for node in lab.nodes]
    folder = mounted(lab.a, "run", "-o", "ro")
    switch_over(lab)
    assert logs.told(lab.a.log(), "STATE-FAILED")
    assert lab.a.command("ha-fail").returncode == 0
    lab.a.check("umount", folder)
    lab.wait_until(lambda: "standby" in lab.a.read("run/state"), "the state is up to date")
    # At once: failoverd looks for its files all the time, and makes them again.
    lab.a.check("mv", folder, f"{folder}.gone")
    lab.a.check("rm", "-r", f"{folder}.gone")
    assert lab.a.command("ha-fail").returncode == 0
    lab.a.check("mkdir", folder)
    lab.wait_until(lambda: "active" in lab.a.read("run/state"), "the state is there again")
    lab.wait_until(lambda: lab.a.read("run/pid"), "and the pid file")
    # With the socket for the node's own commands its listener is another, too.
    lab.wait_until(lambda: alive(lab, mains), "the pair is as it was")
    assert f"already running (pid {mains[0]})" in lab.a.command("failoverd").stderr


def test_a_log_on_a_disk_that_hangs(lab: Lab) -> None:
    """The standby's disk hangs when the active node dies: it takes over all the same.

    Its watchers hang, too, for they write $dumpfile.
    """
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no file systems in user space (/dev/fuse) here")
    folder = f"{lab.b.folder}/disk"
    lab.b.check("mkdir", folder)
    program = str(Path(__file__).parent.parent / "hanging.py")
    store, switch = f"{lab.b.folder}/store", f"{lab.b.folder}/hangs"
    lab.b.popen(sys.executable, "-I", program, folder, store, switch)
    lab.wait_until(lambda: lab.b.run("test", "-e", f"{folder}/log").returncode == 0, "a disk")
    lab.a.write_conf()
    lab.b.write_conf(log=f"{folder}/log", dumpfile=f"{folder}/dump", verbose=True)
    for node in lab.nodes:
        node.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by")
    main, (scribe,) = main_pid(lab.b), pids(lab.b, "failoverd: log ")
    lab.b.write("hangs", "")

    def held() -> bool:
        return "\nState:\tD" in lab.b.check("cat", f"/proc/{scribe}/status")

    lab.wait_until(held, "the disk holds the log's writer")
    said = "DUMP-OFF interface plip0"
    lab.wait_until(lambda: said in lab.b.read("terminal"), "the link's watcher has hung, too")
    before = lab.b.read("store")  # no write from before the switch is under way any more
    lab.a.power_cut()
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over", 40.0)
    said = "WORKER-STUCK worker log"
    lab.wait_until(lambda: said in lab.b.read("terminal"), "b says what its log suffers from")
    assert lab.b.read("store") == before
    (lab.b.outside / "hangs").unlink()
    lab.wait_until(lambda: "WORKER-LOST worker log" in lab.b.read("store"), "the log goes on")
    assert "ROLE role: active" in lab.b.read("store")
    assert main_pid(lab.b) == main


# ------------------------------------------------------------------ descriptors and processes


def limit_descriptors(node: Node, pid: int, user: str, limit: int) -> None:
    group = node.check("id", "-g", user).strip()
    own = ("setpriv", "--reuid", user, "--regid", group, "--clear-groups")
    command = ("prlimit", "-p", str(pid), f"--nofile={limit}:{limit}")
    node.check(*(() if user == "root" else own), *command)


def test_no_descriptor_is_left(lab: Lab) -> None:
    """Neither to failoverd nor to any of its children: they serve with what they have."""
    start(lab, **WATCHED)
    mains = [main_pid(node) for node in lab.nodes]
    before = [role_changes(node) for node in lab.nodes]
    for node in lab.nodes:
        for pid in workers(node):
            limit_descriptors(node, pid, lab.user, 3)
        main = main_pid(node)
        held = len(node.check("ls", f"/proc/{main}/fd").split())
        limit_descriptors(node, main, "root", held)
    said = "Too many open files"
    lab.wait_until(lambda: all(said in node.log() for node in lab.nodes), "the listeners have none")
    for node in lab.nodes:
        kill(node, pids(node, "failoverd: listener ")[0])
    lab.wait_until(lambda: alive(lab, mains), "other listeners have descriptors again")
    assert [role_changes(node) for node in lab.nodes] == before
    switch_over(lab)


HOLD_ALL = """
import os, sys, time
reading, writing = os.pipe()
try:
    while True:
        if os.fork() == 0:
            os.close(writing)
            os.read(reading, 1)  # until the first one ends
            os._exit(0)
except OSError as error:
    print(error.strerror, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def crowded(lab: Lab) -> Iterator[Callable[[], Process]]:
    """Have every process number in the lab taken, until what is returned is closed."""
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 14):
        pytest.skip("before Linux 6.14 the limit of processes is the whole host's")
    crowds: list[Process] = []

    def crowd() -> Process:
        argv = (sys.executable, "-I", "-S", "-c", HOLD_ALL)
        crowds.append(lab.client.popen(*argv, stdout=subprocess.PIPE))
        assert crowds[0].stdout is not None
        assert crowds[0].stdout.readline() == b"Resource temporarily unavailable\n"
        return crowds[0]

    lab.client.check("sh", "-c", "echo 320 >/proc/sys/kernel/pid_max")
    yield crowd
    for process in crowds:
        process.close()


def test_no_process_can_be_had(lab: Lab, crowded: Callable[[], Process]) -> None:
    start(lab)
    mains = [main_pid(node) for node in lab.nodes]
    before = [role_changes(node) for node in lab.nodes]
    victims = [(node, pids(node, "failoverd: heartbeat ")[0]) for node in lab.nodes]
    with crowded():
        for _, pid in victims:
            lab.spaces.request({"do": "signal", "pid": pid, "signal": int(signal.SIGKILL)})
        said = 'worker heartbeat: ended, and is started again; error="cannot be started'
        lab.wait_until(lambda: all(said in node.log() for node in lab.nodes), "no child can be had")
        assert lab.b.say("fail").startswith("error")
        assert lab.a.say("resume") == "error the switch script cannot be run"
        assert (lab.a.role(), lab.b.role()) == ("active", "standby")
    lab.wait_until(lambda: alive(lab, mains), "the pair is as it was")
    lab.wait_until(
        lambda: all(pids(node, "failoverd: heartbeat ") for node in lab.nodes), "the children too"
    )
    assert logs.told(lab.a.log(), "SWITCH-FAILED", "cannot be run, the role stays")
    switch_over(lab)
    assert lab.holders() == ["a"]
    assert len(before) == 2


def test_no_memory_can_be_had(lab: Lab) -> None:
    start(lab, **WATCHED)
    mains = [main_pid(node) for node in lab.nodes]
    for node, main in zip(lab.nodes, mains, strict=True):
        status = node.check("cat", f"/proc/{main}/status")
        (size,) = re.findall(r"VmSize:\s+(\d+) kB", status)
        node.check("prlimit", "-p", str(main), f"--as={int(size) * 1024}:unlimited")
        for pid in workers(node):
            kill(node, pid)
        kill(node, main, signal.SIGHUP)
        kill(node, main, signal.SIGUSR1)
    said = ("STATUS ", "configuration stays as it was")
    lab.wait_until(
        lambda: all(any(word in node.read("terminal") for word in said) for node in lab.nodes),
        "they answer",
    )
    for node, main in zip(lab.nodes, mains, strict=True):
        node.check("prlimit", "-p", str(main), "--as=unlimited")
    lab.wait_until(lambda: alive(lab, mains), "the pair is as it was")


# ------------------------------------------------------------------ interfaces


def test_interfaces_that_are_renamed_and_moved(lab: Lab) -> None:
    """The standby's interface and its end of the link get another name, leave, and come back."""
    start(lab, **WATCHED)
    mains = [main_pid(node) for node in lab.nodes]
    before = [role_changes(node) for node in lab.nodes]

    def own_status(node: Node) -> Any:
        """Without the peer's, for which ha-status waits."""
        return json.loads(node.say("status").removeprefix("ok "))

    def missed(interface: str) -> bool:
        if interface == "eth0":
            return bool(own_status(lab.b)["interfaces"]["eth0"]["state"] == "down")
        return own_status(lab.a)["plip"]["state"] not in ("boot", "ok")

    def whole() -> bool:
        if not alive(lab, mains):
            return False
        us = own_status(lab.b)
        return (us["interfaces"]["eth0"]["state"], us["plip"]["state"]) == ("ok", "ok")

    for interface in ("eth0", "plip0"):
        for there, home in ((lab.b, ""), (lab.client, f"netns {lab.b.name}")):
            away = f"netns {there.name}" if home else ""
            lab.b.ip(
                f"link set dev {interface} down", f"link set dev {interface} {away} name other0"
            )
            lab.wait_until(partial(missed, interface), f"b misses {interface}")
            there.ip(f"link set dev other0 {home} name {interface}")
            lab.b.ip(*lab.b._configured(lab.b.interfaces[interface]))
            lab.wait_until(whole, f"{interface} is back")
    assert [role_changes(node) for node in lab.nodes] == before


def test_an_interface_that_was_renamed_while_it_had_the_address(lab: Lab) -> None:
    """The active node's: it gives the address up all the same, and goes on when it is back."""
    start(lab, **WATCHED)
    lab.a.ip("link set dev eth0 down", "link set dev eth0 name other0")
    lab.wait_until(lambda: lab.b.role() == "active", "b takes over")
    assert lab.holders() == ["b"]
    assert f"other0: removed {SERVICE}/24" in lab.a.log()
    lab.a.ip("link set dev other0 name eth0", "link set dev eth0 up")
    lab.wait_until(lambda: settled(lab, lab.b), "b alone has the address")


def test_an_address_that_a_person_puts_on_the_standby(lab: Lab) -> None:
    """While its failoverd watches, and while it does not run."""
    start(lab, **WATCHED)
    lab.b.ip(f"addr add {SERVICE}/24 dev eth0")
    lab.wait_until(lambda: lab.holders() == ["a"], "b takes it away")
    lab.wait_until(lambda: " ROLE " in lab.b.log().rpartition("ADDRESS-STRAY")[2], "it is done")
    lab.wait_until(lambda: '"standby"' in lab.b.read("run/state"), "and remembered")
    kill(lab.b, main_pid(lab.b))
    lab.b.ip(f"addr add {SERVICE}/24 dev eth0")
    assert lab.b.command("failoverd").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.a), "b takes it away again")
    assert logs.told(lab.b.log(), "YIELD")


def test_what_it_prints_is_not_read_any_more(lab: Lab) -> None:
    """As when the journal has died: whoever was started in the foreground goes on."""
    lab.a.write_conf()
    with lab.a.popen(*lab.a._command("failoverd", "-f"), stderr=subprocess.PIPE) as failoverd:
        lab.wait_until(lambda: lab.a.role() == "active", "a is active alone")
        assert failoverd.stderr is not None
        failoverd.stderr.close()
        for title in ("heartbeat", "listener"):
            kill(lab.a, pids(lab.a, f"failoverd: {title} ")[0])
        lab.wait_until(lambda: lab.a.log().count("ended with signal 9") == 2, "the log goes on")
        lab.wait_until(lambda: lab.a.role() == "active", "and so do they")
        assert failoverd.poll() is None
