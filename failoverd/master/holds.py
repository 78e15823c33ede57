"""Holds: a person wants no role to change by itself. Asked for on either node, kept in a file, told
to the peer in every status, and ended when their time is up.

A person is answered when the file is written, and only then it counts; what the peer tells counts
at once.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from failoverd import hold, pair, statefile
from failoverd.hold import Kept
from failoverd.log import lasting, utc_now
from failoverd.master.context import Context
from failoverd.master.errands import HANGS, Errands
from failoverd.process import Message, in_words
from failoverd.statefile import uptime
from failoverd.wire import protocol
from failoverd.wire.protocol import Hold

WRITE_SECONDS = 5.0  # the time that the disk has
RETRY_SECONDS = 10.0
ERRAND = "hold"

Answer = Callable[[int, bool, str], None]


class Holds:
    """One is written at a time. `context.hold` is what counts."""

    def __init__(self, context: Context, errands: Errands, answer: Answer) -> None:
        self._context = context
        self._errands = errands
        self._answer = answer
        self._path = statefile.place(context.conf.state, "hold")
        self._asked: deque[tuple[int, str, Mapping[str, str]]] = deque()
        self._hangs = False  # what is being written has taken too long, and that was said
        self._unsaved = False  # the file may say something else than what counts
        self._retry = 0.0  # not before then; 0 if the last attempt did not fail
        self._on = False  # as the pair was told last
        try:
            context.hold = hold.read(self._path)
        except (OSError, ValueError) as error:
            self._complain("cannot be read, and counts as no hold", in_words(error))

    def begin(self) -> None:
        """Before the pair begins to decide: it must know of a hold from a time before."""
        if self._is_held:
            self._tell("file")

    @property
    def _is_held(self) -> bool:
        now = self._context.hold_now
        return now is not None and now.held

    @property
    def deadline(self) -> float | None:
        times = list[float]()
        if (self._asked or self._unsaved) and not self._errands.under_way(ERRAND):
            times.append(0.0 if self._asked else self._retry)
        known = self._context.hold_now
        if self._on and known is not None and known.seconds_left is not None:
            times.append(time.monotonic() + known.seconds_left)
        return min(times, default=None)

    def tend(self, now: float) -> None:
        if self._on and not self._is_held:
            self._tell("expired")
        if self._errands.under_way(ERRAND):
            return
        if self._asked:
            request, command, who = self._asked.popleft()
            self._write(Kept(self._change(command, who), uptime()), request, who["via"])
        elif self._unsaved and now >= self._retry:
            self._write(self._context.hold, None, "")

    # ------------------------------------------------------------------ what a person asks for

    def ask(self, request: int, command: str, who: Mapping[str, str]) -> None:
        if self._hangs:
            self._failed(request, HANGS)
        else:
            self._asked.append((request, command, who))

    def _change(self, command: str, who: Mapping[str, str]) -> Hold:
        word, _, seconds = command.partition(" ")
        return Hold(
            serial=hold.serial_after(self._context.hold_now),
            held=word == "hold",
            seconds_left=float(seconds) if seconds else None,
            by=protocol.words(who["user"] or who["client"]),
            node=protocol.host(os.uname().nodename),
            since=utc_now(),
        )

    # ------------------------------------------------------------------ what the peer tells

    def learn(self, told: Hold | None) -> None:
        """Adopt what is newer. By the same change only the time left can be learnt, if that was
        reckoned by the time of day here."""
        known = self._context.hold
        if told is None or (known is not None and told.rank < known.told.rank):
            return
        is_news = known is None or told.rank != known.told.rank
        if known is None or is_news or not known.sure:
            self._context.hold, self._unsaved = Kept(told, uptime()), not self._context.dry
            if is_news or told.held is not self._on:
                self._tell("peer")

    # ------------------------------------------------------------------ the file

    def _write(self, kept: Kept | None, request: int | None, via: str) -> None:
        """kept: None for nothing. request: the number of the one that asked for it, None if none
        waits for it. via: how this node came to know."""
        path, patience = self._path, min(WRITE_SECONDS, self._context.conf.switch_timeout)
        self._errands.start(
            ERRAND,
            lambda _: hold.restore(path, kept),
            partial(self._written, kept, request, via),
            patience,
            partial(self._give_up, request),
        )

    def _give_up(self, request: int | None) -> None:
        """No other is written before this one has ended: the kernel may still carry it out."""
        self._errands.kill(ERRAND)
        self._hangs = True
        for each in (request, *(asked for asked, _, _ in self._asked)):
            self._failed(each, HANGS)
        self._asked.clear()

    def _written(
        self, kept: Kept | None, request: int | None, via: str, why: str, _found: Message
    ) -> None:
        if self._hangs:  # whatever has become of it, it was refused
            self._hangs = False
        elif why:
            self._failed(request, why)
        else:
            self._take(kept, request, via)

    def _take(self, kept: Kept | None, request: int | None, via: str) -> None:
        """It is in the file. The peer may have told of a newer change meanwhile."""
        known = self._context.hold
        if self._retry:
            self._retry = 0.0
            self._context.say("HOLD-KEPT", "role", "the hold is in its file again", file=self._path)
        if kept is not None and (known is None or kept.told.rank > known.told.rank):
            self._context.hold = known = kept
            self._tell(via)
        self._unsaved = known is not kept
        if kept is not None and request is not None:
            done = "held" if kept.told.held else "released"
            text = "the peer has changed it meanwhile: try again" if self._unsaved else done
            self._answer(request, not self._unsaved, text)

    def _failed(self, request: int | None, why: str) -> None:
        if request is not None:
            self._unsaved = True  # what is refused must not be there after a restart
            self._answer(request, False, f"{self._path} cannot be written: {why}")
            return
        self._retry = time.monotonic() + RETRY_SECONDS
        self._complain("cannot be written", why)

    def _complain(self, text: str, why: str) -> None:
        text = f"the file of the hold {text}"
        self._context.say("HOLD-FAILED", "role", text, file=self._path, error=why)

    # ------------------------------------------------------------------ who is to know

    def _tell(self, via: str) -> None:
        """The log, and the pair if it makes a difference. via: how this node came to know."""
        now = self._context.hold_now
        assert now is not None
        values = {"by": now.by, "node": now.node, "via": via}
        if now.held:
            if (left := now.seconds_left) is not None:
                values |= {"left": lasting(left), "until": hold.until(left)}
            self._context.say("HOLD-ON", "role", "on hold, changes by operators only", **values)
        elif self._on:
            self._context.say("HOLD-OFF", "role", "not on hold", **values)
        elif via != "peer":
            self._context.say("HOLD-NONE", "role", "released, nothing was on hold", **values)
        if now.held is not self._on:
            self._on = now.held
            self._context.feed(pair.Hold(now.held))
