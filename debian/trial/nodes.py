"""Nodes for the trial: a tree, interfaces, and an init as process 1, all in namespaces.

Two of them and a client are on one switch; a cable between the two is the heartbeat link. The
interfaces are in a network namespace that outlives a node's reboot.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trees import ENVIRONMENT, PATH, Failed, Tree, call

SERVICE = "192.0.2.10"
PATIENCE = 60.0  # seconds for anything that should happen soon
RECORD = struct.Struct("<cd")  # of dev/lab/prober.py
# Process 1 of each; that of a container, "none", starts nothing, and reaps nobody.
INITS = {
    "none": "/bin/sleep infinity",
    "sysvinit": "/sbin/init",
    "systemd": "/lib/systemd/systemd",
}

# What a kernel and a boot loader would do. Of /proc/sys only the network's part is the node's
# own, so the rest is for reading only. Nor are the clock and the kernel's modules its own.
POWER_ON = """
root=$1 init=$2 name=$3 cgroups=$4
hostname "$name"
mount -o remount,rw "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
: >"$root/dev/console"
mount --bind "$5" "$root/dev/console"
for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2 ptmx:pts/ptmx; do
    ln -s "${link#*:}" "$root/dev/${link%%:*}"
done
mkdir "$root/dev/shm" "$root/dev/pts" "$root/old"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
[ -z "$cgroups" ] || mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
cd "$root"
pivot_root . old
umount -l /old
rmdir /old
exec env -i container=trial PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio $init
"""

# Into the control group and the network; what follows is the command.
PLUG_IN = """
[ -z "$1" ] || echo $$ >"$1/cgroup.procs"
net=$2
shift 2
exec nsenter --net="$net" "$@"
"""


def wait_until(what: str, condition: Callable[[], object], limit: float = PATIENCE) -> None:
    """Wait until the condition holds. Raises Failed, naming what it was."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {limit:g} s in vain: {what}")
        time.sleep(0.1)


class Network:
    """A network namespace that a process holds."""

    def __init__(self) -> None:
        command = ["unshare", "-n", "sh", "-c", "echo; exec cat"]
        self._holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": PATH}
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.handle = f"/proc/{self._holder.pid}/ns/net"
        self.pid = self._holder.pid
        self.ip("link set lo up")

    def ip(self, *commands: str) -> None:
        """Carry out commands of ip(8); an error does not keep the rest from being done."""
        words = ("nsenter", f"--net={self.handle}", "ip", "-force", "-batch", "-")
        call(*words, text="\n".join(commands) + "\n", check=False)


