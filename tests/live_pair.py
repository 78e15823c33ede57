"""A real pair in the lab, as several tests begin with it: started, settled, and its processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.lab import logs
from dev.lab.machine import Machine, Value
from dev.lab.network import ROUTER, Lab
from failoverd import conf
from failoverd.conf import Address, Conf
from failoverd.log import Log
from failoverd.master.context import Context
from failoverd.tools import promises

WATCHED: dict[str, Value] = {"low_water": 1, "witness": [f"eth0 {ROUTER}"]}
LONG = 60.0
V4, V6 = Address("eth0", "192.0.2.10", 24), Address("eth0", "2001:db8::10", 64)
MARGIN = 6.0  # seconds that a busy machine may take longer than the contract's bound


def start(lab: Lab, **variables: Value) -> None:
    """Start failoverd on both machines, and wait until a is active and b stands by."""
    for machine in lab.machines:
        machine.write_conf(**variables)
        machine.start_failoverd()
    lab.wait_until(lambda: settled(lab, lab.a), "a is active, b stands by", LONG)


def settled(lab: Lab, active: Machine) -> bool:
    """Whether one machine alone is active and holds the address, and the other stands by."""
    roles = {machine: machine.role() for machine in lab.machines}
    others = {role for machine, role in roles.items() if machine is not active}
    return roles[active] == "active" and others == {"standby"} and lab.holders() == [active.name]


def pids(machine: Machine, title: str) -> list[int]:
    """The processes of a machine's failoverd that ps shows with this title."""
    listing = machine.check("ps", "ax", "-o", "pid=,args=")
    own = f"[{machine.folder}/run/pid]"
    lines = [line.split(None, 1) for line in listing.splitlines()]
    return [int(pid) for pid, args in lines if args.startswith(title) and args.endswith(own)]


def main_pid(machine: Machine) -> int:
    return int(machine.read("run/pid"))


def kill(machine: Machine, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    machine.check("kill", f"-{number.value}", str(pid))


def runs(machine: Machine, role: str) -> int:
    """How often the switch script was run with a role."""
    started = logs.lines(machine.log(), "SCRIPT-START")
    return sum(line.values["command"].endswith(f"/ha-switch {role}") for line in started)


def role_changes(machine: Machine) -> list[str]:
    return [
        f"{line.values['from']} -> {line.sentence}" for line in logs.lines(machine.log(), "ROLE")
    ]


def stays(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition holds for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            return False
        time.sleep(0.05)
    return True


def within(seconds: float, name: str, machine: Machine) -> bool:
    """Whether what `failoverd -t` prints for a machine is true of what was seen. A script runs on
    top, and a busy machine may take longer, but nothing comes too early."""
    settings = conf.parse(machine.read("failoverd.conf"), "failoverd.conf")
    told = promises.all_bounds(settings)[name]
    assert told.worst is not None
    print(f"seen: {seconds:.3f} s; {told}")
    return told.best <= seconds < told.worst + settings.switch_timeout + MARGIN


def mounted(machine: Machine, name: str, *options: str) -> str:
    """Mount a tmpfs in the machine's folder; it ends with the lab. Its path inside."""
    folder = f"{machine.folder}/{name}"
    machine.check("mkdir", "-p", folder)
    machine.check("mount", "-t", "tmpfs", *options, "tmpfs", folder)
    return folder


def hang_up(machine: Machine, *, said: str) -> None:
    """Send HUP, and wait until the log has one more of what is said then."""
    before = machine.log().count(said)
    kill(machine, main_pid(machine), signal.SIGHUP)
    machine.lab.wait_until(lambda: machine.log().count(said) > before, said)


def context(
    folder: Path, role: str | None = None, *, dry: bool = False, **variables: Any
) -> Context:
    """That of a node which has these settings, and its files in a folder."""
    files = {name: str(folder / name) for name in ("state", "log", "pidfile")}
    conf = Conf(**{"interfaces": ("eth0",), "addresses": (V4, V6), **files, **variables})
    us = Context(conf, "slave", Log(conf.log), lambda *_: None, dry=dry)
    us.saved.role = role
    return us
