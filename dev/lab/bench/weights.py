"""What it costs: CPU for each packet, memory, wake-ups, starts, and the reading of captures."""

from __future__ import annotations

import compileall
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from dev.lab.bench import flood
from dev.lab.bench.report import Line, at_most, compared
from dev.lab.bench.systems import Keepalived, installed
from dev.lab.network import Lab
from dev.lab.node import Node
from dev.lab.spaces import ROOT, LabError, Process

if TYPE_CHECKING:
    from dev.lab.bench.plan import Bench

MANY = 64  # interfaces
SETTLE = 7.0  # seconds after which the last of the announcements after a switch is over
START_LIMIT = 60.0
WATCHD = (sys.executable, "-I", str(ROOT / "dev" / "launch.py"), "watchd")

# The original's way: a callback for each packet, which dumps its headers and counts it.
_PERL = r"""
use Net::Pcap;
my ($device, $packets, $all, $error) = ($ARGV[0], 0, 0, '');
$SIG{ALRM} = sub { $packets = 0; alarm 20 };
$SIG{TERM} = sub { exit };
my $pcap = Net::Pcap::open_live($device, 68, 0, 100, \$error) or die "$error\n";
my $dump = Net::Pcap::dump_open($pcap, '/dev/null') or die;
$| = 1; print "ready\n"; alarm 20;
Net::Pcap::loop($pcap, -1, sub {
    my ($user, $header, $packet) = @_;
    Net::Pcap::dump($dump, $header, $packet);
    $all++;
    if (++$packets >= 500) { $packets = 0; alarm 20 }
}, '');
"""


def has_net_pcap() -> bool:
    if not installed("perl"):
        return False
    tried = subprocess.run(["perl", "-MNet::Pcap", "-e", "1"], check=False, capture_output=True)
    return tried.returncode == 0


# ------------------------------------------------------------------ what a process used


def family(node: Node, pid: int) -> list[int]:
    """A process and all that it has forked, by their numbers in the lab."""
    rows = [line.split() for line in node.check("ps", "ax", "-o", "pid=,ppid=").splitlines()]
    found = [pid]
    for parent in found:
        found += [int(child) for child, its in rows if int(its) == parent]
    return found


def read_all(node: Node, pids: Sequence[int], name: str) -> str:
    """The text of one file below /proc of each process, one after the other."""
    return node.check("sh", "-c", "cat " + " ".join(f"/proc/{pid}/{name}" for pid in pids))


def cpu(node: Node, pids: Sequence[int]) -> float:
    """Seconds on a CPU so far, of all threads, to the nanosecond."""
    lines = read_all(node, pids, "task/*/schedstat").splitlines()
    return sum(int(line.split()[0]) for line in lines) / 1e9


def wakeups(node: Node, pids: Sequence[int]) -> int:
    """How often they have gone to sleep so far, which is how often they have been woken."""
    return summed(read_all(node, pids, "task/*/status"), "voluntary_ctxt_switches:")


def pss(node: Node, pids: Sequence[int]) -> float:
    """Proportional set size in megabytes: what is shared counts once in all."""
    return summed(read_all(node, pids, "smaps_rollup"), "Pss:") / 1024


def summed(text: str, key: str) -> int:
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(key))


# ------------------------------------------------------------------ a flood of packets


