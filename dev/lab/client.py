"""The lab's client: it uses the service address, and sees how long no answer came."""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from pathlib import Path

from dev.lab import prober
from dev.lab.node import Node
from dev.lab.record import Record
from dev.lab.spaces import Process

_ETH_P_ARP = 0x0806
_ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")  # with its ethernet header (RFC 826)
_BROADCAST = b"\xff" * 6
_REQUEST, _REPLY = 1, 2


class Client(Node):
    """A host that probes, and asks who has an address."""

    _prober: Process | None = None

    def start_probing(self, address: str = "", interval: float = 0.005, port: int = 0) -> None:
        """Ask `address`, the service by default, for an echo every `interval` seconds. port: of a
        service that echoes, in place of the kernel."""
        self.stop_probing()
        (self.outside / "probes").unlink(missing_ok=True)
        program = str(Path(prober.__file__).resolve())
        argv = (sys.executable, "-I", program, address or self.lab.service, str(interval))
        where = (str(port),) if port else ()
        self._prober = self.popen(*argv, f"{self.folder}/probes", *where)

    def stop_probing(self) -> None:
        if self._prober is not None:
            self._prober.close()
            self._prober = None

    def close(self) -> None:
        self.stop_probing()

    @property
    def record(self) -> Record:
        """What was recorded so far."""
        record = Record()
        path = self.outside / "probes"
        data = path.read_bytes() if path.exists() else b""
        whole = len(data) - len(data) % prober.RECORD.size
        for kind, at in prober.RECORD.iter_unpack(data[:whole]):
            (record.sent if kind == b"s" else record.replies).append(at)
        return record

    def outage(self, since: float, until: float | None = None) -> float:
        """The longest time, in seconds, without an answer since a monotonic time."""
        return self.record.outage(since, time.monotonic() if until is None else until)

    def answering(self, since: float | None = None) -> bool:
        """Whether a reply came in the last fifth of a second, or since a monotonic time."""
        replies = self.record.replies
        return bool(replies) and replies[-1] > (time.monotonic() - 0.2 if since is None else since)

    def arp_holders(
        self, address: str = "", wait: float = 0.2, interface: str = "eth0"
    ) -> set[str]:
        """Ask once by ARP who has `address`; the hardware addresses of all who say so.

        A conflict shows only here: with two holders the client's own cache has the last answer.
        """
        wanted = socket.inet_aton(address or self.lab.service)
        mac = bytes.fromhex(self.interfaces[interface].hwaddr.replace(":", ""))
        own = socket.inet_aton(self.interfaces[interface].addresses[0].split("/")[0])
        kind = (1, 0x0800, 6, 4, _REQUEST)
        request = _ARP.pack(_BROADCAST, mac, _ETH_P_ARP, *kind, mac, own, bytes(6), wanted)
        found = set()
        with self.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as raw:
            raw.bind((interface, _ETH_P_ARP))
            raw.send(request)
            end = time.monotonic() + wait
            while select.select([raw], [], [], max(0.0, end - time.monotonic()))[0]:
                fields = _ARP.unpack(raw.recv(2048)[: _ARP.size])
                if fields[7] == _REPLY and fields[9] == wanted:
                    found.add(fields[8].hex(":"))
        return found
