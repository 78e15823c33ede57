"""The runner of programs: what they are given, what they leave behind, how they end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from failoverd import process, switch
from failoverd.conf import Address, Conf, EthernetAddress
from failoverd.switch import Result, Runner

LIMIT = 60.0
ENVIRONMENT = switch.environment(Conf(), "master", "because", {})


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = Runner()
    yield made
    if made.pid is not None:
        switch.kill_group(made.pid)
        finish(made)
    made.close()


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., list[str]]:
    """Makes a program of these lines of sh and gives its argv."""

    def make(*lines: str, first: str = "#!/bin/sh", mode: int = 0o755) -> list[str]:
        path = tmp_path / f"script{len(list(tmp_path.iterdir()))}"
        path.write_text("\n".join([first, *lines]) + "\n")
        path.chmod(mode)
        return [str(path), "master"]

    return make


Script = Callable[..., list[str]]


def readable(runner: Runner, seconds: float) -> bool:
    return bool(select.select([runner], [], [], seconds)[0])


def finish(runner: Runner) -> tuple[Result, list[str]]:
    """The loop that failoverd would run, until the program has ended."""
    lines: list[str] = []
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        assert runner.deadline is not None
        readable(runner, max(0.0, min(runner.deadline, limit) - time.monotonic()))
        runner.kill_late()
        result = runner.reap()
        lines += runner.lines()
        if result is not None:
            return result, lines
    raise AssertionError("the program does not end")


def run(runner: Runner, argv: list[str], timeout: float = LIMIT) -> tuple[Result, list[str]]:
    assert runner.start(argv, ENVIRONMENT, timeout) is None
    return finish(runner)


def test_an_exit_status_that_is_lost_is_no_success(runner: Runner) -> None:
    """While SIGCHLD is ignored the kernel throws it away: a fence program might have failed."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        result, _ = run(runner, ["/bin/sleep", "0.5"])
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert (result.exit, result.timed_out) == (switch.CANNOT_RUN, False)


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_environment() -> None:
    conf = Conf(
        interfaces=("eth0", "eth1"),
        addresses=(Address("eth0", "192.0.2.10", 24), Address("eth1", "2001:db8::10", 64)),
        ethernet_addresses=(EthernetAddress("eth0", "02:00:00:00:00:10"),),
        primary="1.0.0.1",
        secondary="1.0.0.2",
    )
    own = {"eth0": "02:00:00:00:0a:01"}
    assert switch.environment(conf, "slave", "a\nb\x1b[1m", own) == {
        "PATH": process.CLEAN_ENVIRONMENT["PATH"],
        "LC_ALL": "C",
        "FAILOVER_ROLE": "slave",
        "FAILOVER_REASON": "a b [1m",
        "FAILOVER_INTERFACES": "eth0\neth1",
        "FAILOVER_ADDRESSES": "eth0 192.0.2.10/24\neth1 2001:db8::10/64",
        "FAILOVER_ETHERNET_ADDRESSES": "eth0 02:00:00:00:00:10",
        "FAILOVER_OWN_ETHERNET_ADDRESSES": "eth0 02:00:00:00:0a:01",
        "FAILOVER_PRIMARY": "1.0.0.1",
        "FAILOVER_SECONDARY": "1.0.0.2",
    }


def test_what_a_program_is_given(runner: Runner, script: Script, tmp_path: Path) -> None:
    """Nothing of ours but what it needs: we have descriptors, signals and a mask of our own."""
    facts = """
import json, os, signal, sys
print(json.dumps({
    "argv": sys.argv[1:],
    "environment": dict(os.environ),
    "cwd": os.getcwd(),
    "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1],
    "stdin": os.readlink("/proc/self/fd/0"),
    "leader": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "umask": os.umask(0),
    "policy": os.sched_getscheduler(0),
    "status": [l.split() for l in open("/proc/self/status") if l.startswith(("SigBlk", "SigIgn"))],
}))"""
    argv = [sys.executable, "-IS", *script(facts)]
    before = (os.getcwd(), os.umask(0o077))
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    old = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        process.start_clean()
        result, lines = run(runner, argv)
        assert (os.getcwd(), os.umask(before[1])) == (before[0], 0o077)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGQUIT, old)
        os.close(reading)
        os.close(writing)
    assert result.exit == 0, lines
    told = json.loads("".join(lines))
    status = told.pop("status")
    told["environment"].pop("LC_CTYPE", None)  # Python's own, PEP 538
    assert told == {
        "argv": ["master"],
        "environment": ENVIRONMENT,
        "cwd": "/",
        "descriptors": [0, 1, 2],
        "stdin": "/dev/null",
        "leader": True,
        "umask": 0o022,
        "policy": os.SCHED_OTHER,
    }
    exempt = (signal.SIGPIPE, signal.SIGXFSZ, 32, 33)  # Python's doing there, and the C library's
    ordinary = ~sum(1 << (number - 1) for number in exempt)
    assert [int(bits, 16) & ordinary for _, bits in status] == [0, 0]


