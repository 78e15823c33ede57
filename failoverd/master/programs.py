"""The programs of the configuration: switch script and hooks, what fences, confirms, notifies."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from failoverd import pair, process, switch
from failoverd.conf import files, hooks
from failoverd.log import lasting, utc_now
from failoverd.master.context import Context
from failoverd.master.messages import Placed
from failoverd.master.placing import Placing
from failoverd.statefile import FailedRun, uptime
from failoverd.wire import protocol

MAX_NOTICES = 16
NOTICES = ("role", "alarm")  # in this order: of a takeover, first that it has happened
SAID = {True: "succeeded", False: "ended"}
DECIDING = ("fence", "confirm")  # programs whose exit status decides
PLACED = {
    "put": ("ADDRESSES-PLACED", "service addresses added", "master"),
    "take": ("ADDRESSES-TAKEN", "service addresses removed", "slave"),
}
LEAST = 3.0  # seconds that addresses have to come or go, also when $switch_timeout is over


@dataclass
class Old:
    """A program that a dead failoverd has left. deadline: when it is killed, or given up."""

    what: str
    pid: int
    deadline: float
    killed: bool = False


# Role, the addresses that the script was told, exit status 0. Whether the switch has worked, and
# what the kernel shows against it.
Switched = Callable[[str, list[str], bool], tuple[bool, str]]
Announce = Callable[[bool], None]  # the addresses have come, or are about to go
# A part of a switch, which waits for ends of programs and of changes of addresses, to its own end.
T = TypeVar("T")
Steps = Generator[None, switch.Result | Placed | None, T]


@dataclass(frozen=True)
class Run:
    """A run of the switch script that has ended. why: what there is against it beside its exit
    status, as a status tells it."""

    role: str
    exit: int
    seconds: float
    why: str


class Programs:
    """One of each kind runs at a time; how it ended, the pair is told.

    What fences or confirms is ended when its word is not wanted any more, and when failoverd ends:
    it would shoot a peer that is well again.
    """

    def __init__(
        self,
        context: Context,
        selector: selectors.BaseSelector,
        switched: Switched,
        placing: Placing,
        announce: Announce,
    ) -> None:
        self._context = context
        self._selector = selector
        self._switched = switched
        self._placing = placing
        self._announce = announce
        self._switch: Steps[None] | None = None  # the last one
        self._places = False  # in this switch: failoverd itself, and not the script
        self._runners = {kind: switch.Runner() for kind in ("script", "fence", "confirm", "notify")}
        self._argv: dict[str, list[str]] = {}
        self._began = 0.0  # when the switch did, in monotonic seconds
        self._told: dict[str, str] = {}  # the environment of its script
        self._addresses: list[str] = []  # that the switch is about
        self._hwaddrs: list[str] = []  # and the hardware addresses
        self._notices = {kind: deque[tuple[str, str]](maxlen=MAX_NOTICES) for kind in NOTICES}
        self._asked: dict[str, int] = {}  # by kind: whose word the pair waits for
        self._next: dict[str, int] = {}  # to be started when the one before is gone
        self._old: dict[int, Old] = {}  # a predecessor's that still run, by pidfd
        self._line = ""  # the last that the switch script printed
        self.last_switch: Run | None = None

    def watch(self) -> None:
        """From now on the loop attends to what they print, and to their ends."""
        for kind, runner in self._runners.items():
            attend = partial(self._attend, kind)
            self._selector.register(runner.fileno(), selectors.EVENT_READ, attend)

    def close(self) -> None:
        """The switch script goes on; what fences and confirms ends with failoverd."""
        for kind in DECIDING:
            runner = self._runners[kind]
            runner.abandon()
            end = time.monotonic() + switch.KILL_GRACE
            while runner.running and (left := end - time.monotonic()) > 0:
                select.select([runner.fileno()], [], [], left)
                runner.reap()
        for runner in self._runners.values():
            runner.close()
        for pidfd in list(self._old):
            self._forget_old(pidfd)

    @property
    def deadline(self) -> float | None:
        times = [old.deadline for old in self._old.values()]
        times += [one.deadline for one in self._runners.values() if one.deadline is not None]
        return min(times, default=None)

    def tend(self, now: float) -> None:
        """End what is late."""
        for pidfd, old in list(self._old.items()):
            if now >= old.deadline:
                self._kill_old(pidfd, old, now)
        for kind, runner in self._runners.items():
            if runner.deadline is not None and now >= runner.deadline:
                runner.kill_late()
                self._attend(kind)

    # ------------------------------------------------------------------ what a predecessor left

    def await_old(self) -> None:
        """A predecessor that was killed may have left programs running. Its switch script has its
        time; what fences or confirms is ended at once, for it was about another silence."""
        saved = self._context.saved
        if self._context.dry:
            return
        if saved.script is not None:
            name = os.path.basename(self._context.conf.failover_prog)
            self._await_one(name, saved.script, self._context.conf.switch_timeout)
        for program in saved.programs:
            self._await_one("fence-or-confirm", program, 0.0)

    def _await_one(self, what: str, program: tuple[int, int], seconds: float) -> None:
        if not switch.running(*program):
            return
        try:
            pidfd = os.pidfd_open(program[0])
        except ProcessLookupError:
            return  # it has just ended
        with contextlib.suppress(OSError):
            process.be_ordinary(program[0])  # it may have been left in a hurry
        text = "left by a dead failoverd, waiting for its end"
        self._context.say("LEFTOVER-WAIT", f"script {what}", text, pid=program[0])
        self._old[pidfd] = Old(what, program[0], time.monotonic() + seconds)
        self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._forget_old(pidfd))

    @property
    def old_ones_run(self) -> bool:
        return bool(self._old)

    def _kill_old(self, pidfd: int, old: Old, now: float) -> None:
        """It is gone when its descriptor says so, or held by the kernel for who knows how long."""
        if old.killed:
            text = "left by a dead failoverd, cannot be killed, going on"
            self._context.say("LEFTOVER-STUCK", f"script {old.what}", text, pid=old.pid)
            self._forget_old(pidfd)
        else:
            text = "left by a dead failoverd, killed"
            self._context.say("LEFTOVER-KILLED", f"script {old.what}", text, pid=old.pid)
            switch.kill_group(old.pid)
            old.killed, old.deadline = True, now + switch.KILL_GRACE

    def _forget_old(self, pidfd: int) -> None:
        del self._old[pidfd]
        self._selector.unregister(pidfd)
        os.close(pidfd)

    # ------------------------------------------------------------------ start and end

    def run_script(self, role: str, reason: str) -> None:
        """Begin a switch to this role ("master" or "slave")."""
        self._line = ""
        self._context.save()  # before the first change: who finds it must be able to undo it
        self._began = time.monotonic()
        self._places = self._context.conf.addresses_by == "failoverd"
        self._told = self._environment(role, reason)
        self._told |= {"FAILOVER_PLACED": "yes"} if self._places else {}
        self._addresses = self._told["FAILOVER_ADDRESSES"].splitlines()
        self._hwaddrs = self._told["FAILOVER_ETHERNET_ADDRESSES"].splitlines()
        self._switch = self._steps(role)
        self._go_on(None)

    def _go_on(self, outcome: switch.Result | Placed | None) -> None:
        """What the switch waits for has come."""
        if self._switch is not None:
            with contextlib.suppress(StopIteration):
                self._switch.send(outcome)

    def _steps(self, role: str) -> Steps[None]:
        """A switch in its order. A service stops before its address goes."""
        found = self._find_hooks(role)
        failed = yield from self._run_hooks(found, "before", role)
        if failed is not None:
            self._end_switch(role, failed)
            return
        if role == "master":
            placed = yield from self._place("put")
            if placed.problem:  # what was put is taken again
                taken = yield from self._place("take")
                self._end_switch(role, switch.Result(1, 0.0, False), placed, taken)
                return
            if self._places:
                self._announce(True)
        result = yield from self._run([self._context.conf.failover_prog, role])
        goes = self._goes(role, result)
        taken = (yield from self._place("take")) if goes else Placed(0)
        if result.exit == 0 and not taken.problem:
            yield from self._run_hooks(found, "after", role)
        self._end_switch(role, result, taken)

    @property
    def _serves(self) -> bool:
        state = self._context.state
        return not (state.failed or state.purpose is pair.Purpose.CLEAN)

    def _goes(self, role: str, result: switch.Result) -> bool:
        """A script that could not be run has stopped no service: then a node that serves goes
        on, and any other leaves no address here."""
        return not result.ran if role == "master" else result.ran or not self._serves

    def _find_hooks(self, role: str) -> Sequence[str]:
        """Those of this switch. Nor do they stop a service that is to go on, see above."""
        conf = self._context.conf
        try:
            with self._context.spare:
                found, _ = hooks.chosen(conf.switch_dir)
        except OSError:
            found = [os.path.join(conf.switch_dir, "*")]  # which says why it cannot be run
        stops = role == "slave" and self._serves
        return () if found and stops and not os.access(conf.failover_prog, os.X_OK) else found

    def _run_hooks(self, found: Sequence[str], when: str, role: str) -> Steps[switch.Result | None]:
        """Run each. A failure before "master" ends the switch, and is returned; no other does: the
        role has to leave even if a service does not stop."""
        for path in found:
            argv = [path, when, role]
            result = yield from self._run(argv, self._faults(argv))
            if result.exit == 0:
                continue
            how = self._how_it_failed(result)
            if (when, role) == ("before", "master"):
                why = f"{os.path.basename(path)} before master failed" + (f": {how}" if how else "")
                return replace(result, message=why, ran=True)
            values = {"hook": " ".join(argv), "exit": result.exit, "error": how}
            self._context.say(
                "HOOK-FAILED", self._subject("script"), "the switch goes on", **values
            )
        return None

    def _faults(self, hook: list[str]) -> list[str]:
        """Why a hook is not run now. -t has looked at it, too, if it was there then."""
        if time.monotonic() >= self._ends(hook):
            return ["not run, as $switch_timeout is over"]
        return files.program_faults(hook[0])

    def _run(self, argv: list[str], faults: Sequence[str] = ()) -> Steps[switch.Result]:
        """Run the script or a hook to its end. faults: why it must not be run."""
        self._line = ""
        self._argv["script"] = argv
        outcome: switch.Result | Placed | None
        if faults:
            outcome = switch.Result(switch.CANNOT_RUN, 0.0, False, faults[0], ran=False)
        else:
            outcome = self._start("script", argv, argv[-1], self._told["FAILOVER_REASON"])
        if outcome is None:
            runner = self._runners["script"]
            if runner.pid and runner.starttime:
                self._context.saved.script = (runner.pid, runner.starttime)
                self._context.save()
            outcome = yield
        assert isinstance(outcome, switch.Result)
        self._tell_result("script", outcome)
        return outcome

    def _ends(self, argv: list[str]) -> float:
        """When a program of this switch is killed. What hangs before "slave" leaves the script some
        time: the role has to leave."""
        timeout = self._context.conf.switch_timeout
        left = min(LEAST, timeout / 2) if argv[1:] == ["before", "slave"] else 0.0
        return self._began + timeout - left

    def _place(self, do: str) -> Steps[Placed]:
        """Have the addresses put or taken, if there are any and failoverd is to do that."""
        if not (self._places and (self._addresses or self._hwaddrs)):
            return Placed(0)
        began = time.monotonic()
        work: process.Message = {"do": do, "addresses": self._addresses, "hwaddrs": self._hwaddrs}
        if do == "take":
            self._announce(False)
            work["own"] = self._context.saved.hwaddrs
        left = self._began + self._context.conf.switch_timeout - began
        self._placing.begin(work, max(LEAST, left), self._go_on)
        placed = yield
        assert isinstance(placed, Placed)
        self._tell_placed(do, placed, began)
        return placed

    def _tell_placed(self, do: str, placed: Placed, began: float) -> None:
        event, text, role = PLACED[do]
        values = {"count": placed.count, "took": lasting(time.monotonic() - began)}
        if placed.problem:
            event, text = "ADDRESS-FAILED", "the kernel refuses a change of service addresses"
            values = {"role": role, "error": placed.problem}
        self._context.say(event, "role", text, **values, note=placed.note)

    def run(self, kind: str, number: int) -> None:
        """Run $fence_prog ("fence") or the program that $confirm names ("confirm"), as soon as one
        that was forgotten is gone: its word is about another silence."""
        if self._runners[kind].running:
            self._runners[kind].abandon()
            self._next[kind] = number
            return
        self._asked[kind] = number
        program = self._context.conf.fence_prog if kind == "fence" else self._context.conf.confirm
        self._begin(kind, [program], pair.Purpose.SILENCE.value)
        self._remember()

    def forget(self) -> None:
        """Nobody wants the word of what fences or confirms any more: it is ended."""
        self._asked.clear()
        self._next.clear()
        for kind in DECIDING:
            if self._runners[kind].running:
                text = "ended, its answer is not wanted any more"
                self._context.say("SCRIPT-DROPPED", self._subject(kind), text)
                self._runners[kind].abandon()

    def _remember(self) -> None:
        """Whoever is started next has to find them."""
        runners = [self._runners[kind] for kind in DECIDING]
        found = [(one.pid, one.starttime) for one in runners if one.pid and one.starttime]
        if found != self._context.saved.programs:
            self._context.saved.programs = found
            self._context.save()

    def notify(self, kind: str, text: str, event: str) -> None:
        """Have $notify_prog run, if there is one."""
        if self._context.conf.notify_prog and not self._context.dry:
            self._notices[kind].append((text, event))

    def notify_next(self) -> None:
        """To be called often. What can wait does not start in the middle of a switch."""
        kind = next((kind for kind in NOTICES if self._notices[kind]), "")
        runs = any(self._runners[name].running for name in ("notify", "script"))
        if kind and not runs and self._placing.deadline is None:
            text, event = self._notices[kind].popleft()
            self._begin("notify", [self._context.conf.notify_prog, kind, text, event], text)

    def _begin(self, kind: str, argv: list[str], reason: str) -> None:
        """Start what is no part of a switch."""
        result = self._start(kind, argv, self._context.role, reason)
        if result is not None:
            self._ended(kind, result)

    def _start(self, kind: str, argv: list[str], role: str, reason: str) -> switch.Result | None:
        """None if it runs now, else why it does not."""
        conf = self._context.conf
        environment, timeout = self._environment(role, reason), conf.switch_timeout
        self._argv[kind] = argv
        if kind == "script":
            timeout = self._ends(argv) - time.monotonic()
            environment = self._told  # a HUP may have come meanwhile
        if kind != "notify":
            values = {"command": " ".join(argv), "cause": reason}
            self._context.say("SCRIPT-START", self._subject(kind), "running", **values)
        urgent = conf.realtime and kind == "script" and argv[0] == conf.failover_prog
        with self._context.spare:
            return self._runners[kind].start(argv, environment, timeout, urgent=urgent)

    def _environment(self, role: str, reason: str) -> dict[str, str]:
        saved = self._context.saved
        left = (saved.left if role == "slave" else None) or ((), ())
        return switch.environment(self._context.conf, role, reason, saved.hwaddrs, left)

    def _attend(self, kind: str) -> None:
        """A program printed something, or ended."""
        runner = self._runners[kind]
        pid = runner.pid or 0
        result = runner.reap()
        for line in runner.lines():
            if kind == "script" and line == switch.DUTIES:
                runner.calm()
                continue
            subject = self._subject(kind)
            source = subject.removeprefix("script "), pid
            self._context.say("SCRIPT-OUTPUT", subject, "output", source, line=line)
            if kind == "script" and line:
                self._line = line
        if result is not None:
            self._ended(kind, result)

    def _ended(self, kind: str, result: switch.Result) -> None:
        if kind == "script":
            self._go_on(result)
            return
        ok = result.exit == 0
        wanted = kind not in DECIDING or kind in self._asked  # else it was ended here
        if wanted and (kind != "notify" or not ok):
            self._tell_result(kind, result)
        if kind == "notify":
            return
        self._remember()
        number = self._asked.pop(kind, 0)
        if number:
            ran = result.ran and not (kind == "confirm" and died(result))
            self._context.feed(pair.Ended(kind, ok, ran=ran, number=number))
        elif kind in self._next:
            self.run(kind, self._next.pop(kind))

    def _end_switch(self, role: str, result: switch.Result, *placed: Placed) -> None:
        result = replace(result, seconds=time.monotonic() - self._began)
        problem = "; ".join(dict.fromkeys(one.problem for one in placed if one.problem))
        ok = self._note_switch(role, result, problem)
        self._context.feed(pair.Ended("script", ok, ran=result.ran))

    def _note_switch(self, role: str, result: switch.Result, problem: str) -> bool:
        """Whether the switch has worked. A run that cleans up does not hide the one that failed."""
        saved = self._context.saved
        worked, against = False, ""
        if result.ran:
            ok = result.exit == 0 and not problem
            worked, against = self._switched(role, self._addresses, ok)
        saved.script = None
        if worked and role == "slave":
            saved.left = None
        said = self._how_it_failed(result), problem, against
        why = "" if worked else "; ".join(filter(None, said))
        why, line = protocol.words(why), protocol.words(self._line)
        self.last_switch = Run(role, result.exit, round(result.seconds, 3), why)
        if worked and any(run.role == role for run in saved.failed):
            subject = f"script {os.path.basename(self._context.conf.failover_prog)}"  # no hook
            self._context.say("SWITCH-OK", subject, "works again", role=role)
        saved.failed = [run for run in saved.failed if run.role != role]
        if not worked:
            saved.failed.append(FailedRun(role, result.exit, line, why, utc_now(), uptime()))
        return worked

    @property
    def failure(self) -> protocol.Failure | None:
        """The last run that failed, unless one for the same role has worked since."""
        if not self._context.saved.failed:
            return None
        last = self._context.saved.failed[-1]
        age = round(max(0.0, uptime() - last.at), 3)
        return protocol.Failure(last.role, last.exit, last.line, last.why, last.when, age)

    def _how_it_failed(self, result: switch.Result) -> str:
        """What the exit status of a failed run does not say."""
        if result.message or not result.timed_out:
            return result.message
        return f"killed, as it did not end within {self._context.conf.switch_timeout:g} s"

    def _subject(self, kind: str) -> str:
        return f"script {os.path.basename(self._argv[kind][0])}"

    def _tell_result(self, kind: str, result: switch.Result) -> None:
        context, subject, ok = self._context, self._subject(kind), result.exit == 0
        text = "killed, did not end in time" if result.timed_out else SAID[ok]
        values = {"exit": result.exit, "took": lasting(result.seconds), "error": result.message}
        values["command"] = " ".join(self._argv[kind][: 2 if kind == "notify" else None])
        if result.timed_out:
            whole = self._ends(self._argv[kind]) - self._began
            values["timeout"] = f"{whole:g}s"  # a hook before "slave" has less than $switch_timeout
        event = {"fence": "FENCE-OK" if ok else "FENCE-FAILED", "notify": "NOTIFY-FAILED"}
        context.say(event.get(kind, "SCRIPT-END"), subject, text, **values)


def died(result: switch.Result) -> bool:
    """Whether a program ended without a word of its own, for want of memory or of a file."""
    lost = result.exit in (switch.CANNOT_RUN, switch.NOT_FOUND)
    return lost or (result.exit < 0 and not result.timed_out)
