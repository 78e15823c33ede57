"""What the children say, in any order, to the real main loop's ears; its hands are tied."""

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


class Ears(Master):
    """A main loop without children, which notes what it would do instead of doing it."""

    def __init__(self) -> None:
        super().__init__(HERE, "master", Log(os.devnull))
        self.would: list[pair.Action] = []
        self.context.started = True
        self.serial = 0

    def begin(self) -> None:
        """Know nothing, as at the start. To make an object anew would cost a packet socket."""
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
def ears() -> Ears:
    return Ears()


def told(messages: Sequence[tuple[str, bytes]]) -> None:
    """A child can say anything: it moves nothing but what its kind may, and nothing grows."""
    hearer = ears()
    hearer.begin()
    try:
        for name, line in messages:
            message = process.parse_message(line)
            if message is not None:
                hear(hearer, name, message)
    finally:
        hearer.context.log.close()


def hear(ears: Ears, name: str, message: process.Message) -> None:
    ears.would.clear()
    before = ears.context.state
    ears._told(name, message)
    assert len(ears.context.events) <= 4
    assert all(isinstance(event, MAY_SAY[name]) for event in ears.context.events), (name, message)
    ears._step_all()
    assert name != "heartbeat" or ears.context.state == before
    assert ears.context.role in (*protocol.ROLES, "switching")
    assert len(ears.would) <= 30, ears.would
    status = protocol.encode_status(ears.status())
    assert protocol.parse_status(status) is not None, status
    assert len(ears.requests.waiting) <= 200 and len(ears.queries.asked) <= 8
    assert len(ears.context.saved.peer_hwaddrs) <= 256
    json.loads(status, parse_constant=lambda word: 1 / 0)  # NaN is no JSON