@pytest.mark.parametrize(
    ("line", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9), ("kill -TERM $$", -15)]
)
def test_exit_status(runner: Runner, script: Script, line: str, code: int) -> None:
    result, _ = run(runner, script(line))
    assert (result.exit, result.timed_out, result.message) == (code, False, "")
    assert not runner.running
    assert runner.pid is runner.deadline is runner.starttime is None


def test_lines_come_while_it_runs(runner: Runner, script: Script, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    os.mkfifo(go_on)
    argv = script("echo one", "echo two >&2; printf thr", f"read x <'{go_on}'", "echo ee; printf 4")
    assert runner.start(argv, ENVIRONMENT, LIMIT) is None
    lines: list[str] = []
    while len(lines) < 2:
        assert readable(runner, LIMIT)
        assert runner.reap() is None
        lines += runner.lines()
    assert lines == ["one", "two"]
    go_on.write_text("\n")
    result, lines = finish(runner)
    assert (result.exit, lines) == (0, ["three", "4"])


def test_an_idle_runner_wakes_nothing(runner: Runner, script: Script) -> None:
    assert not readable(runner, 0)
    run(runner, script("(sleep 0.3; echo late) &"))
    assert not readable(runner, 0.6)
    assert runner.lines() == []


def test_a_program_that_closes_its_output_wakes_nothing(runner: Runner, script: Script) -> None:
    assert runner.start(script("exec >&- 2>&-; exec sleep 1000"), ENVIRONMENT, LIMIT) is None
    pid = runner.pid
    wait_for(lambda: not os.path.exists(f"/proc/{pid}/fd/2"))
    assert not readable(runner, 0.1)


def test_lines_are_clean_and_bounded(runner: Runner, script: Script) -> None:
    argv = script(r"printf 'a\033[31mb\000c\377\t\r\n'", f"printf '%0{switch.MAX_LINE + 5}d\\n' 7")
    _, lines = run(runner, argv)
    assert lines == ["a [31mb c\ufffd", "0" * switch.MAX_LINE, "00007"]


def test_a_flood_is_left_out_and_does_not_stop_the_program(runner: Runner, script: Script) -> None:
    argv = script("i=0; while [ $i -lt 30 ]; do seq 1 20000; i=$((i+1)); done", "exit 5")
    result, lines = run(runner, argv)
    assert result.exit == 5
    assert len(lines) == switch.MAX_LINES + 1
    assert lines[-1] == "(the rest of its output is left out)"


def test_one_that_prints_faster_than_it_is_read_waits(runner: Runner, script: Script) -> None:
    """To many programs EAGAIN is an error, and a hook that fails is a takeover that fails."""
    argv = script("head -c 40000000 /dev/zero || exit 7")
    assert runner.start(argv, ENVIRONMENT, LIMIT) is None
    fill_pipe(runner)
    result, _ = finish(runner)
    assert result.exit == 0


def test_a_service_that_waits_to_print_does_not_wait_for_ever(
    runner: Runner, script: Script, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    argv = script(f"setsid sh -c 'head -c 40000000 /dev/zero; touch {done}' &")
    assert runner.start(argv, ENVIRONMENT, LIMIT) is None
    fill_pipe(runner)
    pid = runner.pid
    wait_for(lambda: (switch._stat(pid or 0) or "Z")[0] == "Z")
    result, _ = finish(runner)
    assert result.exit == 0
    wait_for(done.exists)


def fill_pipe(runner: Runner) -> None:
    """Read nothing until nothing more can be printed."""
    assert runner._program is not None
    pipe = runner._program.output.reader
    room, found = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ), bytearray(4)

    def is_full() -> bool:
        fcntl.ioctl(pipe, termios.FIONREAD, found)
        return int.from_bytes(found, sys.byteorder) >= room

    wait_for(is_full)


def test_what_is_left_out_of_a_flood_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop has windows to keep, and what is not read soon is refused to the program."""
    output = switch._Output()
    lines = switch.MAX_LINES + 100
    os.write(output.writer, b"a line\n" * lines)
    assert len(output.read()) == switch.MAX_LINES + 1

    def cut(data: bytes) -> list[bytes]:
        raise AssertionError("it is thrown away unread")

    monkeypatch.setattr(switch, "_cut", cut)
    for read in (output.read, output.rest):
        os.write(output.writer, b"a line\n" * lines)
        assert read() == []
    with pytest.raises(BlockingIOError):
        os.read(output.reader, 1)
    output.close()


def test_outputs_can_be_opened_by_name(runner: Runner, script: Script) -> None:
    _, lines = run(runner, script("echo one", "echo two >/dev/stderr", "echo three >&2"))
    assert lines == ["one", "two", "three"]


def test_a_late_program_is_killed_with_its_children(
    runner: Runner, script: Script, tmp_path: Path
) -> None:
    """But not what it started in a session of its own: that is a service."""
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    argv = script(
        "trap '' TERM",
        "sleep 1000 & child=$!",
        f"setsid sh -c 'echo service $$ >{pids}; exec sleep 1000' &",
        f"echo child $child >{pids}; wait",
    )
    assert runner.start(argv, ENVIRONMENT, 0.5) is None
    deadline = runner.deadline
    told: dict[str, int] = {}
    # Open for writing, too: it never ends, so that none writes to a reader that is just leaving.
    with open(os.open(pids, os.O_RDWR)) as lines:
        while len(told) < 2:
            name, pid = lines.readline().split()
            told[name] = int(pid)
    service, child = told["service"], told["child"]
    try:
        result, _ = finish(runner)
        assert (result.exit, result.timed_out) == (-9, True)
        assert deadline is not None and time.monotonic() >= deadline
        wait_for(lambda: not switch.running(child, switch.starttime(child)))
        assert switch.running(service, switch.starttime(service))
    finally:
        os.kill(service, signal.SIGKILL)


def test_one_that_ended_in_time_is_not_late(runner: Runner, script: Script) -> None:
    """Although the loop comes to it only after the deadline."""
    assert runner.start(script("exit 0"), ENVIRONMENT, 0.3) is None
    deadline = runner.deadline
    assert deadline is not None
    assert readable(runner, LIMIT)
    wait_for(lambda: time.monotonic() > deadline)
    runner.kill_late()
    result, _ = finish(runner)
    assert (result.exit, result.timed_out) == (0, False)


def may_hurry() -> bool:
    """Whether this process may have a real-time priority; it gets none by asking."""
    with subprocess.Popen(["sleep", "60"]) as trial:
        try:
            process.be_urgent(trial.pid)
        except OSError:
            return False
        finally:
            trial.kill()
    return True


@pytest.mark.parametrize("ends_by", ["its word", "time"])
def test_only_the_beginning_of_a_script_is_urgent(
    runner: Runner, script: Script, tmp_path: Path, ends_by: str
) -> None:
    """And nothing that it starts: a service would have the priority for ever."""
    if not may_hurry():
        pytest.skip("no real-time priority can be had here")
    child = tmp_path / "child"
    argv = script("sleep 60 &", f"echo $! >{child}.new", f"mv {child}.new {child}", "wait")
    assert runner.start(argv, ENVIRONMENT, LIMIT, urgent=True) is None
    pid = runner.pid
    assert pid is not None
    if runner.deadline is not None and os.sched_getscheduler(pid) == os.SCHED_OTHER:
        raise AssertionError("it is not urgent")
    wait_for(child.exists)
    assert os.sched_getscheduler(int(child.read_text())) == os.SCHED_OTHER
    if ends_by == "time":
        deadline = runner.deadline
        assert deadline is not None
        wait_for(lambda: time.monotonic() >= deadline)
        runner.kill_late()
    else:
        runner.calm()
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    assert runner.running
    assert runner.deadline is not None and runner.deadline > time.monotonic() + LIMIT / 2


def test_a_service_outlives_us_and_may_go_on_writing(
    runner: Runner, script: Script, tmp_path: Path
) -> None:
    """Its output is our pipe. It gets no SIGPIPE and never hangs, whoever reads."""
    go_on, done = tmp_path / "go_on", tmp_path / "done"
    os.mkfifo(go_on)
    service = f"seq 1 300000; echo more; touch {done}"
    result, _ = run(runner, script(f"setsid sh -c 'read x <{go_on}; {service}' &"))
    assert result.exit == 0
    go_on.write_text("\n")
    wait_for(done.exists)


def test_one_at_a_time(runner: Runner, script: Script) -> None:
    assert runner.start(script("exec sleep 1000"), ENVIRONMENT, LIMIT) is None
    first = runner.pid
    refused = runner.start(script("exit 0"), ENVIRONMENT, LIMIT)
    assert refused is not None
    assert refused.exit == switch.CANNOT_RUN
    assert refused.message.endswith(f"(pid {first}) still runs")
    assert runner.pid == first


def test_one_that_cannot_be_killed_is_given_up_and_waited_for(
    runner: Runner, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a system call that waits for a dead file server."""
    argv = script("exec sleep 1000")
    with monkeypatch.context() as patch:
        patch.setattr(switch, "kill_group", lambda pid: None)
        assert runner.start(argv, ENVIRONMENT, 0.1) is None
        pid = runner.pid
        assert pid is not None
        result, _ = finish(runner)
    assert (result.exit, result.timed_out) == (-9, True)
    assert result.message == f"{argv[0]} (pid {pid}) hangs and cannot be killed"
    refused = runner.start(argv, ENVIRONMENT, LIMIT)
    assert refused is not None
    assert refused.message.endswith(f"(pid {pid}) cannot be killed")
    switch.kill_group(pid)
    wait_for(lambda: runner.start(argv, ENVIRONMENT, LIMIT) is None)


@pytest.mark.parametrize(
    ("first", "mode", "code", "why"),
    [
        (None, 0, 127, "there is no such file"),
        ("#!/bin/sh", 0o644, 126, "it is not executable: chmod 755 {path}"),
        ("#!/no/such", 0o755, 127, "the program that its first line names does not exist"),
        ("exit 0", 0o755, 126, "it is no program: its first line must be #!/bin/sh or the like"),
    ],
)
def test_what_cannot_be_run_is_said(
    runner: Runner, script: Script, first: str | None, mode: int, code: int, why: str
) -> None:
    argv = ["/no/such/program"] if first is None else script(first=first, mode=mode)
    descriptors = os.listdir("/proc/self/fd")
    result = runner.start(argv, ENVIRONMENT, LIMIT)
    expected = f"cannot run {argv[0]}: {why.format(path=argv[0])}"
    assert result == Result(code, 0.0, False, expected, ran=False)
    assert not runner.running
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)  # other tests' may be closed
    assert run(runner, script("exit 0"))[0].exit == 0


