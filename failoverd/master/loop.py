"""The main loop: collect events, step the pair, perform its actions. Runs as root.

It never reads a byte from the network: its children do, and what they say is checked here as if it
came from an enemy. Every decision is in `pair`; this module only knows how to carry it out.
"""

from __future__ import annotations

# Loaded here, before the children are forked, so that they share them.
import contextlib
import encodings.idna  # noqa: F401
import gc
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address

import ping3  # noqa: F401
import setproctitle  # noqa: F401

import failoverd.capture
import failoverd.counter  # noqa: F401
from failoverd import (
    __version__,
    files,
    heartbeat,
    links,
    listener,
    neighbours,
    notify,
    pair,
    process,
    protocol,
    scribe,
    statefile,
    switch,
    watchd,
)
from failoverd.children import STUCK, Allowance, Children
from failoverd.commands.watchd import instruments
from failoverd.conf import Conf
from failoverd.log import Log, printable
from failoverd.process import Message

MAX_NOTICES = 16
OFTEN = 5  # times that the same event is logged without delay
LEAST_LOOK = 0.25  # seconds between two looks at the addresses of our cards, and at our files
BREATH = 0.1  # seconds to wait for memory
SPARE = 8  # descriptors: enough to start a program, and to write $state
STALE_SECONDS = 1.0  # a request that waited longer is not begun: its sender counts on that
MAX_REQUESTS = 128  # that wait for an answer
MAX_SWITCHING = 100  # requests for a switch at once, and
SWITCHING_A_SECOND = 20.0  # of them later on
WINDOWS = 10.0  # events of one watcher in one window: it looks more than 8 times
LEAST_GLANCE = 0.001  # seconds between two looks of the watchers because somebody asks
GLANCE_SECONDS = 0.02  # how long the peer waits for what they say
MAX_HWADDRS = 128  # of the peer
TOLD = (pair.Purpose.FAIL, pair.Purpose.RESUME)  # what changes something there

Ready = Callable[[], None]


@dataclass
class Visit:
    """The peer asked for the status, and these watchers have not yet said what they count."""

    request: int
    looking: set[str]
    until: float


