"""The programs of the configuration: the switch script, and what fences, confirms and notifies."""

from __future__ import annotations

import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from failoverd import pair, switch
from failoverd.master.situation import Situation

MAX_NOTICES = 16


class Programs:
    """One of each kind runs at a time; how it ended, the pair is told."""

    def __init__(
        self, us: Situation, selector: selectors.BaseSelector, switched: Callable[[], None]
    ) -> None:
        """switched() is called when the switch script has ended."""
        self._us = us
        self._selector = selector
        self._switched = switched
        self._runners = {kind: switch.Runner() for kind in ("script", "fence", "confirm", "notify")}
        self._argv: dict[str, list[str]] = {}
        self._notices: deque[tuple[str, str]] = deque(maxlen=MAX_NOTICES)
        self._old_script: tuple[int, float] | None = None  # a predecessor's: pidfd, its time's end
        self.last_switch: tuple[str | None, int | None, float | None] = (None, None, None)

    def watch(self) -> None:
        """From now on the loop attends to what they print, and to their ends."""
        for kind, runner in self._runners.items():
            attend = partial(self._attend, kind)
            self._selector.register(runner.fileno(), selectors.EVENT_READ, attend)

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()

    def deadlines(self) -> Iterator[float | None]:
        """When `kill_late` has something to do."""
        yield self._old_script[1] if self._old_script else None
        yield from (runner.deadline for runner in self._runners.values())

    def kill_late(self, now: float) -> None:
        if self._old_script is not None and now >= self._old_script[1]:
            self._kill_old_script()
        for kind, runner in self._runners.items():
            if runner.deadline is not None and now >= runner.deadline:
                runner.kill_late()
                self._attend(kind)

    # ------------------------------------------------------------------ what a predecessor left

    def await_old_script(self) -> None:
        """A predecessor that was killed may have left its switch script running."""
        script = self._us.remembered.script
        if self._us.dry or script is None or not switch.running(*script):
            return
        try:
            pidfd = os.pidfd_open(script[0])
        except ProcessLookupError:
            return  # it has just ended
        self._us.say(f"waiting for the switch script of a dead failoverd (pid {script[0]})")
        self._old_script = pidfd, time.monotonic() + self._us.conf.switch_timeout
        self._selector.register(pidfd, selectors.EVENT_READ, self._forget_old_script)

    @property
    def old_script_runs(self) -> bool:
        return self._old_script is not None

    def _kill_old_script(self) -> None:
        if self._us.remembered.script is not None:
            self._us.say("the old switch script hangs: killed", alarm=True)
            switch.kill_group(self._us.remembered.script[0])
        self._forget_old_script()

    def _forget_old_script(self) -> None:
        if self._old_script is not None:
            self._selector.unregister(self._old_script[0])
            os.close(self._old_script[0])
            self._old_script = None

    # ------------------------------------------------------------------ start and end

    def run_script(self, role: str, reason: str) -> None:
        """Run $failover_prog for this role ("master" or "slave")."""
        self._us.save()  # before the first change: who finds it must be able to undo it
        self._start("script", [self._us.conf.failover_prog, role], role, reason)
        runner = self._runners["script"]
        if runner.pid and runner.starttime:
            self._us.remembered.script = (runner.pid, runner.starttime)
            self._us.save()

    def run(self, kind: str) -> None:
        """Run $fence_prog ("fence") or the program that $confirm names ("confirm")."""
        program = self._us.conf.fence_prog if kind == "fence" else self._us.conf.confirm
        if not self._runners[kind].running:  # one that runs answers for this one too
            self._start(kind, [program], self._us.role, pair.Cause.SILENCE.value)

    def notify(self, kind: str, text: str) -> None:
        """Run $notify_prog, if there is one, as soon as it has heard what came before."""
        if self._us.conf.notify_prog and not self._us.dry:
            self._notices.append((kind, text))
            self._notify_next()

    def _notify_next(self) -> None:
        if self._notices and not self._runners["notify"].running:
            kind, text = self._notices.popleft()
            self._start("notify", [self._us.conf.notify_prog, kind, text], self._us.role, text)

    def _start(self, kind: str, argv: list[str], role: str, reason: str) -> None:
        conf, remembered = self._us.conf, self._us.remembered
        left = remembered.left if argv[1:] == ["slave"] else None
        environment = switch.environment(conf, role, reason, remembered.hwaddrs, *(left or ()))
        self._argv[kind] = argv
        if kind != "notify":
            self._us.say(f"running {' '.join(argv)} ({reason})", anew=True)
        with self._us.spare:
            result = self._runners[kind].start(argv, environment, conf.switch_timeout)
        if result is not None:
            self._ended(kind, result)

    def _attend(self, kind: str) -> None:
        """A program printed something, or ended."""
        runner = self._runners[kind]
        pid = runner.pid or 0
        result = runner.reap()
        for line in runner.lines():
            program = os.path.basename(self._argv[kind][0])
            self._us.say(line, program=program, pid=pid, anew=True)
        if result is not None:
            self._ended(kind, result)

    def _ended(self, kind: str, result: switch.Result) -> None:
        ok = result.exit == 0
        if kind != "notify" or not ok:
            alarm = kind in ("script", "fence")  # $confirm's exit 1 is an answer
            self._tell_result(" ".join(self._argv[kind][:2]), result, alarm)
        if kind == "notify":
            self._notify_next()
            return
        if kind == "script":
            self._note_switch(self._argv[kind][1], result)
        ran = result.ran and not (kind == "confirm" and died(result))
        self._us.feed(pair.Ended(kind, ok, ran=ran))

    def _note_switch(self, role: str, result: switch.Result) -> None:
        self._us.remembered.script = None
        if result.exit == 0 and role == "slave":
            self._us.remembered.left = None
        self.last_switch = (role, result.exit, round(result.seconds, 3))
        self._switched()

    def _tell_result(self, what: str, result: switch.Result, alarm: bool) -> None:
        how = "succeeded" if result.exit == 0 else f"ended with exit status {result.exit}"
        if result.timed_out:
            how = f"did not end within {self._us.conf.switch_timeout:g} s and was killed"
        text = f"{what} {how} after {result.seconds:.3f} s"
        if result.message:
            text += f": {result.message}"
        self._us.say(text, alarm=alarm and result.exit != 0, anew=True)


def died(result: switch.Result) -> bool:
    """Whether a program ended without a word of its own, for want of memory or of a file."""
    lost = result.exit in (switch.CANNOT_RUN, switch.NOT_FOUND)
    return lost or (result.exit < 0 and not result.timed_out)
