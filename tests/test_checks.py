"""The worker of the service checks, with real programs and processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until

from failoverd import checks, process
from failoverd.conf import Conf, ServiceCheck

LONG = 60.0
NEVER = 600.0  # seconds: what comes sooner has not waited for it
SLEEP = f"sleep 9{os.getpid()}"  # seconds that name the processes of these tests


def check(command: str, *, name: str = "web", interval: float = 0.1, star: bool = False) -> Any:
    if command.startswith("pidfile:"):
        return ServiceCheck(name, interval, (command,), star)
    return ServiceCheck(name, interval, ("/bin/sh", "-c", command), star)


class Worker:
    """A worker as failoverd has one, and what it reports."""

    def __init__(
        self,
        *wanted: ServiceCheck,
        active: bool = True,
        states: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        settings = {"user": "root", "check_timeout": LONG, "plip_timer": 0.5, **settings}
        conf = Conf(checks=wanted, **settings)
        known = {**{each.name: "unknown" for each in wanted}, **(states or {})}
        begin = checks.orders(active, 1, known)
        self.child = process.fork_child("checks", lambda channel: checks.run(channel, conf, begin))
        self.reports: list[dict[str, Any]] = []

    def read(self, seconds: float) -> None:
        if select.select([self.child.channel], [], [], seconds)[0]:
            told = self.child.channel.receive()
            assert not [message for message in told if message["event"] == "died"], told
            self.reports += [message for message in told if message["event"] == "check"]

    def until(self, state: str, name: str = "web") -> dict[str, Any]:
        """The first report of this state that was not looked at yet; all before it are dropped."""
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            while self.reports:
                report = self.reports.pop(0)
                if (report["name"], report["state"]) == (name, state):
                    return report
            self.read(0.1)
        raise AssertionError(f"never {state}")

    def follow(self, active: bool) -> None:
        self.child.channel.send(checks.orders(active, 2, {}))

    def close(self) -> None:
        self.child.channel.finish()
        assert self.child.ends(LONG)
        assert self.child.reap() == 0


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def make(*wanted: ServiceCheck, **settings: Any) -> Worker:
        workers.append(Worker(*wanted, **settings))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()
    assert not running(SLEEP)


Start = Callable[..., Worker]


def running(command: str) -> list[int]:
    """The processes whose arguments are these."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")[:-1]
        except OSError:
            continue
        if words == command.encode().split():
            found.append(int(path.name))
    return found


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def numbered(path: Path) -> str:
    """A command that counts its runs there, and says which it is: by the time a report is read
    there may have been more."""
    return f"echo >>{path}; n=$(wc -l <{path}); echo run $n"


# ------------------------------------------------------------------ programs


@pytest.mark.parametrize("end", ["exit 0", "exit 1"])
def test_exit_status_0_and_1_are_good(start: Start, end: str) -> None:
    report = start(check(f"echo HTTP WARNING; echo more; {end}")).until("ok")
    assert report["output"] == "HTTP WARNING"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("echo HTTP CRITICAL; exit 2", "HTTP CRITICAL"),
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "signal 9"),
        ("printf '\\n\\033[2Jbad\\n'; exit 2", "?[2Jbad"),
    ],
)
def test_any_other_end_is_bad_and_what_was_printed_first_is_told(
    start: Start, end: str, said: str
) -> None:
    assert start(check(end)).until("bad")["output"] == said


def test_a_program_that_cannot_be_run_is_bad_and_says_why(start: Start) -> None:
    worker = start(ServiceCheck("web", 0.1, ("/nowhere/check",)))
    assert "No such file" in worker.until("bad")["output"]


def test_so_many_runs_in_a_row_change_the_state(start: Start, tmp_path: Path) -> None:
    """fall bad ones, then rise good ones; one that is not in a row does not count."""
    run, script = tmp_path / "runs", tmp_path / "script"
    script.write_text("0 2 2 0 2 2 2 0 0 2 0 0 0\n")
    told = f"{numbered(run)}; exit $(cut -d' ' -f$n <{script} | grep . || echo 0)"
    worker = start(check(told), check_fall=3, check_rise=3)
    assert worker.until("ok")["output"] == "run 1"
    assert worker.until("bad")["output"] == "run 7"
    assert worker.until("ok")["output"] == "run 13"


