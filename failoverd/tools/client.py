"""One query from this node's commands to a failoverd: this node's, or the peer's over the link.

This node's is reached by its Unix socket, whatever has become of the link; by its port only if
there is no such socket, as with an older one. Blocking, with one deadline for the whole exchange,
and always by HMAC. Whatever goes wrong becomes one sentence for a person.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from dataclasses import dataclass, replace

from failoverd import links, process
from failoverd.conf import Conf, ConfError, files
from failoverd.second_path import SecondPath
from failoverd.wire.protocol import (
    LOOK_THERE,
    ClientConnection,
    NoAnswer,
    Reply,
    Send,
    Status,
    named_end,
    parse_status,
    why_unconnected,
)

# A status is answered at once. The kernel finds out within 3 s that a node does not answer ARP, and
# says so better than this end's running out of patience.
STATUS_SECONDS = 4.0
AS_ROOT = "run this as root"
_NEEDED = {"primary", "secondary", "tcp_port", "plip_interface", "secret", "switch_timeout"}


class ExchangeError(Exception):
    """There was no authentic answer. why: a clause; advice: what to do, "" if `why` says it.

    sent: the request may have arrived, so that it may have been done.
    """

    def __init__(self, why: str, advice: str = "", sent: bool = False) -> None:
        super().__init__(f"{why}; {advice}" if advice else why)
        self.why, self.advice, self.sent = why, advice, sent


def load(path: str) -> Conf:
    """The configuration in this file. Raises ExchangeError.

    An error in what no exchange rests on is told, and no more: failoverd itself goes on without it,
    and a node that is going down must be able to switch over.
    """
    try:
        return files.load(path)
    except ConfError as error:
        if error.conf is None or _NEEDED & error.conf.origin.unusable:
            raise _unreadable(error) from None
        print(f"{error}\n{path} has errors: going on with the rest of it", file=sys.stderr)
        return error.conf


def _unreadable(error: ConfError) -> ExchangeError:
    hint = f"\nonly root can read the secret: {AS_ROOT}" if os.geteuid() else ""
    return ExchangeError(f"{error}{hint}")


@dataclass(frozen=True)
class Client:
    """Asks with this configuration and this secret.

    An address is conf.primary (this node) or conf.secondary; a path is the second one to the peer.
    There is an answer, or an ExchangeError, after `timeout` seconds at the latest.
    """

    conf: Conf
    secret: bytes

    def status(
        self, address: str, timeout: float = STATUS_SECONDS, path: SecondPath | None = None
    ) -> Status:
        reply = self.exchange(address, "status", timeout, path)
        status = parse_status(reply.text) if reply.ok else None
        if status is None:
            why = "answers, but with no status that this version understands"
            raise ExchangeError(f"{address} {why}")
        return status

    def exchange(
        self, address: str, command: str, timeout: float, path: SecondPath | None = None
    ) -> Reply:
        conf, deadline = self.conf, time.monotonic() + timeout
        connection = ClientConnection(self.secret, command, challenge=os.urandom(16).hex())
        if path is not None and path.ends:
            own, peer = path.ends
            conf = replace(conf, primary=own, secondary=peer, plip_interface=path.interface)
            address = peer
        reply = _ask(conf, address, connection, deadline, timeout)
        if reply.is_unknown:  # an older failoverd
            reply = _ask(conf, address, ClientConnection(self.secret, command), deadline, timeout)
        return reply


def prepare(path: str) -> Client:
    """With the configuration in this file, and the shared secret. Raises ExchangeError."""
    conf = load(path)
    process.keep_secret()
    try:
        return Client(conf, files.read_secret(conf.secret))
    except ConfError as error:
        raise _unreadable(error) from None


def _ask(
    conf: Conf, address: str, connection: ClientConnection, deadline: float, timeout: float
) -> Reply:
    sent = False
    try:
        with _connect(conf, address, deadline) as sock:
            while True:
                sock.settimeout(_remaining(deadline))
                data = sock.recv(64 * 1024)
                for event in connection.feed(data) if data else connection.end():
                    if isinstance(event, Reply):
                        return event
                    if isinstance(event, NoAnswer):
                        raise ExchangeError(*_no_answer(conf, address, event), sent)
                    assert isinstance(event, Send)
                    sent = True
                    sock.sendall(event.data)
    except TimeoutError:
        raise ExchangeError(*_silence(conf, address, timeout), sent) from None
    except OSError as error:
        raise ExchangeError(*_failure(conf, address, error), sent) from None


def _connect(conf: Conf, address: str, deadline: float) -> socket.socket:
    own = None
    if address == conf.primary and "pidfile" not in conf.origin.unusable:
        own = control_socket(conf.control_socket)
    return own or _connect_tcp(conf, address, deadline)


def control_socket(path: str) -> socket.socket | None:
    """A connection to this node's failoverd, None if there is none to be had.

    By way of its descriptor, so that it is the one that was looked at, however long its name is.
    """
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        info = os.fstat(found)
        if not stat.S_ISSOCK(info.st_mode) or info.st_uid not in files.trusted_owners():
            raise OSError("another user may have planted it")
        if user := os.environ.get("SUDO_USER"):
            sock.bind(named_end(user, os.urandom(8).hex()))
        sock.setblocking(False)  # who finds the queue full is told at once
        sock.connect(f"/proc/self/fd/{found}")
        return sock
    except OSError:
        sock.close()
        return None
    finally:
        os.close(found)


def _connect_tcp(conf: Conf, address: str, deadline: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # To this node it is bound to no interface: a socket bound to lo would not learn that the
        # connection is refused, and the listener answers with the link down, too.
        if address != conf.primary:
            link = conf.plip_interface.encode()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link)
        # The address must be this node's, or nothing is sent: it must not reach another's.
        sock.bind((conf.primary, 0))
        sock.settimeout(_remaining(deadline))
        sock.connect((address, conf.tcp_port))
    except OSError:
        sock.close()
        raise
    return sock


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


# Why there was no answer, and what to do


def _silence(conf: Conf, address: str, seconds: float) -> tuple[str, str]:
    if address != conf.primary:
        return f"the peer {address} does not answer within {seconds:g} s", links.way_out(conf)
    return f"failoverd here does not answer within {seconds:g} s", (
        f"it is stopped or hangs: see {conf.log}"
    )


def _failure(conf: Conf, address: str, error: OSError) -> tuple[str, str]:
    place = f"{address} port {conf.tcp_port}"
    if address != conf.primary:
        why, advice = why_unconnected(error, place, conf.primary, conf.plip_interface)
        return f"no answer from the peer: {why}", advice or links.way_out(conf)
    if os.geteuid():
        return f"only root may ask failoverd here by {conf.control_socket}", AS_ROOT
    if files.is_locked(conf.pidfile):
        return (
            f"failoverd runs here, but neither {conf.control_socket} nor {place} leads to it "
            f"({error.strerror})",
            f"{conf.log} says why; if failoverd.conf was changed, send it HUP",
        )
    why = f"failoverd is not running here: nothing listens on {conf.control_socket}"
    return why, "start failoverd on this node"


def _no_answer(conf: Conf, address: str, event: NoAnswer) -> tuple[str, str]:
    if address != conf.primary:
        return f"no answer from the peer: {event.why}", event.advice or LOOK_THERE
    if event.refused:
        why = f"authentication with failoverd here failed: its secret differs from {conf.secret}"
        return why, f"if {conf.secret} is right, send HUP to failoverd on this node"
    return f"no answer from failoverd here: {event.why}", ""
