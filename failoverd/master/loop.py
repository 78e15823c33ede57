"""The one loop: collects events, steps the pair, performs its actions."""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from failoverd import pair, sd_notify
from failoverd.conf import Conf, files
from failoverd.log import Log, lasting
from failoverd.master.alerts import Alerts
from failoverd.master.context import Context
from failoverd.master.control_socket import ControlSocket
from failoverd.master.dry_run import DryRun
from failoverd.master.errands import Errands
from failoverd.master.gratuitous_arp import GratuitousArp
from failoverd.master.holds import Holds
from failoverd.master.interfaces import ServiceInterfaces
from failoverd.master.keeper import Keeper
from failoverd.master.peer_probes import PeerProbes
from failoverd.master.placing import Placing
from failoverd.master.programs import Programs
from failoverd.master.queries import Queries
from failoverd.master.reload import Check, Reload
from failoverd.master.reports import Reports
from failoverd.master.requests import Requests
from failoverd.master.service_checks import ServiceChecks
from failoverd.master.status import for_own_commands, status_of
from failoverd.master.supervisor import Supervisor
from failoverd.master.watchers import Watchers
from failoverd.master.workers import Workers
from failoverd.process import Channel, Message, take_signals
from failoverd.statefile import uptime
from failoverd.watch.filters import Program
from failoverd.wire import protocol

LEAST_LOOK = 0.25  # seconds between two looks at the addresses of this node, and at the files
BREATH = 0.1  # seconds to wait for memory
SCRIPTS = 4  # that a switch may run: each node stands down and takes the role

Ready = Callable[[], None]


class Part(Protocol):
    """What the loop has to tend when a time comes, in monotonic seconds, None while none does."""

    @property
    def deadline(self) -> float | None: ...

    def tend(self, now: float, /) -> None: ...


