"""Which children there are, and what each of them is forked to do."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from failoverd import heartbeat, listener, neighbours, process, scribe, watchd
from failoverd.children import STUCK, Children
from failoverd.commands.watchd import instruments
from failoverd.counter import what_counts
from failoverd.filters import Program
from failoverd.master.mutual import whom_to_ask
from failoverd.master.own_socket import OwnSocket
from failoverd.master.situation import Situation
from failoverd.master.watchers import Watchers
from failoverd.process import Message
from failoverd.protocol import Tags, parse_tags


class Crew:
    """Puts them into their slots, from which `children` starts them again and again."""

    def __init__(
        self,
        us: Situation,
        children: Children,
        watchers: Watchers,
        programs: Sequence[Program],
        own_socket: OwnSocket,
    ) -> None:
        """programs: what our watchers count by, for none has the time to translate a long filter
        itself."""
        self._us = us
        self._children = children
        self._watchers = watchers
        self.programs = programs
        self._own_socket = own_socket
        self._undumped: set[str] = set()  # watchers whose $dumpfile is on a disk that hangs
        self._tags: Tags | None = None  # of the heartbeats; the listener tells, who has the secret
        self._ends: tuple[str, str] | None = None  # between which addresses

    def add_all(self) -> None:
        us = self._us
        patience = process.patience(us.conf.plip_timer)
        ends = us.conf.primary, us.conf.secondary
        if ends != self._ends:
            self._tags, self._ends = None, ends
        if "log" in self._children.slots:
            self._children.slots["log"].patience = patience
        else:
            self._children.add("log", self._fork_scribe, patience)
        self._children.add("listener", self._fork_listener, patience)
        self._add("neighbours", lambda channel, _: neighbours.run(channel, us.conf), patience)
        for name in us.conf.interfaces:
            self._add_watcher(name, patience)
        if self._tags is not None:
            self._add_tagged(self._tags)

    def _add_tagged(self, tags: Tags) -> None:
        """Those who send and count heartbeats."""
        us = self._us
        patience = process.patience(us.conf.plip_timer)

        def beat(channel: process.Channel, _: Message | None) -> None:
            on = not us.state.mute and not us.dry
            heartbeat.run(channel, us.conf, on, self._tags or tags)

        self._add("heartbeat", beat, patience)
        self._add_watcher(us.conf.plip_interface, patience)

    def told_tags(self, message: Message) -> None:
        """The listener has read the secret. Raises what parse_tags does.

        While it waits to be changed on the peer too, the peer's old heartbeats count and ours carry
        both tags: else whoever changes a secret would cut the pair in two.
        """
        new = parse_tags(message).newest
        before, self._tags = self._tags, self._tags.then(new) if self._tags else new
        if before is None:
            self._add_tagged(new)
        elif before.newest != new:
            self._us.say("new secret: the old one counts for heartbeats until the peer has it too")
            self._children.send("heartbeat", {"do": "tags", **self._tags.message()})
            self._recount()

    def told_renewed(self, message: Message) -> None:
        """A heartbeat of the peer's has come with the tag of the new secret."""
        if self._tags is not None and message["tag"] == self._tags.peers[0].hex():
            self._tags = self._tags.newest
            self._us.say("the peer has the new secret too: the old one counts no more")
            self._recount()

    def _recount(self) -> None:
        """Have the private link's watcher count by the tags as they are now."""
        self._children.send(f"watchd {self._us.conf.plip_interface}", {"do": "reopen"})

    def add_again(self) -> None:
        """The configuration is another: all begin anew with it, but for the one that writes."""
        for name in set(self._children.slots) - {"log"}:
            self._children.remove(name)
        self._watchers.forget()
        self.add_all()

    def open_log_again(self) -> None:
        """Another child opens the file that has its name by now; a disk may work again."""
        self._children.retire("log")
        self._undumped.clear()

    def _fork_scribe(self, _: Message | None) -> process.Child:
        conf, pipe = self._us.conf, self._us.log.pipe
        return process.fork_child(
            f"failoverd: log [{conf.pidfile}]",
            lambda channel: scribe.run(
                channel, pipe, conf.log, conf.user, process.report_interval(conf.plip_timer)
            ),
            keep=frozenset({pipe}),
        )

    def _fork_listener(self, _: Message | None) -> process.Child:
        us, own = self._us, self._own_socket.socket
        kept = frozenset() if own is None else frozenset({own.fileno()})
        return self._fork(
            "listener", lambda channel: listener.run(channel, us.conf, us.up, own), kept
        )

    def _add_watcher(self, interface: str, patience: float) -> None:
        name, program = f"watchd {interface}", self._watchers.program(interface)
        self._watchers.expect(interface, time.monotonic())
        if program is None:
            self._children.add(name, partial(self._fork_watcher, interface), patience)
        else:  # `watchers` knows when it has to report
            self._children.add(name, lambda _: self._execute(program, interface), math.inf)

    def _fork_watcher(self, interface: str, given: Message | None) -> process.Child:
        name, conf = f"watchd {interface}", self._us.conf
        if name in self._undumped:
            conf = replace(conf, dumpfile=os.devnull)
        tags = self._tags.peers if self._tags else ()
        peer = whom_to_ask(self._us, interface) if interface in conf.interfaces else None
        expression = what_counts(conf, interface, tags)  # here, and not in the child
        tools = partial(instruments, conf, interface, expression, self.programs)
        return self._fork(
            name, lambda channel: watchd.run_child(channel, conf, interface, given, tools, peer)
        )

    def _execute(self, program: str, interface: str) -> process.Child:
        """Another's watcher."""
        user = self._us.conf.user
        child = process.start_program([program, interface], user)
        self._watchers.started(interface)
        self._us.say(f"$watchd {program} is executed as {user}", interface, pid=child.pid)
        return child

    def _add(
        self,
        name: str,
        run: Callable[[process.Channel, Message | None], None],
        patience: float,
    ) -> None:
        def make(given: Message | None) -> process.Child:
            return self._fork(name, lambda channel: run(channel, given))

        self._children.add(name, make, patience)

    def _fork(
        self,
        name: str,
        run: Callable[[process.Channel], None],
        keep: frozenset[int] = frozenset(),
    ) -> process.Child:
        return process.fork_child(f"failoverd: {name} [{self._us.conf.pidfile}]", run, keep)

    def gone(self, name: str, why: str) -> None:
        """A child is dead or stuck; why is "" if that was planned. `children` starts the next."""
        interface = name.removeprefix("watchd ")
        if why and self._watchers.refuses(interface, why):
            self._children.remove(name)
            self._add_watcher(interface, process.patience(self._us.conf.plip_timer))
            return
        if why:
            what = why if why is STUCK else f"is replaced: {why}"
            self._us.say(f"the child {name} {what}", anew=True, alarm=why is STUCK)
        if name.startswith("watchd ") and self._children.was_silent(name):
            if self._us.conf.dumpfile != os.devnull:
                self._us.say("goes on without $dumpfile, until HUP", interface)
                self._undumped.add(name)
            if why is STUCK:
                self._children.abandon(name)
