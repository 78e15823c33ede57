"""watchd as a sensor: what is a verdict, the file, the program, and both on a real interface."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import watched_by_hand
from netns import Namespace, namespaces
from processes import wait_until

from failoverd import conf, statefile
from failoverd.commands import watchd as command
from failoverd.master.messages import Window
from failoverd.master.supervisor import LONGEST_DELAY
from failoverd.tools import sensor
from failoverd.tools.sensor import GONE, Lines, Program, TrackFile, judged
from failoverd.tools.words import Stop

OK, FAIL = Window(3, 0, "ok", "packets came in"), Window(0, 0, "fail", "below low water")
NUMBERS = {"ok": 0, "fail": 1}
FRAME = bytes.fromhex("ffffffffffff 020000000001 0800") + bytes(60)


# What a message says


def window(verdict: str, packets: int) -> dict[str, object]:
    return {"event": "alarm", "packets": packets, "last": 0, "verdict": verdict, "reason": "x"}


@pytest.mark.parametrize(
    ("message", "known", "least", "verdict"),
    [
        (window("ok", 3), True, 1, "ok"),
        (window("ok", 0), True, 0, "ok"),
        (window("fail", 0), True, 1, "fail"),
        (window("fail", 0), False, 1, "fail"),
        (window("late", 0), True, 1, ""),
        (window("late", 9), True, 1, ""),
        (window("boot", 0), False, 1, ""),
        (window("boot", 2), False, 1, "ok"),
        (window("boot", 2), False, 3, ""),
        (window("boot", 2), True, 1, ""),  # of a worker that was started again
        ({"event": "count", "packets": 0, "last": 0}, False, 1, ""),
        ({"event": "count", "packets": 0, "last": 0}, False, 0, ""),
        ({"event": "count", "packets": 1, "last": 0}, False, 1, "ok"),
        ({"event": "count", "packets": 1, "last": 0}, False, 2, ""),
        ({"event": "count", "packets": 1, "last": 0}, True, 1, ""),
    ],
)
def test_a_message_says_what_the_interface_is_worth(
    message: dict[str, object], known: bool, least: int, verdict: str
) -> None:
    found = judged(message, known, least)
    assert (found.verdict if found else "") == verdict


@pytest.mark.parametrize(
    "message", [{}, window("gone", 0), {**window("ok", 0), "packets": "many"}, {"event": "count"}]
)
def test_what_is_no_message_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        judged(message, True, 1)


# The file


@pytest.fixture
def lines() -> Iterator[Lines]:
    made = Lines("eth0")
    yield made
    made.close()


def test_the_file_has_one_number_and_a_new_inode_each_time(tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "eth0"
    file = TrackFile(str(path), {"ok": 7, "fail": -3}, lines)
    assert not path.exists(), "nothing is written before packets are counted"
    file.begin()
    assert path.read_text() == "7\n"
    before = os.open(path, os.O_RDONLY)  # so that its inode is not used again
    file.tell(FAIL)
    assert path.read_text() == "-3\n" and os.listdir(tmp_path) == ["eth0"]
    assert os.stat(path).st_ino != os.fstat(before).st_ino
    assert os.pread(before, 9, 0) == b"7\n", "nothing was written into the old one"
    os.close(before)
    file.tell(GONE)
    assert not path.exists() and file.due == float("inf")
    file.tell(GONE)


@pytest.mark.parametrize(("left", "begins"), [("1\n", "1\n"), ("0\n", "0\n"), ("", "0\n")])
def test_what_one_that_was_killed_knew_holds_until_the_first_verdict(
    tmp_path: Path, lines: Lines, left: str, begins: str
) -> None:
    path = tmp_path / "eth0"
    path.write_text(left)
    file = TrackFile(str(path), NUMBERS, lines)
    file.begin()
    assert path.read_text() == begins
    file.tell(OK)
    assert path.read_text() == "0\n"


def test_a_file_that_should_not_be_replaced_is_not(tmp_path: Path, lines: Lines) -> None:
    text = tmp_path / "passwd"
    text.write_text("root:x:0:0\n")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(text)
    for path, why in (
        ("passwd", "is not a number"),
        ("fifo", "is not a number"),
        ("link", "is not a number"),
        ("open", "is not a number"),
        ("open/eth0", "can be written by other users: chmod go-w"),
        ("no/eth0", "there is no directory"),
    ):
        with pytest.raises(Stop, match=why):
            TrackFile(str(tmp_path / path), NUMBERS, lines)
    assert text.read_text() == "root:x:0:0\n"


def test_a_file_that_cannot_be_written_is_tried_again(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(lines, "say", lambda event, *_, **__: said.append(event))
    folder = tmp_path / "run"
    folder.mkdir()
    file = TrackFile(str(folder / "eth0"), NUMBERS, lines)
    folder.rename(tmp_path / "away")
    now = time.monotonic()
    monkeypatch.setattr(sensor, "time", SimpleNamespace(monotonic=lambda: now))
    delays = []
    for _ in range(3):
        file.tell(FAIL)
        delays.append(file.due - now)
    assert 0 < delays[0] < delays[1] < delays[2] <= LONGEST_DELAY
    (tmp_path / "away").rename(folder)
    file.tend(file.due - 0.01)
    assert not (folder / "eth0").exists()
    file.tend(file.due)
    assert (folder / "eth0").read_text() == "1\n"
    assert said == ["SENSOR-FAILED"] * 3 + ["SENSOR-OK"]


def test_a_full_disk_keeps_no_number_that_is_not_true(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "eth0"
    file = TrackFile(str(path), {"ok": -100, "fail": 1}, lines)
    file.begin()
    monkeypatch.setattr(statefile, "replace", full)
    file.tell(FAIL)
    assert path.read_text() == "1\n" and file.due == float("inf")
    file.tell(OK)
    assert path.read_text() == "-100\n"
    os.link(path, tmp_path / "precious")
    file.tell(FAIL)
    assert path.read_text() == "-100\n" and file.due < float("inf")


# The program


@pytest.fixture
def program(tmp_path: Path, lines: Lines) -> Iterator[Callable[[str], Program]]:
    """Makes one that writes down how it was called, and then does something more."""
    made: list[Program] = []

    def make(more: str) -> Program:
        path = tmp_path / "told.sh"
        log = 'echo "$* $WATCHD_VERDICT $WATCHD_INTERFACE $WATCHD_PACKETS $WATCHD_REASON"'
        path.write_text(f"#!/bin/sh\n{log} >>{tmp_path}/calls\n{more}\n")
        path.chmod(0o755)
        made.append(Program(str(path), lines))
        return made[-1]

    yield make
    for each in made:
        each._runner.abandon()
        each.close()


def tended(program: Program, until: Callable[[], bool]) -> None:
    def done() -> bool:
        program.tend(time.monotonic())
        return until()

    wait_until(done)


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_the_program_is_told_the_verdict_and_why(
    tmp_path: Path, program: Callable[[str], Program]
) -> None:
    made = program("")
    made.tell(FAIL)
    tended(made, lambda: made.due == float("inf"))
    made.tell(GONE)
    tended(made, lambda: made.due == float("inf"))
    assert calls(tmp_path) == [
        "fail eth0 fail eth0 0 below low water",
        "gone eth0 gone eth0 0 watchd ends",
    ]


def test_one_runs_at_a_time_and_then_the_latest_verdict(
    tmp_path: Path, program: Callable[[str], Program]
) -> None:
    made = program(f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done")
    for verdict in (FAIL, OK, FAIL, OK):
        made.tell(verdict)
    tended(made, lambda: len(calls(tmp_path)) == 1)
    (tmp_path / "go").touch()
    tended(made, lambda: made.due == float("inf"))
    assert [call.split()[0] for call in calls(tmp_path)] == ["fail", "ok"]


def test_a_program_that_fails_is_run_again_later_and_later(
    tmp_path: Path, program: Callable[[str], Program]
) -> None:
    made = program(f"[ $(wc -l <{tmp_path}/calls) -ge 4 ]")
    began = time.monotonic()
    made.tell(FAIL)
    tended(made, lambda: made.due == float("inf"))
    assert [call.split()[0] for call in calls(tmp_path)] == ["fail"] * 4
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4


def test_a_later_verdict_does_not_wait_for_one_that_failed(
    tmp_path: Path, program: Callable[[str], Program]
) -> None:
    made = program('[ "$1" = ok ]')
    for _ in range(3):  # so that the next try is far away
        made.tell(FAIL)
        tended(made, lambda: not made._runner.running)
    made.tell(OK)
    tended(made, lambda: made.due == float("inf"))
    assert calls(tmp_path)[-1].startswith("ok ")


def test_a_program_that_hangs_is_killed_with_what_it_started(
    tmp_path: Path, program: Callable[[str], Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "PROGRAM_SECONDS", 0.3)
    made = program(f"[ $1 = gone ] || {{ sleep 1000 & echo $! >{tmp_path}/pid; wait; }}")
    made.tell(FAIL)
    pid = tmp_path / "pid"
    tended(made, lambda: pid.exists() and pid.read_text().endswith("\n"))
    sleeper = pid.read_text().strip()
    made.tell(GONE)
    tended(made, lambda: made.due == float("inf"))
    assert calls(tmp_path)[-1].startswith("gone ")
    wait_until(lambda: is_dead(sleeper))


def is_dead(pid: str) -> bool:
    """Whether it has ended, be it waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_that_root_must_not_run_is_refused(tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "told.sh"
    path.write_text("#!/bin/sh\n")
    with pytest.raises(Stop, match="is not executable: chmod"):
        Program(str(path), lines)
    path.chmod(0o777)
    with pytest.raises(Stop, match="can be written by others than root"):
        Program(str(path), lines)


# The command line


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--track f --tune eth0", "--track and --exec cannot be combined"),
        ("--track f --json eth0", "--track and --exec cannot be combined"),
        ("--exec p -r f eth0", "--track and --exec cannot be combined"),
        ("--ok 3 eth0", "--ok and --bad need --track FILE"),
        ("--exec p --bad 3 eth0", "--ok and --bad need --track FILE"),
        ("--track f --ok 1 eth0", "--ok and --bad must differ"),
        ("--user nobody eth0", "--user and --realtime need --track FILE or --exec PROGRAM"),
        ("--tune --realtime eth0", "--user and --realtime need --track FILE or --exec PROGRAM"),
        ("--track f --low-water 0 eth0", "--low-water must be at least 1"),
        ("--timer soon eth0", "'soon' is not seconds"),
        ("--packet-count 0 eth0", "'0' is not a whole number from 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: str, why: str) -> None:
    result = watched_by_hand.run(*words.split())
    assert result.returncode == 2 and why in result.stderr


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        ("--addresses 192.0.2.300 lo", 2, "192.0.2.300: expected an IPv4 or IPv6 address"),
        ("--probe-target 192.0.2.1/24 lo", 2, "192.0.2.1/24: expected"),
        ("--filter nonsense lo", 1, "--filter is not a pcap expression"),
        ("--track /no/such/file lo", 1, "there is no directory /no/such"),
    ],
)
def test_values_that_cannot_be_used_are_refused(words: str, status: int, why: str) -> None:
    command = [*watched_by_hand.WATCHD, *words.split()]
    result = subprocess.run(
        command,
        env=watched_by_hand.ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == status and why in result.stderr


# The page about keepalived

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/keepalived.md").read_text()
BLOCKS = [block.replace("\n    ", "\n") for block in re.findall(r"(?m)(?:^    .*\n|^\n)+", PAGE)]


@pytest.mark.parametrize("name", ["keepalived.conf", "watchd-eth0"])
def test_the_page_shows_what_the_examples_hold(name: str) -> None:
    text = (ROOT / "examples/keepalived" / name).read_text()
    told = text[text.index("global_defs") :] if name == "keepalived.conf" else text.splitlines()[-1]
    assert told.strip() in "\n".join(BLOCKS)


def test_each_configuration_of_the_page_is_one() -> None:
    found = [block for block in BLOCKS if "$plip_interface" in block]
    assert len(found) == 3
    for block in found:
        settings = conf.parse(block, "page")
        assert settings.interfaces == ("eth0",) and settings.low_water == 1
        assert settings.plip_timer > settings.plip_hbeat


def test_the_example_s_options_are_ones() -> None:
    (words,) = re.findall('OPTIONS="(.*)"', (ROOT / "examples/keepalived/watchd-eth0").read_text())
    options = command.arguments([*words.split(), "eth0"])
    settings = sensor.suited(command.overridden(conf.Conf(), options), options)
    assert (settings.timer_seconds, settings.low_water, settings.realtime) == (0.2, 1, True)
    assert settings.served == {"192.0.2.10"} and settings.witness[0].address == "192.0.2.254"


# A real interface


@pytest.fixture
def wire() -> Iterator[tuple[Namespace, Callable[[], None]]]:
    """A namespace whose eth0 receives nothing but what is sent by a call."""
    with namespaces(2) as (here, there):
        for each in (here, there):
            each.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 || :")
        here.ip("link add eth0 type veth peer name far netns " + str(there.pid))
        here.ip("link set eth0 up")
        there.ip("link set far up")
        with there.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:

            def send() -> None:
                sock.sendto(FRAME, ("far", 0))

            yield here, send


def number(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def options(path: Path) -> list[str]:
    user = ["--user", "root"] if os.geteuid() else []  # of a user namespace
    return ["--track", str(path), "--timer", "0.3", *user, "eth0"]


def test_the_file_follows_the_interface_and_goes_with_watchd(
    wire: tuple[Namespace, Callable[[], None]], tmp_path: Path
) -> None:
    here, send = wire
    path = tmp_path / "eth0"
    with watched_by_hand.by_hand(here, *options(path)) as started:
        wait_until(lambda: number(path) == "0\n")
        wait_until(lambda: number(path) == "1\n")

        def is_well() -> bool:
            send()
            return number(path) == "0\n"

        wait_until(is_well)
        wait_until(lambda: number(path) == "1\n")
        here.ip("link delete eth0")  # silent, as any other
        time.sleep(1)
        assert number(path) == "1\n" and started.poll() is None
        started.send_signal(signal.SIGTERM)
        said = started.communicate(timeout=60)[1]
    assert started.returncode == 0 and not path.exists()
    assert "IFACE-FAIL interface eth0: not receiving" in said
    assert "IFACE-OK interface eth0: receiving" in said


def test_one_that_is_killed_leaves_the_file_and_no_process(
    wire: tuple[Namespace, Callable[[], None]], tmp_path: Path
) -> None:
    here, send = wire
    path = tmp_path / "eth0"
    with watched_by_hand.by_hand(here, *options(path)) as started:
        wait_until(lambda: number(path) == "1\n")
        (main,) = [pid for pid, name in named() if name == "watchd-eth0" and tracks(pid, path)]
        (worker,) = children(main)
        os.kill(main, signal.SIGKILL)
        started.wait(60)
        wait_until(lambda: is_dead(str(worker)))
    assert number(path) == "1\n"

    def is_well() -> bool:
        send()
        return number(path) == "0\n"

    with watched_by_hand.by_hand(here, *options(path)):
        wait_until(is_well)


def test_a_worker_that_dies_is_started_again_and_changes_nothing(
    wire: tuple[Namespace, Callable[[], None]], tmp_path: Path
) -> None:
    here, send = wire
    path = tmp_path / "eth0"
    with watched_by_hand.by_hand(here, *options(path)):
        wait_until(lambda: number(path) == "1\n")
        (main,) = [pid for pid, name in named() if name == "watchd-eth0" and tracks(pid, path)]
        (worker,) = children(main)
        if not os.geteuid():
            assert os.stat(f"/proc/{main}").st_uid == 0
            assert Path(f"/proc/{worker}/status").read_text().split("Uid:\t")[1][:2] != "0\t"
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: children(main) not in ([], [worker]))
        assert number(path) == "1\n"

        def is_well() -> bool:
            send()
            return number(path) == "0\n"

        wait_until(is_well)


def named() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            yield int(entry.name), (entry / "comm").read_text().strip()
        except OSError:
            continue


def tracks(pid: int, path: Path) -> bool:
    try:
        return str(path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # another test's, which has ended meanwhile
        return False


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_service_managers_are_told_when_the_verdict_is_known(
    wire: tuple[Namespace, Callable[[], None]], tmp_path: Path
) -> None:
    here, _ = wire
    path = tmp_path / "eth0"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        environment = {**watched_by_hand.ENVIRONMENT, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        command = here.enter([*watched_by_hand.WATCHD, *options(path)])
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as started:
            assert manager.recv(100) == b"READY=1"
            assert number(path) == "1\n", "nothing was received"
            started.terminate()
