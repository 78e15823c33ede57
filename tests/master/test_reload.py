"""HUP: the configuration is read and checked beside the main loop, which never waits for it."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from live_pair import kill, main_pid, pids, settled, start

from dev.lab.network import Lab
from dev.lab.node import Node
from failoverd import process
from failoverd.conf import Conf
from failoverd.master.context import Context
from failoverd.master.errands import Errands
from failoverd.master.reload import Reload, sound
from failoverd.process import Channel, Message
from failoverd.watch import filters
from failoverd.watch.filters import Program

GENEROUS = 60.0
READ = "configuration read again"
KEPT = "configuration stays as it was"


def hang_up(node: Node) -> None:
    kill(node, main_pid(node), signal.SIGHUP)


def checking(node: Node) -> list[int]:
    return pids(node, "failoverd: check")


class Slow:
    """A failoverd.conf that whoever reads it has to wait for."""

    def __init__(self, node: Node) -> None:
        self._lab = node.lab
        self._path = node.outside / "failoverd.conf"
        self.text = self._path.read_text()
        self._path.unlink()
        os.mkfifo(self._path)

    def give(self, text: str) -> None:
        """Let one reader have it, once there is one."""
        self._lab.wait_until(lambda: self._gave(text), "a process reads it")

    def _gave(self, text: str) -> bool:
        try:
            pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # it is not read
            return False
        with open(pipe, "w") as file:
            file.write(text)
        return True


def told(node: Node, times: int) -> bool:
    """Whether it has been told so often to read it."""
    return node.log().count("reading the configuration again") >= times


def windows_of_link(node: Node) -> list[str]:
    return [line for line in node.log().splitlines() if " WINDOW interface plip0: " in line]


def test_heartbeats_go_on_while_the_configuration_is_read(lab: Lab) -> None:
    """The file may lie on a disk that hangs, and a long filter takes a minute."""
    start(lab, verbose=True)
    slow = Slow(lab.a)
    hang_up(lab.a)
    lab.wait_until(lambda: checking(lab.a), "it is read")
    before = len(windows_of_link(lab.b))
    lab.wait_until(lambda: len(windows_of_link(lab.b)) >= before + 6, "six windows")
    assert not [line for line in windows_of_link(lab.b)[before:] if " 0 packets" in line]
    assert lab.a.role() == "active" and checking(lab.a) and READ not in lab.a.log()

    for number in (2, 3, 4):  # each takes the place of the one before
        hang_up(lab.a)
        lab.wait_until(partial(told, lab.a, number), "it is told")
    lab.wait_until(lambda: len(checking(lab.a)) == 1, "one is left")
    slow.give(slow.text + '$timer_seconds = "1.5";\n')
    lab.wait_until(lambda: READ in lab.a.log(), "it is read once")
    hang_up(lab.a)
    slow.give(slow.text + '$timer_seconds = "many";\n')
    lab.wait_until(lambda: KEPT in lab.a.log(), "it is read twice")
    assert f"{lab.a.conf}:" in lab.a.log().split(KEPT)[0].splitlines()[-2]
    assert not checking(lab.a)
    assert lab.a.log().count(READ) == lab.a.log().count(KEPT) == 1
    lab.wait_until(lambda: settled(lab, lab.a), "a is active still")


def test_a_check_that_dies_changes_nothing(lab: Lab) -> None:
    start(lab)
    slow = Slow(lab.a)
    hang_up(lab.a)
    lab.wait_until(lambda: checking(lab.a), "it is read")
    kill(lab.a, checking(lab.a)[0])
    lab.wait_until(lambda: KEPT in lab.a.log(), "that is told")
    assert "has died" in lab.a.log()
    hang_up(lab.a)
    slow.give(slow.text)
    lab.wait_until(lambda: f"{READ}, nothing changed" in lab.a.log(), "the next one is read")


def test_a_stop_waits_for_no_check(lab: Lab) -> None:
    start(lab)
    Slow(lab.a)
    hang_up(lab.a)
    lab.wait_until(lambda: checking(lab.a), "it is read")
    kill(lab.a, main_pid(lab.a), signal.SIGTERM)
    lab.wait_until(lambda: not (lab.a.outside / "run/pid").exists(), "a has stopped")
    lab.wait_until(lambda: not checking(lab.a), "nothing is left")


def hosts(count: int) -> str:
    names = [f"host 198.51.{100 + n // 200}.{1 + n % 200}" for n in range(count)]
    return f"not ({' or '.join(names)})"


def cpu_seconds(node: Node, pid: int) -> float:
    """What a process has used so far: utime and stime of proc_pid_stat(5)."""
    fields = node.check("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_watcher_translates_a_long_filter(lab: Lab) -> None:
    """A minute of it would be taken for hanging, and then it would be begun again for ever."""
    began = time.process_time()
    filters.translate(hosts(300), filters.DLT_EN10MB)
    translation = time.process_time() - began

    node = lab.b

    def ready(*before: int) -> bool:
        """Whether another watcher than before counts."""
        watchers = pids(node, "failoverd: watchd eth0")
        return len(watchers) == 1 and watchers[0] not in before and counts(node)

    def used() -> float:
        return cpu_seconds(node, *pids(node, "failoverd: watchd eth0"))

    node.write_conf(filter=hosts(300), verbose=True)
    node.start_failoverd()
    lab.wait_until(ready, "it counts")
    assert used() < translation / 4
    first = pids(node, "failoverd: watchd eth0")
    node.write_conf(filter=hosts(301), verbose=True)
    hang_up(node)
    lab.wait_until(lambda: READ in node.log(), "it is read again")
    lab.wait_until(lambda: ready(*first), "the next one counts")
    assert used() < translation / 4


def counts(node: Node) -> bool:
    """Whether the youngest watcher of eth0 has ended a window."""
    (watcher,) = pids(node, "failoverd: watchd eth0") or [0]
    return f"watchd[{watcher}]: DEBUG WINDOW interface eth0: " in node.log()


# By itself


class Harness:
    """A Reload, with a loop that turns when it is told to."""

    def __init__(self, check: Callable[[Conf, Channel], Message]) -> None:
        self.reports: list[str] = []
        self.adopted: list[tuple[Conf, tuple[Program, ...]]] = []
        self.selector = selectors.DefaultSelector()

        def say(event: str, _: str, sentence: str, **values: object) -> None:
            self.reports.append(str(values["error"]) if event == "CONFIG-ERROR" else sentence)

        us = cast(Context, SimpleNamespace(conf=Conf(), say=say, spare=process.Spare(0)))
        self.errands = Errands(us, self.selector)
        self.reload = Reload(
            us,
            self.errands,
            check,
            lambda conf, programs: self.adopted.append((conf, tuple(programs))),
        )

    def turn(self) -> None:
        for key, _ in self.selector.select(GENEROUS):
            key.data()


@pytest.fixture
def harness() -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(check: Callable[[Conf, Channel], Message]) -> Harness:
        made.append(Harness(check))
        return made[-1]

    yield make
    for each in made:
        each.errands.close()
        each.selector.close()


def test_what_the_child_found_sound_is_adopted(harness: Callable[..., Harness]) -> None:
    program = filters.translate("ip", filters.DLT_EN10MB)

    def check(running: Conf, _: Channel) -> Message:
        return sound(replace(running, low_water=7), [program])

    loop = harness(check)
    loop.reload.begin()
    loop.turn()
    assert loop.adopted == [(replace(Conf(), low_water=7), (program,))]
    assert loop.reports == [] and loop.errands.deadline is None


def test_a_host_type_that_has_changed_is_said_to_need_a_restart(lab: Lab) -> None:
    start(lab)
    lab.a.write("host_type", "boot:slave\n")
    hang_up(lab.a)
    path = f"{lab.a.folder}/host_type"
    lab.wait_until(lambda: f"{path} has boot:slave now: restart failoverd" in lab.a.log(), "said")
    lab.a.write("host_type", "boot:master\n")
    before = lab.a.log().count(READ)
    hang_up(lab.a)
    lab.wait_until(lambda: lab.a.log().count(READ) > before, "it is read again")
    assert lab.a.log().count("restart failoverd") == 1


LONG_STORY = "\n".join(f"failoverd.conf:{n}: a mistake" for n in range(50_000))


@pytest.mark.parametrize(
    ("check", "why"),
    [
        (lambda *_: {"values": {}}, "'file'"),
        (lambda *_: {"file": "f", "values": 3, "programs": []}, ""),
        (lambda *_: sound(Conf(), []) | {"programs": [["ip", 1, "xyz"]]}, ""),
        (lambda *_: os._exit(3), "has died"),
        (lambda *_: 1 // 0, "a bug: ZeroDivisionError"),
    ],
)
def test_what_is_no_configuration_changes_nothing(
    harness: Callable[..., Harness], check: Any, why: str
) -> None:
    loop = harness(check)
    loop.reload.begin()
    loop.turn()
    assert loop.adopted == [] and loop.reports[-1] == KEPT
    assert why in loop.reports[0]


def test_all_that_is_wrong_is_told_however_much(harness: Callable[..., Harness]) -> None:
    def check(*_: object) -> Message:
        raise ValueError(LONG_STORY)

    loop = harness(check)
    loop.reload.begin()
    loop.turn()
    assert loop.reports == [*LONG_STORY.splitlines(), KEPT]


def test_a_check_without_end_is_given_up(harness: Callable[..., Harness]) -> None:
    hangs = [True]  # as it is when the child is forked

    def check(running: Conf, _: Channel) -> Message:
        while hangs[0]:
            signal.pause()
        return sound(running, [])

    loop = harness(check)
    reload = loop.reload
    reload.begin()
    first = pid_of(loop)
    reload.begin()
    second = pid_of(loop)
    deadline = loop.errands.deadline
    assert deadline is not None
    loop.errands.tend(deadline - 1)
    assert loop.reports == [] and pid_of(loop) == second != first
    loop.errands.tend(deadline)
    assert "did not end within" in loop.reports[0] and loop.reports[1:] == [KEPT]
    assert loop.errands.deadline is None
    hangs[0] = False
    reload.begin()
    third = pid_of(loop)
    limit = time.monotonic() + GENEROUS
    while len(loop.selector.get_map()) > 0 and time.monotonic() < limit:
        loop.turn()
    assert loop.adopted == [(Conf(), ())]
    assert all(map(is_reaped, (first, second, third)))


def pid_of(loop: Harness) -> int:
    return loop.errands._runs["check"].errand.child.pid


def is_reaped(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_without_a_process_to_be_had_that_is_said(
    harness: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    loop = harness(lambda *_: sound(Conf(), []))
    monkeypatch.setattr(os, "fork", full)
    before = len(os.listdir("/proc/self/fd"))
    loop.reload.begin()
    assert "no worker can be started" in loop.reports[0] and loop.reports[1:] == [KEPT]
    assert len(os.listdir("/proc/self/fd")) <= before  # others may have been closed meanwhile


# The child that brings something back


def test_an_errand_brings_back_what_no_message_could_hold() -> None:
    large = {"text": "x" * (process.MAX_MESSAGE * 4), "broken": "\udcff"}
    assert process.find_out("test: errand", lambda _: dict(large), GENEROUS) == large


def test_an_errand_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[process.Child] = []
    fork = process.fork_child

    def remember(*arguments: Any) -> process.Child:
        forked.append(fork(*arguments))
        return forked[-1]

    def work(_: Channel) -> Message:
        while True:
            signal.pause()

    monkeypatch.setattr(process.fork, "fork_child", remember)
    with pytest.raises(TimeoutError, match=r"did not end within 0\.1 s"):
        process.find_out("test: errand", work, 0.1)
    assert is_reaped(forked[0].pid)
