"""What must hold on a real cluster: each story says what came out, or raises Broken."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable

from dev.lab.cluster.nodes import ATTRIBUTE, NODES, PACEMAKER, VIP, Cluster
from dev.lab.spaces import ROOT

WINDOW = 0.2  # seconds
FAST_WINDOW = 0.1
QUIET_WINDOWS = 10
ALL_GOOD = dict.fromkeys(NODES, "1")
GOAL = 0.2  # times what ethmonitor takes at its fastest
SENSOR = r"watchd -c .*/failoverd-traffic/"
EXAMPLE = ROOT / "examples/pacemaker/traffic.crm"
PCS_EXAMPLE = EXAMPLE.with_suffix(".pcs")

# Each of its settings at one second, the least that it takes.
_ETHMONITOR = f"""primitive vip ocf:heartbeat:IPaddr2 \\
    params ip={VIP} cidr_netmask=24 nic=eth0 op monitor interval=10s
primitive eth ocf:heartbeat:ethmonitor \\
    params interface=eth0 repeat_count=1 repeat_interval=1 pktcnt_timeout=1 arping_count=1 \\
    arping_timeout=1 op monitor interval=1s timeout=60s
clone eth-clone eth
location vip-where-eth vip rule 1000: ethmonitor-eth0 eq 1
rsc_defaults rsc-options: resource-stickiness=100
"""


class Broken(Exception):
    """Something that must not be."""


def insist(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


class Trial:
    """The cluster with the example's configuration, at short times."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.runs = 5
        self.load(self.example())
        self.settle()

    @staticmethod
    def example() -> str:
        text, count = re.subn(r"timer=\S+", f"timer={WINDOW}", EXAMPLE.read_text())
        text, more = re.subn(
            r"(primitive traffic(?:.*\\\n)*.*monitor interval=)10s", r"\g<1>1s", text
        )
        insist(count == more == 1, f"{EXAMPLE} has changed")
        return text

    def load(self, text: str) -> None:
        """Have this configuration of crm and no other."""
        self.clear()
        cluster, name = self.cluster, self.cluster.alive()
        lines = "".join(line for line in text.splitlines(True) if not line.startswith("#"))
        cluster.check(name, "sh", "-c", "cat >/tmp/crm && crm -F configure load update /tmp/crm",
                      text=lines)  # fmt: skip
        cluster.check(name, "crm_resource", "--wait", "-T", "60")

    def clear(self) -> None:
        """Have no resource, and nothing that is said of one."""
        cluster, name = self.cluster, self.cluster.alive()
        cluster.check(name, "crm_attribute", "-n", "stop-all-resources", "-v", "true")
        cluster.check(name, "crm_resource", "--wait", "-T", "60")
        for section in ("constraints", "resources"):
            cluster.check(name, "cibadmin", "--replace", "-o", section, "-X", f"<{section}/>")
        cluster.check(name, "crm_attribute", "-n", "stop-all-resources", "-D")

    def settle(self, attribute: str = ATTRIBUTE, good: str = "1") -> str:
        """Wait until all is well. The node that has the service."""
        want = dict.fromkeys(NODES, good)
        self.cluster.wait(lambda: self.cluster.values(attribute) == want, "all sensors are content")
        self.cluster.wait(lambda: len(self.cluster.holders()) == 1, "one node serves")
        return self.cluster.holders()[0]

    def heal(self) -> None:
        """After a story that broke: whatever is not as it was."""
        self.cluster.revive()
        self.load(self.example())
        self.settle()

    def set(self, **parameters: str) -> None:
        for name, value in parameters.items():
            argv = ("crm_resource", "-r", "traffic", "-p", name, "-v", value)
            self.cluster.check(self.cluster.alive(), *argv)
        self.cluster.check(self.cluster.alive(), "crm_resource", "--wait", "-T", "60")

    def moved_from(self, holder: str) -> str:
        """Wait until another node alone serves, and say which."""
        cluster = self.cluster
        cluster.wait(lambda: cluster.holders() not in ([], [holder]), f"it leaves {holder}")
        cluster.wait(lambda: len(cluster.holders()) == 1, "one node serves")
        return cluster.holders()[0]

    def outage(self) -> tuple[str, str, float]:
        """The serving node's port dies: from where to where, and the seconds until the client's
        first answer."""
        cluster, before = self.cluster, self.settle_any()
        cluster.probe()
        cluster.wait(lambda: len(cluster.record().replies) > 50, "the client is answered")
        since = time.monotonic()
        cluster.port(before, False)
        passed = time.monotonic() + 0.05  # what was on its way is no answer after the fault
        after = self.moved_from(before)

        def answers() -> list[float]:
            return [at for at in cluster.record().replies if at > passed]

        cluster.wait(answers, "the client is answered")
        return before, after, answers()[0] - since

    def settle_any(self) -> str:
        self.cluster.wait(lambda: len(self.cluster.holders()) == 1, "one node serves")
        return self.cluster.holders()[0]

    def stays(self, holder: str, seconds: float) -> None:
        """Insist that the service does not move for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = self.cluster.holders()
            insist(now == [holder], f"it left {holder}: {now}")
            time.sleep(0.02)


def dead_port(trial: Trial) -> str:
    """One dead port: the service moves, and does not come back when the port works again."""
    trial.settle()
    before, after, seconds = trial.outage()
    trial.cluster.port(before, True)
    trial.settle()
    trial.stays(after, QUIET_WINDOWS * WINDOW)
    return f"{before} -> {after} in {seconds:.2f} s, and stays there"


def silent(trial: Trial) -> str:
    """The network is dead for all: nothing moves, not even when it comes back."""
    cluster, holder = trial.cluster, trial.settle()
    for name in NODES:
        cluster.port(name, False)
    trial.stays(holder, QUIET_WINDOWS * WINDOW)
    bad = dict.fromkeys(NODES, "0")
    cluster.wait(lambda: cluster.values() == bad, "all sensors tell of it")
    trial.stays(holder, QUIET_WINDOWS * WINDOW)
    for name in NODES:
        cluster.port(name, True)
    trial.settle()
    trial.stays(holder, QUIET_WINDOWS * WINDOW)
    return f"all at 0, {holder} serves through {QUIET_WINDOWS} windows and after them"


def killed(trial: Trial) -> str:
    """A sensor dies: monitor finds it, it is started again, and the service does not move."""
    cluster, holder = trial.cluster, trial.settle()
    pids = cluster.pids(holder, SENSOR)
    insist(pids, "no sensor")
    cluster.check(holder, "kill", "-9", *pids)
    began = time.monotonic()

    def again() -> bool:
        now = cluster.pids(holder, SENSOR)
        insist(cluster.holders() == [holder], "it moved")
        return bool(now) and not set(now) & set(pids)

    cluster.wait(again, "it runs again")
    seconds = time.monotonic() - began
    trial.settle()
    trial.stays(holder, 15.0)  # longer than an attribute outlives its sensor
    trial.settle()
    insist("traffic" in cluster.run(holder, "crm_mon", "-1", "-f").stdout, "no failure is counted")
    cluster.check(holder, "crm_resource", "--cleanup", "-r", "traffic")
    return f"started again after {seconds:.1f} s, {holder} serves all the time"


def killed_in_silence(trial: Trial) -> str:
    """A sensor that starts in a dead network says nothing good, so nothing moves."""
    cluster, holder = trial.cluster, trial.settle()
    for name in NODES:
        cluster.port(name, False)
    cluster.wait(lambda: set(cluster.values().values()) == {"0"}, "all sensors tell of it")
    other = next(name for name in NODES if name != holder)
    cluster.check(other, "kill", "-9", *cluster.pids(other, SENSOR))
    trial.stays(holder, 5.0)
    for name in NODES:
        cluster.port(name, True)
    trial.settle()
    cluster.check(other, "crm_resource", "--cleanup", "-r", "traffic")
    return f"{other}'s starts again in a dead network, {holder} serves"


def standby(trial: Trial) -> str:
    """A node in standby gives all away, its sensor ends, and its attribute goes."""
    cluster, holder = trial.cluster, trial.settle()
    cluster.check(holder, "crm_standby", "-N", holder, "-v", "on")
    after = trial.moved_from(holder)
    others = {name: "1" for name in NODES if name != holder}
    cluster.wait(lambda: cluster.values() == others, "its attribute is gone")
    insist(not cluster.pids(holder, SENSOR), "its sensor runs")
    cluster.check(holder, "crm_standby", "-N", holder, "-D")
    trial.settle()
    trial.stays(after, QUIET_WINDOWS * WINDOW)
    return f"{holder} -> {after}, attribute gone; online again, {after} serves"


def power(trial: Trial) -> str:
    """A node without power: the cluster moves the service as ever."""
    cluster, holder = trial.cluster, trial.settle()
    cluster.probe()
    since = time.monotonic()
    cluster.cut(holder)
    after = trial.moved_from(holder)
    seconds = time.monotonic() - since
    cluster.revive()
    trial.settle()
    trial.stays(after, QUIET_WINDOWS * WINDOW)
    return f"{holder} -> {after} in {seconds:.1f} s; back, {after} serves"


def stopped(trial: Trial) -> str:
    """Pacemaker ends in order while the sensor runs: nothing of it is left."""
    cluster, holder = trial.cluster, trial.settle()
    cluster.check(holder, "kill", *cluster.pids(holder, "^pacemakerd"))
    after = trial.moved_from(holder)
    cluster.wait(lambda: not cluster.pids(holder, PACEMAKER), "it has ended")
    insist(not cluster.pids(holder, SENSOR), "its sensor runs")
    insist(cluster.run(holder, "ls", "/run/failoverd-traffic").returncode != 0, "files are left")
    cluster.revive()
    trial.settle()
    trial.stays(after, QUIET_WINDOWS * WINDOW)
    return f"{holder} -> {after}, no sensor and no file left; started again, {after} serves"


def crashed(trial: Trial) -> str:
    """Pacemaker dies while the sensor runs: it goes on with that one, and the attribute is back."""
    cluster, holder = trial.cluster, trial.settle()
    other = next(name for name in NODES if name != holder)
    pids = cluster.pids(other, SENSOR)
    cluster.check(other, "kill", "-9", *cluster.pids(other, PACEMAKER))
    time.sleep(3.0)
    insist(cluster.pids(other, SENSOR) == pids, "the sensor has ended with it")
    cluster.revive()
    trial.settle()
    insist(cluster.pids(other, SENSOR) == pids, "there is another sensor")
    trial.stays(holder, QUIET_WINDOWS * WINDOW)
    return f"{other}'s sensor outlives it and is found again, {holder} serves"


def dampening(trial: Trial) -> str:
    """With dampen=3s a short silence is nothing, and a long one moves the service after 3 s."""
    cluster = trial.cluster
    trial.set(dampen="3s")
    holder = trial.settle()
    cluster.port(holder, False)
    trial.stays(holder, 1.5)
    cluster.port(holder, True)
    trial.stays(holder, 5.0)
    before, _after, seconds = trial.outage()
    insist(3.0 < seconds < 6.0, f"{seconds:.1f} s")
    cluster.port(before, True)
    trial.set(dampen="0")
    trial.settle()
    return f"1.5 s of silence move nothing, lasting silence does after {seconds:.1f} s"


def health(trial: Trial) -> str:
    """A node health attribute does it without a rule."""
    cluster, attribute = trial.cluster, "#health-traffic-eth0"
    text = trial.example().replace(" timer=", " health=yes timer=")
    text = text.replace("interleave=true", "interleave=true allow-unhealthy-nodes=true")
    text = re.sub(r"(?m)^location.*\\\n.*\n", "", text)
    trial.load(text)
    try:
        cluster.check("n1", "crm_attribute", "-n", "node-health-strategy", "-v", "migrate-on-red")
        trial.settle(attribute, "green")
        before, after, seconds = trial.outage()
        cluster.wait(lambda: cluster.values(attribute)[before] == "red", "it is red")
        insist(cluster.pids(before, SENSOR), "the sensor was stopped")
        cluster.port(before, True)
        trial.settle(attribute, "green")
    finally:
        cluster.check("n1", "crm_attribute", "-n", "node-health-strategy", "-D")
        trial.heal()
    return f"{before} -> {after} in {seconds:.2f} s without a rule; green again"


def pcs(trial: Trial) -> str:
    """What pcs makes of the example does the same."""
    cluster = trial.cluster
    trial.clear()
    text, count = re.subn(r"timer=\S+", f"timer={WINDOW}", PCS_EXAMPLE.read_text())
    insist(count == 1, f"{PCS_EXAMPLE} has changed")
    cluster.check("n1", "sh", "-s", text=text)
    try:
        trial.settle()
        before, after, seconds = trial.outage()
        cluster.port(before, True)
        trial.settle()
        trial.stays(after, QUIET_WINDOWS * WINDOW)
    finally:
        trial.heal()
    return f"{before} -> {after} in {seconds:.2f} s, and stays there"


def tester(trial: Trial) -> str:
    """Debian's ocf-tester finds nothing, on a node of the living cluster."""
    parameters = ("interface=eth0", f"addresses={VIP}", f"timer={WINDOW}", "name=traffic-tester")
    argv = [word for parameter in parameters for word in ("-o", parameter)]
    agent = "/usr/lib/ocf/resource.d/failoverd/traffic"
    done = trial.cluster.run("n1", "ocf-tester", "-n", "tester", *argv, agent, timeout=300.0)
    insist(done.returncode == 0 and "passed all tests" in done.stdout, done.stdout + done.stderr)
    complaints = [line for line in done.stdout.splitlines() if line.startswith(("* rc", "Warning"))]
    insist(not complaints, "; ".join(complaints))
    return "passed all tests"


def measured(trial: Trial) -> str:
    """A dead port, from the fault to the client's first answer: the agent beside ethmonitor."""
    trial.set(timer=f"{FAST_WINDOW}")
    ours = [_outage(trial, ATTRIBUTE) for _ in range(trial.runs)]
    trial.load(_ETHMONITOR)
    try:
        theirs = [_outage(trial, "ethmonitor-eth0") for _ in range(trial.runs)]
    finally:
        trial.heal()
    ratio = statistics.median(ours) / statistics.median(theirs)
    said = f"traffic {spread(ours)}, ethmonitor {spread(theirs)}; ratio {ratio:.3f} <= {GOAL}"
    insist(ratio <= GOAL, said)
    return said


def _outage(trial: Trial, attribute: str) -> float:
    trial.settle(attribute)
    trial.cluster.hurry()
    before, _after, seconds = trial.outage()
    trial.cluster.port(before, True)
    return seconds


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


STORIES: dict[str, Callable[[Trial], str]] = {
    story.__name__.replace("_", "-"): story
    for story in (
        *(dead_port, silent, killed, killed_in_silence, standby, power, stopped, crashed),
        *(dampening, health, pcs, tester, measured),
    )
}
