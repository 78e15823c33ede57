"""What the watchers probe beside @witness: the peer, at its own addresses on the service network;
and where the listener listens and queries there.

Each node tells its own in its status, and the other keeps them. A node probes from an address of
its own, so that the probe counts at the peer as the answer counts here: on a quiet network both
receive something, or it is known which of the two does not. So an address is probed only from one
that the peer, by the same rule, would probe: both are in the network of the other.
"""

from __future__ import annotations

from dataclasses import asdict

from failoverd import links, neighbours, second_path
from failoverd.master.context import Context
from failoverd.master.supervisor import Supervisor
from failoverd.process import Message
from failoverd.second_path import SecondPath, pairs
from failoverd.wire import protocol

NOBODY: Message = {"do": "peer", "ask": [], "hwaddr": ""}


class PeerProbes:
    """Knows the own addresses of both, and keeps the watchers informed."""

    def __init__(self, context: Context, supervisor: Supervisor) -> None:
        self._context = context
        self._supervisor = supervisor
        self._held: list[links.Held] | None = None
        self._told: dict[str, Message] = {}  # by interface
        self._path = SecondPath()  # as the listener was told

    def look(self, held: list[links.Held]) -> None:
        if held == self._held:
            return
        self._held = held
        conf = self._context.conf
        here = (one for one in held if one.interface in conf.interfaces)
        self._context.fixed = links.fixed(here, conf.served)
        self._tell()

    def adopt(self) -> None:
        self._held = None
        self._told.clear()

    def learn(self, status: protocol.Status) -> None:
        """What the peer says of itself is kept, until it says something else."""
        context, known = self._context, dict(status.interfaces)
        mine = [name for name in context.conf.interfaces if name in known]
        context.peer_hwaddr = {name: known[name].hwaddr for name in mine}
        told = {
            name: list(known[name].fixed[: links.MOST_FIXED]) for name in mine if known[name].fixed
        }
        if told != context.saved.peer_fixed:
            context.saved.peer_fixed = told
            context.save()
            context.keep_peer()
        self._tell()

    def _tell(self) -> None:
        for name in self._context.conf.interfaces:
            message = whom_to_ask(self._context, name)
            if self._told.get(name, NOBODY) != message:
                self._told[name] = message
                self._supervisor.send(f"watchd {name}", message)
        path = second_path_of(self._context)
        if path != self._path:
            self._path = path
            self._supervisor.send("listener", {"do": "second", **asdict(path)})


def whom_to_ask(context: Context, interface: str) -> Message:
    """What a watcher is told, also when it begins: from which address which one is probed."""
    theirs = context.saved.peer_fixed.get(interface, ())
    asked = list(pairs(context.fixed.get(interface, ()), theirs, context.conf.served))
    hwaddr = context.peer_hwaddr.get(interface, "")
    known = asked and neighbours.UNICAST.fullmatch(hwaddr)
    return {"do": "peer", "ask": asked, "hwaddr": hwaddr if known else ""}


def second_path_of(context: Context) -> SecondPath:
    """What the listener is told, also when it begins."""
    return second_path.find(context.conf, context.fixed, context.saved.peer_fixed)
