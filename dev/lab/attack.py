"""The command dev/attack: the port is attacked in the lab, and true requests are made meanwhile.

Every attack comes from one address: the peer's own, that of the node itself, or a stranger's on
the heartbeat link; or the peer's or a stranger's on the second path. A true `fail` is one that is
signed, made by the peer's address, to a node that is active, so that it changes nothing. The
attackers run at a low priority: an enemy brings his own
processors.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from dev.lab.attacker import RECORDED
from dev.lab.ending import guarded
from dev.lab.network import Lab
from dev.lab.node import SECRET, Node
from dev.lab.spaces import LabError

ATTACKS = ("silent", "slow", "halves", "garbage", "long", "reset", "guess", "replay")
PEER, OWN, STRANGER = "1.0.0.2", "1.0.0.1", "1.0.0.9"
PORT = 2000
CONNECTIONS = 1000
MOST_EXTRA = 0.1  # seconds that a true `fail` may take longer than on an idle port
PROBE_EVERY = 0.1
PROBE_LIMIT = 60.0
MISSED = 1
SECOND, SECOND_PEER, SECOND_STRANGER = "192.0.2.1", "192.0.2.2", "192.0.2.9"
TOLD = {PEER: "the peer", OWN: "here", STRANGER: "a stranger",
        SECOND_PEER: "peer, 2nd", SECOND_STRANGER: "any, 2nd"}  # fmt: skip


@dataclass
class Result:
    """One attack: how long each true request took, inf if it failed, and what the listener used."""

    how: str
    source: str
    seconds: list[float] = field(default_factory=list)
    connections: int = 0
    lasted: float = 0.0
    descriptors: int = 0
    kilobytes: int = 0
    lines: int = 0
    processor: float = 0.0

    def met(self, idle: float) -> bool:
        return max(self.seconds, default=math.inf) <= idle + MOST_EXTRA


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: every true request was answered in time, 1: not, 2: usage, no namespaces."""
    parser = argparse.ArgumentParser(prog="attack", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--attacks", type=lambda text: text.split(","), default=list(ATTACKS), metavar="A,B",
        help=f"of {', '.join(ATTACKS)}")  # fmt: skip
    add("--from", dest="sources", type=lambda text: text.split(","), metavar="ADDRESS,...",
        default=[*TOLD], help=f"of {', '.join(TOLD)}")  # fmt: skip
    add("--seconds", type=float, default=10.0, help="how long each lasts (%(default)s)")
    add("--connections", type=int, default=CONNECTIONS, help="at a time (%(default)s)")
    options = parser.parse_args(argv)
    unknown = set(options.attacks) - set(ATTACKS) or set(options.sources) - set(TOLD)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return guarded("attack", lambda: one(options))


def one(options: argparse.Namespace) -> int:
    with Lab() as lab:
        return campaign(lab, options)


def campaign(lab: Lab, options: argparse.Namespace) -> int:
    begin(lab)
    idle = Result("nothing", PEER)
    observe(lab, idle, options.seconds)
    print(f"{'attack':9}{'from':12}{'conn/s':>8}{'true':>6}{'median ms':>11}{'p99':>9}{'worst':>9}"
          f"{'fds':>6}{'MiB':>7}{'cpu %':>7}{'log':>6}")  # fmt: skip
    tell(idle)
    usual = median(idle.seconds)
    missed = 0
    for source in options.sources:
        for how in options.attacks:
            result = attack(lab, how, source, options.seconds, options.connections)
            tell(result)
            missed += not result.met(usual)
    print(f"{missed} attacks in which a true fail took over {MOST_EXTRA * 1000:.0f} ms longer than"
          " on an idle port")  # fmt: skip
    return MISSED if missed else 0


def begin(lab: Lab) -> None:
    """Start the pair, and wait until a is active."""
    for node in lab.nodes:
        node.write_conf(verbose=False)
        node.start_failoverd()
    lab.b.ip(f"address add {STRANGER}/24 dev plip0", f"address add {SECOND_STRANGER}/24 dev eth0")
    lab.wait_until(lambda: lab.a.role() == "active", "a is active")
    lab.wait_until(lambda: lab.b.role() == "standby", "b stands by")


def attack(lab: Lab, how: str, source: str, seconds: float, connections: int) -> Result:
    result = Result(how, source)
    with attackers(lab, how, source, connections) as attacker:
        observe(lab, result, seconds)
    result.connections = attacker()
    if lab.a.role() != "active" or lab.b.role() != "standby":
        raise LabError(f"{how}: a role has changed")
    return result