class Node:
    """A node with one interface on the switch, eth0, and the heartbeat link, plip0."""

    def __init__(self, name: str, number: int, init: str, tree: Tree, folder: Path) -> None:
        self.name, self.init, self.tree = name, init, tree
        self.network = Network()
        self.own = f"192.0.2.{number}"
        self.private = f"1.0.0.{number}"
        self.peer = f"1.0.0.{3 - number}"
        self.console = folder / f"{name}.console"
        self.console.touch()
        self._unshare: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._cgroup: Path | None = None

    # ------------------------------------------------------------------ power

    def power_on(self) -> None:
        """Boot, as far as the init says that it is done."""
        self.network.ip(
            f"address replace {self.own}/24 dev eth0",
            f"address replace {self.private}/30 dev plip0",
            "link set eth0 up",
            "link set plip0 up",
        )
        self._cgroup = own_cgroup(self.name)
        flags = ["-m", "-u", "-i", "-p", *(["-C"] if self._cgroup else [])]
        words = (str(self.tree.root), INITS[self.init], self.name, str(self._cgroup or ""))
        plug_in = ["sh", "-e", "-c", PLUG_IN, "sh", str(self._cgroup or ""), self.network.handle]
        unshare = ["unshare", *flags, "--fork", "--kill-child"]
        power_on = ["sh", "-e", "-c", POWER_ON, "sh", *words, str(self.console)]
        with self.console.open("ab") as console:
            self._unshare = subprocess.Popen(
                [*plug_in, *unshare, *power_on],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=console,
                env={"PATH": PATH},
            )
        wait_until(f"{self.name} boots", self._booted)

    def _booted(self) -> bool:
        assert self._unshare is not None
        if self._unshare.poll() is not None:
            raise Failed(f"{self.name} does not boot:\n{self.console.read_text()[-2000:]}")
        children = f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children"
        pids = Path(children).read_text().split()
        name = INITS[self.init].split()[0].rpartition("/")[2]
        if not pids or name[:7] not in comm(pids[0]):
            return False
        self._pid = int(pids[0])
        if self.init == "none":
            return True
        if self.init == "systemd":
            state = self.run("systemctl", "is-system-running", check=False).strip()
            return state in ("running", "degraded")
        level = self.run("runlevel", check=False).split()
        return level[-1:] == ["2"] and not self.run("pgrep", "-f", "init.d/rc ", check=False)

    def wait_for_end(self) -> None:
        """Wait until the node is down, then let its interfaces forget what a power cut takes."""
        assert self._unshare is not None
        try:
            self._unshare.wait(3 * PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not go down") from None
        self.network.ip(
            "link set eth0 down",
            "link set plip0 down",
            "address flush dev eth0",
            "address flush dev plip0",
        )
        remove_cgroup(self._cgroup)

    def off(self) -> None:
        """Pull the plug."""
        if self._unshare is not None and self._unshare.poll() is None:
            os.kill(self._pid or self._unshare.pid, signal.SIGKILL)
            self.wait_for_end()

    # ------------------------------------------------------------------ at work

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command there; what it printed."""
        words = ("nsenter", "-t", str(self._pid), "-m", "-u", "-i", "-n", "-p", *argv)
        return call(*words, env=ENVIRONMENT, check=check).stdout

    def succeeds(self, *argv: str) -> bool:
        return (
            call(
                *("nsenter", "-t", str(self._pid), "-m", "-u", "-i", "-n", "-p", *argv),
                env=ENVIRONMENT,
                check=False,
            ).returncode
            == 0
        )

    def path(self, path: str) -> Path:
        """A path of the node's disk as this process reaches it."""
        return self.tree.root / path.lstrip("/")

    def log(self) -> str:
        path = self.path("/var/log/watchd.log")
        return path.read_text() if path.exists() else ""

    def tails(self) -> str:
        """The end of all that tells what happened there."""
        journal = ("journalctl", "--no-pager", "--lines=40", "--unit=failoverd")
        said = self.run(*journal, check=False) if self.init == "systemd" else ""
        return f"{self.console.read_text()[-1000:]}{said}{self.log()[-3000:]}"

    def status(self) -> dict[str, Any]:
        """What failoverd there says of itself; empty if it does not answer."""
        try:
            found = json.loads(self.run("ha-status", "--json", check=False).splitlines()[0])
        except (ValueError, IndexError):
            return {}
        return dict(found["us"] or {})

    def role(self) -> str:
        return str(self.status().get("role", "none"))

    def pid(self) -> str:
        """failoverd's, as its pid file has it, "" if there is none."""
        return self.run("sh", "-c", "cat /run/failoverd.pid 2>/dev/null", check=False).strip()

    def serves(self) -> bool:
        return f" {SERVICE}/" in self.run("ip", "-o", "address", "show", "dev", "eth0")


def comm(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def own_cgroup(name: str) -> Path | None:
    """A control group of the second hierarchy, which systemd needs; None if there is none."""
    place = call("findmnt", "-n", "-o", "TARGET", "-t", "cgroup2", check=False).stdout.split()
    if not place:
        return None
    return Path(tempfile.mkdtemp(prefix="failoverd-trial-", suffix=f"-{name}", dir=place[0]))


def remove_cgroup(group: Path | None) -> None:
    """It is empty as soon as the last process has gone."""
    if group is None:
        return

    def gone() -> bool:
        folders = sorted(group.rglob("*/"), reverse=True)
        for folder in [*(one for one in folders if one.is_dir()), group]:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return not group.exists()

    wait_until(f"the control group {group} is empty", gone)


class Client:
    """Asks the service's address for an echo every 10 ms, and knows how long none came."""

    def __init__(self, network: Network, prober: Path, folder: Path) -> None:
        self._file = folder / f"probes.{time.monotonic()}"
        words = ("python3", "-I", str(prober), SERVICE, "0.01", str(self._file))
        self._process = subprocess.Popen(
            ["nsenter", f"--net={network.handle}", *words], env={"PATH": PATH}
        )
        wait_until("the client has an answer", self._replies)

    def _replies(self) -> list[float]:
        if not self._file.exists():
            return []
        data = self._file.read_bytes()
        whole = data[: len(data) // RECORD.size * RECORD.size]
        return [when for kind, when in RECORD.iter_unpack(whole) if kind == b"r"]

    def longest_gap(self) -> float:
        """Seconds between two answers, at most; the time since the last one counts."""
        times = [*self._replies(), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def connect(a: Node, b: Node) -> Network:
    """The switch, with the client on it: two interfaces, and the heartbeat link."""
    switch = Network()
    switch.ip(
        "link add name br0 type bridge",
        "link set br0 up",
        "address add 192.0.2.100/24 dev br0",
        *(
            f"link add name {one.name}-eth0 type veth peer name eth0 netns {one.network.pid}"
            for one in (a, b)
        ),
        *(f"link set dev {one.name}-eth0 master br0 up" for one in (a, b)),
    )
    a.network.ip(f"link add name plip0 type veth peer name plip0 netns {b.network.pid}")
    return switch


def copy(source: Node, target: Node, path: str) -> None:
    """Copy a file from one node's disk to the other's, with its mode."""
    shutil.copy2(source.path(path), target.path(path))
