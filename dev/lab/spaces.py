"""The owner's side of a lab's keeper: namespaces on this host, and processes started in them.

Nothing here touches the host's own interfaces or files: a `Spaces` is one process tree in its
own user (unless we are root), mount, pid and network namespaces, and all of it ends with us.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent.parent
_KEEPER = Path(__file__).resolve().parent / "keeper.py"
_AS_ROOT = ("-n", "-m", "-p", "--fork", "--kill-child", "--mount-proc")
_ROOTLESS = ("-U", "-r", *_AS_ROOT)
_START_LIMIT = 20.0


class NoNamespaces(Exception):
    """No lab can be made here. reason: why, in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no namespaces can be made here: {reason}")
        self.reason = reason


class LabError(Exception):
    """Something that was asked of a lab failed; the text names it."""


class Process:
    """A process inside a lab. Its pid is that of the lab's pid namespace."""

    def __init__(
        self, spaces: Spaces, pid: int, report: int, pipes: Mapping[str, IO[bytes] | None]
    ) -> None:
        self.pid = pid
        self.stdin = pipes.get("stdin")
        self.stdout = pipes.get("stdout")
        self.stderr = pipes.get("stderr")
        self._spaces = spaces
        self._report = report
        self._close_report = weakref.finalize(self, os.close, report)  # few wait for the end
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status if it has ended (negative: the signal that killed it), else None."""
        return self._collect(0)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        status = self._collect(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid} of the lab", timeout)
        return status

    def _collect(self, timeout: float) -> int | None:
        if self._status is None and select.select([self._report], [], [], timeout)[0]:
            text = os.read(self._report, 64)
            self._status = int(text) if text else -signal.SIGKILL  # the lab itself has ended
            self._close_report()
        return self._status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(LabError):  # it has ended just now
                self._spaces.request({"do": "signal", "pid": self.pid, "signal": int(number)})

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill it if it still runs, collect it and close what is open."""
        self.kill()
        self._collect(_START_LIMIT)
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Spaces:
    """A keeper and what it keeps. Raises NoNamespaces if that cannot be made here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rootless = os.geteuid() != 0
        try:
            self._begin(_ROOTLESS if self.rootless else _AS_ROOT)
        except NoNamespaces:
            if self.rootless:
                raise
            self.rootless = True  # root of a container: a user namespace may still be allowed
            self._begin(_ROOTLESS)

    def _begin(self, flags: Sequence[str]) -> None:
        """Start the keeper and wait until it is ready."""
        if shutil.which("unshare", path=search_path()) is None:
            raise NoNamespaces("the command unshare is missing")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with tempfile.TemporaryFile() as errors, theirs:
            self._unshare = subprocess.Popen(
                ["unshare", *flags, sys.executable, "-I", str(_KEEPER)],
                stdin=theirs.fileno(),
                stdout=errors,
                stderr=errors,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the owner, which ends the lab in order
            )
            theirs.close()
            try:
                _answer, descriptors = self._receive()
            except (LabError, OSError) as error:
                self.close()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                reason = said[-1] if said else str(error)
                raise NoNamespaces(reason.rpartition(": ")[2]) from error
        self._folder = descriptors[0]
        if shutil.which("ip", path=search_path()) is None:
            self.close()
            raise NoNamespaces("the command ip is missing")

    @property
    def pid(self) -> int:
        """Whose pid namespace for children is that of all inside."""
        return self._unshare.pid

    @property
    def folder(self) -> Path:
        """The lab's own files, on a tmpfs inside, as this host's processes reach them."""
        return Path(f"/proc/{os.getpid()}/fd/{self._folder}")

    def request(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> Any:
        """Ask the keeper. Raises LabError if it could not do it."""
        return self._exchange(request, descriptors)[0]

    def _exchange(
        self, request: Mapping[str, Any], descriptors: Sequence[int] = ()
    ) -> tuple[dict[str, Any], list[int]]:
        with self._lock:
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
            except OSError as error:
                raise LabError(f"the lab has ended: {error}") from error
            return self._receive()

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        data, descriptors, _flags, _address = socket.recv_fds(self._control, 64 * 1024, 4)
        if not data:
            raise LabError("the lab has ended")
        answer = json.loads(data)
        if "error" in answer:
            raise LabError(answer["error"])
        return answer, descriptors

    def make(self, name: str) -> None:
        """Make an empty network namespace, which `ip -n NAME` inside knows too."""
        self.request({"do": "make", "name": name})

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start argv in a namespace; PIPE, DEVNULL, STDOUT and files as in subprocess.Popen."""
        ours: dict[str, IO[bytes] | None] = {}
        theirs: list[int] = []
        report, tell = os.pipe()
        try:
            for stream, wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                ours[stream], number = _stream(stream, wanted, theirs)
                theirs.append(number)
            request = {"do": "start", "name": name, "argv": list(argv), "cwd": cwd}
            whole = {**request, "env": {**environment(), **(env or {})}}
            answer = self.request(whole, [*theirs, tell])
        except (LabError, OSError):
            os.close(report)
            for pipe in filter(None, ours.values()):
                pipe.close()
            raise
        finally:
            for number in (*theirs, tell):
                os.close(number)
        return Process(self, answer["pid"], report, ours)

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        text: str = "",
        timeout: float = 30.0,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run argv in a namespace to its end, with `text` as its input.

        Raises subprocess.TimeoutExpired, after killing it, if it lasts longer.
        """
        with (
            tempfile.TemporaryFile() as source,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            source.write(text.encode())
            source.seek(0)
            streams = {"stdin": source, "stdout": output, "stderr": errors}
            with self.start(name, argv, **streams, cwd=cwd, env=env) as process:
                status = process.wait(timeout)
            said = []
            for file in (output, errors):
                file.seek(0)
                said.append(file.read().decode(errors="replace"))
        return subprocess.CompletedProcess(list(argv), status, *said)

    def socket(self, name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this very process whose network is the namespace's."""
        request = {"do": "socket", "name": name, "family": int(family), "type": int(kind)}
        _answer, descriptors = self._exchange({**request, "protocol": protocol})
        return socket.socket(fileno=descriptors[0])

    def signal_all(self, name: str, number: int) -> int:
        """Signal every process of a namespace. The count of them."""
        request = {"do": "signal all", "name": name, "signal": int(number)}
        count: int = self.request(request)["count"]
        return count

    def close(self) -> None:
        """End every process inside and wait until all is gone."""
        self._control.close()
        try:
            self._unshare.wait(_START_LIMIT)
        except subprocess.TimeoutExpired:
            self._unshare.kill()
            self._unshare.wait()
        folder = self.__dict__.pop("_folder", None)
        if folder is not None:
            os.close(folder)


def _stream(
    stream: str, wanted: int | IO[bytes], before: Sequence[int]
) -> tuple[IO[bytes] | None, int]:
    """Our end of a pipe, if one is wanted, and a descriptor to pass."""
    if wanted == subprocess.DEVNULL:
        return None, os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    if wanted == subprocess.STDOUT:
        return None, os.dup(before[1])
    if wanted == subprocess.PIPE:
        reading, writing = os.pipe()
        if stream == "stdin":
            return os.fdopen(writing, "wb", 0), reading
        return os.fdopen(reading, "rb", 0), writing
    return None, os.dup(wanted if isinstance(wanted, int) else wanted.fileno())


def search_path() -> str:
    """Our PATH and the system's folders, which an ordinary user's may lack."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def environment() -> dict[str, str]:
    """Ours, with the system's folders in PATH and this checkout for Python."""
    return {**os.environ, "PATH": search_path(), "PYTHONPATH": str(ROOT)}