def test_an_unknown_check_is_ok_by_one_good_run_and_bad_by_as_many_as_ever(
    start: Start, tmp_path: Path
) -> None:
    good, bad = numbered(tmp_path / "good"), f"{numbered(tmp_path / 'bad')}; exit 2"
    first = start(check(good), check_rise=9, check_fall=9).until("ok")
    assert first["output"] == "run 1"
    other = start(check(bad, name="other"), check_rise=9, check_fall=9)
    assert other.until("bad", "other")["output"] == "run 9"


def test_the_interval_is_kept_whatever_a_run_finds(start: Start) -> None:
    began = time.monotonic()
    start(check("exit 2", interval=0.5), check_fall=3).until("bad")
    assert time.monotonic() - began >= 1.0


def test_there_are_never_two_runs_of_a_check(start: Start, tmp_path: Path) -> None:
    run, twice = tmp_path / "runs", tmp_path / "twice"
    command = f"mkdir {tmp_path}/d || echo >>{twice}; sleep 0.35; rmdir {tmp_path}/d; echo >>{run}"
    start(check(command))
    wait_until(lambda: lines(run) >= 4)
    assert not twice.exists()


def test_one_that_hangs_is_killed_in_time_with_all_that_it_has_started(start: Start) -> None:
    """In its group, in a session of its own, and where its parent has ended."""
    own = f"setsid sh -c '{SLEEP} & wait' & (setsid sh -c '{SLEEP} & {SLEEP}' &)"
    worker = start(check(f"echo soon; {SLEEP} & {own}; {SLEEP}"), check_timeout=1.0, check_fall=1)
    wait_until(lambda: len(running(SLEEP)) >= 5)
    report = worker.until("bad")
    assert report["output"] == "no end within 1 s, killed: soon"
    worker.follow(False)
    wait_until(lambda: not running(SLEEP))


def test_a_run_has_no_time_while_the_node_stalls(start: Start) -> None:
    """A virtual machine that was paused, say: that is no fault of the service."""
    worker = start(check(f"{SLEEP} & wait", interval=NEVER), check_timeout=2.0, check_fall=1)
    wait_until(lambda: running(SLEEP))
    (program,) = running(SLEEP)
    os.kill(worker.child.pid, signal.SIGSTOP)
    time.sleep(3.0)
    os.kill(worker.child.pid, signal.SIGCONT)
    time.sleep(0.3)
    os.kill(program, signal.SIGTERM)
    worker.until("ok")


def test_what_ignores_every_signal_but_one_is_killed(start: Start) -> None:
    command = f"trap '' HUP INT QUIT TERM PIPE; while :; do {SLEEP}; done"
    start(check(command), check_timeout=0.5, check_fall=2).until("bad")


def test_what_a_good_run_leaves_behind_is_ended(start: Start) -> None:
    worker = start(check(f"{SLEEP} & setsid {SLEEP} & sleep 0.3"))
    worker.until("ok")
    worker.follow(False)
    wait_until(lambda: not running(SLEEP))


def test_a_background_process_of_a_run_lives_as_long_as_that(start: Start, tmp_path: Path) -> None:
    """What has lost its parent is not ended for that while the run goes on."""
    done = tmp_path / "done"
    waits = f"until [ -s {done} ]; do sleep 0.1; done"
    slow = check(f"(sh -c 'sleep 1; echo >>{done}' &); {waits}", interval=NEVER)
    start(slow, check("true", name="other")).until("ok")
    assert lines(done) == 1


def test_a_flood_of_output_is_cut_off(start: Start) -> None:
    began = time.monotonic()
    report = start(check("yes flood"), check_fall=1).until("bad")
    assert report["output"] == "prints without end, killed: flood"
    assert time.monotonic() - began < LONG / 2


def test_much_output_is_no_fault(start: Start) -> None:
    report = start(check("echo first; head -c 500000 /dev/zero")).until("ok")
    assert report["output"] == "first"


def test_one_that_hangs_does_not_hold_up_the_others(start: Start) -> None:
    worker = start(check(SLEEP), check("exit 2", name="other"))
    worker.until("bad", "other")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being root")