class Flood:
    """From the client to node a, whose socket on the port is full: an ordinary way to end."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._full = lab.a.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._full.bind((lab.a.interfaces["eth0"].addresses[0].split("/")[0], flood.PORT))

    def _received(self) -> int:
        return int(self._lab.a.check("cat", "/sys/class/net/eth0/statistics/rx_packets"))

    def run(self, seconds: float, rate: float = 0.0) -> tuple[int, float]:
        """How many packets a received, and how many that is in a second."""
        lab, interface = self._lab, self._lab.a.interfaces["eth0"]
        own, address = lab.client.interfaces["eth0"].hwaddr, interface.addresses[0].split("/")[0]
        program = str(Path(flood.__file__).resolve())
        words = ("eth0", own, interface.hwaddr, address, str(seconds), str(rate))
        before = self._received()
        result = lab.client.run(sys.executable, "-I", program, *words, timeout=seconds + 30)
        if result.returncode != 0:
            raise LabError(f"the flood: {result.stderr.strip()}")
        received = self._received() - before
        return received, received / seconds

    def close(self) -> None:
        self._full.close()


@contextmanager
def flooded() -> Iterator[tuple[Lab, Flood]]:
    with Lab(timers={}) as lab:
        lab.a.write_conf()
        source = Flood(lab)
        try:
            yield lab, source
        finally:
            source.close()


def watchd(node: Node) -> Process:
    """watchd --json, once it counts."""
    argv = (*WATCHD, "--json", "-c", node.conf, "eth0")
    process = node.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    node.lab.wait_until(lambda: counts(node), "watchd counts")
    time.sleep(0.3)
    return process


def counts(node: Node) -> bool:
    """Whether there is a packet socket."""
    return len(node.check("cat", "/proc/net/packet").splitlines()) > 1


def perl(node: Node) -> Process:
    process = node.popen("perl", "-e", _PERL, "eth0", stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def cpu_of(
    lab: Lab, source: Flood, start: Callable[[Node], Process], seconds: float
) -> tuple[float, float]:
    """Milliseconds of CPU for a million packets, and the packets in a second."""
    with start(lab.a) as process:
        before = cpu(lab.a, [process.pid])
        received, rate = source.run(seconds)
        time.sleep(3.0)  # the last look of a window's eighth is in it
        used = cpu(lab.a, [process.pid]) - before
        if start is watchd:
            check_count(process, received)
    return used * 1e3 / (received / 1e6), rate


def check_count(process: Process, received: int) -> None:
    """Raises LabError if watchd has not counted every packet: its summary tells."""
    process.send_signal(signal.SIGINT)
    process.wait()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    if f"packets: {received}, " not in said:
        raise LabError(f"watchd did not count {received} packets: {said.strip()}")


def cpu_row(bench: Bench) -> list[Line]:
    """CPU of watchd, and of the original's way, in the same flood."""
    ways: dict[str, Callable[[Node], Process]] = {"watchd": watchd}
    if not bench.alone and has_net_pcap():
        ways["Net::Pcap"] = perl
    costs: dict[str, list[float]] = {name: [] for name in ways}
    rates: list[float] = []
    with flooded() as (lab, source):
        for number in range(bench.heavy_runs):
            for name, start in ways.items():
                bench.progress(f"CPU: {name} {number + 1} of {bench.heavy_runs}")
                cost, rate = cpu_of(lab, source, start, bench.flood_seconds)
                costs[name].append(cost)
                bench.keep("CPU", name, cost)
                if name == "watchd":
                    rates.append(rate)
    for name, group in costs.items():
        bench.bar("cpu", name, [value / 1000 for value in group], name == "watchd")
    mine = median(costs["watchd"])
    what = "CPU per million packets"
    lines = [at_most(what, "ms", mine, 5.0)]
    if "Net::Pcap" in costs:
        lines.append(compared(what, "ms", mine, "Net::Pcap", median(costs["Net::Pcap"]), 1 / 200))
    rate = median(rates) / 1000
    return [*lines, Line("- in a flood of", "k/s", rate, target=">= 100", met=rate >= 100)]


