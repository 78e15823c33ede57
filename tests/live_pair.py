"""A real pair in the lab, as several tests begin with it: started, settled, and its processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.lab import logs
from dev.lab.faults import CHILDREN
from dev.lab.network import ROUTER, Lab
from dev.lab.node import Node, Value
from failoverd import conf
from failoverd.conf import Address, Conf
from failoverd.log import Log
from failoverd.master.context import Context
from failoverd.tools import promises

WATCHED: dict[str, Value] = {"low_water": 1, "witness": [f"eth0 {ROUTER}"]}
LONG = 60.0
V4, V6 = Address("eth0", "192.0.2.10", 24), Address("eth0", "2001:db8::10", 64)
MARGIN = 6.0  # seconds that a busy host may take longer than the contract's bound


def start(lab: Lab, **variables: Value) -> None:
    """Start failoverd on both nodes, and wait until a is active and b stands by."""
    for node in lab.nodes:
        node.write_conf(**variables)
        node.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)


def settled(lab: Lab, active: Node) -> bool:
    """Whether one node alone is active and holds the address, and the other stands by."""
    roles = {node: node.role() for node in lab.nodes}
    others = {role for node, role in roles.items() if node is not active}
    return roles[active] == "active" and others == {"standby"} and lab.holders() == [active.name]


def pids(node: Node, title: str) -> list[int]:
    """The processes of a node's failoverd that ps shows with this title."""
    listing = node.check("ps", "ax", "-o", "pid=,args=")
    own = f"[{node.folder}/run/pid]"
    lines = [line.split(None, 1) for line in listing.splitlines()]
    return [int(pid) for pid, args in lines if args.startswith(title) and args.endswith(own)]


def workers(node: Node) -> list[int]:
    """Those of its processes that last: not one that writes a file and ends, say."""
    return [pid for title in CHILDREN for pid in pids(node, f"failoverd: {title} ")]


def main_pid(node: Node) -> int:
    return int(node.read("run/pid"))


def kill(node: Node, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    node.check("kill", f"-{number.value}", str(pid))


def runs(node: Node, role: str) -> int:
    """How often the switch script was run with a role."""
    started = logs.lines(node.log(), "SCRIPT-START")
    return sum(line.values["command"].endswith(f"/ha-switch {role}") for line in started)


def carries(node: Node, interface: str) -> bool:
    """Whether the kernel says that it has a carrier, which it does a moment later."""
    return " state UP " in node.check("ip", "link", "show", "dev", interface)


def role_changes(node: Node) -> list[str]:
    return [f"{line.values['from']} -> {line.sentence}" for line in logs.lines(node.log(), "ROLE")]


def stays(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition holds for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            return False
        time.sleep(0.05)
    return True


def within(seconds: float, name: str, node: Node) -> bool:
    """Whether what `failoverd -t` prints for a node is true of what was seen. A script runs on
    top, and a busy host may take longer, but nothing comes too early."""
    settings = conf.parse(node.read("failoverd.conf"), "failoverd.conf")
    told = promises.all_bounds(settings)[name]
    assert told.worst is not None
    print(f"seen: {seconds:.3f} s; {told}")
    return told.best <= seconds < told.worst + settings.switch_timeout + MARGIN


def mounted(node: Node, name: str, *options: str) -> str:
    """Mount a tmpfs in the node's folder; it ends with the lab. Its path inside."""
    folder = f"{node.folder}/{name}"
    node.check("mkdir", "-p", folder)
    node.check("mount", "-t", "tmpfs", *options, "tmpfs", folder)
    return folder


def hang_up(node: Node, *, said: str) -> None:
    """Send HUP, and wait until the log has one more of what is said then."""
    before = node.log().count(said)
    kill(node, main_pid(node), signal.SIGHUP)
    node.lab.wait_until(lambda: node.log().count(said) > before, said)


def context(
    folder: Path, role: str | None = None, *, dry: bool = False, **variables: Any
) -> Context:
    """That of a node which has these settings, and its files in a folder."""
    files = {name: str(folder / name) for name in ("state", "log", "pidfile")}
    conf = Conf(**{"interfaces": ("eth0",), "addresses": (V4, V6), **files, **variables})
    us = Context(conf, "slave", Log(conf.log), lambda *_: None, dry=dry)
    us.saved.role = role
    return us