def test_it_runs_as_user_with_no_way_back(start: Start) -> None:
    command = "echo $(id -un) $(id -Gn) $(grep -E '^(NoNewPrivs|CapPrm)' /proc/self/status); pwd"
    report = start(check(command), user="nobody").until("ok")
    names, _, rest = report["output"].partition(" CapPrm: ")
    assert names == "nobody nogroup"
    assert rest.split() == ["0000000000000000", "NoNewPrivs:", "1"]


# ------------------------------------------------------------------ pid files


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a process that the file `pid` names."""
    made: list[subprocess.Popen[bytes]] = []

    def make() -> subprocess.Popen[bytes]:
        made.append(subprocess.Popen(SLEEP.split()))
        (tmp_path / "pid").write_text(f"{made[-1].pid}\nmore\n")
        return made[-1]

    yield make
    for one in made:
        one.kill()
        one.wait()


Service = Callable[[], subprocess.Popen[bytes]]


def test_the_end_of_a_process_is_bad_at_once(
    start: Start, service: Service, tmp_path: Path
) -> None:
    one = service()
    worker = start(check(f"pidfile:{tmp_path}/pid", interval=NEVER), check_fall=9)
    worker.until("ok")
    one.kill()  # and is not waited for by its parent yet
    assert worker.until("bad")["output"] == f"process {one.pid} has ended"


def test_the_next_process_is_found_in_the_file(
    start: Start, service: Service, tmp_path: Path
) -> None:
    one = service()
    worker = start(check(f"pidfile:{tmp_path}/pid"), check_rise=3)
    worker.until("ok")
    one.kill()
    worker.until("bad")
    other = service()
    assert worker.until("ok")["output"] == f"process {other.pid} runs"


def test_a_process_that_has_a_successor_already_may_end(
    start: Start, service: Service, tmp_path: Path
) -> None:
    one = service()
    worker = start(check(f"pidfile:{tmp_path}/pid"))
    worker.until("ok")
    other = service()
    one.kill()
    while worker.until("ok")["output"] != f"process {other.pid} runs":
        pass
    assert not [report for report in worker.reports if report["state"] == "bad"]


def test_the_process_that_counts_is_the_one_in_the_file(
    start: Start, service: Service, tmp_path: Path
) -> None:
    """Though the one before, which still ends its connections, lives on."""
    service()
    worker = start(check(f"pidfile:{tmp_path}/pid"), check_fall=9)
    worker.until("ok")
    (tmp_path / "pid").write_text("")  # is not written yet
    time.sleep(0.3)
    other = service()
    while worker.until("ok")["output"] != f"process {other.pid} runs":
        pass
    assert not [report for report in worker.reports if report["state"] == "bad"]
    other.kill()
    assert worker.until("bad")["output"] == f"process {other.pid} has ended"


def test_a_file_that_names_the_dead_beside_one_that_lives_is_bad_after_so_many_looks(
    start: Start, service: Service, tmp_path: Path
) -> None:
    service()
    worker = start(check(f"pidfile:{tmp_path}/pid"), check_fall=5)
    worker.until("ok")
    (tmp_path / "pid").write_text("4194304\n")
    began = time.monotonic()
    assert worker.until("bad")["output"] == f"{tmp_path}/pid: No such process"
    assert time.monotonic() - began > 0.35


def test_who_has_the_pid_of_a_dead_service_by_now_is_not_the_service(
    start: Start, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is as it was; only once it is written again the pid means what it says."""
    one, ours, really = service(), os.getpid(), os.pidfd_open

    def pidfd_open(pid: int) -> int:
        return really(ours if pid == one.pid and not Path(f"/proc/{pid}").exists() else pid)

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    worker = start(check(f"pidfile:{tmp_path}/pid"), check_rise=1)
    worker.until("ok")
    one.kill()
    one.wait()
    worker.until("bad")
    worker.read(0.5)
    assert not [report for report in worker.reports if report["state"] != "bad"]
    (tmp_path / "pid").write_text(f"{one.pid}\n")
    worker.until("ok")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        ("", "no process id in it"),
        ("nginx\n", "no process id in it"),
        ("-1\n", "no process id in it"),
        ("99999999999999999999\n", "no process id in it"),
        ("4194304\n", "No such process"),  # the kernel has none of this number
    ],
)
def test_a_file_that_names_no_process_is_bad_after_so_many_looks(
    start: Start, tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "pid").write_text(content)
    began = time.monotonic()
    worker = start(check(f"pidfile:{tmp_path}/pid"), check_fall=5)
    assert worker.until("bad")["output"] == f"{tmp_path}/pid: {said}"
    assert time.monotonic() - began > 0.35