class Master:
    """One failoverd, from the start of its workers to the end of them."""

    def __init__(
        self,
        conf: Conf,
        boot: str,
        log: Log,
        *,
        watcher: str | None = None,
        programs: Sequence[Program] = (),
        check: Check | None = None,
        dry: bool = False,
    ) -> None:
        context = self.context = Context(conf, boot, log, self._notify, dry=dry)
        self.keep_pidfile: Callable[[], None] | None = None
        self.service_manager = sd_notify.ServiceManager.from_environment()
        selector = self.selector = selectors.DefaultSelector()
        supervisor = self.supervisor = Supervisor(selector, self._told, self._gone)
        own = self.control_socket = ControlSocket(context)
        self.interfaces = ServiceInterfaces(context)
        self.reports = Reports(context, supervisor, self.interfaces)
        self.watchers = Watchers(context, supervisor, watcher, self.reports.unwatched)
        self.checks = ServiceChecks(context, supervisor)
        self.gratuitous_arp = GratuitousArp(context)
        placing = self.placing = Placing(supervisor)
        follow = self.gratuitous_arp.follow
        self.programs = Programs(context, selector, self._switched, placing, follow)
        self.workers = Workers(
            context, supervisor, self.watchers, programs, own, placing.orders, self.checks
        )
        self.errands = Errands(context, selector)
        self.reload = Reload(context, self.errands, check or _refuse, self._adopt)
        self.dry_run = DryRun(context) if dry else None
        self.peer_probes = PeerProbes(context, supervisor)
        self.holds = Holds(context, self.errands, self._answer)
        learn = self.holds.learn
        self.queries = Queries(context, supervisor, self.dry_run, self.peer_probes, learn)
        self.requests = Requests(context, supervisor, self.status, self.holds.ask)
        self.alerts = Alerts(context)
        self.keeper = Keeper(context, self.errands)
        self.parts: tuple[Part, ...] = (
            supervisor, self.service_manager, self.gratuitous_arp, self.requests, placing,
            self.programs, self.errands, self.checks, self.holds, self.alerts,
            self.keeper,
        )  # fmt: skip
        self.actions: deque[pair.Action] = deque()
        self.next_look = 0.0
        self.next_count = 0.0  # when the addresses and files are looked for again
        self.looked = uptime()  # at the clock
        self.secret = files.stamp(conf.secret)  # of the file that the listener has read
        self.failure: str | None = None  # why it could not start

    # ------------------------------------------------------------------ start and end

    def run(self, ready: Ready) -> None:
        """Serve until told to stop. ready() is called when all is up; `failure` says why it never
        was."""
        wakeup = self._catch_signals()
        try:
            self.interfaces.note_hwaddrs()
            self.programs.await_old()
            self.programs.watch()
            self.context.log.use_pipe()
            self.control_socket.open(time.monotonic())
            self.interfaces.look_for_addresses()
            self.peer_probes.look(self.interfaces.held)
            gc.freeze()  # a collection that visits what is there would unshare it from the workers
            self.workers.add_all()
            self._loop(ready)
        finally:
            self.supervisor.end_all(spare="log")  # the last words are yet to come
            self.control_socket.close()
            self.gratuitous_arp.close()
            self.placing.close()
            self.context.spare.close()
            self.programs.close()
            self.keeper.close()
            self.errands.close()
            signal.set_wakeup_fd(-1)
            for end in wakeup:
                end.close()
            self.selector.close()

    def _catch_signals(self) -> tuple[socket.socket, socket.socket]:
        """A Python handler's flag does not wake a selector: a byte on a socket pair does."""
        near, far = socket.socketpair()
        for end in (near, far):
            end.setblocking(False)
        signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        take_signals()
        self.selector.register(near, selectors.EVENT_READ, lambda: self._signalled(near))
        return near, far

    def _signalled(self, near: socket.socket) -> None:
        for number in near.recv(64):
            match number:
                case signal.SIGTERM | signal.SIGINT:
                    self.context.stops += 1
                    self.service_manager.stops(SCRIPTS * self.context.conf.switch_timeout)
                    self.context.say(
                        "STOP", "config", "stopping", signal=signal.Signals(number).name
                    )
                case signal.SIGHUP:
                    self._read_again()
                case signal.SIGUSR1:
                    told = protocol.encode_status(self.status())
                    self.context.say("STATUS", "role", "status", status=told)

    def _begin(self) -> None:
        """All workers are up and no old script runs: the pair may decide."""
        self.context.started = True
        was = self.context.saved
        guarded = None if was.guarded is None else frozenset(was.guarded)
        self.interfaces.look()
        if self.context.dry:
            text = "dry run, no switch, no heartbeats, no gratuitous ARP"
            self.context.say("DRY-RUN", "config", text)
        self.context.say("STARTED", "config", "started", boot=self.context.boot, was=was.role)
        self.holds.begin()
        role = self.interfaces.role_at_start()
        lasted = self.context.since[1] or 0.0
        begun = pair.Started(role, was.resuming, was.unclean, was.from_peer, guarded, lasted)
        bad = was.checks if role == "standby" else ()
        self.context.feed(begun)
        self.checks.remember(bad)
        self.next_count = 0.0  # what is gone is told before the peer's answer comes

    # ------------------------------------------------------------------ the loop

    def _loop(self, ready: Ready) -> None:
        self.supervisor.tend(time.monotonic())
        while self.failure is None and not (self.context.stops and self._may_leave()):
            timeout = self._timeout(time.monotonic())
            self.looked = uptime()
            found = self.selector.select(timeout)
            self._mind_the_gap(timeout)
            try:
                self._turn(found, ready)
            except MemoryError:
                self._want_memory()
            self._mind_the_gap()

    def _turn(self, found: list[tuple[selectors.SelectorKey, int]], ready: Ready) -> None:
        """Take in what has come and decide, before all that is merely due."""
        for key, _ in found:
            key.data()
        self.reports.skip = False
        self._step_all()
        now = time.monotonic()  # first: a stall after this is no silence of the workers
        self._mind_the_gap()
        self._do_due(now)
        self.context.up = self.context.up or self.supervisor.all_ready
        if self.context.up and not self.context.started and not self.programs.old_ones_run:
            self._begin()
            ready()
            self.service_manager.tell("READY=1")
        self._step_all()
        self.programs.notify_next()

    def _want_memory(self) -> None:
        """To end would help nobody. What has come may be lost: the pair has to ask again."""
        with contextlib.suppress(MemoryError):
            text = "no memory left, going on after a while"
            self.context.say("MEMORY-SHORT", "worker failoverd", text)
            self.context.feed(pair.Stalled())
        time.sleep(BREATH)

    def _may_leave(self) -> bool:
        """Not in the middle of a switch: no node would be active. A second signal does not wait."""
        return (
            not self.context.started
            or self.context.stops > 1
            or not pair.is_switching(self.context.state)
        )

    def _timeout(self, now: float) -> float:
        times = [
            self.next_look,
            self.next_count,
            pair.next_deadline(self.context.state),
            *(part.deadline for part in self.parts),
        ]
        return max(0.0, min(t for t in times if t is not None) - now)

    def _mind_the_gap(self, wanted: float = 0.0) -> None:
        """A loop that stalled for a window must not act on what it knew (section 5). wanted: so
        many seconds should have passed since it looked last."""
        before, self.looked = self.looked, uptime()
        gap = self.looked - before - wanted
        if gap <= self.context.conf.plip_timer:
            return
        self.supervisor.forgive(gap)
        if self.context.started and not self.reports.skip:
            self.reports.skip = True
            self.watchers.expect_again(time.monotonic())
            self.context.say("STALLED", "worker failoverd", "stalled", gap=lasting(gap))
            self.context.feed(pair.Stalled())

    def _do_due(self, now: float) -> None:
        window = self.context.conf.plip_timer
        for part in self.parts:
            part.tend(now)
        self.watchers.tend(now)
        if now >= self.next_look - window / 6:  # while it is awake
            self.next_look = now + window / 2
            self.supervisor.send("heartbeat", {"do": "alive"})
            self.interfaces.look()
        if now >= self.next_count:
            self.next_count = now + max(LEAST_LOOK, window / 3)
            self.interfaces.look_for_addresses()
            self.peer_probes.look(self.interfaces.held)
            self.gratuitous_arp.look(now)
            self._look_for_files()
        deadline = pair.next_deadline(self.context.state)
        if deadline is not None and now >= deadline:
            self.context.feed(pair.Tick())

    def _look_for_files(self) -> None:
        """What was removed, or could not be written, is written as soon as that is possible: the
        next failoverd has to find it."""
        if self.context.started and (
            self.context.unsaved or not os.path.lexists(self.context.conf.state)
        ):
            self.context.save()
        if self.keep_pidfile is not None:
            self.keep_pidfile()
        if not pair.is_switching(self.context.state) and self.control_socket.keep(time.monotonic()):
            self.supervisor.restart("listener")  # it inherits what there is when it begins

    def _step_all(self) -> None:
        while self.context.events and self.context.started:
            event = self.context.events[0]
            before = self.context.role
            if isinstance(event, pair.Started):
                before = event.role or before  # a new process is no new role
            self.context.state, actions = pair.step(
                self.context.state, event, self.context.rules, time.monotonic()
            )
            self.actions.extend(actions)
            self.context.events.popleft()
            after = self.context.role
            if after != before or isinstance(event, pair.Started):
                self._changed(before, after)
            while self.actions:
                self._perform(self.actions.popleft())
            self.alerts.check()
            self.context.note_decided()
            if self.context.unsaved:
                self.context.save()

    def _changed(self, before: str, after: str) -> None:
        self.context.change_role(before, after)
        self.checks.follow_role()
        self.service_manager.tell(f"STATUS={after}")
        if after != "active":
            self.gratuitous_arp.stop()

    # ------------------------------------------------------------------ actions

    def _perform(self, action: pair.Action) -> None:
        if self.dry_run is not None and self.dry_run.only_says(action):
            return
        match action:
            case pair.RunScript():
                self._run_script(action)
            case pair.RunProgram():
                self.programs.run(action.kind, action.number)
            case pair.Ask():
                self.queries.ask(action)
            case pair.Probe():
                self.queries.search(action)
            case pair.Forget():
                self.queries.forget(action)
                if action.probes:
                    self.programs.forget()
            case pair.Answer():
                self.requests.answer(action, self.queries.why_unreached())
            case pair.Announce():
                self.gratuitous_arp.begin(time.monotonic())
            case pair.Heartbeats():
                self.supervisor.send("heartbeat", {"do": "heartbeats", "on": action.on})
            case pair.Look():
                self._look_at_counts()
            case pair.RestartWatchers():
                self.watchers.begin_again(time.monotonic())
            case pair.Log():
                self.context.say(
                    action.event, action.subject, action.sentence, **dict(action.values)
                )

    def _run_script(self, action: pair.RunScript) -> None:
        lost = action.reason == pair.Purpose.SILENCE.value
        if action.role == "master":
            self.interfaces.note_hwaddrs()
            self.context.saved.placed(self.context.conf)
        self.context.history.because(action.reason, self.reports.heard if lost else None)
        self.programs.run_script(action.role, action.reason)

    def _switched(self, role: str, told: list[str], ok: bool) -> tuple[bool, str]:
        self.next_count = 0.0
        self.gratuitous_arp.switched()
        return self.interfaces.switched(role, told, ok=ok), self.interfaces.against

    def _look_at_counts(self) -> None:
        for name in self.context.conf.interfaces:
            if not self.supervisor.send(f"watchd {name}", {"do": "look"}):
                self.context.feed(pair.Counted(name, 0))  # another's watcher cannot look

    def _answer(self, request: int, ok: bool, text: str) -> None:
        self.requests.answer(pair.Answer(request, ok, text))

    def _notify(self, kind: str, text: str, event: str) -> None:
        self.programs.notify(kind, text, event)

    # ------------------------------------------------------------------ the workers

    def _gone(self, name: str, why: str) -> None:
        own = name.removeprefix("watchd ") not in self.watchers.unproved
        if why and own and not self.context.up and not self.supervisor.was_shot(name):
            self.failure = f"{name}: {why}"
            return
        self.workers.gone(name, why)
        self.queries.gone(name)

    def _told(self, name: str, message: Message) -> None:
        """A worker's message. What is not as it should be is left out."""
        worker, _, interface = name.partition(" ")
        try:
            match worker, message.get("event"):
                case _, "ready":
                    self.workers.ready(name)
                    self.placing.go_on()
                case _, "log":
                    self.reports.told_log(name, message)
                case "watchd", "alarm" | "full":
                    self.reports.told_window(interface, message)
                    self.watchers.told(interface, time.monotonic())
                case "watchd", "count":
                    self.reports.told_count(interface, message)
                    self.requests.has_looked(interface)
                case "heartbeat", "heartbeat":
                    self.reports.told_heartbeat(message)
                case "heartbeat", "renewed":
                    self.workers.told_renewed(message)
                case "listener", "tags":
                    self.workers.told_tags(message)
                case "listener", "request":
                    self.requests.told(message)
                case "listener", "reply":
                    self.queries.told_reply(message)
                case "listener", "lost":
                    self.queries.told_lost(message)
                case "neighbours", "answers":
                    self.queries.told_answers(message)
                case "checks", "check":
                    self.checks.told(message)
                case "addresses", "placed":
                    self.placing.told(message)
        except ValueError as error:
            if self.supervisor.may_log(name, time.monotonic()):
                self.context.say(
                    "MESSAGE-REFUSED", f"worker {name}", "sent an invalid message", error=error
                )

    # ------------------------------------------------------------------ what is so

    def status(self, by_peer: bool = True) -> protocol.Status:
        """Section 6. The peer is not told what it has no use for."""
        status = status_of(self.context, self.reports, self.programs, self.watchers, self.checks)
        return status if by_peer else for_own_commands(self.context, status)

    # ------------------------------------------------------------------ HUP

    def _read_again(self) -> None:
        """Re-open the log, and take the new configuration wholly or not at all."""
        self.workers.open_log_again()
        text = "reading the configuration again"
        self.context.say("RELOAD", "config", text, signal="SIGHUP")
        self.reload.begin()

    def _adopt(self, conf: Conf, programs: Sequence[Program]) -> None:
        self.workers.programs = programs
        old, self.secret, secret = self.context.conf, files.stamp(conf.secret), self.secret
        if conf == old:
            text = "configuration read again, nothing changed"
            self.context.say("CONFIG-RELOADED", "config", text)
            if self.secret != secret:
                self.supervisor.restart("listener")
            return
        self.context.adopt(conf)
        self.gratuitous_arp.adopt()
        self.interfaces.adopt()
        self.reports.adopt(old)
        self.peer_probes.adopt()
        self.checks.adopt()
        self.workers.add_again()
        self.interfaces.look()
        self.next_count = 0.0
        self.context.feed(pair.Reread())
        self.context.say("CONFIG-RELOADED", "config", "configuration read again")
        moved = (conf.addresses, conf.ethernet_addresses) != (old.addresses, old.ethernet_addresses)
        takes = self.context.state.phase is pair.Phase.PROMOTING  # with what the file said before
        if moved and (takes or self.context.role == "active"):
            text = "new @addresses are added with the next switch"
            self.context.say("CONFIG-LATER", "config", text)


def _refuse(running: Conf, channel: Channel) -> Message:
    raise ValueError("this failoverd was started without a file to read again")
