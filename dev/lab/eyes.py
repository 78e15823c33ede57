"""What both kernels and the client see, from moment to moment: who has the address, who answers.

The kernels tell by rtnetlink(7) whenever an address comes or goes, so nothing is asked of the
nodes, which would be traffic that they count.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from dev.lab import prober
from dev.lab.network import Lab

_RTMGRP_IPV4_IFADDR = 0x10
_RTM_NEWADDR, _RTM_DELADDR = 20, 21
_IFA_LOCAL = 2
_MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ATTRIBUTE = struct.Struct("=HH")

EVERY = 0.04  # seconds between two looks
UNANSWERED = 0.3  # seconds without an answer after which the client is not served
PROBE_INTERVAL = 0.02
CATCH_UP_LIMIT = 60.0  # seconds; how busy the host is must not matter


@dataclass(frozen=True)
class Change:
    """A node got the address, or lost it."""

    at: float
    name: str
    holds: bool


class Eyes:
    """Watches a lab in a thread of its own, from its start to `close`, as a context manager too.

    `look(at, holders, served)` is called in that thread, every EVERY seconds or sooner. `served` is
    whether the client's probes, which are begun here, have been answered lately.
    """

    def __init__(
        self, lab: Lab, look: Callable[[float, frozenset[str], bool], None] | None = None
    ) -> None:
        self._look = look
        self._wanted = socket.inet_aton(lab.service)
        self._changes: list[Change] = []
        self._holders: frozenset[str] = frozenset(lab.holders())
        self._sockets: dict[socket.socket, str] = {}
        for node in lab.nodes:
            news = node.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            news.setblocking(False)
            news.bind((0, _RTMGRP_IPV4_IFADDR))
            self._sockets[news] = node.name
        lab.client.start_probing(interval=PROBE_INTERVAL)
        self._probes = _Probes(lab)
        self.served = False
        self._failure: BaseException | None = None
        self._ending = threading.Event()
        self._rounds = _Rounds()
        self._thread = threading.Thread(target=self._run, name="eyes", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                select.select([*self._sockets, self._rounds.woken], [], [], EVERY)
                number = self._rounds.begin()
                self._note(self._read_all())
                self._rounds.end(number)
                now = time.monotonic()
                self.served = self._probes.served(now)
                if self._look is not None:
                    self._look(now, self._holders, self.served)
        except BaseException as error:  # noqa: BLE001 - raised again by check()
            self._failure = error
        finally:
            self._rounds.end_all()

    @property
    def changes(self) -> list[Change]:
        """Every change until this moment, in the order in which they came."""
        self._catch_up()
        return list(self._changes)

    @property
    def holders(self) -> frozenset[str]:
        """The names of the nodes that have the address at this moment."""
        self._catch_up()
        return self._holders

    def _catch_up(self) -> None:
        """Wait until our thread, if it is not we, has noted all that the kernels have told."""
        if threading.current_thread() is not self._thread:
            self._rounds.wait_for_one()

    def _read_all(self) -> list[tuple[str, bool]]:
        """Read until there is no more: a loss before a gain is then read with it."""
        found: list[tuple[str, bool]] = []
        while more := [each for news in self._sockets for each in self._read(news)]:
            found += more
        return found

    def _read(self, news: socket.socket) -> list[tuple[str, bool]]:
        """What a kernel tells of the address, in its order: the node, and whether it holds."""
        found: list[tuple[str, bool]] = []
        while True:
            try:
                data = news.recv(64 * 1024)
            except BlockingIOError:
                return found
            found += [(self._sockets[news], holds) for holds in tell(data, self._wanted)]

    def _note(self, found: list[tuple[str, bool]]) -> None:
        """Of what is read at once, losses come first: only the order in one kernel is known."""
        now = time.monotonic()
        for name, holds in sorted(found, key=lambda one: one[1]):
            if holds is not (name in self._holders):
                self._holders = self._holders | {name} if holds else self._holders - {name}
                self._changes.append(Change(now, name, holds))

    def check(self) -> None:
        """Raises what ended the watching, if anything."""
        if self._failure is not None:
            raise self._failure

    def overlaps(self, since: float = 0.0) -> list[tuple[float, float]]:
        """Every (begin, end) in which both nodes had the address; one that lasts ends now."""
        self.check()
        holders: set[str] = set()
        times: list[tuple[float, int]] = []
        for change in self.changes:
            (holders.add if change.holds else holders.discard)(change.name)
            times.append((change.at, len(holders)))
        times.append((time.monotonic(), 0))
        return [(at, end) for (at, n), (end, _) in pairwise(times) if n == 2 and end >= since]

    def gained(self, name: str, since: float = 0.0) -> float:
        """When a node first got the address after a time. Raises LookupError if never."""
        self.check()
        for change in self.changes:
            if change.name == name and change.holds and change.at >= since:
                return change.at
        raise LookupError(f"{name} has not got the address")

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        for news in self._sockets:
            news.close()
        self._rounds.close()
        self._probes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.check()


class _Rounds:
    """The looks of a thread, and whoever waits for one that began after it asked."""

    def __init__(self) -> None:
        self.woken, self._wake = socket.socketpair()
        self.woken.setblocking(False)
        self._changed = threading.Condition()
        self._asked = 0
        self._ended = 0
        self._over = False

    def begin(self) -> int:
        """The number of those who had asked when this round began."""
        with self._changed:
            try:
                self.woken.recv(4096)
            except BlockingIOError:
                pass  # it was not asked
            return self._asked

    def end(self, number: int) -> None:
        with self._changed:
            self._ended = number
            self._changed.notify_all()

    def end_all(self) -> None:
        """There will be no more rounds."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for_one(self) -> None:
        """Wait for a whole round. Raises TimeoutError."""
        with self._changed:
            if self._over:
                return
            self._asked += 1
            number = self._asked
            self._wake.send(b".")
            done = self._changed.wait_for(
                lambda: self._over or self._ended >= number, CATCH_UP_LIMIT
            )
        if not done:
            raise TimeoutError(f"the eyes have not looked for {CATCH_UP_LIMIT:g} s")

    def close(self) -> None:
        self.woken.close()
        self._wake.close()