class Master:
    """One failoverd, from the start of its children to the end of them."""

    def __init__(
        self, conf: Conf, boot: str, log: Log, *, watcher: str | None = None, dry: bool = False
    ) -> None:
        self.conf = conf
        self.boot = boot
        self.rules = pair.rules(conf, boot)
        self.log = log
        self.dry = dry
        self.watcher = watcher
        self.reload: Callable[[Conf], Conf] | None = None
        self.keep_pidfile: Callable[[], None] | None = None
        self.state = pair.initial(self.rules)
        self.remembered = statefile.read(conf.state)
        self.supervisor = notify.Supervisor.from_environment()
        self.selector = selectors.DefaultSelector()
        self.children = Children(self.selector, self._told, self._gone)
        self.events: deque[pair.Event] = deque()
        self.actions: deque[pair.Action] = deque()
        self.asked: dict[pair.Purpose, int] = {}
        self.unreached = ""  # why the last question to the peer was not answered
        self.questions: dict[bool, int] = {}
        self.requests: dict[int, tuple[int, int]] = {}
        self.serial = 0
        self.switching = Allowance(SWITCHING_A_SECOND, MAX_SWITCHING)
        self.glances = Allowance(1 / LEAST_GLANCE, 1)
        self.visits: deque[Visit] = deque()
        self.shown: dict[str, Allowance] = {}  # by interface: the windows that are logged
        self.counts: dict[str, tuple[int, int]] = {}  # packets of this window, and the one before
        self.peer_hwaddrs: set[str] = set(self.remembered.peer_hwaddrs)
        self.link: tuple[int, int, str] | None = None  # the last window of the private link
        self.beat: tuple[float | None, float | None] = (None, None)
        self.undumped: set[str] = set()  # watchers whose $dumpfile is on a disk that hangs
        self.verdicts: dict[str, str] = {}
        self.spare = process.Spare(SPARE)
        self.runners = {kind: switch.Runner() for kind in ("script", "fence", "confirm", "notify")}
        self.argv: dict[str, list[str]] = {}
        self.last_switch: tuple[str | None, int | None, float | None] = (None, None, None)
        self.notices: deque[tuple[str, str]] = deque(maxlen=MAX_NOTICES)
        self.notified = self.remembered.role  # the last role that $notify_prog was told
        self.announcer = neighbours.Announcer(conf)
        self.announced = 0.0  # when announcing began
        self.next_announcement: float | None = None
        self.imagined = False  # a dry run has come to a role that it does not really have
        self.next_look = 0.0
        self.unsaved = False  # $state does not know yet what has changed
        self.placed = wanted(conf) & set(self.remembered.seen)  # addresses seen on their cards
        self.looked = self.remembered.role is not None  # since the switch script ran last
        self.missed: set[tuple[str, str]] = set()  # those that the pair knows to be gone
        self.next_count = 0.0  # when they are looked for again
        self.skip_reports = False
        self.old_script: tuple[int, float] | None = None  # a predecessor's: pidfd, its time's end
        self.secret = files.stamp(conf.secret)  # of the file that the listener has read
        self.stops = 0  # how often we were told to stop
        self.up = False  # all children were ready once: who dies now is replaced
        self.started = False  # the pair has begun to decide
        self.failure: str | None = None  # why we could not start

    # ------------------------------------------------------------------ start and end

    def run(self, ready: Ready) -> None:
        """Serve until told to stop. ready() is called when all is up; `failure` says why it never
        was."""
        wakeup = self._catch_signals()
        try:
            self._note_hwaddrs()
            self._await_old_script()
            for kind, runner in self.runners.items():
                self.selector.register(
                    runner.fileno(), selectors.EVENT_READ, partial(self._attend, kind)
                )
            self.log.use_pipe()
            self._add_children()
            gc.collect()
            gc.freeze()  # what is here now stays: collecting it would unshare its pages
            self._loop(ready)
        finally:
            self.children.end_all(spare="log")  # the last words are yet to come
            self.announcer.close()
            self.spare.close()
            for runner in self.runners.values():
                runner.close()
            signal.set_wakeup_fd(-1)
            for end in wakeup:
                end.close()
            self.selector.close()

    def _catch_signals(self) -> tuple[socket.socket, socket.socket]:
        """A Python handler's flag does not wake a selector: a byte on a socket pair does."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.selector.register(ours, selectors.EVENT_READ, lambda: self._signalled(ours))
        return ours, theirs

    def _signalled(self, ours: socket.socket) -> None:
        for number in ours.recv(64):
            match number:
                case signal.SIGTERM | signal.SIGINT:
                    self.stops += 1
                    self.supervisor.tell("STOPPING=1")
                    self.say(f"told to stop by {signal.Signals(number).name}")
                case signal.SIGHUP:
                    self._read_again()
                case signal.SIGUSR1:
                    self.report(f"status: {protocol.encode_status(self.status())}")

    def _note_hwaddrs(self) -> None:
        """Each card's own hardware address, before a switch changes it (section 7)."""
        shared = {entry.interface: entry.hwaddr for entry in self.conf.ethernet_addresses}
        known = self.remembered.hwaddrs
        for name in self.conf.interfaces:
            now = links.hwaddr(name)
            if now is None or (name in known and self.remembered.left is not None):
                continue  # there is none, or a switch may have changed it
            if now != shared.get(name):
                known[name] = now
            elif name not in known:
                self.say("has the pair's hardware address, its own is not known", name, alarm=True)

    def _await_old_script(self) -> None:
        """A predecessor that was killed may have left its switch script running."""
        script = self.remembered.script
        if self.dry or script is None or not switch.running(*script):
            return
        try:
            pidfd = os.pidfd_open(script[0])
        except ProcessLookupError:
            return  # it has just ended
        self.say(f"waiting for the switch script of a dead failoverd (pid {script[0]})")
        self.old_script = pidfd, time.monotonic() + self.conf.switch_timeout
        self.selector.register(pidfd, selectors.EVENT_READ, self._forget_old_script)

    def _kill_old_script(self) -> None:
        if self.remembered.script is not None:
            self.say("the old switch script hangs: killed", alarm=True)
            switch.kill_group(self.remembered.script[0])
        self._forget_old_script()

    def _forget_old_script(self) -> None:
        if self.old_script is not None:
            self.selector.unregister(self.old_script[0])
            os.close(self.old_script[0])
            self.old_script = None

    def _begin(self) -> None:
        """All children are up and no old script runs: the pair may decide."""
        self.started = True
        was = self.remembered
        self._look_at_links()
        if self.dry:
            self.say("dry run: nothing will be switched, announced or written")
        self.say(f"started, {self.boot} at boot" + (f", was {was.role}" if was.role else ""))
        self.feed(pair.Started(was.role, was.resuming, was.unclean))

    # ------------------------------------------------------------------ the loop

    def _loop(self, ready: Ready) -> None:
        self.children.tend(time.monotonic())
        while self.failure is None and not (self.stops and self._may_leave()):
            timeout = self._timeout(time.monotonic())
            before = time.clock_gettime(time.CLOCK_BOOTTIME)
            found = self.selector.select(timeout)
            slept = time.clock_gettime(time.CLOCK_BOOTTIME) - before
            self._mind_the_gap(slept - timeout)
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            try:
                self._turn(found, ready)
            except MemoryError:
                self._want_memory()
            self._mind_the_gap(time.clock_gettime(time.CLOCK_BOOTTIME) - began)

    def _turn(self, found: list[tuple[selectors.SelectorKey, int]], ready: Ready) -> None:
        """Hear who has something to say, do what is due, and decide."""
        for key, _ in found:
            key.data()
        self._do_due(time.monotonic())
        self.up = self.up or self.children.all_ready
        if self.up and not self.started and self.old_script is None:
            self._begin()
            ready()
            self.supervisor.tell("READY=1")
        self._step_all()
        self.skip_reports = False

    def _want_memory(self) -> None:
        """To end would help nobody. What was heard may be lost: the pair has to ask anew."""
        with contextlib.suppress(MemoryError):
            self.say("there is no memory left: going on after a while", alarm=True)
            self.feed(pair.Stalled())
        time.sleep(BREATH)

    def _may_leave(self) -> bool:
        """Not in the middle of a switch: nobody would be active. A second signal does not wait."""
        return not self.started or self.stops > 1 or pair.role(self.state) != "switching"

    def _timeout(self, now: float) -> float:
        times = [
            self.next_look,
            self.next_count,
            self.children.next_deadline(),
            pair.next_deadline(self.state),
            self.next_announcement,
            self.visits[0].until if self.visits else None,
            self.supervisor.deadline,
            self.old_script[1] if self.old_script else None,
            *(runner.deadline for runner in self.runners.values()),
        ]
        return max(0.0, min(t for t in times if t is not None) - now)

    def _mind_the_gap(self, gap: float) -> None:
        """Whoever stood still for a window must not act on what it knew (section 5)."""
        if gap > self.conf.plip_timer and self.started and not self.skip_reports:
            self.skip_reports = True  # old reports are in the pipes
            self.say(f"stood still for {gap:.3f} s", anew=True)
            self.feed(pair.Stalled())

    def _do_due(self, now: float) -> None:
        self.children.tend(now)
        self.supervisor.tend(now)
        if now >= self.next_look - self.conf.plip_timer / 6:  # while we are awake
            self.next_look = now + self.conf.plip_timer / 2
            self.children.send("heartbeat", {"do": "alive"})
            self._look_at_links()
        if now >= self.next_count:
            self.next_count = now + max(LEAST_LOOK, self.conf.plip_timer / 3)
            self._look_for_addresses()
            self._look_for_files()
        deadline = pair.next_deadline(self.state)
        if deadline is not None and now >= deadline:
            self.feed(pair.Tick())
        if self.next_announcement is not None and now >= self.next_announcement:
            self._announce(now)
        self._end_visits(now)
        if self.old_script is not None and now >= self.old_script[1]:
            self._kill_old_script()
        for kind, runner in self.runners.items():
            if runner.deadline is not None and now >= runner.deadline:
                runner.kill_late()
                self._attend(kind)

    def feed(self, event: pair.Event) -> None:
        """Take an event in; it is decided on before the loop sleeps again."""
        self.events.append(event)

    def _step_all(self) -> None:
        while self.events and self.started:
            event = self.events[0]
            before = pair.role(self.state)
            if isinstance(event, pair.Started):
                before = event.role or before  # a new process is no new role
            self.state, actions = pair.step(self.state, event, self.rules, time.monotonic())
            self.actions.extend(actions)
            self.events.popleft()
            after = pair.role(self.state)
            if after != before or isinstance(event, pair.Started):
                self._changed(before, after)
            while self.actions:
                self._perform(self.actions.popleft())
            if self.unsaved:
                self._save()

    def _changed(self, before: str, after: str) -> None:
        if after != before:
            self.say(f"role: {before} -> {after}", anew=True)
            if after not in ("switching", self.notified):
                self.notified = after
                self._notify("role", after)
            self.remembered.since = utc_now()
        self.remembered.since = self.remembered.since or utc_now()
        self.supervisor.tell(f"STATUS={after}")
        if after != "active":
            self.next_announcement = None
        self.unsaved = True

    def _save(self) -> None:
        self.unsaved = False
        if self.dry:
            return
        self.remembered.role = pair.role(self.state)
        self.remembered.resuming = self.state.resuming
        self.remembered.unclean = self.state.unclean
        self.remembered.pidfile = self.conf.pidfile
        self.remembered.peer_hwaddrs = sorted(self.peer_hwaddrs)
        self.remembered.seen = sorted(self.placed)
        try:
            with self.spare:
                statefile.write(self.conf.state, self.remembered)
        except OSError as error:
            self.unsaved = True
            self.say(f"cannot write $state {self.conf.state}: {error.strerror}", alarm=True)

    # ------------------------------------------------------------------ actions

    def _perform(self, action: pair.Action) -> None:
        if self.dry and self._only_said(action):
            return
        match action:
            case pair.RunScript():
                self._run_script(action)
            case pair.RunProgram():
                self._run_program(action.kind)
            case pair.Ask():
                self._ask(action)
            case pair.Question():
                self._question(action)
            case pair.Forget():
                self._forget(action.questions)
            case pair.Answer():
                self._answer(action)
            case pair.Announce():
                self._begin_to_announce(time.monotonic())
            case pair.Heartbeats():
                self.children.send("heartbeat", {"do": "heartbeats", "on": action.on})
            case pair.Look():
                self._look_at_counts()
            case pair.RestartWatchers():
                self._restart_watchers()
            case pair.Log():
                self.say(action.text, alarm=action.alarm)

    def _only_said(self, action: pair.Action) -> bool:
        """In a dry run: say what would be done, and go on as if it had succeeded."""
        match action:
            case pair.RunScript():
                self.say(f"would run {self.conf.failover_prog} {action.role} ({action.reason})")
                self.imagined = True
                self.feed(pair.Ended("script", True))
            case pair.RunProgram():
                program = self.conf.fence_prog if action.kind == "fence" else self.conf.confirm
                self.say(f"would run {program}")
                self.feed(pair.Ended(action.kind, action.kind == "fence"))
            case pair.Ask() if action.purpose in TOLD:
                self.say(f"would tell the peer {action.purpose.value}")
                self.feed(pair.Replied(action.purpose, True))
            case pair.Announce():
                self.say("would announce our addresses")
            case pair.Heartbeats():
                pass
            case _:
                return False
        return True

    def _imagine(self, view: pair.PeerView) -> pair.PeerView:
        """In a dry run: the peer as it would be if it had heard what we only said."""
        ours = pair.role(self.state)
        if ours == "active" and view.role == "active":
            return replace(view, role="standby")
        if ours == "standby" and self.imagined and view.role == "standby":
            return replace(view, role="active")
        return view

    def _run_script(self, action: pair.RunScript) -> None:
        if action.role == "master":
            self._note_hwaddrs()
            self.remembered.placed(self.conf)
        else:
            self.children.send("listener", {"do": "prepare"})  # the peer may be told `fail` next
        self._save()  # before the first change: who finds it must be able to undo it
        self._start("script", [self.conf.failover_prog, action.role], action.role, action.reason)
        runner = self.runners["script"]
        if runner.pid and runner.starttime:
            self.remembered.script = (runner.pid, runner.starttime)
            self._save()

    def _run_program(self, kind: str) -> None:
        program = self.conf.fence_prog if kind == "fence" else self.conf.confirm
        if not self.runners[kind].running:  # one that runs answers for this one too
            self._start(kind, [program], pair.role(self.state), pair.Cause.SILENCE.value)

    def _start(self, kind: str, argv: list[str], role: str, reason: str) -> None:
        left = self.remembered.left if argv[1:] == ["slave"] else None
        environment = switch.environment(
            self.conf, role, reason, self.remembered.hwaddrs, *(left or ())
        )
        self.argv[kind] = argv
        if kind != "notify":
            self.say(f"running {' '.join(argv)} ({reason})", anew=True)
        with self.spare:
            result = self.runners[kind].start(argv, environment, self.conf.switch_timeout)
        if result is not None:
            self._ended(kind, result)

    def _attend(self, kind: str) -> None:
        """A program printed something, or ended."""
        runner = self.runners[kind]
        pid = runner.pid or 0
        result = runner.reap()
        for line in runner.lines():
            self.say(line, program=os.path.basename(self.argv[kind][0]), pid=pid, anew=True)
        if result is not None:
            self._ended(kind, result)

    def _ended(self, kind: str, result: switch.Result) -> None:
        ok = result.exit == 0
        if kind != "notify" or not ok:
            alarm = kind in ("script", "fence")  # $confirm's exit 1 is an answer
            self._tell_result(" ".join(self.argv[kind][:2]), result, alarm)
        if kind == "notify":
            self._notify_next()
            return
        if kind == "script":
            self.remembered.script = None
            if ok and self.argv[kind][1] == "slave":
                self.remembered.left = None
            self.last_switch = (self.argv[kind][1], result.exit, round(result.seconds, 3))
            self.placed.clear()
            self.looked = False  # what a site's own script leaves there is its own affair
            self.missed.clear()
            self.next_count = 0.0
        self.feed(pair.Ended(kind, ok, ran=result.ran and not (kind == "confirm" and died(result))))

    def _tell_result(self, what: str, result: switch.Result, alarm: bool) -> None:
        how = "succeeded" if result.exit == 0 else f"ended with exit status {result.exit}"
        if result.timed_out:
            how = f"did not end within {self.conf.switch_timeout:g} s and was killed"
        text = f"{what} {how} after {result.seconds:.3f} s"
        if result.message:
            text += f": {result.message}"
        self.say(text, alarm=alarm and result.exit != 0, anew=True)

    def _ask(self, action: pair.Ask) -> None:
        self.serial += 1
        self.asked[action.purpose] = self.serial
        status = action.purpose in (pair.Purpose.COMPARE, pair.Purpose.STATUS)
        command = "status" if status else action.purpose.value
        if not status:
            self.say(f"telling the peer {command}", anew=True)
        message = {"do": "ask", "id": self.serial, "command": command, "timeout": action.timeout}
        if not self.children.send("listener", message):
            self._lost(self.serial, sent=False)

    def _question(self, action: pair.Question) -> None:
        self.serial += 1
        self.questions[action.own] = self.serial
        message: Message = {
            "do": "question",
            "id": self.serial,
            "interfaces": sorted(i.name for i in self.state.interfaces if i.up),
            "at": list(action.at),
            "until": action.until,
            "own": self.remembered.hwaddrs,
        }
        if not self.children.send("neighbours", message):
            self.feed(pair.Answers(action.own, 0, False, False))

    def _forget(self, questions: bool) -> None:
        compare = self.asked.get(pair.Purpose.COMPARE)
        self.asked = {} if compare is None else {pair.Purpose.COMPARE: compare}
        if questions and self.questions:
            self.questions.clear()
            self.children.send("neighbours", {"do": "forget"})

    def _answer(self, action: pair.Answer) -> None:
        pid, request = self.requests.pop(action.id, (0, 0))
        if pid and pid == self.children.pid("listener"):
            message = {"do": "answer", "id": request, "ok": action.ok, "text": action.text}
            self.children.send("listener", message)

    def _begin_to_announce(self, now: float) -> None:
        """By the schedule of section 7. One that began just now will do."""
        if self.next_announcement is None or now - self.announced >= 1.0:
            self.announced = now
            self._announce(now)

    def _announce(self, now: float) -> None:
        self.next_announcement = neighbours.next_announcement(self.announced, now)
        names = [n for n in pair.announceable(self.state) if n in self.rules.addressed]
        for error in self.announcer.announce(names):
            self.say(error)

    def _restart_watchers(self) -> None:
        for name in self.conf.interfaces:
            if not self.children.send(f"watchd {name}", {"do": "restart"}):
                self.children.restart(f"watchd {name}")

    # ------------------------------------------------------------------ the children

    def _add_children(self) -> None:
        patience = process.patience(self.conf.plip_timer)
        if "log" in self.children.slots:
            self.children.slots["log"].patience = patience
        else:
            self.children.add("log", self._fork_scribe, patience)
        self._add(
            "listener", lambda channel, _: listener.run(channel, self.conf, self.up), patience
        )
        self._add("neighbours", lambda channel, _: neighbours.run(channel, self.conf), patience)
        self._add(
            "heartbeat",
            lambda channel, _: heartbeat.run(
                channel, self.conf, not self.state.mute and not self.dry
            ),
            patience,
        )
        for name in (self.conf.plip_interface, *self.conf.interfaces):
            self._add_watcher(name, patience)

    def _fork_scribe(self, _: Message | None) -> process.Child:
        conf, pipe = self.conf, self.log.pipe
        return process.fork_child(
            f"failoverd: log [{conf.pidfile}]",
            lambda channel: scribe.run(
                channel, pipe, conf.log, conf.user, process.report_interval(conf.plip_timer)
            ),
            keep=frozenset({pipe}),
        )

    def _add_watcher(self, interface: str, patience: float) -> None:
        name = f"watchd {interface}"
        if self.watcher is None:

            def run(channel: process.Channel, given: Message | None) -> None:
                hangs = name in self.undumped
                conf = replace(self.conf, dumpfile=os.devnull) if hangs else self.conf
                watchd.run_child(channel, conf, interface, given, instruments)

            self._add(name, run, patience)
            return
        private = interface == self.conf.plip_interface
        window = self.conf.plip_timer if private else self.conf.timer_seconds
        argv = [self.watcher, interface]
        self.children.add(
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
        title = f"failoverd: {name} [{self.conf.pidfile}]"

        def make(given: Message | None) -> process.Child:
            return process.fork_child(title, lambda channel: run(channel, given))

        self.children.add(name, make, patience)

    def _gone(self, name: str, why: str) -> None:
        """A child died: whoever waits for its answers gets none."""
        if why and not self.up and not self.children.was_shot(name):
            self.failure = f"{name}: {why}"
            return
        if why:
            what = why if why is STUCK else f"is replaced: {why}"
            self.say(f"the child {name} {what}", anew=True, alarm=why is STUCK)
        if name.startswith("watchd ") and self.children.was_silent(name):
            if self.conf.dumpfile != os.devnull:
                self.say("goes on without $dumpfile, until HUP", name.removeprefix("watchd "))
                self.undumped.add(name)
            if why is STUCK:
                self.children.abandon(name)
        if name == "listener":
            for serial in list(self.asked.values()):
                self._lost(serial, sent=True)
        elif name == "neighbours":
            for own in list(self.questions):
                del self.questions[own]
                self.feed(pair.Answers(own, 0, False, False))

    def _told(self, name: str, message: Message) -> None:
        """A child's message. What is not as it should be is left out."""
        try:
            match message.get("event"):
                case "log":
                    self._told_log(name, message)
                case "alarm" | "full" if name.startswith("watchd "):
                    self._told_window(name.removeprefix("watchd "), message)
                case "count" if name.startswith("watchd "):
                    self._told_count(name.removeprefix("watchd "), message)
                case "request" if name == "listener":
                    self._told_request(message)
                case "reply" if name == "listener":
                    self._told_reply(message)
                case "lost" if name == "listener":
                    self._told_lost(message)
                case "answers" if name == "neighbours":
                    self._told_answers(message)
                case "heartbeat" if name == "heartbeat":
                    now = time.monotonic()
                    self.beat = (number(message, "heard", now), number(message, "rtt", now))
        except (KeyError, TypeError, ValueError, OverflowError):
            self.say(f"the child {name} said something that is no message", alarm=True)

    def _told_log(self, name: str, message: Message) -> None:
        """A watcher speaks of its own interface only, whatever it says."""
        program, _, interface = name.partition(" ")
        if self.children.may_log(name, time.monotonic()):
            pid = self.children.pid(name)
            self.say(words(message, "message", 1000), interface, program=program, pid=pid)

    def _told_window(self, interface: str, message: Message) -> None:
        packets, last, verdict = (
            whole(message, "packets"),
            whole(message, "last"),
            message["verdict"],
        )
        if verdict not in ("ok", "boot", "late", "fail"):
            raise ValueError(verdict)
        if self.skip_reports:
            return
        self._log_window(interface, message)
        if interface == self.conf.plip_interface:
            self.link = packets, last, str(verdict)
            self.feed(pair.LinkWatched(packets, verdict))
        else:
            self._look_at(interface)
            self.counts[interface] = (0, last if verdict == "late" else packets)
            self.feed(pair.Watched(interface, packets, last, verdict))

    def _log_window(self, interface: str, message: Message) -> None:
        verdict = str(message["verdict"])
        changed = self.verdicts.get(interface) != verdict
        self.verdicts[interface] = verdict
        if (self.conf.verbose or changed) and self._may_show(interface):
            text = (
                f"{message['packets']} packets, {message['last']} in the window before: {verdict}"
            )
            reason = words(message, "reason", 200)
            self.log.event(
                "watchd",
                f"{text} ({reason})" if reason else text,
                pid=self.children.pid(f"watchd {interface}"),
                interface=interface,
            )

    def _may_show(self, interface: str) -> bool:
        """Whether a window may be logged: one gone mad has no more of them than a sane one."""
        window = self.conf.timer_seconds
        if interface == self.conf.plip_interface:
            window = self.conf.plip_timer
        shown = self.shown.setdefault(interface, Allowance(WINDOWS / window, 10 * WINDOWS))
        return shown.take(1, time.monotonic())

    def _told_count(self, interface: str, message: Message) -> None:
        packets = whole(message, "packets")
        self.counts[interface] = packets, whole(message, "last")
        self.feed(pair.Counted(interface, packets))
        for visit in self.visits:  # every look is answered, in the order of the looks
            if interface in visit.looking:
                visit.looking.discard(interface)
                break
        self._end_visits(time.monotonic())

    def _told_request(self, message: Message) -> None:
        command, request = str(message["command"]), whole(message, "id")
        origin, at = message["origin"], number(message, "at")
        now = time.monotonic()
        if origin not in ("peer", "person") or at is None:
            raise ValueError(origin)
        self.serial += 1
        mine = self.serial
        crowded = len(self.requests) >= MAX_REQUESTS
        self.requests[mine] = (self.children.pid("listener"), request)
        if command == "status":
            self._told_status(mine, origin == "peer", now)
        elif command not in ("fail", "resume"):
            del self.requests[mine]
            raise ValueError(command)
        elif self.dry:
            self.say(f"would have been told {command}", anew=True)
            self._answer(pair.Answer(mine, False, "dry run"))
        elif now - at > STALE_SECONDS:
            self._answer(pair.Answer(mine, False, "too late: we stood still meanwhile"))
        elif not self.started or self.stops or crowded or not self.switching.take(1, now):
            self._answer(pair.Answer(mine, False, "busy"))
        elif origin == "peer":
            self.say(f"told {command} by the peer", anew=True)
            self.feed(pair.Request(mine, command, True))
        else:
            self.report(f"told {command} by a person")
            self.feed(pair.Request(mine, command, False))

    def _told_status(self, mine: int, by_peer: bool, now: float) -> None:
        """The peer is told what our cards have heard by now, if our watchers say it in time."""
        looking = set[str]()
        if self.glances.take(1, now):
            for name in self.conf.interfaces:
                if self.children.send(f"watchd {name}", {"do": "look"}):
                    looking.add(name)
        if by_peer:
            self.feed(pair.Visited())
        if by_peer and (looking or self.visits):  # those who looked just now are waited for
            self.visits.append(Visit(mine, looking, now + GLANCE_SECONDS))
        else:
            self._answer_status(mine)

    def _answer_status(self, request: int) -> None:
        self._answer(pair.Answer(request, True, protocol.encode_status(self.status())))

    def _end_visits(self, now: float) -> None:
        """Answer those for whom all watchers have looked, and those who have waited too long."""
        while self.visits and (not self.visits[0].looking or now >= self.visits[0].until):
            self._answer_status(self.visits.popleft().request)

    def _told_reply(self, message: Message) -> None:
        purpose = self._purpose(whole(message, "id"))
        ok, text = message["ok"] is True, message["text"]
        if not isinstance(text, str):
            raise ValueError("text")
        self.unreached = ""
        if purpose is None:
            return
        view = None
        if purpose in (pair.Purpose.COMPARE, pair.Purpose.STATUS):
            status = protocol.parse_status(text) if ok else None
            if status is None:
                shown = printable(text[:80])
                self.say(f"the peer's status is no status: {shown}", alarm=True)
                self.feed(pair.Unreplied(purpose))
                return
            view = self._view(status)
            view = self._imagine(view) if self.dry else view
        self.feed(pair.Replied(purpose, ok, words(message, "text", 200), view))

    def _view(self, status: protocol.Status) -> pair.PeerView:
        known = dict(status.interfaces)
        hwaddrs = {i.hwaddr for i in known.values() if i.hwaddr}
        if hwaddrs - self.peer_hwaddrs:
            all_of_them = self.peer_hwaddrs | hwaddrs
            self.peer_hwaddrs = all_of_them if len(all_of_them) <= MAX_HWADDRS else hwaddrs
            self._save()
        bad = frozenset(
            name
            for name in self.conf.interfaces
            if name not in known
            or pair.is_bad(known[name].state, known[name].packets, known[name].last)
        )
        down = frozenset(name for name in bad if name not in known or known[name].state == "down")
        role = "rejoining" if status.rejoining else status.role
        counts = tuple((name, known[name].packets, known[name].last) for name in sorted(known))
        failed = frozenset(name for name in known if known[name].state == "fail")
        return pair.PeerView(role, status.boot, bad, down=down, counts=counts, failed=failed)

    def _told_lost(self, message: Message) -> None:
        serial, why = whole(message, "id"), words(message, "why", 200)
        purpose = self._purpose(serial, keep=True)
        new = why != self.unreached or purpose is not pair.Purpose.COMPARE
        if new and self.children.may_log("listener", time.monotonic()):
            asked = purpose.value if purpose and purpose in TOLD else "status"
            self.say(f"no answer from the peer to {asked}: {why}")
        self.unreached = why
        self._lost(serial, message.get("sent") is not False)

    def _lost(self, serial: int, sent: bool) -> None:
        purpose = self._purpose(serial)
        if purpose is not None:
            self.feed(pair.Unreplied(purpose, sent))

    def _purpose(self, serial: int, keep: bool = False) -> pair.Purpose | None:
        for purpose, asked in self.asked.items():
            if asked == serial:
                if not keep:
                    del self.asked[purpose]
                return purpose
        return None

    def _told_answers(self, message: Message) -> None:
        serial, asked = whole(message, "id"), whole(message, "asked")
        own = next((own for own, asking in self.questions.items() if asking == serial), None)
        answers = message["answers"]
        if own is None or not isinstance(answers, list):
            return
        del self.questions[own]
        pairs = [(str(a["address"])[:45], str(a["hwaddr"])[:17]) for a in answers]
        shared = {entry.hwaddr for entry in self.conf.ethernet_addresses}
        peer = any(hwaddr in self.peer_hwaddrs | shared for _, hwaddr in pairs)
        who = ", ".join(f"{address} is at {hwaddr}" for address, hwaddr in pairs[:4])
        self.feed(pair.Answers(own, asked, bool(pairs), peer, who))

    # ------------------------------------------------------------------ what is so

    def _look_at_links(self) -> None:
        for name in self.conf.interfaces:
            self._look_at(name)

    def _look_for_files(self) -> None:
        """What was removed, or could not be written, is written as soon as that is possible: who is
        started after us has to find it."""
        if self.started and (self.unsaved or not os.path.lexists(self.conf.state)):
            self._save()
        if self.keep_pidfile is not None:
            self.keep_pidfile()

    def _look_for_addresses(self) -> None:
        """A card that is deleted and made again takes the service's addresses with it.

        Told once for each that was there: a site's own script may put them elsewhere.
        """
        try:
            here = self._addresses_here()
        except OSError:
            return  # not to be told is not to be without
        gone = {one for one in self.placed - here if links.index(one[0]) is not None}
        role = pair.role(self.state)
        if not here <= self.placed and self.started and role != "switching":
            if self.looked and role != "active":
                self.feed(pair.Stray())  # on a card that was renamed or away, say
            self.placed |= here
            self._save()
        self.looked = True
        if role == "active":
            new, self.missed = gone - self.missed, gone
            if new:
                self.feed(pair.Bare())

    def _addresses_here(self) -> set[tuple[str, str]]:
        held = {name: links.addresses(name) for name in {a.interface for a in self.conf.addresses}}
        return {(name, address) for name, address in wanted(self.conf) if address in held[name]}

    def _look_at(self, name: str) -> None:
        up = links.works(name)
        known = next((i for i in self.state.interfaces if i.name == name), None)
        if known is not None and known.up is not up:
            if self.started:
                self.say("is up" if up else "is down", name, anew=True)
            self.feed(pair.Carrier(name, up))

    def _look_at_counts(self) -> None:
        for name in self.conf.interfaces:
            if not self.children.send(f"watchd {name}", {"do": "look"}):
                self.feed(pair.Counted(name, 0))  # another's watcher cannot look

    def status(self) -> protocol.Status:
        """Section 6."""
        heard, rtt = self.beat
        now = time.monotonic()
        role = pair.role(self.state) if self.started else "switching"  # we may be active
        if self.dry:  # `failed` keeps a live peer from handing us a role that we would not take
            role = "active" if self.remembered.role == "active" else "failed"
        interfaces = tuple(
            (
                i.name,
                protocol.InterfaceStatus(
                    i.state,
                    *self.counts.get(i.name, (i.packets, i.last)),
                    links.hwaddr(i.name) or "",
                ),
            )
            for i in self.state.interfaces
        )
        return protocol.Status(
            role=role,
            boot=self.boot,
            since=self.remembered.since or utc_now(),
            version=__version__,
            interfaces=interfaces,
            plip_state=self._link_state(),
            heartbeat_age=None if heard is None else round(now - heard, 3),
            rtt_ms=None if rtt is None else round(rtt * 1000, 3),
            switch_last=self.last_switch[0],
            switch_exit=self.last_switch[1],
            switch_seconds=self.last_switch[2],
            rejoining=self.state.phase is pair.Phase.REJOINING,
        )

    def _link_state(self) -> str:
        if not links.works(self.conf.plip_interface):
            return "down"
        packets, last, verdict = self.link or (0, 0, "boot")
        if verdict in ("fail", "boot"):
            return verdict
        return "silent" if packets == 0 and last == 0 else "ok"

    # ------------------------------------------------------------------ words

    def say(
        self,
        text: str,
        interface: str = "",
        *,
        alarm: bool = False,
        anew: bool = False,
        program: str = "failoverd",
        pid: int = 0,
    ) -> None:
        """A line for the log. anew: an event of its own, even if the words are the same: it may
        come a few times before it counts as a repetition."""
        pid = pid or os.getpid()
        free = OFTEN if anew else 0
        written = self.log.write(program, text, pid=pid, interface=interface, free=free)
        if alarm and written:
            self._notify("alarm", f"{interface}: {text}" if interface else text)

    def report(self, text: str) -> None:
        """A line about what a person did: never left out."""
        self.log.event("failoverd", text, pid=os.getpid())

    def _notify(self, kind: str, text: str) -> None:
        if self.conf.notify_prog and not self.dry:
            self.notices.append((kind, text))
            self._notify_next()

    def _notify_next(self) -> None:
        if self.notices and not self.runners["notify"].running:
            kind, text = self.notices.popleft()
            role = pair.role(self.state)
            self._start("notify", [self.conf.notify_prog, kind, text], role, text)

    # ------------------------------------------------------------------ HUP

    def _read_again(self) -> None:
        """Re-open the log, and take the new configuration wholly or not at all."""
        self.children.retire("log")  # another one opens the file that has its name by now
        self.undumped.clear()
        if self.reload is None:
            return
        try:
            conf = self.reload(self.conf)
        except (ValueError, OSError, MemoryError) as error:
            for line in (str(error) or "no memory").splitlines():
                self.report(line)
            self.report("the configuration stays as it was")
            return
        self._adopt(conf)

    def _adopt(self, conf: Conf) -> None:
        old, self.conf = self.conf, conf
        if conf == old:
            self.report("configuration read again: nothing changed")
            if files.stamp(conf.secret) != self.secret:
                self.secret = files.stamp(conf.secret)
                self.children.restart("listener")
            return
        self.secret = files.stamp(conf.secret)
        self.children.retire("log")
        self.rules = pair.rules(conf, self.boot)
        self.state = pair.adapt(self.state, self.rules)
        self.announcer.close()
        self.announcer = neighbours.Announcer(conf)
        self._note_hwaddrs()
        self.placed.clear()
        self.looked = False
        for name in set(self.children.slots) - {"log"}:
            self.children.remove(name)
        self._add_children()
        self._look_at_links()
        self.report("configuration read again")
        if pair.role(self.state) == "active" and places(conf) != places(old):
            self.report("what is new in @addresses comes with the next switch")


def wanted(conf: Conf) -> set[tuple[str, str]]:
    """Card and address of each of @addresses."""
    return {(a.interface, str(ip_address(a.address))) for a in conf.addresses}


def died(result: switch.Result) -> bool:
    """Whether a program ended without a word of its own, for want of memory or of a file."""
    lost = result.exit in (switch.CANNOT_RUN, switch.NOT_FOUND)
    return lost or (result.exit < 0 and not result.timed_out)


def places(conf: Conf) -> tuple[object, object]:
    """What a switch moves."""
    return conf.addresses, conf.ethernet_addresses


def utc_now() -> str:
    """Wall clock for people: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def whole(message: Message, key: str) -> int:
    """A whole number that is not negative, or ValueError."""
    value = message[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(key)
    return value


def number(message: Message, key: str, most: float = float("inf")) -> float | None:
    """A number from 0 to `most`, None if there is none, else ValueError or OverflowError."""
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(key)
    return float(value)


def words(message: Message, key: str, most: int) -> str:
    """The beginning of a text for people, "" if there is none."""
    return printable(str(message.get(key, ""))[:most])
