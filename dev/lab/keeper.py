"""The first process inside a lab: it makes namespaces, starts processes in them and reaps them.

It is started by dev.lab.spaces as process 1 of a pid namespace, with its control socket as
standard input. When that socket closes, be it by the owner's SIGKILL, it exits; the kernel then
kills every process inside, and with the last one every namespace and the tmpfs on /run vanish.
It is run by path in an isolated interpreter, so it imports the standard library only.

One request is one JSON packet and gets one JSON packet, {"error": ...} if it failed:
  {"do": "make", "name"}                           makes a network (and mount) namespace
  {"do": "start", "name", "argv", "env", "cwd"}    with four descriptors: standard input, output,
                                                   error, and a pipe that gets the exit status
  {"do": "signal", "pid", "signal"}                signals one process
  {"do": "signal all", "name", "signal"}           signals every process of a namespace
  {"do": "socket", "name", "family", "type", "protocol"}    opens a socket there and passes it
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

FOLDER = "/run/lab"
MAX_PACKET = 128 * 1024

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MS_SHARED = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)

Request = dict[str, Any]
Answer = tuple[dict[str, Any], list[int]]


def call(name: str, *arguments: object) -> None:
    """Call a function of libc that returns 0. Raises OSError, which names it."""
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    words = (source.encode(), target.encode(), kind.encode())
    call("mount", *words, ctypes.c_ulong(flags), data.encode())


class Namespace:
    """A network namespace, with a mount namespace whose /sys shows it."""

    def __init__(self, name: str) -> None:
        ready, tell = os.pipe()
        hold, release = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(release)
            self._be_inside(tell, hold)
        os.close(tell)
        os.close(hold)
        try:
            problem = os.read(ready, 1024)
            if problem:
                raise OSError(problem.decode())
            self.net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self.mnt = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            handle = f"/run/netns/{name}"  # where `ip -n NAME` looks
            os.close(os.open(handle, os.O_CREAT | os.O_RDONLY, 0o444))
            mount(f"/proc/{pid}/ns/net", handle, "none", _MS_BIND)
        finally:
            os.close(release)
            os.close(ready)
            os.waitpid(pid, 0)

    @staticmethod
    def _be_inside(tell: int, hold: int) -> None:
        """In a child: unshare, say nothing if that went well, and last until it is held open."""
        try:
            call("unshare", _CLONE_NEWNET | _CLONE_NEWNS)
            with contextlib.suppress(OSError):  # a masked /sys, as in some containers, may stay
                mount("sysfs", "/sys", "sysfs")
        except OSError as error:
            os.write(tell, str(error).encode())
        os.close(tell)
        os.read(hold, 1)
        os._exit(0)

    def enter(self, cwd: str) -> None:
        """Move the calling process here. Only for a forked child: there is no way back."""
        call("setns", self.net, _CLONE_NEWNET)
        call("setns", self.mnt, _CLONE_NEWNS)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored below a shell's `&`: never ended
        os.chdir(cwd)  # after setns, which leads to the root folder

    def processes(self) -> list[int]:
        """The processes that live here. One that is just ending has no namespace any more."""
        ours = os.fstat(self.net).st_ino
        return [pid for pid in all_processes() if network_of(pid) == ours]


def all_processes() -> Iterable[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def network_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


class Keeper:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._namespaces: dict[str, Namespace] = {}
        self._reports: dict[int, int] = {}

    def answer(self, request: Request, descriptors: list[int]) -> Answer:
        return self._verbs()[request["do"]](request, descriptors)

    def _verbs(self) -> dict[str, Callable[[Request, list[int]], Answer]]:
        return {
            "make": self._make,
            "start": self._start,
            "signal": self._signal,
            "signal all": self._signal_all,
            "socket": self._socket,
        }

    def _make(self, request: Request, _: list[int]) -> Answer:
        self._namespaces[request["name"]] = Namespace(request["name"])
        return {}, []

    def _start(self, request: Request, descriptors: list[int]) -> Answer:
        standard_input, output, error, report = descriptors
        namespace = self._namespaces[request["name"]]
        cwd = request["cwd"]
        process = subprocess.Popen(
            request["argv"],
            stdin=standard_input,
            stdout=output,
            stderr=error,
            env=request["env"],
            start_new_session=True,
            preexec_fn=lambda: namespace.enter(cwd),  # noqa: PLW1509 - there are no threads here
        )
        process.returncode = 0  # or Popen would wait for it behind our back
        self._reports[process.pid] = os.dup(report)
        return {"pid": process.pid}, []

    def _signal(self, request: Request, _: list[int]) -> Answer:
        os.kill(request["pid"], request["signal"])
        return {}, []

    def _signal_all(self, request: Request, _: list[int]) -> Answer:
        """Signal every process of a namespace; of SIGKILL none is left when this returns."""
        namespace = self._namespaces[request["name"]]
        signalled: set[int] = set()
        for _round in range(2000):
            found = namespace.processes()
            if not set(found) - (set() if request["signal"] == signal.SIGKILL else signalled):
                break
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, request["signal"])
            signalled.update(found)
            self.reap()
            time.sleep(0.001)  # one that was forking meanwhile is found in the next round
        return {"count": len(signalled)}, []

    def _socket(self, request: Request, _: list[int]) -> Answer:
        call("setns", self._namespaces[request["name"]].net, _CLONE_NEWNET)
        try:
            opened = socket.socket(request["family"], request["type"], request["protocol"])
        finally:
            call("setns", self._home, _CLONE_NEWNET)
        return {}, [opened.detach()]

    def reap(self) -> None:
        """Collect every process that has ended, orphans too, as process 1 must."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            report = self._reports.pop(pid, None)
            if report is not None:
                with contextlib.suppress(BrokenPipeError):
                    os.write(report, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(report)

    def serve(self) -> None:
        """Answer requests until the owner is gone."""
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(woken, selectors.EVENT_READ)
        selector.register(self._control, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is woken:
                    woken.recv(4096)
                    self.reap()
                elif not self._serve_one():
                    return

    def _serve_one(self) -> bool:
        """Answer one request. False if the owner is gone."""
        data, ancillary, _flags, _address = self._control.recvmsg(MAX_PACKET, 256)
        if not data:
            return False
        descriptors = received(ancillary)
        try:
            answer, passed = self.answer(json.loads(data), descriptors)
        except (OSError, KeyError, subprocess.SubprocessError) as error:
            answer, passed = {"error": f"{type(error).__name__}: {error}"}, []
        try:
            socket.send_fds(self._control, [json.dumps(answer).encode()], passed)
        except ConnectionError:
            return False
        finally:
            for number in descriptors + passed:
                os.close(number)
        return True


def received(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with a packet."""
    numbers = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return numbers.tolist()


def prepare() -> int:
    """Put a tmpfs on /run, for `ip netns` and for the lab's files; returns the files' folder."""
    mount("tmpfs", "/run", "tmpfs", data="mode=755")
    mount("none", "/run", "none", _MS_SHARED)  # a later namespace's name shows in the earlier ones
    os.mkdir("/run/netns", 0o755)
    os.mkdir(FOLDER, 0o755)
    return os.open(FOLDER, os.O_PATH | os.O_DIRECTORY)


def main() -> None:
    control = socket.socket(fileno=0)
    os.umask(0o022)
    try:
        folder = prepare()
    except OSError as error:
        control.send(json.dumps({"error": str(error)}).encode())
        return
    socket.send_fds(control, [b"{}"], [folder])
    os.close(folder)
    Keeper(control).serve()


if __name__ == "__main__":
    main()