class _Probes:
    """The client's record, read as it grows."""

    def __init__(self, lab: Lab) -> None:
        path = lab.client.outside / "probes"
        lab.wait_until(path.exists, "the client probes")
        self._file = path.open("rb")
        self._rest = b""
        self._unanswered: float | None = None  # when the first probe after the last reply was sent

    def served(self, now: float) -> bool:
        """A prober that stood still has sent nothing, so nothing is unanswered."""
        data = self._rest + self._file.read()
        whole = len(data) - len(data) % prober.RECORD.size
        self._rest = data[whole:]
        for kind, at in prober.RECORD.iter_unpack(data[:whole]):
            if kind == b"r":
                self._unanswered = None
            elif self._unanswered is None:
                self._unanswered = at
        return self._unanswered is None or now - self._unanswered < UNANSWERED

    def close(self) -> None:
        self._file.close()


def tell(data: bytes, wanted: bytes) -> list[bool]:
    """For each message about the address in a packet of rtnetlink: whether it was added."""
    found = []
    while len(data) >= _MESSAGE.size:
        length, kind, *_ = _MESSAGE.unpack_from(data)
        if length < _MESSAGE.size:
            break
        body = data[_MESSAGE.size + _ADDRESS.size : length]
        if kind in (_RTM_NEWADDR, _RTM_DELADDR) and wanted in locals_of(body):
            found.append(kind == _RTM_NEWADDR)
        data = data[(length + 3) & ~3 :]
    return found


def locals_of(attributes: bytes) -> list[bytes]:
    """The values of IFA_LOCAL among attributes."""
    found = []
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if length < _ATTRIBUTE.size:
            break
        if kind == _IFA_LOCAL:
            found.append(attributes[_ATTRIBUTE.size : length])
        attributes = attributes[(length + 3) & ~3 :]
    return found
