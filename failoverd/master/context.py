"""What failoverd knows of this node and says of it: common to all parts of the main loop."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from failoverd import history, hold, pair, process, statefile
from failoverd.conf import Conf
from failoverd.counters import Counters
from failoverd.events import notifies
from failoverd.log import Log, lasting, utc_now
from failoverd.pair import compare
from failoverd.statefile import uptime
from failoverd.wire.protocol import Change, Hold

SPARE = 8  # descriptors: enough to start a program, and to write $state

Notify = Callable[[str, str, str], None]  # "alarm" or "role", a sentence or a role, the event
Keep = Callable[[str], None]  # writes a file. Raises OSError


class Context:
    """What is set, what the pair knows, what $state holds, and the events still to decide."""

    def __init__(self, conf: Conf, boot: str, log: Log, notify: Notify, *, dry: bool) -> None:
        self.conf = conf
        self.boot = boot
        self.log = log
        self.dry = dry
        self.rules = self._rules(conf)
        self.state = pair.initial(self.rules)
        self.events: deque[pair.Event] = deque()
        self.saved = statefile.read(conf.state)
        if not self.saved.peer_fixed:
            path = statefile.place(conf.state, "peer")
            self.saved.peer_fixed = statefile.read_peer(path)
        self.history = history.History()
        self.hold: hold.Kept | None = None  # the last change of it
        self.path = ""  # by which the peer has answered last: private or second
        self.counters = Counters()
        self.peer_host = ""  # the peer's name, as it has told last
        self.held: list[tuple[str, str]] = []  # service addresses that are here, each interface
        self.born = utc_now(), uptime()  # when this failoverd began
        self.fixed: dict[str, tuple[str, ...]] = {}  # by interface, this node's own addresses there
        self.peer_hwaddr: dict[str, str] = {}  # by interface, the peer's hardware address
        self.unsaved = False  # $state does not know yet what has changed
        self.unkept: dict[str, Keep] = {}  # files that outlive a boot, and are to be written
        self.spare = process.Spare(SPARE)
        self.stops = 0  # how often it was told to stop
        self.up = False  # all workers were ready once: one that dies now is replaced
        self.started = False  # the pair has begun to decide
        self._notify = notify
        self._notified = self.saved.role  # the last role that $notify_prog was told
        path = statefile.place(conf.state, "history")
        try:
            self.history.begin(path, self.saved.role)
        except OSError as error:
            text = "cannot read what outlives a boot"
            self.say("HISTORY-FAILED", "config", text, file=path, error=error.strerror)

    @property
    def role(self) -> str:
        return pair.role(self.state)

    @property
    def is_served(self) -> bool:
        """Whether a node is known to be active. Without addresses to ask for, heartbeats are all
        that tells: they come from one that serves."""
        return pair.is_served(self.state) or (self.state.beats and not self.rules.addressed)

    @property
    def service(self) -> str:
        """Who serves, as far as is known: one of protocol.SERVICES."""
        state = self.state
        if self.role == "active":
            return "here"
        if self.is_served:
            by_word = state.peer_serves or not self.rules.addressed
            return "peer" if by_word else "answered"
        told = state.heard and compare.peer_is_idle(state)
        return "nobody" if told or state.silent or state.quiet > 0 else "unknown"

    @property
    def stranger(self) -> str:
        """A service address and the hardware address of who has it, if that is not the peer."""
        who = self.state.who if self.service == "answered" else ""
        return "" if self.may_be_peer(who.rpartition(" ")[2]) else who

    def may_be_peer(self, hwaddr: str) -> bool:
        """Also if the peer never told its hardware addresses: two holders do not stay two."""
        known = self.saved.peer_hwaddrs
        shared = [entry.hwaddr for entry in self.conf.ethernet_addresses]
        return not known or hwaddr in known or hwaddr in shared

    @property
    def blocked(self) -> str:
        """Why this node does not take over, while the heartbeat link would have it do so."""
        state = self.state
        is_wanted = state.silent or pair.is_speechless(state)
        return state.blocked if is_wanted and self.role in ("standby", "failed") else ""

    @property
    def since(self) -> tuple[str, float | None]:
        """When the role began, in UTC, and how many seconds ago, None if that is not known."""
        since, began = self.saved.since, self.saved.began
        if not self.started or not since:
            since, began = self.born
        return since, None if began is None else max(0.0, uptime() - began)

    @property
    def hold_now(self) -> Hold | None:
        return None if self.hold is None else self.hold.now

    def _rules(self, conf: Conf) -> pair.Rules:
        """In a dry run no check is made, and none is waited for."""
        found = pair.rules(conf, self.boot)
        return replace(found, everywhere=frozenset()) if self.dry else found

    def feed(self, event: pair.Event) -> None:
        """Take an event in; it is decided on before the loop sleeps again."""
        self.events.append(event)

    def drop(self, is_void: Callable[[pair.Event], bool]) -> None:
        """Forget those of the events still to decide that mean nothing any more."""
        self.events = deque(event for event in self.events if not is_void(event))

    def adopt(self, conf: Conf) -> None:
        self.conf = conf
        before, self.rules = self.rules, self._rules(conf)
        self.state = pair.adapt(self.state, before, self.rules)

    def change_role(self, before: str, after: str) -> None:
        """Note the role that a step led to. One that it had before it switched is none to go to."""
        change = self.history.entered(after, utc_now(), time.monotonic())
        if change is not None and change is self.history.last and not self.dry:
            self.unkept["history"] = self.history.save
        if after != before:
            self.saved.since = ""
            self._tell_role(before, after, change)
        if not self.saved.since:
            self.saved.since, self.saved.began = utc_now(), uptime()
        self.unsaved = True

    def _tell_role(self, before: str, role: str, change: Change | None) -> None:
        """Nothing is said of a switch that goes on, nor of a failed one that is tried every window
        and changes nothing: the script's own lines tell of those."""
        is_retry = change is not None and change is not self.history.last
        is_end = self.log.ends("ROLE", "role")
        if role == "switching" or (role == "failed" and is_retry and not is_end):
            return
        values = {}
        if change is not None:  # or else failoverd was started again
            took = lasting(change.took) if before == "switching" else ""
            values = {"from": change.was, "cause": change.cause, "took": took}
        self.say("ROLE", "role", role, **values)
        if role != self._notified:
            self._notified = role
            self._notify("role", role, "ROLE")

    @property
    def _decided(self) -> dict[str, object]:
        """What the next failoverd has to know of this one's decisions, beside the role."""
        state = self.state
        return {
            "resuming": state.resuming,
            "unclean": state.unclean,
            "from_peer": state.from_peer,
            "guarded": None if state.guarded is None else sorted(state.guarded),
            "checks": sorted(state.checks),
        }

    def note_decided(self) -> None:
        """Have it saved, if it is news."""
        saved = vars(self.saved)
        self.unsaved |= any(saved[name] != value for name, value in self._decided.items())

    def save(self) -> None:
        self.unsaved = False
        if self.dry:
            return
        self.saved.role = self.role
        vars(self.saved).update(self._decided)
        self.saved.pidfile = self.conf.pidfile
        try:
            with self.spare:
                statefile.write(self.conf.state, self.saved)
        except OSError as error:
            self.unsaved = True
            file, why = self.conf.state, error.strerror
            self.say_once("STATE-FAILED", "config", "cannot write $state", file=file, error=why)
        else:
            self.say_over("STATE-OK", "config", "$state can be written again", file=self.conf.state)

    def keep_peer(self) -> None:
        """Keep the peer's own addresses over a reboot."""
        if not self.dry:
            self.unkept["peer"] = lambda path: statefile.write_peer(path, self.saved.peer_fixed)

    def say(
        self,
        event: str,
        subject: str,
        sentence: str,
        source: tuple[str, int] = ("failoverd", 0),
        /,
        **values: object,
    ) -> None:
        """A line for the log, and a run of $notify_prog if it is one that may wake a person.

        source: the program that says it, and its pid. "peer" and "script" alone are this pair's.
        """
        subject = self._named(subject)
        if "cause" in values:
            values["cause"] = str(values["cause"]).replace(" ", "-")
        self.counters.note(event, sentence, values)
        program, pid = source
        ends = self.log.ends(event, subject)
        told = self.log.write(event, subject, sentence, values, program=program, pid=pid)
        if told and notifies(event, ends):
            self._notify("alarm", told, event)

    def say_once(self, event: str, subject: str, *told: Any, **values: object) -> None:
        """As `say`, a problem, unless it lasts already."""
        if not self.log.lasts(event, self._named(subject)):
            self.say(event, subject, *told, **values)

    def say_over(self, event: str, subject: str, *told: Any, **values: object) -> None:
        """As `say`, the end of a problem, if it lasts."""
        if self.log.lasts(event, self._named(subject)):
            self.say(event, subject, *told, **values)

    def _named(self, subject: str) -> str:
        match subject:
            case "peer":
                return f"peer {self.conf.secondary}"
            case "script":
                return f"script {os.path.basename(self.conf.failover_prog)}"
        return subject