def test_a_process_that_ended_while_the_worker_was_replaced_is_bad_at_once(
    start: Start, tmp_path: Path
) -> None:
    again = check(f"pidfile:{tmp_path}/pid", interval=NEVER)
    start(again, states={"web": "ok"}, check_fall=9).until("bad")


def test_a_fifo_as_pid_file_holds_up_nothing(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    start(check(f"pidfile:{tmp_path}/pid")).until("bad")


# ------------------------------------------------------------------ failoverd


def test_a_standby_makes_only_the_checks_with_a_star(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "runs"
    here, there = check(f"echo >>{run}"), check("true", name="star", star=True)
    worker = start(here, there, active=False)
    worker.until("ok", "star")
    time.sleep(0.5)
    worker.read(0)
    assert not run.exists() and {report["name"] for report in worker.reports} <= {"star"}
    worker.follow(True)
    assert worker.until("ok")["turn"] == 2


def test_checks_begin_again_at_a_change_of_role(start: Start) -> None:
    """A run of the time before says nothing; those with a star are told again, as they stand."""
    hung = check(f"echo x; {SLEEP}", interval=NEVER)
    star = check("exit 2", name="star", interval=NEVER, star=True)
    worker = start(hung, star, states={"web": "bad", "star": "bad"})
    wait_until(lambda: running(SLEEP))
    before = running(SLEEP)
    worker.follow(True)
    assert worker.until("unknown")["turn"] == 2
    assert worker.until("bad", "star")["turn"] == 2
    wait_until(lambda: running(SLEEP) and running(SLEEP) != before)


def test_one_with_a_star_has_to_pass_again_under_another_role(start: Start, tmp_path: Path) -> None:
    """Its state lasts, but a run of the time before does not count as one of now."""
    (tmp_path / "once").touch()
    worker = start(check(f"rm {tmp_path}/once || {SLEEP}", interval=NEVER, star=True), active=False)
    assert worker.until("ok")["passed"] is True
    worker.follow(True)
    told = worker.until("ok")
    assert (told["turn"], told["passed"]) == (2, False)
    wait_until(lambda: running(SLEEP))
    before = running(SLEEP)
    worker.follow(True)
    wait_until(lambda: running(SLEEP) and running(SLEEP) != before)
    (tmp_path / "once").touch()
    worker.follow(True)
    while not worker.until("ok")["passed"]:
        pass


def test_a_worker_begins_with_what_is_known(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "runs"
    worker = start(check(numbered(run)), states={"web": "bad"}, check_rise=4)
    assert worker.until("ok")["output"] == "run 4"


def test_one_that_retires_leaves_nothing(start: Start) -> None:
    worker = start(check(f"setsid {SLEEP} & {SLEEP}"))
    wait_until(lambda: len(running(SLEEP)) == 2)
    worker.child.channel.send({"do": "retire"})
    assert worker.child.ends(LONG)
    assert not running(SLEEP)


def test_when_failoverd_is_killed_no_run_is_left(tmp_path: Path) -> None:
    main = os.fork()
    if main == 0:
        try:
            worker = Worker(check(f"setsid {SLEEP} & {SLEEP}"))
            worker.child.ends(LONG)
        finally:
            os._exit(0)
    wait_until(lambda: len(running(SLEEP)) == 2)
    os.kill(main, signal.SIGKILL)
    os.waitpid(main, 0)
    wait_until(lambda: not running(SLEEP))


def test_it_reports_that_it_lives_though_nothing_changes(start: Start) -> None:
    worker = start(check("true", interval=NEVER))
    worker.until("ok")
    assert select.select([worker.child.channel], [], [], LONG)[0]
    assert {"event": "alive"} in worker.child.channel.receive()