def pace_row(bench: Bench) -> list[Line]:
    """Packets a second that the node receives, with watchd and without."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    with flooded() as (lab, source):
        source.run(0.5)
        for number in range(bench.pace_runs):
            bench.progress(f"packets/s: {number + 1} of {bench.pace_runs}")
            for watched in (True, False) if number % 2 else (False, True):
                process = watchd(lab.a) if watched else None
                rates[watched].append(source.run(bench.pace_seconds)[1])
                if process is not None:
                    process.close()
    for watched, name in ((True, "watched"), (False, "not watched")):
        for rate in rates[watched]:
            bench.keep("packets/s", name, rate)
    ratio = median(rates[True]) / median(rates[False])
    what, ours, theirs = "packets/s while watched", *(median(rates[w]) / 1e3 for w in (True, False))
    return [Line(what, "k/s", ours, "unwatched", theirs, ">= 0.95", ratio >= 0.95, ratio)]


# ------------------------------------------------------------------ idle


def more_interfaces(node: Node, number: int) -> list[str]:
    """The names of `number` interfaces, of which all but eth0 lead nowhere."""
    names = [f"e{index}" for index in range(1, number)]
    lines = [f"link add name {name} type veth peer name x{name}" for name in names]
    lines += [f"link set dev {prefix}{name} up" for name in names for prefix in ("", "x")]
    node.ip(*lines)
    return ["eth0", *names]


def start_daemon(node: Node) -> float:
    """Start failoverd as a daemon. Seconds from typing to the prompt, when it is ready."""
    began = time.monotonic()
    result = node.run(str(ROOT / "bin" / "failoverd"), "-c", node.conf, timeout=START_LIMIT)
    if result.returncode != 0:
        raise LabError(f"failoverd: {result.stderr.strip()}")
    return time.monotonic() - began


def stop_daemon(node: Node) -> None:
    node.check("kill", node.read("run/pid").strip())
    gone = node.outside / "run/pid"
    node.lab.wait_until(lambda: not gone.exists(), "failoverd has stopped", START_LIMIT)


class Idle:
    """Some processes that have nothing to do, looked at twice."""

    def __init__(self, node: Node, root: int) -> None:
        self._node, self._pids = node, family(node, root)
        self._at = time.monotonic()
        self._cpu, self._wakeups = cpu(node, self._pids), wakeups(node, self._pids)

    def look(self) -> None:
        passed = time.monotonic() - self._at
        self.cpu = (cpu(self._node, self._pids) - self._cpu) / passed
        self.wakeups = (wakeups(self._node, self._pids) - self._wakeups) / passed
        self.pss = pss(self._node, self._pids)


def idle_row(bench: Bench) -> list[Line]:
    """Memory, wake-ups and CPU at the original's default timers, with nothing going on."""
    compileall.compile_dir(ROOT / "failoverd", quiet=1)  # or the first start would, in its memory
    with Lab(timers={}, interfaces=2) as two, Lab(timers={}) as many, Lab() as other:
        bench.progress(f"idle: 2 and {MANY} interfaces start")
        for node in two.nodes:
            node.write_conf()
            start_daemon(node)
        many.a.write_conf(interfaces=more_interfaces(many.a, MANY))
        ready = start_daemon(many.a)
        groups = {"two": (two.a, int(two.a.read("run/pid")))}
        groups["many"] = (many.a, int(many.a.read("run/pid")))
        if bench.has("keepalived"):
            rival = Keepalived(advert=1.0)
            rival.start(other)
            groups["keepalived"] = (other.a, rival.processes["a"].pid)
        time.sleep(SETTLE)
        bench.progress(f"idle: for {bench.idle_seconds:g} s")
        seen = {name: Idle(*where) for name, where in groups.items()}
        time.sleep(bench.idle_seconds)
        for one in seen.values():
            one.look()
        stop_daemon(two.a)
        stop_daemon(many.a)
    return idle_lines(bench, seen, ready)


def idle_lines(bench: Bench, seen: dict[str, Idle], ready: float) -> list[Line]:
    ours, many, rival = seen["two"], seen["many"], seen.get("keepalived")
    bench.keep("PSS", "failoverd", ours.pss)
    further = (many.pss - ours.pss) / (MANY - 2)
    memory, woken = "memory (PSS), 2 interfaces", "wake-ups a second"
    name = "keepalived"
    return [
        Line(memory, "MB", ours.pss, name, rival.pss if rival else None, "<= 40", ours.pss <= 40),
        at_most("- each further interface", "MB", further, 2.5),
        Line(
            woken,
            "",
            ours.wakeups,
            name,
            rival.wakeups if rival else None,
            "<= 10",
            ours.wakeups <= 10,
        ),
        at_most(f"{MANY} interfaces: ready", "s", ready, 2.0),
        at_most(f"{MANY} interfaces: CPU, idle", "%", many.cpu * 100, 1.0),
    ]