def test_too_many_open_files_is_no_exception(runner: Runner, script: Script) -> None:
    argv = script("sleep 1000")
    held: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))  # other tests' parts may be open still
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(highest + 100, soft), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        while (result := runner.start(argv, ENVIRONMENT, LIMIT)) is not None:
            assert result.message.endswith("Too many open files")
            os.close(held.pop())
        assert runner.pid is not None
        switch.kill_group(runner.pid)
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert finish(runner)[0].exit == -9


def test_nothing_is_left_behind(runner: Runner, script: Script) -> None:
    argv = script("echo x")
    run(runner, argv)
    descriptors = os.listdir("/proc/self/fd")
    for _ in range(20):
        assert runner.start(argv, ENVIRONMENT, LIMIT) is None
        pid = runner.pid
        assert pid is not None
        finish(runner)
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)  # other tests' may be closed


def test_a_successor_finds_and_ends_the_script_of_a_dead_failoverd(
    runner: Runner, script: Script
) -> None:
    assert runner.start(script("sleep 1000; exit 0"), ENVIRONMENT, LIMIT) is None
    pid, since = runner.pid, runner.starttime
    assert pid is not None and since is not None
    assert switch.running(pid, since)
    assert not switch.running(pid, since + 1), "another process has got its number"
    switch.kill_group(pid)
    assert readable(runner, LIMIT)
    assert not switch.running(pid, since), "a zombie runs no more"
    assert finish(runner)[0].exit == -9
    assert not switch.running(pid, since)
    switch.kill_group(pid)  # none is left: no error
