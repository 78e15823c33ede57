"""Which children there are, and what each of them is forked to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from failoverd import heartbeat, listener, neighbours, process, scribe, watchd
from failoverd.children import STUCK, Children
from failoverd.commands.watchd import instruments
from failoverd.counter import what_counts
from failoverd.master.situation import Situation
from failoverd.process import Message


class Crew:
    """Puts them into their slots, from which `children` starts them again and again."""

    def __init__(self, us: Situation, children: Children, watcher: str | None) -> None:
        """watcher: a program of another's in place of our watchd."""
        self._us = us
        self._children = children
        self._watcher = watcher
        self._undumped: set[str] = set()  # watchers whose $dumpfile is on a disk that hangs

    def add_all(self) -> None:
        us = self._us
        patience = process.patience(us.conf.plip_timer)
        if "log" in self._children.slots:
            self._children.slots["log"].patience = patience
        else:
            self._children.add("log", self._fork_scribe, patience)
        self._add("listener", lambda channel, _: listener.run(channel, us.conf, us.up), patience)
        self._add("neighbours", lambda channel, _: neighbours.run(channel, us.conf), patience)
        self._add(
            "heartbeat",
            lambda channel, _: heartbeat.run(channel, us.conf, not us.state.mute and not us.dry),
            patience,
        )
        for name in (us.conf.plip_interface, *us.conf.interfaces):
            self._add_watcher(name, patience)

    def add_again(self) -> None:
        """The configuration is another: all begin anew with it, but for the one that writes."""
        for name in set(self._children.slots) - {"log"}:
            self._children.remove(name)
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

    def _add_watcher(self, interface: str, patience: float) -> None:
        name = f"watchd {interface}"
        if self._watcher is None:
            expression = what_counts(self._us.conf, interface)  # here, and not in each child

            def run(channel: process.Channel, given: Message | None) -> None:
                conf = self._us.conf
                if name in self._undumped:
                    conf = replace(conf, dumpfile=os.devnull)
                tools = partial(instruments, conf, interface, expression)
                watchd.run_child(channel, conf, interface, given, tools)

            self._add(name, run, patience)
            return
        conf = self._us.conf
        window = conf.plip_timer if interface == conf.plip_interface else conf.timer_seconds
        argv = [self._watcher, interface]
        self._children.add(
            name,
            lambda _: process.start_program(argv),
            max(process.LEAST_PATIENCE, 2.5 * window),
        )

    def _add(
        self,
        name: str,
        run: Callable[[process.Channel, Message | None], None],
        patience: float,
    ) -> None:
        title = f"failoverd: {name} [{self._us.conf.pidfile}]"

        def make(given: Message | None) -> process.Child:
            return process.fork_child(title, lambda channel: run(channel, given))

        self._children.add(name, make, patience)

    def gone(self, name: str, why: str) -> None:
        """A child is dead or stuck; why is "" if that was planned. `children` starts the next."""
        if why:
            what = why if why is STUCK else f"is replaced: {why}"
            self._us.say(f"the child {name} {what}", anew=True, alarm=why is STUCK)
        if name.startswith("watchd ") and self._children.was_silent(name):
            if self._us.conf.dumpfile != os.devnull:
                interface = name.removeprefix("watchd ")
                self._us.say("goes on without $dumpfile, until HUP", interface)
                self._undumped.add(name)
            if why is STUCK:
                self._children.abandon(name)
