"""Two pairs on two nodes, as examples/two-pairs has them: each node is preferred for one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from live_pair import LONG, stays

from dev.lab import logs
from dev.lab.faults import CHILDREN
from dev.lab.network import WATCHFUL, Lab
from dev.lab.node import SWITCH, Node, Value, perl
from dev.lab.spaces import ROOT, Process
from failoverd import conf

EXAMPLES = ROOT / "examples" / "two-pairs"
PREFERRED = {"web": "a", "db": "b"}
SERVED = {"web": "192.0.2.10", "db": "192.0.2.11"}
PORTS = {"web": 2000, "db": 2001}


def secret(pair: str) -> str:
    return f"the secret of {pair}"


@dataclass(frozen=True)
class Member:
    """One pair's failoverd on a node."""

    node: Node
    pair: str

    @property
    def conf(self) -> str:
        return f"{self.node.folder}/{self.pair}/failoverd.conf"

    def write(self) -> None:
        """The example's files, with this node's places and timers that do not take so long."""
        node = self.node
        text = (EXAMPLES / self.pair / "failoverd.conf").read_text()
        for folder, place in (("/run", "/run"), ("/etc/failover", ""), ("/var/log", "")):
            text = text.replace(f'"{folder}/', f'"{node.folder}{place}/')
        if node.name == "b":
            text = re.sub(r"1\.0\.0\.([12])", lambda found: f"1.0.0.{3 - int(found[1])}", text)
        here: dict[str, Value] = {
            "plip_interface": "plip0",
            "user": node.lab.user,
            "verbose": False,
        }
        others: dict[str, Value] = {**WATCHFUL, **here}
        text = text.removesuffix("1;\n") + "".join(map(perl, others, others.values()))
        boot = "master" if node.name == PREFERRED[self.pair] else "slave"
        node.write(f"{self.pair}/failoverd.conf", text)
        node.write(f"{self.pair}/host_type", f"boot:{boot}\n")
        node.write(f"{self.pair}/secret", f"{secret(self.pair)}\n", 0o600)
        node.write(f"{self.pair}/ha-switch", SWITCH.read_text(), 0o755)
        (node.outside / "run").mkdir(mode=0o755, exist_ok=True)

    def start(self) -> Process:
        launch = str(ROOT / "dev" / "launch.py")
        argv = (sys.executable, "-I", launch, "failoverd", "-f", "-c", self.conf)
        with (self.node.outside / "terminal").open("ab") as terminal:
            return self.node.popen(*argv, stdout=terminal, stderr=subprocess.STDOUT)

    def role(self) -> str:
        try:
            said = self.node.say("status", secret(self.pair), 5.0, PORTS[self.pair])
            return str(json.loads(said.removeprefix("ok "))["role"])
        except (OSError, ValueError):  # it does not run, or not yet
            return ""

    def log(self) -> str:
        return self.node.read(f"watchd-{self.pair}.log")

    def pid(self) -> int:
        return int(self.node.read(f"run/failoverd-{self.pair}.pid"))

    def signal(self, number: signal.Signals) -> None:
        self.node.check("kill", f"-{number.value}", str(self.pid()))

    def workers(self) -> dict[str, int]:
        """The pid of each process of this failoverd that lasts, by the title that ps shows."""
        own = f" [{self.node.folder}/run/failoverd-{self.pair}.pid]"
        listing = self.node.check("ps", "ax", "-o", "pid=,args=").splitlines()
        found = [line.split(None, 1) for line in listing if line.endswith(own)]
        titled = {title.removesuffix(own): int(pid) for pid, title in found}
        lasting = titled.keys() & {f"failoverd: {title}" for title in CHILDREN}
        return {title: titled[title] for title in lasting}


@dataclass(frozen=True)
class Pairs:
    lab: Lab

    def member(self, node: str, pair: str) -> Member:
        return Member({"a": self.lab.a, "b": self.lab.b}[node], pair)

    def of(self, node: str) -> list[Member]:
        return [self.member(node, pair) for pair in PREFERRED]

    def serve(self, **where: str) -> bool:
        """Whether each pair is active on this node alone, and its address is nowhere else."""
        return all(
            self.member(node, pair).role() == "active" and self.lab.holders(SERVED[pair]) == [node]
            for pair, node in where.items()
        )

    def await_at_home(self) -> None:
        def settled() -> bool:
            others = [self.member("a", "db").role(), self.member("b", "web").role()]
            return self.serve(**PREFERRED) and others == ["standby", "standby"]

        self.lab.wait_until(settled, "each pair is active on its preferred node", LONG)

    def have_written(self, node: Node) -> bool:
        """Whether the logs have all that was printed: other processes write them."""
        printed = filter(logs.parse, node.read("terminal").splitlines())
        written = "".join(member.log() for member in self.of(node.name))
        return all(line in written for line in printed)


