"""Empty network namespaces for tests of one part; the lab has the whole pair.

A namespace is held by a `cat` that ends when its input is closed, so it is gone when the test is,
however that ends. Without root the first one makes a user namespace, which the others share.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from processes import wait_until

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
ROOTLESS = os.geteuid() != 0
TUN = "/dev/net/tun"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# ip(8) complains of every name there that leads to no namespace, and a name that is made on this
# host meanwhile leads to none here.
_BEGIN = "[ ! -d /run/netns ] || mount -t tmpfs tmpfs /run/netns || exit; echo; exec cat"


class Namespace:
    """One network namespace, with a mount namespace of its own."""

    def __init__(self, first: Namespace | None = None) -> None:
        command = ["unshare", "-nm", "sh", "-c", _BEGIN]
        if ROOTLESS and first is None:
            command[1] = "-Urnm"
        elif first is not None:
            command = first.enter(command)
        self._holder = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": PATH},
        )
        self.pid = self._holder.pid
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if not self._holder.stdout.readline():
            why = self._holder.stderr.read().decode().strip()
            self.close()
            pytest.skip(f"network namespaces cannot be made here: {why}")

    def enter(self, argv: list[str]) -> list[str]:
        """The command that runs argv here."""
        user = ["-U", "--preserve-credentials"] if ROOTLESS else []
        return ["nsenter", "-t", str(self.pid), *user, "-n", "-m", *argv]

    def run(
        self, *argv: str, env: Mapping[str, str] | None = None, check: bool = True, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run argv to its end with text as its input."""
        done = subprocess.run(
            self.enter(list(argv)),
            input=text,
            capture_output=True,
            text=True,
            env={"PATH": PATH, **(env or {})},
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done

    def ip(self, *commands: str, force: bool = False) -> None:
        """Run these commands of ip(8), one a string; with force errors do not matter."""
        options = ["-force"] if force else []
        self.run("ip", *options, "-batch", "-", text="\n".join(commands) + "\n", check=not force)

    def show(self, *argv: str) -> Any:
        """The answer of `ip -j`."""
        return json.loads(self.run("ip", "-j", *argv).stdout or "[]")

    def move_in(self) -> None:
        """Take the calling process into the namespace, for good. It must have one thread."""
        flags = [("user", _CLONE_NEWUSER)] if ROOTLESS else []
        for name, flag in (*flags, ("net", _CLONE_NEWNET)):
            with open(f"/proc/{self.pid}/ns/{name}", "rb") as file:
                if _libc.setns(file.fileno(), flag) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {name}")

    def call(self, work: Callable[[], None]) -> None:
        """Do work in a forked child that is in the namespace. Fails if it raises."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self.move_in()
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of the test's own process that belongs to the namespace."""
        ours, theirs = socket.socketpair()
        with ours, theirs:

            def make() -> None:
                with socket.socket(family, kind, protocol) as sock:
                    socket.send_fds(theirs, [b"."], [sock.fileno()])

            self.call(make)
            return socket.socket(fileno=socket.recv_fds(ours, 1, 1)[1][0])

    def close(self) -> None:
        for stream in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if stream is not None:
                stream.close()
        self._holder.wait(20)


@contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many namespaces, whose loopback is up."""
    made: list[Namespace] = []
    try:
        for _ in range(count):
            made.append(Namespace(made[0] if made else None))
            made[-1].ip("link set lo up")
        yield made
    finally:
        for namespace in reversed(made):
            namespace.close()


def cable(one: Namespace, name: str, other: Namespace, other_name: str) -> None:
    """A veth pair between two namespaces, up at both ends and without address detection."""
    one.ip(f"link add {name} type veth peer name {other_name} netns {other.pid}")
    ends = ((one, name), (other, other_name))
    for namespace, end in ends:
        namespace.run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{end}/accept_dad")
        namespace.ip(f"link set {end} up")
    for namespace, end in ends:
        at_rest(namespace, end)


@contextmanager
def two_cabled() -> Iterator[list[Namespace]]:
    """Two namespaces; the first one's eth0 and eth1 end at far and far1 of the second."""
    with namespaces(2) as made:
        cable(made[0], "eth0", made[1], "far")
        cable(made[0], "eth1", made[1], "far1")
        yield made


def at_rest(namespace: Namespace, interface: str) -> None:
    """Wait until the kernel has done what it puts off when an interface comes up.

    Until then it sends nothing there, and its own link-local address comes after all that a test
    has set meanwhile.
    """

    def has_come() -> bool:
        (shown,) = namespace.show("address", "show", "dev", interface)
        return shown["operstate"] == "UP" and any(
            entry["scope"] == "link" and not entry.get("tentative") for entry in shown["addr_info"]
        )

    wait_until(has_come)
