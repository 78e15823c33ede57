"""Holds: a person wants no role to change by itself. Asked for on either node, kept in a file, told
to the peer in every status, and ended when their time is up.

A disk may hang, and a node whose loop stalls is a dead one: so a worker writes the file. A person
is answered when it is written, and only then it counts; what the peer tells counts at once.
"""

from __future__ import annotations

import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from failoverd import hold, pair
from failoverd.hold import Kept, uptime
from failoverd.log import lasting, utc_now
from failoverd.master.context import Context
from failoverd.process import Channel, Errand, Message, in_words
from failoverd.wire import protocol
from failoverd.wire.protocol import Hold

WRITE_SECONDS = 5.0  # the time that the disk has
RETRY_SECONDS = 10.0
HANGS = "the disk does not answer"

Answer = Callable[[int, bool, str], None]


@dataclass
class Writing:
    """What is being written; kept: None for nothing. request: the number of the one that asked for
    it, None if none waits for it; deadline: None once it has taken too long."""

    errand: Errand
    kept: Kept | None
    request: int | None
    via: str
    deadline: float | None


class Holds:
    """One is written at a time. `context.hold` is what counts."""

    def __init__(self, context: Context, selector: selectors.BaseSelector, answer: Answer) -> None:
        self._context = context
        self._selector = selector
        self._answer = answer
        self._path = hold.place(context.conf.state)
        self._asked: deque[tuple[int, str, Mapping[str, str]]] = deque()
        self._writing: Writing | None = None
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

    def close(self) -> None:
        if self._writing is not None:
            self._writing.errand.close()

    @property
    def _is_held(self) -> bool:
        now = self._context.hold_now
        return now is not None and now.held

    @property
    def deadline(self) -> float | None:
        """When `tend` has something to do, in monotonic seconds."""
        now, times = time.monotonic(), list[float]()
        if self._writing is not None:
            times += [self._writing.deadline] if self._writing.deadline is not None else []
        elif self._unsaved:
            times.append(self._retry)
        known = self._context.hold_now
        if self._on and known is not None and known.seconds_left is not None:
            times.append(now + known.seconds_left)
        return min(times, default=None)

    def tend(self, now: float) -> None:
        if self._on and not self._is_held:
            self._tell("expired")
        writing = self._writing
        if writing is not None and writing.deadline is not None and now >= writing.deadline:
            writing.errand.child.kill()  # it is reaped when the kernel lets go of it
            for request in (writing.request, *(request for request, _, _ in self._asked)):
                self._failed(request, HANGS)
            self._asked.clear()
            writing.request = writing.deadline = None
        self._go_on()

    # ------------------------------------------------------------------ what a person asks for

    def ask(self, request: int, command: str, who: Mapping[str, str]) -> None:
        if self._writing is not None and self._writing.deadline is None:
            self._failed(request, HANGS)
            return
        self._asked.append((request, command, who))
        self._go_on()

    def _go_on(self) -> None:
        if self._writing is not None:
            return
        if self._asked:
            request, command, who = self._asked.popleft()
            self._write(Kept(self._change(command, who), uptime()), request, who["via"])
        elif self._unsaved and time.monotonic() >= self._retry:
            self._write(self._context.hold, None, "")

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
            self._go_on()

    # ------------------------------------------------------------------ the file

    def _write(self, kept: Kept | None, request: int | None, via: str) -> None:
        conf, path = self._context.conf, self._path

        def work(channel: Channel) -> Message:
            hold.restore(path, kept)
            return {}

        try:
            with self._context.spare:
                errand = Errand(f"failoverd: hold [{conf.pidfile}]", work)
        except (OSError, MemoryError) as error:
            self._failed(request, in_words(error))
            return
        patience = min(WRITE_SECONDS, conf.switch_timeout)
        self._writing = Writing(errand, kept, request, via, time.monotonic() + patience)
        self._selector.register(errand, selectors.EVENT_READ, self._written)

    def _written(self) -> None:
        writing, self._writing = self._writing, None
        assert writing is not None
        self._selector.unregister(writing.errand)
        try:
            writing.errand.result()
        except (ValueError, OSError) as error:
            if writing.deadline is not None:  # or else that was said
                self._failed(writing.request, str(error))
        else:
            self._take(writing)
        finally:
            writing.errand.close()
        self._go_on()

    def _take(self, writing: Writing) -> None:
        """It is in the file. The peer may have told of a newer change meanwhile."""
        kept, known = writing.kept, self._context.hold
        if self._retry:
            self._retry = 0.0
            self._context.say("HOLD-KEPT", "role", "the hold is in its file again", file=self._path)
        if kept is not None and (known is None or kept.told.rank > known.told.rank):
            self._context.hold = known = kept
            self._tell(writing.via)
        self._unsaved = known is not kept
        if kept is not None and writing.request is not None:
            done = "held" if kept.told.held else "released"
            text = "the peer has changed it meanwhile: try again" if self._unsaved else done
            self._answer(writing.request, not self._unsaved, text)

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
        else:
            self._context.say("HOLD-OFF", "role", "not on hold", **values)
        if now.held is not self._on:
            self._on = now.held
            self._context.feed(pair.Hold(now.held))
