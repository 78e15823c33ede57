"""What the children say, in any order, to the real main loop's ears; its hands are tied."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache

from failoverd import pair, process, protocol, statefile
from failoverd.conf import Address, Conf
from failoverd.log import Log
from failoverd.master import Master

LISTENER = (pair.Request, pair.Replied, pair.Unreplied, pair.Visited)
MAY_SAY: dict[str, tuple[type, ...]] = {
    "listener": LISTENER,
    "neighbours": (pair.Answers,),
    "heartbeat": (),
    "log": (),
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


class Ears(Master):
    """A main loop without children, which notes what it would do instead of doing it."""

    def __init__(self) -> None:
        super().__init__(HERE, "master", Log(os.devnull))
        self.would: list[pair.Action] = []
        self.started = True

    def begin(self) -> None:
        """Know nothing, as at the start. To make an object anew would cost a packet socket."""
        self.state = pair.initial(self.rules)
        self.remembered = statefile.Remembered()
        self.serial = 0
        self.unreached, self.link, self.beat = "", None, (None, None)
        for store in (self.asked, self.questions, self.requests, self.counts, self.verdicts):
            store.clear()
        self.events.clear()
        self.peer_hwaddrs.clear()
        self.log = Log(os.devnull)
        self.children.slots.clear()
        for name in CHILDREN:
            self.children.add(name, lambda _: process.Child(0, process.LineChannel(0)), 1.0)
        self.feed(pair.Started(None, False))
        self._step_all()

    def _perform(self, action: pair.Action) -> None:
        self.would.append(action)
        if isinstance(action, pair.Ask):  # what is asked may be answered
            self.serial += 1
            self.asked[action.purpose] = self.serial
        if isinstance(action, pair.Question):
            self.serial += 1
            self.questions[action.own] = self.serial
        if isinstance(action, pair.Answer):
            self.requests.pop(action.id, None)

    def _save(self) -> None:
        pass


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
        hearer.log.close()


def hear(ears: Ears, name: str, message: process.Message) -> None:
    ears.would.clear()
    before = ears.state
    ears._told(name, message)
    assert len(ears.events) <= 4
    assert all(isinstance(event, MAY_SAY[name]) for event in ears.events), (name, message)
    ears._step_all()
    assert name != "heartbeat" or ears.state == before
    assert pair.role(ears.state) in (*protocol.ROLES, "switching")
    assert len(ears.would) <= 30, ears.would
    status = protocol.encode_status(ears.status())
    assert protocol.parse_status(status) is not None, status
    assert len(ears.requests) <= 200 and len(ears.asked) <= 8 and len(ears.peer_hwaddrs) <= 256
    json.loads(status, parse_constant=lambda word: 1 / 0)  # NaN is no JSON
