"""Two nodes for tests of the wire: a heartbeat link, real listeners, a scripted failoverd each."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import importlib.abc
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from netns import PATH, ROOTLESS, Namespace, namespaces

from failoverd import listener, log, process
from failoverd.conf import Conf
from failoverd.master.messages import Logged
from failoverd.process import Message
from failoverd.wire.typed import decode

ROOT = Path(__file__).resolve().parent.parent
SECRET = b"open sesame"
LIMIT = 60.0  # seconds that a condition may take, however slow the host is
IPV4 = ("1.0.0.1", "1.0.0.2")
IPV6 = ("fd00::1", "fd00::2")


@contextmanager
def two_nodes(folder: Path) -> Iterator[Pair]:
    """The pair, linked; its children and namespaces end with the block."""
    with namespaces(2) as spaces:
        pair = Pair(folder, spaces)
        pair.plug()
        try:
            yield pair
        finally:
            pair.close()


class Pair:
    """Two namespaces whose heartbeat link is plip0, and what runs in them."""

    def __init__(self, folder: Path, spaces: Sequence[Namespace]) -> None:
        self.spaces = spaces
        self.secret = folder / "secret"
        self.secret.write_bytes(SECRET + b"\n")
        self.secret.chmod(0o600)
        self.daemons: list[Daemon] = []
        self.sockets: list[socket.socket] = []

    def plug(self) -> None:
        """Make the link, with addresses that can be used at once."""
        here, there = self.spaces
        here.ip(f"link add plip0 type veth peer name plip0 netns {there.pid}")
        for space, ipv4, ipv6 in zip(self.spaces, IPV4, IPV6, strict=True):
            space.ip(
                f"address add {ipv4}/24 dev plip0",
                f"address add {ipv6}/64 dev plip0 nodad",
                "link set plip0 up",
            )

    def conf(self, side: int, addresses: tuple[str, str] = IPV4, **settings: Any) -> Conf:
        base = Conf(
            primary=addresses[side],
            secondary=addresses[1 - side],
            secret=str(self.secret),
            user="root" if ROOTLESS else "nobody",
        )
        return dataclasses.replace(base, **settings)

    def listen(
        self,
        side: int = 0,
        patient: bool = False,
        own: socket.socket | None = None,
        **settings: Any,
    ) -> Daemon:
        """A listener on one of the nodes, which has come so far that it can be spoken to.

        own: the Unix socket that it inherits.
        """
        daemon = self.start(side, patient, own, **settings)
        serve([daemon], lambda: bool(daemon.of("ready", "died")))
        assert daemon.of("ready"), daemon.heard
        return daemon

    def start(
        self,
        side: int = 0,
        patient: bool = False,
        own: socket.socket | None = None,
        **settings: Any,
    ) -> Daemon:
        daemon = Daemon(self.spaces[side], self.conf(side, **settings), patient, own)
        self.daemons.append(daemon)
        return daemon

    def connector(self, side: int, address: str | None = None, device: str = "") -> socket.socket:
        """A TCP socket on one of the nodes, bound to this address of it."""
        address = address or IPV4[side]
        sock = self.spaces[side].socket(_family(address), socket.SOCK_STREAM)
        self.sockets.append(sock)
        sock.settimeout(LIMIT)
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.bind((address, 0))
        return sock

    def call(self, side: int, address: str | None = None, to: str = IPV4[0]) -> Caller:
        """A connection from one of the nodes to the port of the first."""
        sock = self.connector(side, address)
        sock.connect((to, 2000))
        return Caller(sock, self.daemons)

    def port(self, side: int = 1, address: str | None = None) -> socket.socket:
        """A port 2000 on one of the nodes that is not failoverd's."""
        sock = self.spaces[side].socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sockets.append(sock)
        sock.settimeout(LIMIT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address or IPV4[side], 2000))
        sock.listen()
        return sock

    def run(self, side: int, argv: Sequence[str], text: bytes = b"") -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a program there; the daemons serve meanwhile."""
        with subprocess.Popen(
            self.spaces[side].enter(list(argv)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": PATH, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        ) as program:
            assert program.stdin and program.stdout and program.stderr
            program.stdin.write(text)
            program.stdin.close()
            try:
                serve(self.daemons, lambda: program.poll() is not None)
            finally:
                program.kill()
            out, error = program.stdout.read(), program.stderr.read()
        return program.returncode, out.decode(), error.decode()

    def python(self, side: int, module: str, *arguments: str) -> tuple[int, str, str]:
        return self.run(side, [sys.executable, "-m", module, *arguments])

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        for daemon in self.daemons:
            daemon.close()


class Daemon:
    """A real listener child, and what a failoverd would answer: `answers` by command."""

    def __init__(
        self, space: Namespace, conf: Conf, patient: bool, own: socket.socket | None = None
    ) -> None:
        self.conf = conf
        self.heard: list[Message] = []
        self.answers: dict[str, tuple[bool, str]] = {}

        def run(channel: process.Channel) -> None:
            space.move_in()
            _import_nothing_as_nobody()
            listener.run(channel, conf, patient, own)

        kept = frozenset() if own is None else frozenset({own.fileno()})
        self.child = process.fork_child("failoverd: listener", run, kept)
        self.gone = False

    def of(self, *events: str) -> list[Message]:
        """What was received so far of these kinds."""
        return [message for message in self.heard if message["event"] in events]

    def logged(self) -> list[str]:
        return [worded(message) for message in self.of("log")]

    def read(self) -> None:
        try:
            messages = self.child.channel.receive()
        except process.ChannelClosed:
            self.gone = True
            return
        self.heard += messages
        for message in messages:
            if message["event"] == "request" and message["command"] in self.answers:
                self.answer(message, *self.answers[str(message["command"])])

    def answer(self, request: Message, ok: bool, text: str) -> None:
        self.tell({"do": "answer", "id": request["id"], "ok": ok, "text": text})

    def tell(self, message: Message) -> None:
        assert self.child.channel.send(message)

    def wait_for(self, event: str, count: int = 1) -> list[Message]:
        serve([self], lambda: len(self.of(event)) >= count)
        return self.of(event)

    def ask(
        self, number: int, command: str = "status", timeout: float = LIMIT, direct: bool = False
    ) -> None:
        query = {"do": "query", "id": number, "command": command, "timeout": timeout}
        self.tell({**query, "direct": direct})

    def status(self, field: str) -> str:
        """A line of /proc/PID/status."""
        text = Path(f"/proc/{self.child.pid}/status").read_text()
        return next(line.split(":", 1)[1] for line in text.splitlines() if line.startswith(field))

    def close(self) -> None:
        os.kill(self.child.pid, signal.SIGKILL)
        os.waitpid(self.child.pid, 0)
        self.child.channel.close()


class Caller:
    """A client that is not ours: it says what it likes, and notes all that it is told."""

    def __init__(self, sock: socket.socket, daemons: Sequence[Daemon]) -> None:
        self.socket = sock
        self.daemons = daemons
        self.got = b""
        self.ended = False
        sock.setblocking(False)

    def say(self, data: bytes) -> Caller:
        self.socket.sendall(data)
        return self

    def greeting(self) -> str:
        """The nonce of the greeting, once it is there."""
        self.wait(lambda: b"\n" in self.got)
        return self.got.split()[2].decode()

    def rest(self) -> bytes:
        """All that came after the greeting, once the server has closed."""
        self.wait(lambda: self.ended)
        greeting, _, rest = self.got.partition(b"\n")
        assert greeting.startswith(b"failoverd 1 ")
        return rest

    def wait(self, condition: Callable[[], bool]) -> None:
        def check() -> bool:
            self.read()
            return condition()

        serve(self.daemons, check)

    def read(self) -> None:
        while not self.ended:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            self.got += data
            self.ended = not data


def serve(daemons: Sequence[Daemon], until: Callable[[], bool]) -> None:
    """Be failoverd for these listeners until something has happened. Fails if it never does."""
    deadline = time.monotonic() + LIMIT
    while not until():
        assert time.monotonic() < deadline, [daemon.heard for daemon in daemons]
        alive = {daemon.child.channel.fileno(): daemon for daemon in daemons if not daemon.gone}
        for number in select.select(list(alive), [], [], 0.005)[0]:
            alive[number].read()


def sign(message: str, secret: bytes = SECRET) -> str:
    """Section 6's HMAC, written down a second time."""
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()


def signed(nonce: str, command: str, secret: bytes = SECRET) -> bytes:
    return f"hmac {sign(f'{nonce} {command}', secret)} {command}\n".encode()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class _Unreadable(importlib.abc.MetaPathFinder):
    """The source tree as `nobody` may see it."""

    def find_spec(self, name: str, *_: object) -> None:
        raise ImportError(f"{name} is imported after root was given up")


def _import_nothing_as_nobody() -> None:
    """From the moment that root is given up, let every import fail."""
    give_up_root = process.give_up_root

    def and_the_imports(
        user: str, keep: frozenset[int] = frozenset(), *, forks: bool = False
    ) -> None:
        give_up_root(user, keep, forks=forks)
        sys.meta_path.insert(0, _Unreadable())

    process.give_up_root = and_the_imports


def worded(message: Message) -> str:
    """What a worker has said for the log, which it must be allowed to say."""
    told = decode(Logged, message)
    return f"{told.name} {told.subject}: {told.sentence}{log.tail(told.values)}"
