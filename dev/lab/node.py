"""One node of a lab: its interfaces, its files, its processes, and what can befall it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dev.lab import logs
from dev.lab.keeper import FOLDER
from dev.lab.spaces import ROOT, LabError, Process

if TYPE_CHECKING:
    from dev.lab.network import Lab

PLIP = "plip0"
SWITCH = ROOT / "ha-switch"
_LOG_LIMIT = 30.0  # seconds; a child writes the log's file, a moment later
SECRET = "a word that only the lab's two machines know"

Value = str | int | float | bool | Sequence[str]


@dataclass(frozen=True)
class Interface:
    """A network interface as the node has it when the power comes on."""

    name: str
    switch: str
    hwaddr: str
    addresses: tuple[str, ...]


class Node:
    """A network namespace with interfaces. Paths inside the lab begin with `folder`."""

    def __init__(self, lab: Lab, name: str, interfaces: Sequence[Interface]) -> None:
        self.lab = lab
        self.name = name
        self.interfaces = {interface.name: interface for interface in interfaces}
        self._dead_ports: set[str] = set()
        self._unlogged = ""
        self.folder = f"{FOLDER}/{name}"
        self.outside.mkdir(mode=0o755)
        lab.spaces.make(name)

    @property
    def outside(self) -> Path:
        """The node's folder as this process reaches it."""
        return self.lab.spaces.folder / self.name

    def port(self, interface: str) -> str:
        """The switch's end of this interface's cable."""
        return f"{self.name}-{interface}"

    # ------------------------------------------------------------------ processes

    def run(
        self, *argv: str, text: str = "", timeout: float = 30.0, cwd: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end, with `text` as its input."""
        where = cwd or self.folder
        return self.lab.spaces.run(self.name, argv, text=text, timeout=timeout, cwd=where)

    def check(self, *argv: str, text: str = "") -> str:
        """The output of a command that must succeed. Raises LabError with what it said."""
        result = self.run(*argv, text=text)
        if result.returncode != 0:
            said = (result.stderr or result.stdout).strip()
            raise LabError(f"{self.name}: {' '.join(argv)} failed: {said}")
        return result.stdout

    def ip(self, *lines: str, force: bool = False) -> None:
        """Carry out lines of ip(8) here, by one process; `force` goes on after an error."""
        tool = ("ip", "-force", "-batch", "-") if force else ("ip", "-batch", "-")
        text = "".join(f"{line}\n" for line in lines)
        if force:
            self.run(*tool, text=text)
        else:
            self.check(*tool, text=text)

    def popen(
        self,
        *argv: str,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
    ) -> Process:
        """Start a command here."""
        return self.lab.spaces.start(
            self.name,
            argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd or self.folder,
        )

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this process on this node's network."""
        return self.lab.spaces.socket(self.name, family, kind, protocol)

    def freeze(self) -> None:
        """Stop every process; the kernel goes on answering."""
        self.lab.spaces.signal_all(self.name, signal.SIGSTOP)

    def thaw(self) -> None:
        self.lab.spaces.signal_all(self.name, signal.SIGCONT)

    # ------------------------------------------------------------------ interfaces

    def _plugged(self, interface: Interface) -> tuple[str, ...]:
        """ip lines, for the switch, that make an interface and plug it in."""
        port = self.port(interface.name)
        # The link is a cable, not a switch: it never knows.
        learning = "off" if interface.name == PLIP else "on"
        return (
            f"link add name {port} type veth peer name {interface.name} address {interface.hwaddr} "
            f"netns {self.name}",
            f"link set dev {port} master {interface.switch} up",
            f"link set dev {port} type bridge_slave learning {learning}",
        )

    @staticmethod
    def _configured(interface: Interface) -> tuple[str, ...]:
        """ip lines, for the node, that give an interface what it has after a boot."""
        lines = [
            f"link set dev {interface.name} address {interface.hwaddr}",
            f"link set dev {interface.name} up",
        ]
        for address in interface.addresses:
            nodad = " nodad" if ":" in address else ""
            lines.append(f"address replace {address} dev {interface.name}{nodad}")
        return tuple(lines)

    def plugging(self) -> list[str]:
        """ip lines, for the switch, that make all interfaces."""
        return [line for interface in self.interfaces.values() for line in self._plugged(interface)]

    def configuring(self) -> list[str]:
        """ip lines, for the node, that give all interfaces what they have after a boot."""
        return [
            line for interface in self.interfaces.values() for line in self._configured(interface)
        ]

    def make_interface(self, name: str) -> None:
        """Make an interface, for the first time or again after `delete_interface`."""
        interface = self.interfaces[name]
        self.lab.switch.ip(*self._plugged(interface))
        self.ip(*self._configured(interface))

    def delete_interface(self, name: str) -> None:
        """Delete an interface as a driver that is unloaded does."""
        self._dead_ports.discard(name)
        self.ip(f"link delete dev {name}")

    def _cable(self, interface: str) -> list[str]:
        """The switch's ends of a cable; the heartbeat link is one cable from node to node."""
        if interface == PLIP:
            ends = [node.port(PLIP) for node in (self.lab.a, self.lab.b)]
            return [end for end in ends if self.lab.switch.has(end)]  # an interface may be deleted
        return [self.port(interface)]

    def unplug(self, interface: str) -> None:
        """Pull the cable: the carrier is lost, of the heartbeat link at both ends."""
        self.lab.switch.ip(*(f"link set dev {port} down" for port in self._cable(interface)))

    def plug(self, interface: str) -> None:
        self.lab.switch.ip(*(f"link set dev {port} up" for port in self._cable(interface)))
        self._stay_dead()

    def kill_port(self, interface: str) -> None:
        """The switch's port drops everything, both ways, while the carrier stays up."""
        self._dead_ports.add(interface)
        port = self.port(interface)
        # Else the news of a carrier that has just come would have the port forward again.
        self.lab.wait_until(lambda: self.lab.switch.is_told(port), f"the carrier of {port} is told")
        self.lab.switch.check("bridge", "link", "set", "dev", port, "state", "0")

    def _stay_dead(self) -> None:
        """A port whose carrier has come back forwards again, be it broken or not."""
        for interface in self._dead_ports:
            self.kill_port(interface)

    def revive_port(self, interface: str) -> None:
        """The switch's port works again."""
        self._dead_ports.discard(interface)
        self.lab.switch.check("bridge", "link", "set", "dev", self.port(interface), "state", "3")

    def addresses(self, interface: str = "") -> list[str]:
        """The kernel's addresses with prefix on an interface, or on all; no link-local ones."""
        only = ("dev", interface) if interface else ()
        result = self.run("ip", "-j", "address", "show", *only)
        found = json.loads(result.stdout or "[]")
        return [
            f"{entry['local']}/{entry['prefixlen']}"
            for link in found
            for entry in link.get("addr_info", [])
            if entry.get("scope") != "link"
        ]

    def is_told(self, interface: str) -> bool:
        """Whether the kernel here has told everyone whether an interface has a carrier."""
        (found,) = json.loads(self.check("ip", "-j", "link", "show", "dev", interface))
        return ("LOWER_UP" in found["flags"]) is (found["operstate"] == "UP")

    def hwaddr(self, interface: str) -> str:
        """The hardware address that an interface has now."""
        found = json.loads(self.check("ip", "-j", "link", "show", "dev", interface))
        return str(found[0]["address"])

    # ------------------------------------------------------------------ power

    def vanish(self) -> None:
        """What the others see of a power cut, at once: no port forwards, no process runs.

        To end processes and take links down lasts many milliseconds, in which a kernel would answer
        for a dead node, and other kernels wait for its lock. That is left to `power_cut`.
        """
        lines = "".join(f"link set dev {self.port(name)} state 0\n" for name in self.interfaces)
        # -force: an interface may be deleted.
        self.lab.switch.run("bridge", "-force", "-batch", "-", text=lines)
        self.freeze()

    def power_cut(self) -> None:
        """The power fails: processes, addresses, changed hardware addresses and /run are gone.

        A namespace would keep what a node loses: addresses, and the files of `state` and
        `pidfile`. Its other files stay, as on a disk.
        """
        self.vanish()  # nothing notices that the end has come
        names = list(self.interfaces)
        self.ip(*(f"link set dev {name} down" for name in names), force=True)
        if PLIP in self.interfaces:
            self.unplug(PLIP)
        self.lab.spaces.signal_all(self.name, signal.SIGKILL)
        self.ip(*(f"address flush dev {name}" for name in names), force=True)
        shutil.rmtree(self.outside / "run", ignore_errors=True)

    def power_on(self) -> None:
        """The node boots as far as its network; what runs on it is the caller's to start."""
        (self.outside / "run").mkdir(mode=0o755, exist_ok=True)
        present = [interface for interface in self.interfaces.values() if self.has(interface.name)]
        self.ip(*(line for interface in present for line in self._configured(interface)))
        self._stay_dead()
        if PLIP in self.interfaces:
            self.plug(PLIP)

    def has(self, interface: str) -> bool:
        """Whether the interface is there, be it up or not."""
        return self.run("ip", "link", "show", "dev", interface).returncode == 0

    # ------------------------------------------------------------------ failoverd

    @property
    def conf(self) -> str:
        """Where failoverd.conf is, as a process inside sees it."""
        return f"{self.folder}/failoverd.conf"

    def write(self, name: str, text: str, mode: int = 0o644) -> str:
        """Write a file into the node's folder. Its path inside."""
        path = self.outside / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if mode & 0o111:
            path.unlink(missing_ok=True)  # it may be running: ETXTBSY
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
        return f"{self.folder}/{name}"

    def read(self, name: str) -> str:
        """The text of a file in the node's folder, "" if there is none."""
        try:
            return (self.outside / name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def settings(self) -> dict[str, Value]:
        """failoverd.conf's variables as the lab sets them; every path is in the folder."""
        peer = self.lab.b if self is self.lab.a else self.lab.a
        folder = self.folder
        return {
            "interfaces": [name for name in self.interfaces if name != PLIP],
            "verbose": False,
            "packet_count": 500,
            "tcp_port": 2000,
            "primary": self.interfaces[PLIP].addresses[0].split("/")[0],
            "secondary": peer.interfaces[PLIP].addresses[0].split("/")[0],
            "plip_interface": PLIP,
            "failover_root": folder,
            "host_type": f"{folder}/host_type",
            "secret": f"{folder}/secret",
            "log": f"{folder}/log",
            "failover_prog": f"{folder}/ha-switch",
            "dumpfile": "/dev/null",
            "pidfile": f"{folder}/run/pid",
            "state": f"{folder}/run/state",
            "addresses": [f"eth0 {self.lab.service}/24"],
            "user": self.lab.user,
            **self.lab.timers,
        }

    def write_conf(self, **variables: Value) -> str:
        """Write failoverd.conf, host_type, the secret and ha-switch. The configuration's path."""
        (self.outside / "run").mkdir(mode=0o755, exist_ok=True)
        boot = "master" if self is self.lab.a else "slave"
        self.write("host_type", f"boot:{boot}\n")
        self.write("secret", f"{SECRET}\n", 0o600)
        self.write("ha-switch", SWITCH.read_text(), 0o755)
        lines = [perl(name, value) for name, value in {**self.settings(), **variables}.items()]
        return self.write("failoverd.conf", "".join(lines))

    def _command(self, name: str, *arguments: str) -> tuple[str, ...]:
        """One of the project's commands, as its launcher in bin would run it."""
        launch = str(ROOT / "dev" / "launch.py")
        return (sys.executable, "-I", launch, name, "-c", self.conf, *arguments)

    def command(
        self, name: str, *arguments: str, text: str = "", timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the project's commands with this node's configuration to its end."""
        return self.run(*self._command(name, *arguments), text=text, timeout=timeout)

    def popen_command(self, name: str, *arguments: str) -> Process:
        """Start one of the project's commands; what it says is lost."""
        return self.popen(*self._command(name, *arguments))

    def start_failoverd(self, *arguments: str) -> Process:
        """Start failoverd in the foreground; what it prints goes to the file `terminal`."""
        argv = self._command("failoverd", "-f", *arguments)
        with (self.outside / "terminal").open("ab") as terminal:
            return self.popen(*argv, stdout=terminal, stderr=subprocess.STDOUT)

    def status(self) -> dict[str, Any]:
        """What `ha-status --json` tells. Raises LabError if it tells nothing."""
        result = self.command("ha-status", "--json")
        try:
            told: dict[str, Any] = json.loads(result.stdout)
        except ValueError:
            raise LabError(f"{self.name}: ha-status: {result.stderr.strip()}") from None
        return told

    def say(
        self, command: str, secret: str = SECRET, timeout: float = 30.0, port: int = 2000
    ) -> str:
        """Type the secret and a command into our own failoverd's port. Its last line."""
        address = self.interfaces[PLIP].addresses[0].split("/")[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect((address, port))
            connection.sendall(f"{secret}\n{command}\n".encode())
            said = connection.makefile(encoding="utf-8").read()
        return said.splitlines()[-1] if said else ""

    def role(self) -> str:
        """active, standby, switching or failed; "" while failoverd does not answer."""
        try:
            word, _, rest = self.say("status", timeout=5.0).partition(" ")
            return str(json.loads(rest)["role"]) if word == "ok" else ""
        except (OSError, ValueError, KeyError):
            return ""

    def log(self) -> str:
        """failoverd's log so far. In the foreground that is at least what it has printed by now."""
        printed = [line for line in self.read("terminal").splitlines() if logs.parse(line)]
        last = printed[-1] if printed else ""
        end = time.monotonic() + _LOG_LIMIT
        while last not in (log := self.read("log")) and last != self._unlogged:
            if time.monotonic() > end:
                self._unlogged = last  # who had to write it was killed, say
            time.sleep(0.002)
        return log


def perl(name: str, value: Value) -> str:
    """One assignment in failoverd.conf's language."""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, (str, int, float)):
        return f"${name} = {quoted(str(value))};\n"
    return f"@{name} = ({', '.join(quoted(word) for word in value)});\n"


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
