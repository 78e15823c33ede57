"""The systems that are compared: how each is started in the lab, and how it is stopped in order."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dev.lab.network import ROUTER, SERVICE, Lab
from dev.lab.node import Node, Value
from dev.lab.spaces import LabError, Process, search_path

MOST_REFUSALS = 5
START_LIMIT = 60.0  # seconds; at the original's default timers a start takes up to two windows

# Shorter windows are allowed, but this one host has to run both of the pair and the client.
# Whether these are safe is for the row "false" to say, at --load-seconds 600.
FASTEST: Mapping[str, Value] = {
    "plip_timer": 0.008,
    "plip_hbeat": 0.0075,
    "timer_seconds": 0.005,
    "realtime": "yes",
    "low_water": 1,
    "witness": [f"eth0 {ROUTER}"],
    "switch_timeout": 5.0,
    "hold_down": 2.0,
}


def served(count: int) -> list[str]:
    """So many addresses, the last of which the client probes."""
    return [*(f"10.7.{n // 250}.{n % 250 + 1}/16" for n in range(count - 1)), f"{SERVICE}/24"]


class System(Protocol):
    """One that keeps the service address on a, and moves it to b."""

    name: str

    def start(self, lab: Lab) -> None:
        """Start it on both nodes, and wait until a alone has the address."""

    def stop(self, lab: Lab) -> None:
        """A planned switch from a to b, as its user would do it."""


@dataclass
class Failoverd:
    settings: Mapping[str, Value] = field(default_factory=lambda: dict(FASTEST))
    name: str = "failoverd"
    count: int = 1  # of addresses
    checks: Sequence[str] = ()  # of the service; FOLDER is the node's
    refusals: int = 0  # of ha-fail
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self, lab: Lab) -> None:
        addresses = [f"eth0 {one}" for one in served(self.count)]
        for node in lab.nodes:
            checks = [one.replace("FOLDER", node.folder) for one in self.checks]
            node.write_conf(**{"addresses": addresses, "checks": checks, **self.settings})
            self.processes[node.name] = node.start_failoverd()
        lab.wait_until(lambda: self._serves(lab), "a is active", START_LIMIT, 0.1)
        lab.wait_until(
            lambda: self._receives(lab.b), "b receives from a and stands by", START_LIMIT, 0.1
        )

    def _serves(self, lab: Lab) -> bool:
        """Raises LabError if it has ended."""
        if any(process.poll() is not None for process in self.processes.values()):
            raise LabError(f"failoverd has ended\n{lab.tails()}")
        return lab.a.role() == "active"

    @staticmethod
    def _receives(node: Node) -> bool:
        us = node.status()["us"]
        return bool(us) and us["role"] == "standby" and us["plip"]["state"] == "ok"

    def stop(self, lab: Lab) -> None:
        """It may say that it is not a good moment; then nothing has changed, and one asks again."""
        for _ in range(MOST_REFUSALS):
            result = lab.a.command("ha-fail")
            if result.returncode == 0:
                return
            self.refusals += 1
        raise LabError(f"ha-fail: {result.stderr.strip()}")


_KEEPALIVED = """global_defs {{
    router_id {name}
    vrrp_version 3
}}
{before}
vrrp_instance service {{
    state {state}
    interface eth0
    virtual_router_id 10
    priority {priority}
    advert_int {advert}
    virtual_ipaddress {{
        {first}
    }}
    virtual_ipaddress_excluded {{
        {others}
    }}
    {inside}
}}
"""


@dataclass
class Keepalived:
    advert: float = 0.01
    name: str = "keepalived"
    count: int = 1  # of addresses
    before: str = ""  # more of the configuration; FOLDER is the node's
    inside: str = ""  # more of the instance
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self, lab: Lab) -> None:
        self.processes = {node.name: self.start_one(node) for node in lab.nodes}
        lab.wait_until(lambda: lab.holders() == ["a"], "a alone has the address", START_LIMIT, 0.2)
        time.sleep(0.3)  # both may have had it for a moment
        lab.wait_until(lambda: lab.holders() == ["a"], "a alone has the address", START_LIMIT, 0.2)

    def start_one(self, node: Node) -> Process:
        master = node is node.lab.a
        words = {"state": "MASTER" if master else "BACKUP", "priority": 150 if master else 100}
        first, *others = served(self.count)  # an advertisement has no room for a thousand
        text = _KEEPALIVED.format(
            name=node.name,
            advert=self.advert,
            first=first,
            others="\n        ".join(others),
            before=self.before.replace("FOLDER", node.folder),
            inside=self.inside,
            **words,
        )
        conf = node.write("keepalived.conf", text)
        pids = ("-p", f"{node.folder}/keepalived.pid", "-r", f"{node.folder}/vrrp.pid")
        return node.popen("keepalived", "-n", "-P", "-f", conf, *pids)

    def stop(self, lab: Lab) -> None:
        self.processes["a"].terminate()
        self.processes["a"].wait()


@dataclass
class Ucarp:
    """Its shortest interval is one second."""

    name: str = "ucarp"
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self, lab: Lab) -> None:
        for node, skew in ((lab.a, "0"), (lab.b, "10")):
            scripts = [
                node.write(f"{verb}.sh", f'#!/bin/sh\nip address {verb} "$2/24" dev "$1"\n', 0o755)
                for verb in ("add", "del")
            ]
            own = node.interfaces["eth0"].addresses[0].split("/")[0]
            what = ("-i", "eth0", "-s", own, "-v", "10", "-p", "word", "-a", SERVICE)
            how = ("-u", scripts[0], "-d", scripts[1], "-z", "-b", "1", "-r", "3", "-k", skew)
            self.processes[node.name] = node.popen("ucarp", *what, *how)
        lab.wait_until(lambda: lab.holders() == ["a"], "a alone has the address", START_LIMIT, 0.2)
        time.sleep(1.5)  # an advertisement of a's has come to b
        lab.wait_until(lambda: lab.holders() == ["a"], "a alone has the address", START_LIMIT, 0.2)

    def stop(self, lab: Lab) -> None:
        self.processes["a"].terminate()
        self.processes["a"].wait()


def installed(program: str) -> bool:
    return shutil.which(program, path=search_path()) is not None
