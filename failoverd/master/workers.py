"""Which workers there are, and what each of them is forked to do."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from failoverd import addresses, checks, heartbeat, listener, log_writer, neighbours, process
from failoverd.master.context import Context
from failoverd.master.control_socket import ControlSocket
from failoverd.master.messages import Renewed
from failoverd.master.peer_probes import second_path_of, whom_to_ask
from failoverd.master.service_checks import ServiceChecks
from failoverd.master.supervisor import STUCK, Supervisor
from failoverd.master.watchers import Watchers
from failoverd.process import Channel, Message
from failoverd.watch import watcher
from failoverd.watch.counter import what_counts
from failoverd.watch.filters import Program
from failoverd.wire.protocol import Tags, parse_tags
from failoverd.wire.typed import decode

Work = Callable[[Channel], None]
FINISHING = {"log", "checks"}  # those that have something to end before they do


class Workers:
    """Puts them into their slots, from which the supervisor starts them again and again."""

    def __init__(
        self,
        context: Context,
        supervisor: Supervisor,
        watchers: Watchers,
        programs: Sequence[Program],
        control_socket: ControlSocket,
        orders: int,
        service_checks: ServiceChecks,
    ) -> None:
        """programs: what the watchers count by, for none has the time to translate a long filter
        itself; orders: a file with what is to be done with the addresses."""
        self._context = context
        self._supervisor = supervisor
        self._watchers = watchers
        self.programs = programs
        self._control_socket = control_socket
        self._orders = orders
        self._checks = service_checks
        self._undumped: set[str] = set()  # watchers whose $dumpfile is on a disk that hangs
        self._tags: Tags | None = None  # of the heartbeats: the listener has the secret, and tells
        self._ends: tuple[str, str] | None = None  # between which addresses

    def add_all(self) -> None:
        conf = self._context.conf
        ends = conf.primary, conf.secondary
        if ends != self._ends:
            self._tags, self._ends = None, ends
        for name in FINISHING & self._supervisor.slots.keys():
            self._supervisor.slots[name].patience = process.patience(conf.plip_timer)
        checks = ("checks",) if self._checks.are_any else ()
        for name in ("log", "listener", "neighbours", "addresses", *checks):
            if name not in self._supervisor.slots:
                self._add(name)
        for name in conf.interfaces:
            self._add_watcher(name)
        self._add_tagged()

    def _add_tagged(self) -> None:
        """Those who send and count heartbeats, once the tags are known."""
        if self._tags is not None:
            self._add("heartbeat")
            self._add_watcher(self._context.conf.plip_interface)

    def told_tags(self, message: Message) -> None:
        """The listener has read the secret. Raises what parse_tags does.

        While it waits to be changed on the peer too, the peer's old heartbeats count, and this
        node's carry both tags: else whoever changes a secret would cut the pair in two.
        """
        new = parse_tags(message).newest
        before, self._tags = self._tags, self._tags.then(new) if self._tags else new
        if before is None:
            self._add_tagged()
        elif before.newest != new:
            text = "new secret, heartbeats with the old one count until the peer has the new"
            self._context.say("SECRET-CHANGED", "config", text)
            self._supervisor.send("heartbeat", {"do": "tags", **self._tags.message()})
            self._recount()

    def told_renewed(self, message: Message) -> None:
        """A heartbeat of the peer's has come with the tag of the new secret."""
        if self._tags is not None and decode(Renewed, message).tag == self._tags.peers[0].hex():
            self._tags = self._tags.newest
            text = "the peer has the new secret too, the old one no longer counts"
            self._context.say("SECRET-SHARED", "config", text)
            self._recount()

    def _recount(self) -> None:
        """Have the heartbeat link's watcher count by the tags as they are now."""
        self._supervisor.send(f"watchd {self._context.conf.plip_interface}", {"do": "reopen"})

    def add_again(self) -> None:
        """The configuration is another: all begin again with it, some when they have finished."""
        for name in set(self._supervisor.slots):
            if name in FINISHING:
                self._supervisor.retire(name)
            else:
                self._supervisor.remove(name)
        self._watchers.forget()
        self.add_all()

    def open_log_again(self) -> None:
        """Another worker opens the file that has its name by now; a disk may work again."""
        self._supervisor.retire("log")
        self._undumped.clear()

    def _add(self, name: str) -> None:
        patience = process.patience(self._context.conf.plip_timer)
        self._supervisor.add(name, partial(self._fork, name), patience)

    def _add_watcher(self, interface: str) -> None:
        name, program = f"watchd {interface}", self._watchers.program(interface)
        self._watchers.expect(interface, time.monotonic())
        if program is None:
            self._add(name)
        else:  # `watchers` knows when it has to report
            self._supervisor.add(name, lambda _: self._execute(program, interface), math.inf)

    def _fork(self, name: str, handed: Message | None) -> process.Child:
        own, kept = self._control_socket.socket, set[int]()
        if name == "log":
            kept = {self._context.log.pipe}
        elif name == "listener" and own is not None:
            kept = {own.fileno()}
        elif name == "addresses":
            kept = {self._orders}
        title = f"failoverd: {name} [{self._context.conf.pidfile}]"
        return process.fork_child(title, self._work(name, handed), frozenset(kept))

    def _work(self, name: str, handed: Message | None) -> Work:
        """What the worker of this name executes, with what is known now."""
        context, conf, tags = self._context, self._context.conf, self._tags
        match name.split():
            case ["log"]:
                pipe, silence = context.log.pipe, process.report_interval(conf.plip_timer)
                return lambda channel: log_writer.run(channel, pipe, conf.log, conf.user, silence)
            case ["listener"]:
                own = self._control_socket.socket
                path = second_path_of(context)
                return lambda channel: listener.run(channel, conf, context.up, own, path)
            case ["neighbours"]:
                return lambda channel: neighbours.run(channel, conf)
            case ["checks"]:
                begin = self._checks.orders()
                return lambda channel: checks.run(channel, conf, begin)
            case ["addresses"]:
                return lambda channel: addresses.run(channel, conf, self._orders)
            case ["heartbeat"] if tags is not None:  # else it has no place
                on = not context.state.mute and not context.dry
                return lambda channel: heartbeat.run(channel, conf, on, tags)
        return self._watch(name.removeprefix("watchd "), handed)

    def _watch(self, interface: str, handed: Message | None) -> Work:
        conf = self._context.conf
        if f"watchd {interface}" in self._undumped:
            conf = replace(conf, dumpfile=os.devnull)
        tags = self._tags.peers if self._tags else ()
        peer = whom_to_ask(self._context, interface) if interface in conf.interfaces else None
        expression = what_counts(conf, interface, tags)  # here, and not in the worker
        tools = partial(watcher.instruments, conf, interface, expression, self.programs)
        return lambda channel: watcher.run_child(channel, conf, interface, handed, tools, peer)

    def _execute(self, program: str, interface: str) -> process.Child:
        """A watcher of another maker."""
        user = self._context.conf.user
        child = process.start_program([program, interface], user)
        self._watchers.started(interface)
        subject = f"interface {interface}"
        self._context.say("WATCHD-PROGRAM", subject, "$watchd is executed",
                     program=program, user=user, pid=child.pid)  # fmt: skip
        return child

    def ready(self, name: str) -> None:
        self._context.say_over("WORKER-READY", f"worker {name}", "ready")

    def gone(self, name: str, why: str) -> None:
        """A worker is dead or stuck; why is "" if that was planned. The supervisor starts the
        next."""
        interface = name.removeprefix("watchd ")
        if why and self._watchers.refuses(interface, why):
            self._supervisor.remove(name)
            self._add_watcher(interface)
            return
        if why:
            event = "WORKER-STUCK" if why is STUCK else "WORKER-LOST"
            text = STUCK if why is STUCK else "ended, and is started again"
            self._context.say(event, f"worker {name}", text, error="" if why is STUCK else why)
        if name.startswith("watchd ") and self._supervisor.was_silent(name):
            if self._context.conf.dumpfile != os.devnull:
                text = "going on without $dumpfile until HUP"
                self._context.say("DUMP-OFF", f"interface {interface}", text)
                self._undumped.add(name)
            if why is STUCK:
                self._supervisor.abandon(name)