@contextmanager
def attackers(lab: Lab, how: str, source: str, connections: int) -> Iterator[Callable[[], int]]:
    """An attacker at work; yields what tells how many connections it has made."""
    node = lab.a if source == OWN else lab.b
    program = str(Path(__file__).with_name("attacker.py"))
    target = SECOND if source in (SECOND_PEER, SECOND_STRANGER) else OWN
    argv = [sys.executable, "-I", program, how, target, str(PORT), source, str(connections)]
    said = node.outside / f"attacker-{how}-{source}"
    environment = {RECORDED: recorded(lab).decode()}
    with said.open("wb") as output:
        process = node.popen("nice", "-n", "19", *argv, stdout=output, env=environment)

    def made() -> int:
        return int((said.read_text().split() or ["0"])[-1])

    try:
        lab.wait_until(lambda: made() > 0, f"the attack {how} is under way")
        yield made
    finally:
        process.kill()
        process.wait()


def recorded(lab: Lab) -> bytes:
    """A signed `fail` as it went over the wire once."""
    with lab.b.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        connect(sock)
        greeting = sock.makefile("rb").readline().split()
        line = sign(greeting[2].decode(), "fail")
        sock.sendall(line)
        return line


def sign(nonce: str, command: str) -> bytes:
    digest = hmac.new(SECRET.encode(), f"{nonce} {command}".encode(), hashlib.sha256).hexdigest()
    return f"hmac {digest} {command}\n".encode()


def connect(sock: socket.socket) -> None:
    sock.settimeout(PROBE_LIMIT)
    sock.bind((PEER, 0))
    sock.connect((OWN, PORT))


def observe(lab: Lab, result: Result, seconds: float) -> None:
    """Make true requests for a while, and look at the listener."""
    pid = listener_of(lab.a)
    lines, cpu = lab.a.log().count("\n"), processor(pid)
    began = next_one = time.monotonic()
    while time.monotonic() < began + seconds:
        result.seconds.append(true_fail(lab.b))
        result.descriptors = max(result.descriptors, len(os.listdir(f"/proc/{pid}/fd")))
        result.kilobytes = max(result.kilobytes, memory(pid))
        next_one = max(next_one + PROBE_EVERY, time.monotonic())
        time.sleep(max(0.0, next_one - time.monotonic()))
    result.lasted = time.monotonic() - began
    result.lines = lab.a.log().count("\n") - lines
    result.processor = (processor(pid) - cpu) / result.lasted
    if listener_of(lab.a) != pid:
        raise LabError(f"{result.how}: the listener was replaced\n{lab.tails()}")


def true_fail(node: Node) -> float:
    """How long a true request takes from connecting to the answer; inf if there is none."""
    sock = node.socket(socket.AF_INET, socket.SOCK_STREAM)
    began = time.monotonic()
    with sock:
        try:
            connect(sock)
            stream = sock.makefile("rb")
            sock.sendall(sign(stream.readline().split()[2].decode(), "fail"))
            answered = stream.readline().startswith(b"ok ")
        except (OSError, IndexError):
            return math.inf
    return time.monotonic() - began if answered else math.inf


def listener_of(node: Node) -> int:
    """The pid of the node's listener, in this process's own namespace. Raises LabError."""
    theirs = os.stat(f"/proc/{node.lab.spaces.pid}/ns/pid_for_children").st_ino
    title = f"failoverd: listener [{node.folder}/run/pid]".encode()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}/ns/pid").st_ino == theirs:
                shown = Path(f"/proc/{name}/cmdline").read_bytes()
                if shown.rstrip(b"\0") == title:
                    return int(name)
        except OSError:
            continue
    raise LabError(f"{node.name} has no listener")


def processor(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """KiB of the process's own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def tell(result: Result) -> None:
    times = sorted(result.seconds)
    p99 = times[math.ceil(0.99 * len(times)) - 1]
    print(
        f"{result.how:9}{TOLD[result.source]:12}{result.connections / result.lasted:8.0f}"
        f"{len(times):6}{median(times) * 1000:11.1f}{p99 * 1000:9.1f}{times[-1] * 1000:9.1f}"
        f"{result.descriptors:6}{result.kilobytes / 1024:7.1f}{result.processor * 100:7.0f}"
        f"{result.lines:6}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
