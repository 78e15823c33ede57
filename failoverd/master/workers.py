"""Which children there are, and what each of them is forked to do."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from failoverd import heartbeat, listener, log_writer, neighbours, process
from failoverd.master.context import Context
from failoverd.master.control_socket import ControlSocket
from failoverd.master.messages import Renewed
from failoverd.master.peer_probes import whom_to_ask
from failoverd.master.supervisor import STUCK, Make, Supervisor
from failoverd.master.watchers import Watchers
from failoverd.process import Message
from failoverd.watch import watcher
from failoverd.watch.counter import what_counts
from failoverd.watch.filters import Program
from failoverd.wire.protocol import Tags, parse_tags
from failoverd.wire.typed import decode


class Workers:
    """Puts them into their slots, from which `children` starts them again and again."""

    def __init__(
        self,
        us: Context,
        supervisor: Supervisor,
        watchers: Watchers,
        programs: Sequence[Program],
        control_socket: ControlSocket,
    ) -> None:
        """programs: what our watchers count by, for none has the time to translate a long filter
        itself."""
        self._us = us
        self._supervisor = supervisor
        self._watchers = watchers
        self.programs = programs
        self._control_socket = control_socket
        self._undumped: set[str] = set()  # watchers whose $dumpfile is on a disk that hangs
        self._tags: Tags | None = None  # of the heartbeats; the listener tells, who has the secret
        self._ends: tuple[str, str] | None = None  # between which addresses

    def add_all(self) -> None:
        conf = self._us.conf
        ends = conf.primary, conf.secondary
        if ends != self._ends:
            self._tags, self._ends = None, ends
        if "log" in self._supervisor.slots:
            self._supervisor.slots["log"].patience = process.patience(conf.plip_timer)
        else:
            self._add("log", self._fork_scribe)
        self._add("listener", self._fork_listener)
        self._add("neighbours", self._fork_neighbours)
        for name in conf.interfaces:
            self._add_watcher(name)
        self._add_tagged()

    def _add_tagged(self) -> None:
        """Those who send and count heartbeats, once the tags are known."""
        if self._tags is not None:
            self._add("heartbeat", self._fork_heartbeat)
            self._add_watcher(self._us.conf.plip_interface)

    def told_tags(self, message: Message) -> None:
        """The listener has read the secret. Raises what parse_tags does.

        While it waits to be changed on the peer too, the peer's old heartbeats count and ours carry
        both tags: else whoever changes a secret would cut the pair in two.
        """
        new = parse_tags(message).newest
        before, self._tags = self._tags, self._tags.then(new) if self._tags else new
        if before is None:
            self._add_tagged()
        elif before.newest != new:
            self._us.say("new secret: the old one counts for heartbeats until the peer has it too")
            self._supervisor.send("heartbeat", {"do": "tags", **self._tags.message()})
            self._recount()

    def told_renewed(self, message: Message) -> None:
        """A heartbeat of the peer's has come with the tag of the new secret."""
        if self._tags is not None and decode(Renewed, message).tag == self._tags.peers[0].hex():
            self._tags = self._tags.newest
            self._us.say("the peer has the new secret too: the old one counts no more")
            self._recount()

    def _recount(self) -> None:
        """Have the private link's watcher count by the tags as they are now."""
        self._supervisor.send(f"watchd {self._us.conf.plip_interface}", {"do": "reopen"})

    def add_again(self) -> None:
        """The configuration is another: all begin anew with it, but for the one that writes."""
        for name in set(self._supervisor.slots) - {"log"}:
            self._supervisor.remove(name)
        self._watchers.forget()
        self.add_all()

    def open_log_again(self) -> None:
        """Another child opens the file that has its name by now; a disk may work again."""
        self._supervisor.retire("log")
        self._undumped.clear()

    def _add(self, name: str, make: Make) -> None:
        self._supervisor.add(name, make, process.patience(self._us.conf.plip_timer))

    def _add_watcher(self, interface: str) -> None:
        name, program = f"watchd {interface}", self._watchers.program(interface)
        self._watchers.expect(interface, time.monotonic())
        if program is None:
            self._add(name, partial(self._fork_watcher, interface))
        else:  # `watchers` knows when it has to report
            self._supervisor.add(name, lambda _: self._execute(program, interface), math.inf)

    def _fork(
        self,
        name: str,
        run: Callable[[process.Channel], None],
        keep: frozenset[int] = frozenset(),
    ) -> process.Child:
        return process.fork_child(f"failoverd: {name} [{self._us.conf.pidfile}]", run, keep)

    def _fork_scribe(self, _: Message | None) -> process.Child:
        conf, pipe = self._us.conf, self._us.log.pipe
        silence = process.report_interval(conf.plip_timer)
        return self._fork(
            "log",
            lambda channel: log_writer.run(channel, pipe, conf.log, conf.user, silence),
            frozenset({pipe}),
        )

    def _fork_listener(self, _: Message | None) -> process.Child:
        us, own = self._us, self._control_socket.socket
        kept = frozenset() if own is None else frozenset({own.fileno()})
        return self._fork(
            "listener", lambda channel: listener.run(channel, us.conf, us.up, own), kept
        )

    def _fork_neighbours(self, _: Message | None) -> process.Child:
        conf = self._us.conf
        return self._fork("neighbours", lambda channel: neighbours.run(channel, conf))

    def _fork_heartbeat(self, _: Message | None) -> process.Child:
        conf, on, tags = self._us.conf, not self._us.state.mute and not self._us.dry, self._tags
        assert tags is not None  # else it has no place
        return self._fork("heartbeat", lambda channel: heartbeat.run(channel, conf, on, tags))

    def _fork_watcher(self, interface: str, given: Message | None) -> process.Child:
        name, conf = f"watchd {interface}", self._us.conf
        if name in self._undumped:
            conf = replace(conf, dumpfile=os.devnull)
        tags = self._tags.peers if self._tags else ()
        peer = whom_to_ask(self._us, interface) if interface in conf.interfaces else None
        expression = what_counts(conf, interface, tags)  # here, and not in the child
        tools = partial(watcher.instruments, conf, interface, expression, self.programs)
        return self._fork(
            name, lambda channel: watcher.run_child(channel, conf, interface, given, tools, peer)
        )

    def _execute(self, program: str, interface: str) -> process.Child:
        """Another's watcher."""
        user = self._us.conf.user
        child = process.start_program([program, interface], user)
        self._watchers.started(interface)
        self._us.say(f"$watchd {program} is executed as {user}", interface, pid=child.pid)
        return child

    def gone(self, name: str, why: str) -> None:
        """A child is dead or stuck; why is "" if that was planned. `children` starts the next."""
        interface = name.removeprefix("watchd ")
        if why and self._watchers.refuses(interface, why):
            self._supervisor.remove(name)
            self._add_watcher(interface)
            return
        if why:
            what = why if why is STUCK else f"is replaced: {why}"
            self._us.say(f"the child {name} {what}", anew=True, alarm=why is STUCK)
        if name.startswith("watchd ") and self._supervisor.was_silent(name):
            if self._us.conf.dumpfile != os.devnull:
                self._us.say("goes on without $dumpfile, until HUP", interface)
                self._undumped.add(name)
            if why is STUCK:
                self._supervisor.abandon(name)