@pytest.fixture
def pairs(make_lab: Callable[..., Lab]) -> Pairs:
    """Both pairs, started on both nodes and at home."""
    made = Pairs(make_lab())
    for node in "ab":
        for member in made.of(node):
            member.write()
            member.start()
    made.await_at_home()
    written = lambda: all(map(made.have_written, made.lab.nodes))  # noqa: E731
    made.lab.wait_until(written, "the logs tell all of it", LONG)
    return made


def test_one_node_dies_and_the_other_serves_both(pairs: Pairs) -> None:
    lab = pairs.lab
    db = pairs.member("b", "db")
    told = db.log()
    lab.a.power_cut()
    lab.wait_until(lambda: pairs.serve(web="b", db="b"), "b serves both", LONG)
    assert "NOTICE ROLE" not in db.log().removeprefix(told)
    lab.a.power_on()
    for member in pairs.of("a"):
        member.start()
    pairs.await_at_home()
    assert "NOTICE ROLE" not in db.log().removeprefix(told)


def test_what_happens_to_one_pair_is_nothing_to_the_other(pairs: Pairs) -> None:
    """A reload, a restart, a kill that leaves workers which the next start ends, and a silence."""
    lab, web, db = pairs.lab, pairs.member("a", "web"), pairs.member("a", "db")
    watchers = {"failoverd: watchd eth0", "failoverd: watchd plip0"}
    before, told, first = db.workers(), db.log(), web.workers()
    assert watchers <= before.keys() and watchers <= first.keys()
    web.signal(signal.SIGHUP)
    lab.wait_until(lambda: " RELOAD " in web.log(), "it has read its file again")
    web.signal(signal.SIGTERM)
    lab.wait_until(lambda: web.workers() == {}, "it stops")
    assert lab.holders(SERVED["web"]) == ["a"]
    web.start()
    lab.wait_until(lambda: watchers <= web.workers().keys(), "it runs again", LONG)
    left = web.workers()
    lab.a.check("kill", "-STOP", *map(str, left.values()))
    web.signal(signal.SIGKILL)
    web.start()
    lab.wait_until(lambda: " LEFTOVER-ENDED " in web.log(), "the next start ends them", LONG)
    pairs.await_at_home()
    assert not set(left.values()) & set(web.workers().values())
    assert db.workers() == before
    assert [line.event for line in logs.lines(db.log().removeprefix(told))] == []


def test_the_heartbeats_of_one_pair_are_none_of_the_other(pairs: Pairs) -> None:
    """One pair's failoverd dies, while the other's goes on with its heartbeats on the same link."""
    lab, web = pairs.lab, pairs.member("a", "web")
    lab.a.check("ip", "address", "del", f"{SERVED['web']}/24", "dev", "eth0")
    # Some of the workers may have ended by themselves, with the first.
    lab.a.run("kill", "-KILL", str(web.pid()), *map(str, web.workers().values()))
    lab.a.ip(f"address del {SERVED['web']}/24 dev eth0", force=True)  # it may have come back
    lab.wait_until(lambda: pairs.serve(web="b", db="b"), "b takes web over", LONG)
    assert pairs.member("a", "db").role() == "standby"
    assert stays(lambda: pairs.member("a", "db").role() == "standby", 1.0)


def test_the_example_says_of_each_pair_what_only_it_may_have() -> None:
    texts = {pair: (EXAMPLES / pair / "failoverd.conf").read_text() for pair in PREFERRED}
    web, db = (conf.parse(text, f"{pair}/failoverd.conf") for pair, text in texts.items())
    own = {"failover_root", "tcp_port", "log", "pidfile", "state", "addresses", "failover_prog"}
    assert set(conf.changed(web, db)) == own | {"host_type", "secret", "switch_dir"}
    assert web.control_socket != db.control_socket
