"""What the children say, in any order, to the real main loop, which only notes what it would do."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache

from failoverd import pair, process, statefile
from failoverd.conf import Address, Conf
from failoverd.log import Log
from failoverd.master import Master
from failoverd.master.queries import Queries
from failoverd.master.reports import Reports
from failoverd.master.requests import Requests
from failoverd.wire import protocol

LISTENER = (pair.Request, pair.Replied, pair.Unreplied)
MAY_SAY: dict[str, tuple[type, ...]] = {
    "listener": LISTENER,
    "neighbours": (pair.Answers,),
    "heartbeat": (),
    "log": (),
    "addresses": (),
    "watchd plip0": (pair.LinkWatched, pair.Counted),
    "watchd lo": (pair.Watched, pair.Counted, pair.Carrier),
}
CHILDREN = tuple(MAY_SAY)
HERE = Conf(
    interfaces=("lo",),
    addresses=(Address("lo", "192.0.2.10", 24),),
    state="/nonexistent/state",
    log=os.devnull,
)


def nothing(*_: object) -> None:
    """What becomes of a hold: a worker would write it."""


class Noting(Master):
    """A main loop without children, which notes what it would do instead of doing it."""

    def __init__(self) -> None:
        super().__init__(HERE, "master", Log(os.devnull))
        self.would: list[pair.Action] = []
        self.context.started = True
        self.serial = 0

    def begin(self) -> None:
        """Know nothing, as at the start. Another object would cost a packet socket."""
        self.context.state = pair.initial(self.context.rules)
        self.context.saved = statefile.Saved()
        self.context.events.clear()
        self.serial = 0
        self.context.log = Log(os.devnull)
        self.reports = Reports(self.context, self.supervisor, self.interfaces)
        self.queries = Queries(self.context, self.supervisor, None, self.peer_probes, nothing)
        self.requests = Requests(self.context, self.supervisor, self.status, nothing)
        self.supervisor.slots.clear()
        for name in CHILDREN:
            self.supervisor.add(name, lambda _: process.Child(0, process.LineChannel(0)), 1.0)
        self.context.feed(pair.Started(None, False))
        self._step_all()

    def _perform(self, action: pair.Action) -> None:
        self.would.append(action)
        if isinstance(action, pair.Ask):  # what is asked may be answered
            self.serial += 1
            self.queries.asked[action.query] = self.serial
        if isinstance(action, pair.Probe):
            self.serial += 1
            self.queries.searched[action.own] = self.serial
        if isinstance(action, pair.Answer):
            self.requests.waiting.pop(action.id, None)


@cache
def noting() -> Noting:
    return Noting()


def told(messages: Sequence[tuple[str, bytes]]) -> None:
    """A child can say anything: it moves nothing but what its kind may, and nothing grows."""
    loop = noting()
    loop.begin()
    try:
        for name, line in messages:
            message = process.parse_message(line)
            if message is not None:
                tell(loop, name, message)
    finally:
        loop.context.log.close()


def tell(loop: Noting, name: str, message: process.Message) -> None:
    loop.would.clear()
    before = loop.context.state
    loop._told(name, message)
    assert len(loop.context.events) <= 4
    assert all(isinstance(event, MAY_SAY[name]) for event in loop.context.events), (name, message)
    loop._step_all()
    assert name != "heartbeat" or loop.context.state == before
    assert loop.context.role in (*protocol.ROLES, "switching")
    assert len(loop.would) <= 30, loop.would
    status = protocol.encode_status(loop.status())
    assert protocol.parse_status(status) is not None, status
    assert len(loop.requests.waiting) <= 200 and len(loop.queries.asked) <= 8
    assert len(loop.context.saved.peer_hwaddrs) <= 256
    json.loads(status, parse_constant=lambda word: 1 / 0)  # NaN is no JSON
