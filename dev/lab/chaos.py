"""What dev/chaos runs: a real pair in the lab, faults by a seed, and a judge who watches.

Each run is a lab of its own: a pair is started, a plan of faults (`faults.plan`, by the run's seed
alone) is carried out, what is left broken lasts for a while, then all is mended. Meanwhile `eyes`
sees what both kernels and the client see, and `judge` holds it against the five statements of
section 5. A violation is told with its seed and with the story of both nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from dev.lab import faults, logs
from dev.lab.ending import guarded
from dev.lab.eyes import Eyes
from dev.lab.faults import NAMES, Fault, Step, Truth
from dev.lab.filters import CLOSED, drop, pass_all, why_no_filters
from dev.lab.judge import SLOW_SCRIPT, Complaint, Judge, Sight, limits, needless
from dev.lab.network import ROUTER, SERVICE, WATCHFUL, Lab
from dev.lab.node import PLIP, SWITCH, Node, Value, perl
from dev.lab.spaces import LabError, Process
from dev.lab.stage import parse_log
from dev.lab.story import Line
from failoverd import conf, pair

FAULTS = 9  # in one run
CALM = 2.5  # seconds without any change, after which a pair counts as settled
BLINK = 6  # windows for which the heartbeat link is cut for a while
START_LIMIT = 30.0
STOP_LIMIT = 30.0  # a daemon that is told to stop first ends its switch
CHILD_SECONDS = 4.0  # after which a child that was killed or stopped has been replaced

_FAST: Mapping[str, Value] = {**WATCHFUL, "switch_timeout": 2.0}
_SECOND_INTERFACE: Mapping[str, Value] = {
    "addresses": [f"eth0 {SERVICE}/24", "eth1 198.51.100.10/24"],
    "witness": [f"eth0 {ROUTER}", "eth1 198.51.100.254"],
}
SETTINGS: Mapping[str, Mapping[str, Value]] = {
    "fast": _FAST,
    "two": {**_FAST, **_SECOND_INTERFACE},
    "shared": {**_FAST, "ethernet_addresses": ["eth0 02:00:00:00:00:10"]},
    "lazy": _FAST,  # with switch scripts that take their time, so that much can happen meanwhile
    "quiet": {**_FAST, "low_water": 0},  # the original's default: no interface ever fails
    "quick": {**_FAST, "timer_seconds": 0.2, "plip_timer": 0.15, "plip_hbeat": 0.03},
    "slow": {**_FAST, "timer_seconds": 1.5, "plip_timer": 1.0, "plip_hbeat": 0.5},
    "none": {**_FAST, "confirm": "none", "second_path": False},  # to see that the judge sees
}

# Does what the file `mode` beside it says, then runs the shipped script.
_SCRIPT = f"""#!/bin/sh
here=${{0%/*}}
read -r how which <"$here/mode"
case $which in
"$1" | both)
    echo "$how $1" >>"$here/mutilated"
    case $how in
    fail) echo "fails by order"; exit 1 ;;
    hang) echo "hangs by order"; sleep 1000 ;;
    late) "$here/ha-switch.shipped" "$1"; echo "fails in the end, by order"; exit 1 ;;
    slow) sleep {SLOW_SCRIPT} ;;
    esac ;;
esac
exec "$here/ha-switch.shipped" "$1"
"""


class Pair:
    """Two real nodes, what is true of them, and what has happened to them."""

    def __init__(self, lab: Lab, variables: Mapping[str, Value], truth: Truth) -> None:
        self.lab = lab
        self.nodes = {node.name: node for node in lab.nodes}
        self.history: list[tuple[float, Truth]] = []
        self.happened: list[tuple[float, Fault]] = []
        self.window = float(str(variables["plip_timer"]))
        self._disturbed = dict.fromkeys(NAMES, 0.0)
        self._daemons: dict[str, Process] = {}
        self._started: dict[str, float] = {}  # when each was, at last
        self._others: list[Process] = []
        self._believe(truth)
        for node in lab.nodes:
            sick = f"/usr/bin/test ! -e {node.folder}/sick"
            node.write_conf(**variables, checks=[f"app 0.2 {sick}"])
            node.write("ha-switch.shipped", SWITCH.read_text(), 0o755)
            node.write("ha-switch", _SCRIPT, 0o755)
            self.write_mode(node.name, truth.of(node.name).script)
            self.start(node.name)

    def close(self) -> None:
        for process in self._others:
            process.close()

    def well(self, now: float) -> frozenset[str]:
        """The nodes whose failoverd is not disturbed."""
        return frozenset(n for n in NAMES if self.truth.of(n).alive and now >= self._disturbed[n])

    def dead_by_itself(self) -> str:
        """Which failoverd has ended although no fault ended it, "" if none has.

        One whose interface vanished while it started is started again, as an init system would.
        """
        for name, process in self._daemons.items():
            if process.poll() is None:
                continue
            if not self._was_refused(name):
                return f"failoverd on {name} has ended with {process.poll()}"
            self._disturbed[name] = time.monotonic() + CHILD_SECONDS
            process.close()
            self.start(name)
        return ""

    def _was_refused(self, name: str) -> bool:
        """Whether the last start came to nothing because an interface was missing."""
        began = self._started[name]
        lines = parse_log(self.nodes[name])
        begun = any(line.at >= began and line.event == "STARTED" for line in lines)
        truths = [self.truth_at(began), *(truth for at, truth in self.history if at >= began)]
        return not begun and not all(faults.startable(truth, name) for truth in truths)

    # ------------------------------------------------------------------ what happens

    def suffer(self, fault: Fault) -> None:
        """Let it happen. What gets worse is believed before, what gets better afterwards."""
        after = faults.after(self.truth, fault)
        self.happened.append((time.monotonic(), fault))
        if not faults.BY_NAME[fault.kind].repair:
            self._believe(after)
        WAYS[fault.kind](self, fault.name, fault.word)
        if fault.kind in LAYS_LINK:
            self._lay_link(after)
        self._believe(after)

    def _believe(self, truth: Truth) -> None:
        self.truth = truth
        self.history.append((time.monotonic(), truth))

    def truth_at(self, at: float) -> Truth:
        """What was true then."""
        return [truth for since, truth in self.history if since <= at][-1]

    def start(self, name: str, _: str = "") -> None:
        self._started[name] = time.monotonic()
        self._daemons[name] = self.nodes[name].start_failoverd()

    def kill(self, name: str, _: str = "") -> None:
        self._daemons.pop(name).close()

    def kill_and_start(self, name: str, _: str) -> None:
        self.kill(name)
        self.start(name)

    def restart(self, name: str, _: str) -> None:
        process = self._daemons.pop(name)
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            raise LabError(f"failoverd on {name} did not stop within {STOP_LIMIT:g} s") from None
        finally:
            process.close()
        self.start(name)

    def send(self, name: str, number: signal.Signals) -> None:
        self._daemons[name].send_signal(number)

    def signal_child(self, name: str, title: str, number: signal.Signals) -> None:
        self._disturbed[name] = time.monotonic() + CHILD_SECONDS
        listing = self.nodes[name].check("ps", "ax", "-o", "pid=,args=")
        for line in listing.splitlines():
            pid, args = line.split(None, 1)
            if args.startswith(f"failoverd: {title} "):
                self.nodes[name].run("kill", f"-{number.value}", pid)

    def power_fails(self, name: str, _: str) -> None:
        process = self._daemons.pop(name, None)
        self.nodes[name].power_cut()
        if process is not None:
            process.close()

    def power_is_back(self, name: str, _: str) -> None:
        node = self.nodes[name]
        for interface in node.interfaces:
            if not node.has(interface):
                node.make_interface(interface)
        node.power_on()
        self.start(name)

    def remake(self, name: str, interface: str) -> None:
        self.nodes[name].delete_interface(interface)
        self.nodes[name].make_interface(interface)

    def blink(self, _name: str, _word: str) -> None:
        """Long enough for a takeover, if it were not for the second path."""
        self.lab.cut_link()
        time.sleep(BLINK * self.window)
        self.lab.mend_link()

    def kill_switch(self, _name: str, _word: str) -> None:
        for node in self.lab.nodes:
            node.kill_port("eth0")

    def write_mode(self, name: str, word: str) -> None:
        self.nodes[name].write("mode", f"{word or faults.WORKS}\n")

    def sicken(self, name: str, _: str) -> None:
        self.nodes[name].write("sick", "")

    def heal(self, name: str, _: str) -> None:
        (self.nodes[name].outside / "sick").unlink(missing_ok=True)

    def hold(self, name: str, _: str) -> None:
        self.nodes[name].command("ha-fail", "--hold")

    def release(self, _name: str, _: str) -> None:
        """On both: one may not reach the other. Before that is known, it is still on hold there."""
        for node in self.lab.nodes:
            node.command("ha-fail", "--release")

    def ha_fail(self, name: str, _: str) -> None:
        command = self.nodes[name].popen_command("ha-fail")
        self._others.append(command)

    def ha_status(self, name: str, _: str) -> None:
        self._others.append(self.nodes[name].popen_command("ha-status"))

    def ping(self, name: str, _: str) -> None:
        """For as long as a takeover takes: it is no heartbeat."""
        node = self.nodes[name]
        link = self.nodes[faults.NAMES[name == "a"]].interfaces[PLIP]
        peer = link.addresses[0].partition("/")[0]
        self._others.append(node.popen("ping", "-q", "-i", "0.2", "-c", "50", peer))

    def type(self, name: str, word: str) -> None:
        """As a person with nc, who may be refused, or never answered."""

        def say() -> None:
            with contextlib.suppress(OSError, LabError):
                self.nodes[name].say(word, timeout=10.0)

        threading.Thread(target=say, daemon=True).start()

    def _lay_link(self, truth: Truth) -> None:
        """Have the heartbeat link as it should be, whatever was cut, made again or switched on."""
        for name in NAMES:
            body, node = truth.of(name), self.nodes[name]
            if body.end != faults.WORKS:
                continue
            cut = truth.link in ("cut", f"cut toward {name}")
            (self.lab.cut_link if cut else self.lab.mend_link)(toward=node)
            pulled = truth.link == "unplugged" or not (truth.a.powered and truth.b.powered)
            word = "down" if pulled else "up"
            self.lab.switch.ip(f"link set dev {node.port(PLIP)} {word}")


def on_interface(way: Callable[[Node, str], object]) -> Callable[[Pair, str, str], object]:
    return lambda pair, name, word: way(pair.nodes[name], word)


def on_node(way: Callable[[Node], object]) -> Callable[[Pair, str, str], object]:
    return lambda pair, name, _: way(pair.nodes[name])


def on_main(number: signal.Signals) -> Callable[[Pair, str, str], object]:
    return lambda pair, name, _: pair.send(name, number)


def on_child(number: signal.Signals) -> Callable[[Pair, str, str], object]:
    return lambda pair, name, word: pair.signal_child(name, word, number)


def nothing(_pair: Pair, _name: str, _word: str) -> None:
    """The link is laid again afterwards."""


# After these the heartbeat link's ports may not be as they should.
LAYS_LINK = (
    "the power fails",
    "the power is back",
    "the link's end is made again",
    "the link is",
    "the link works again",
)


WAYS: Mapping[str, Callable[[Pair, str, str], object]] = {
    "the power fails": Pair.power_fails,
    "the power is back": Pair.power_is_back,
    "kill -9 failoverd": Pair.kill,
    "failoverd is started": Pair.start,
    "failoverd is restarted": Pair.restart,
    "kill -9 failoverd and start it": Pair.kill_and_start,
    "kill -9 child": on_child(signal.SIGKILL),
    "SIGSTOP child": on_child(signal.SIGSTOP),
    "SIGSTOP failoverd": on_main(signal.SIGSTOP),
    "SIGCONT failoverd": on_main(signal.SIGCONT),
    "SIGSTOP every process": on_node(Node.freeze),
    "SIGCONT every process": on_node(Node.thaw),
    "dead port of": on_interface(Node.kill_port),
    "good port of": on_interface(Node.revive_port),
    "unplugged": on_interface(Node.unplug),
    "plugged in": on_interface(Node.plug),
    "switched off": on_interface(lambda node, name: node.ip(f"link set dev {name} down")),
    "switched on": on_interface(lambda node, name: node.ip(f"link set dev {name} up")),
    "deleted": on_interface(Node.delete_interface),
    "made again": on_interface(Node.make_interface),
    "deleted and made again": Pair.remake,
    "the link's end is deleted": on_node(lambda node: node.delete_interface(PLIP)),
    "the link's end is made again": on_node(lambda node: node.make_interface(PLIP)),
    "the switch is dead": Pair.kill_switch,
    "the link is": nothing,
    "the link works again": nothing,
    faults.BLINKS: Pair.blink,
    "the switch script will": Pair.write_mode,
    "the switch script works": Pair.write_mode,
    faults.CLOSES: on_node(lambda node: drop(node, CLOSED)),
    faults.OPENS: on_node(pass_all),
    "the check is bad on": Pair.sicken,
    "the check is good on": Pair.heal,
    faults.HOLD: Pair.hold,
    faults.RELEASE: Pair.release,
    "ha-status": Pair.ha_status,
    "a monitor's pings of the peer": Pair.ping,
    "ha-fail": Pair.ha_fail,
    "nc": Pair.type,
}


@dataclass
class Told:
    """What came of one run. longest: seconds that each of the judge's clocks ran."""

    seed: int
    settings: str
    faults: int
    complaints: list[Complaint] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    longest: Mapping[str, float] = field(default_factory=dict)
    changes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        unserved = max(self.longest.get(f"unserved {name}", 0.0) for name in NAMES)
        two = max(self.longest.get(name, 0.0) for name in ("linked", "wired"))
        return (
            f"seed {self.seed} ({self.settings}), {self.seconds:.0f} s: {self.faults} faults, "
            f"the address came {self.changes} times; at most {unserved:.1f} s unserved, "
            f"{two:.1f} s two holders: {'VIOLATION' if self.complaints else 'ok'}"
        )


class Run:
    """One pair, one plan."""

    def __init__(
        self, seed: int, settings: str, steps: Sequence[Step] | None = None, calm: float = CALM
    ) -> None:
        variables = SETTINGS[settings]
        text = "".join(perl(name, value) for name, value in variables.items())
        self.conf = conf.parse(text, "failoverd.conf")
        self.limits = limits(self.conf)
        self.variables, self.calm = variables, calm
        script = "slow both" if settings == "lazy" else faults.WORKS
        self.truth = faults.whole(2 if settings == "two" else 1, script)
        self.steps = steps
        if steps is None:
            windows = 3 * max(self.conf.timer_seconds, self.conf.plip_timer) + 1.0
            self.steps = faults.plan(seed, FAULTS, windows, self.truth)
        self.told = Told(seed, settings, len(self.steps or ()))
        self.judge = Judge(self.limits, by_interface=self.conf.low_water > 0)

    def go(self) -> Told:
        """Carry out the plan. Raises NoNamespaces, and LabError if the pair cannot be started."""
        with Lab(interfaces=len(self.truth.a.interfaces)) as lab, contextlib.ExitStack() as stack:
            self.lab = lab
            if why_no_filters(lab.a):
                without = (faults.CLOSES, faults.OPENS)
                self.steps = [step for step in self.steps or () if step.fault.kind not in without]
            pass_all(lab.a)
            self.pair = Pair(lab, self.variables, self.truth)
            stack.callback(self.pair.close)
            self.began = time.monotonic()
            self.eyes = stack.enter_context(Eyes(lab, self._look))
            try:
                self._tell()
            except Violated:
                self._let_switches_end()
            except LabError as error:
                self.told.complaints.append(Complaint(time.monotonic(), 0, str(error)))
            if not self.told.complaints:
                self.told.complaints += self._afterwards()
            self.told.complaints += self.judge.complaints[:3]
            self.told.changes = sum(change.holds for change in self.eyes.changes)
            self.told.longest = self.judge.longest
            self.told.seconds = time.monotonic() - self.began
            if self.told.complaints:
                self.told.story = self._story()
        return self.told

    def _look(self, at: float, holders: frozenset[str], served: bool) -> None:
        truth, well = self.pair.truth, self.pair.well(at)
        self.judge.look(Sight(at, holders, served, truth, well))

    def _tell(self) -> None:
        self._settle("both nodes have started", self._is_whole, START_LIMIT, 0.5)
        for step in self.steps or ():
            self._pause(step.pause)
            self.pair.suffer(step.fault)
        self._settle(
            "what is broken stays so", self._is_as_good_as_can_be, self.limits.unserved, self.calm
        )
        for fault in faults.mending(self.pair.truth):
            self.pair.suffer(fault)
            self._pause(0.1)
        self._settle("all is mended", self._is_whole, self.limits.unserved, self.calm)
        self._settle("the client asks by ARP", self._is_told_by_arp, self.limits.linked, 0.2)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(0.05, seconds))
            self._check()

    def _check(self) -> None:
        """Raises Violated as soon as there is something to complain of."""
        self.eyes.check()
        dead = self.pair.dead_by_itself()
        if dead:
            self._complain(2, dead)
        if self.judge.complaints:
            raise Violated

    def _let_switches_end(self) -> None:
        """The story tells how, if they do."""
        nodes, limit = self.lab.nodes, 2 * self.conf.switch_timeout + START_LIMIT
        with contextlib.suppress(TimeoutError):
            self.lab.wait_until(
                lambda: "switching" not in [node.role() for node in nodes], "no switch", limit
            )

    def _complain(self, statement: int, text: str) -> None:
        self.told.complaints.append(Complaint(time.monotonic(), statement, text))
        raise Violated

    def _settle(self, since: str, condition: Callable[[], str], limit: float, calm: float) -> None:
        """Wait until nothing is wrong for `calm` seconds. condition: what is wrong, or ""."""
        began = right_since = time.monotonic()
        moves = self._moves()
        wrong = "nothing"
        while time.monotonic() < right_since + calm:
            self._pause(0.1)
            found = condition()
            if not found and self._moves() != moves:
                found = "the address still moves"
            moves = self._moves()
            if found:
                wrong, right_since = found, time.monotonic()
                if right_since > began + limit:
                    self._complain(3, f"{limit:.1f} s after {since}: {wrong}")

    def _moves(self) -> int:
        """How often a node got the address. One whose script cannot succeed may go on trying."""
        return sum(
            change.holds and self.pair.truth_at(change.at).of(change.name).switches
            for change in list(self.eyes.changes)
        )

    def _is_whole(self) -> str:
        """What is wrong with a pair in which everything works, "" if nothing is."""
        holders = self.eyes.holders
        if len(holders) != 1 or not self.eyes.served:
            return f"{' and '.join(sorted(holders)) or 'neither'} has the address" + (
                "" if self.eyes.served else ", and the client is not served"
            )
        for name in NAMES:
            role = self.pair.nodes[name].role()
            allowed = {"active"} if name in holders else {"standby", self._failed(name)}
            if role not in allowed:
                return f"{name}'s role is {role or 'not to be had'}"
        return ""

    def _failed(self, name: str) -> str:
        """`failed` is right for a node whose script could once not succeed, or was frozen."""
        history = [truth.of(name) for _, truth in self.pair.history]
        ever = any(body.frozen or not body.switches for body in history)
        return "failed" if ever else "standby"

    def _is_as_good_as_can_be(self) -> str:
        """The same while something is broken: whoever can serve does, and one alone."""
        now = time.monotonic()
        sight = Sight(
            now, self.eyes.holders, self.eyes.served, self.pair.truth, self.pair.well(now)
        )
        return self.judge.wrong(sight)

    def _is_told_by_arp(self) -> str:
        (name,) = self.eyes.holders or ("",)
        told = self.lab.client.arp_holders()
        right = {self.pair.nodes[name].hwaddr("eth0")} if name else set()
        return (
            "" if told == right else f"{sorted(told)} answer for the address, not {sorted(right)}"
        )

    # ------------------------------------------------------------------ afterwards

    def _afterwards(self) -> list[Complaint]:
        """What the logs and the count of changes say."""
        return [*self._flaps(), *self._needless(), *self._unreported(), *self._bugs()]

    def _flaps(self) -> list[Complaint]:
        """As many changes of role as causes: each may give the role, and give it back."""
        causes = sum(not faults.BY_NAME[f.kind].innocent for _, f in self.pair.happened)
        gains = self._moves()
        if gains > 1 + 2 * causes:
            return [self._note(4, f"{causes} causes, but the address came {gains} times")]
        return []

    def _needless(self) -> list[Complaint]:
        found = []
        for name, node in self.pair.nodes.items():
            for line in parse_log(node):
                if is_switchover(line):
                    why = needless(self.pair.history, line.at, name, self.limits.switchover)
                    if why:
                        found.append(self._note(4, f"{name} stood down, but {why}", line.at))
        return found

    def _unreported(self) -> list[Complaint]:
        """A script that failed is told of in the log, unless whoever ran it was ended meanwhile."""
        found = []
        for name, node in self.pair.nodes.items():
            runs = re.findall(r"^(?:fail|hang|late) .*$", node.read("mutilated"), re.M)
            ended = sum(ENDING.search(f.kind) is not None for _, f in self.pair.happened)
            if len(runs) > ended and not any(logs.lines(node.log(), "SWITCH-FAILED")):
                found.append(self._note(5, f"{name}'s script did {runs}, and nothing tells of it"))
        return found

    def _bugs(self) -> list[Complaint]:
        return [
            self._note(2, f"{name}: {line}")
            for name, node in self.pair.nodes.items()
            for line in (node.log() + node.read("terminal")).splitlines()
            if BUG.search(line)
        ][:3]

    def _note(self, statement: int, text: str, at: float | None = None) -> Complaint:
        return Complaint(time.monotonic() if at is None else at, statement, text)

    # ------------------------------------------------------------------ the story

    def _story(self) -> list[str]:
        """All that happened, was seen and was logged, in the order of time."""
        told: list[tuple[float, str]] = [(at, f"### {fault}") for at, fault in self.pair.happened]
        told += [
            (c.at, f"    {c.name} {'has got' if c.holds else 'has lost'} the address")
            for c in self.eyes.changes
        ]
        told += [(complaint.at, f"!!! {complaint}") for complaint in self.told.complaints]
        told += [
            (line.at, f"  {name} {line.text}")
            for name, node in self.pair.nodes.items()
            for line in parse_log(node)
        ]
        told.sort(key=lambda one: one[0])
        return [f"{at - self.began:+8.3f} s {text}" for at, text in told] + self._printed()

    def _printed(self) -> list[str]:
        """What else a failoverd printed, such as why it did not start."""
        return [
            f"{name} printed: {line}"
            for name, node in self.pair.nodes.items()
            for line in node.read("terminal").splitlines()
            if line not in set(node.log().splitlines())
        ]


class Violated(Exception):
    """There is something to complain of: the run ends."""


ENDING = re.compile("power|kill -9 failoverd|SIGSTOP")
BUG = re.compile(r" BUG | MESSAGE-REFUSED |Traceback|^\w*Error:", re.M)


def is_switchover(line: Line) -> bool:
    """Whether a node begins to stand down because of an interface."""
    cause = f"cause={pair.Purpose.INTERFACE.value.replace(' ', '-')}"
    return line.event == "SCRIPT-START" and " slave" in line.text and cause in line.text


# -------------------------------------------------------------------------------- the command


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: no violation, 1: one, told on standard output; 2: usage, no namespaces."""
    options = parse(argv)
    return guarded("chaos", lambda: campaign(options, sys.stdout))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="chaos",
        description="Faults at random on a real pair in namespaces, judged by what it promises.",
        epilog="Exit status: 0 no violation, 1 a violation, 2 usage or no namespaces.",
    )
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long (%(default)g); at least one run")
    add("--seed", type=int, help="of the first run, each next one has the next seed")
    add("--settings", choices=[*SETTINGS, "all"], default="all", help="default: %(default)s")
    add("--keep-going", action="store_true", help="go on after a violation")
    add("--plan", action="store_true", help="only show the first run's plan")
    return parser.parse_args(argv)


def campaign(options: argparse.Namespace, out: TextIO) -> int:
    """Run after run, until the time is over."""
    end = time.monotonic() + options.seconds
    seed = int(time.time()) % 1_000_000 if options.seed is None else options.seed
    runs = violations = 0
    while not runs or time.monotonic() < end:
        run = Run(seed, which(options.settings, seed))
        if options.plan:
            out.writelines(f"{step.pause:6.3f} s  {step.fault}\n" for step in run.steps or ())
            return 0
        told = run.go()
        out.write(f"{told}\n")
        out.writelines(f"{line}\n" for line in told.story)
        if told.complaints:
            out.writelines(f"{complaint}\n" for complaint in told.complaints)
            out.write(f"again: dev/chaos --seed {seed} --settings {told.settings} --seconds 1\n")
        out.flush()
        runs, violations, seed = runs + 1, violations + bool(told.complaints), seed + 1
        if violations and not options.keep_going:
            break
    out.write(f"{runs} runs, {violations or 'no'} violation{'s' * (violations != 1)}\n")
    return 1 if violations else 0


def which(settings: str, seed: int) -> str:
    """With "all" each seed has settings of its own."""
    if settings != "all":
        return settings
    return ("fast", "lazy", "two", "quick", "shared", "lazy", "slow", "quiet")[seed % 8]


if __name__ == "__main__":
    sys.exit(main())