# ------------------------------------------------------------------ starts


def first_line(node: Node, *argv: str) -> float:
    """Seconds from typing to the first line."""
    began = time.monotonic()
    with node.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.monotonic() - began
    if not line:
        raise LabError(f"{argv[0]}: it said nothing")
    return took


def start_row(bench: Bench) -> list[Line]:
    watch: list[float] = []
    ready: list[float] = []
    dump: list[float] = []
    with Lab(interfaces=2) as lab:
        lab.a.write_conf()
        for number in range(bench.start_runs):
            bench.progress(f"starts: {number + 1} of {bench.start_runs}")
            program = str(ROOT / "bin" / "watchd")
            watch.append(first_line(lab.a, program, "-c", lab.a.conf, "eth0"))
            ready.append(start_daemon(lab.a))
            stop_daemon(lab.a)
            if bench.has("tcpdump"):
                dump.append(first_line(lab.a, "tcpdump", "-i", "eth0"))
            bench.keep("start", "watchd", watch[-1])
            bench.keep("start", "failoverd", ready[-1])
    theirs = median(dump) if dump else None
    mine = median(watch)
    title = "watchd eth0: first line"
    return [
        Line(title, "s", mine, "tcpdump", theirs, "<= 0.25", mine <= 0.25),
        at_most("failoverd: ready", "s", median(ready), 0.6),
    ]


# ------------------------------------------------------------------ captures


def write_capture(path: Path, packets: int) -> None:
    """A classic pcap file of UDP packets, ten microseconds apart."""
    data = flood.packet("02:00:00:00:00:64", "02:00:00:00:00:01", "192.0.2.1")
    record = struct.Struct("<IIII")
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for begin in range(0, packets, 10_000):
            file.write(
                b"".join(
                    record.pack(
                        1_700_000_000 + n // 100_000, n % 100_000 * 10, len(data), len(data)
                    )
                    + data
                    for n in range(begin, min(begin + 10_000, packets))
                )
            )


def timed(*argv: str) -> tuple[float, float]:
    """Seconds, and megabytes at most, of a command that must succeed."""
    with tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            _pid, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        took = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise LabError(f"{argv[0]}: {errors.read().decode(errors='replace').strip()}")
    return took, usage.ru_maxrss / 1024


def replay_row(bench: Bench) -> list[Line]:
    """A capture of many packets, read by watchd -r and by tcpdump."""
    with tempfile.TemporaryDirectory() as folder:
        whole, tenth, conf = Path(folder, "whole"), Path(folder, "tenth"), Path(folder, "conf")
        bench.progress(f"replay: writes a capture of {bench.capture_packets} packets")
        conf.write_text("$packet_count = 500;\n")
        write_capture(whole, bench.capture_packets)
        write_capture(tenth, bench.capture_packets // 10)
        ours = (*WATCHD, "-c", str(conf), "eth0", "-r")
        theirs = ("tcpdump", "-Z", "root") if os.geteuid() == 0 else ("tcpdump",)
        little = timed(*ours, str(tenth))[1]
        mine, other, most = [], [], 0.0
        for number in range(bench.heavy_runs):
            bench.progress(f"replay: {number + 1} of {bench.heavy_runs}")
            took, memory = timed(*ours, str(whole))
            mine.append(took)
            bench.keep("replay", "watchd", took)
            most = max(most, memory)
            if bench.has("tcpdump"):
                other.append(timed(*theirs, "-r", str(whole), "-w", "/dev/null")[0])
                bench.keep("replay", "tcpdump", other[-1])
    title = f"watchd -r, {bench.capture_packets / 1e6:g} million packets"
    line = compared(title, "s", median(mine), "tcpdump", median(other) if other else None, 1.25)
    return [line, compared("- memory, 10 x the packets", "MB", most, "a tenth", little, 1.1)]
