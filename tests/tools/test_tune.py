"""What watchd --tune measures, estimates and proposes: by tables, by chance, and as a command."""

from __future__ import annotations

import json
import math
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import FAR, ONLY_OURS, OWN, frame, two_ends
from netns import Namespace
from watched_by_hand import by_hand, conf_file, run

from failoverd import conf
from failoverd.tools import recording, tune
from failoverd.watch import judge

GENEROUS = 60.0


# Traffic of several kinds, as endless times in seconds


def steady(chance: random.Random, rate: float) -> Iterator[float]:
    now = 0.0
    while True:
        now += chance.expovariate(rate)
        yield now


def periodic(chance: random.Random, period: float) -> Iterator[float]:
    now = 0.0
    while True:
        now += period
        yield now + chance.random()


def quiet_night(chance: random.Random) -> Iterator[float]:
    """A router's ARP every half minute, and another host's four a minute."""
    return merge(periodic(chance, 30), steady(chance, 4 / 60))


def bursty(chance: random.Random) -> Iterator[float]:
    now = 0.0
    while True:
        now += chance.expovariate(1 / 4)
        for _ in range(chance.randrange(5, 80)):
            now += chance.expovariate(50)
            yield now


def day_and_night(chance: random.Random) -> Iterator[float]:
    now = 0.0
    while True:
        now += chance.expovariate(0.2 + 3 * max(0.0, math.sin(now / 86_400 * 2 * math.pi)))
        yield now


def until(times: Iterator[float], end: float) -> list[float]:
    return list(takewhile(lambda time: time < end, times))


def traffic_of(times: list[float], length: float, tick: float = 0.001) -> tune.Traffic:
    traffic = tune.Traffic(tick)
    for moment in times:
        traffic.add(moment)
    traffic.add(length, 0)
    return traffic


gaps = st.lists(st.floats(0.01, 30), min_size=1, max_size=80)


def times_of(found: list[float]) -> list[float]:
    times = [0.0]
    for gap in found:
        times.append(times[-1] + gap)
    return times


# What is kept of the traffic


@given(gaps, st.integers(1, 9))
def test_nothing_that_came_is_lost(found: list[float], seconds: int) -> None:
    times = times_of(found)
    traffic = traffic_of(times, times[-1])
    assert traffic.packets == len(times)
    moments = [moment for batch, _ in traffic.batches() for moment in batch]
    assert moments == times
    windows = traffic.windows(seconds)
    assert sum(windows) == sum(time < len(windows) * seconds for time in times)
    assert traffic.longest_wait() == pytest.approx(max(found))


def test_it_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "LIMIT", 100)
    times = until(steady(random.Random(1), 100), 60)
    traffic = traffic_of(times, 60)
    assert len(traffic.times) < 100 * math.log(60 / 0.1) < len(times) == traffic.packets
    whole = [sum(n * 10 <= time < n * 10 + 10 for time in times) for n in range(6)]
    assert all(abs(a - b) < 300 for a, b in zip(traffic.windows(10), whole, strict=True))


# What would have happened


@settings(deadline=None)
@given(gaps, st.integers(1, 8), st.integers(1, 20), st.integers(0, 9))
def test_the_outcome_is_what_the_watcher_would_have_said(
    found: list[float], packet_count: int, timer: int, low_water: int
) -> None:
    times = times_of(found)
    rules = judge.Rules(packet_count, timer, low_water, private=False)
    events = list(recording.replay(rules, [(times, times[-1])]))
    verdicts = [event.verdict for event in events]
    told = tune.judged(packet_count, timer, low_water, traffic_of(times, times[-1]), aim())
    is_full = any(event.event == "full" for event in events)
    assert told.found_within == tune.found_within(timer, low_water, is_full)
    failed = [verdict == "fail" for verdict in verdicts]
    assert told.alarms == sum(b and not a for a, b in zip([False, *failed], failed, strict=False))


@settings(deadline=None)
@given(gaps, st.integers(1, 30), st.integers(1, 20), st.integers(1, 9))
def test_a_death_is_found_as_soon_as_is_said(
    found: list[float], packet_count: int, timer: int, low_water: int
) -> None:
    times = times_of(found)
    limit = tune.found_within(timer, low_water, is_full=False)
    assert limit == 2 * timer
    rules = judge.Rules(packet_count, timer, low_water, private=False)
    death = times[-1]
    events = recording.replay(rules, [(times, death)], death + 9 * timer)
    first = next(event.t for event in events if event.t > death and event.verdict == "fail")
    assert first <= death + limit + 1e-9


@pytest.mark.parametrize(
    ("low_water", "is_full", "expected"), [(0, False, None), (1, False, 20), (1, True, 21.25)]
)
def test_when_a_death_is_found(low_water: int, is_full: bool, expected: float | None) -> None:
    assert tune.found_within(10, low_water, is_full) == expected


# What is to be expected


@settings(deadline=None)
@given(gaps, st.integers(1, 9), st.integers(0, 20))
def test_the_longest_wait_is_found_from_every_moment(
    found: list[float], packets: int, after: int
) -> None:
    times = times_of(found)
    end = times[-1] + after
    longest = 0.0
    for began in times:  # the longest ones begin right after a packet
        rest = [time for time in times if time > began]
        longest = max(longest, (rest[packets - 1] if len(rest) >= packets else end) - began)
    traffic = traffic_of(times, end, tick=0)
    assert traffic.longest_wait(packets) == pytest.approx(longest)


def test_one_silence_is_not_estimated_away() -> None:
    before = [n / 5 for n in range(10_000)]
    times = before + [before[-1] + 2 + moment for moment in before]
    traffic = traffic_of(times, times[-1])
    wait = traffic.longest_wait()
    assert wait == pytest.approx(2)
    for seconds, seen in ((1, 1 / 4002), (1.5, 0.5 / 4002), (2, 0)):
        assert tune.chance(seconds, wait, traffic.length) > seen


def test_the_chance_of_random_traffic_is_an_upper_end() -> None:
    """Of Poisson processes, whose waits are known: exp(-rate * wait)."""
    for seconds in (7, 10, 15):
        for seed in range(20):
            traffic = traffic_of(until(steady(random.Random(seed), 1), 600), 600)
            found = tune.chance(seconds, traffic.longest_wait(), traffic.length)
            assert 1 < found / math.exp(-seconds) < 1e5, (seconds, seed)


def test_nothing_is_ruled_out_by_a_sample_as_short_as_a_wait() -> None:
    assert tune.chance(100, 10, 30) == 1
    assert tune.chance(10, 10, 3000) == pytest.approx(0.01)
    assert tune.chance(20, 10, 3000) == pytest.approx(0.0001)


@pytest.mark.parametrize(("rate", "length"), [(0.1, 60), (1, 5), (1, 0)])
def test_too_little_is_no_sample(rate: float, length: float) -> None:
    times = until(steady(random.Random(4), rate), length)
    assert tune.proposals(traffic_of(times, length), aim()) == {}


# What is proposed


def aim(within: float = 10, days: float = 30) -> tune.Aim:
    return tune.Aim(within, days)


def test_steady_traffic_meets_the_aim() -> None:
    found = tune.proposals(traffic_of(until(steady(random.Random(4), 20), 300), 300), aim())
    assert list(found) == ["calm enough", "as asked"]
    calm, asked = found.values()
    assert asked.meets(aim()) and calm.meets(aim())
    assert (asked.timer_seconds, asked.low_water) == (5, 1)
    assert calm.timer_seconds < asked.timer_seconds
    assert asked.found_within == 10
    assert asked.packet_count > 100  # more than five seconds bring
    assert calm.found_within == 2 * calm.timer_seconds  # no window is full


def test_a_quiet_night_does_not() -> None:
    traffic = traffic_of(until(quiet_night(random.Random(4)), 7200), 7200)
    found = tune.proposals(traffic, aim())
    assert list(found) == ["as asked", "calm enough"]
    asked, calm = found.values()
    assert not asked.meets(aim()) and asked.alarms > 100
    assert asked.expected_alarms is not None and asked.expected_alarms > asked.alarms
    assert not calm.meets(aim()) and calm.meets(aim(within=300))
    assert calm.alarms == 0


def test_a_low_water_takes_a_whole_day() -> None:
    times = until(day_and_night(random.Random(4)), 90_000)

    def asked(times: list[float], length: float, has_probe_target: bool = False) -> tune.Judged:
        traffic = traffic_of(times, length)
        return tune.proposals(traffic, aim(within=1200), has_probe_target)["as asked"]

    whole = asked(times, 90_000)
    assert whole.low_water > 1 and whole.meets(aim(within=1200))
    assert whole.low_water < min(traffic_of(times, 90_000).windows(600)) / 2
    assert asked([time for time in times if time < 40_000], 40_000).low_water == 1
    assert asked(times, 90_000, has_probe_target=True).low_water == 1


@pytest.mark.parametrize("kind", [lambda c: steady(c, 1), quiet_night, bursty])
def test_a_proposal_holds_for_what_comes_later(
    kind: Callable[[random.Random], Iterator[float]],
) -> None:
    """Measured for half an hour, tried for a day: at most the one alarm it allows."""
    times = kind(random.Random(7))
    before = until(times, 1800)
    found = tune.proposals(traffic_of(before, 1800), aim(days=1))
    proposed = found.get("calm enough", found["as asked"])
    assert proposed.is_calm
    later = traffic_of([time - 1800 for time in until(times, 1800 + 86_400)], 86_400)
    again = tune.judged(
        proposed.packet_count, proposed.timer_seconds, proposed.low_water, later, aim()
    )
    assert again.alarms <= 1


def test_nice_numbers() -> None:
    below = [number for number in tune.NICE if number <= 50]
    assert below[:8] == [0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5]
    assert below[8:] == [2, 3, 5, 7, 10, 15, 20, 30, 50]


def test_the_picture() -> None:
    assert tune.bar(0, 100, 100, 1) == "!" + "-" * tune.BAR
    assert tune.bar(100, 100, 100, 1) == " " + "#" * tune.BAR
    assert tune.bar(0, 0, 0, 0) == " "


# The command, over a capture


def write_capture(file: Path, times: list[float], source: str = FAR) -> str:
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)]
    for when in times:
        seconds, micro = divmod(round(1_700_000_000_000_000 + when * 1e6), 1_000_000)
        parts.append(struct.pack("<IIII", seconds, micro, 60, 60) + frame(source))
    file.write_bytes(b"".join(parts))
    return str(file)


def tuned(folder: Path, times: list[float], *more: str, **variables: object) -> Any:
    """The command over these packets: its status, and what it says."""
    capture = write_capture(folder / "x.pcap", times)
    options = ("-c", conf_file(folder, **variables), "--tune", "--mac", OWN, "-r", capture)
    return run(*options, *more, "eth0")


def test_what_it_says_can_be_pasted(tmp_path: Path) -> None:
    done = tuned(tmp_path, until(steady(random.Random(4), 20), 300), "-v")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    proposed = conf.parse(done.stdout, "proposal")
    assert (proposed.timer_seconds, proposed.low_water) == (5, 1)
    assert lines[0].startswith("# eth0: aim met (dead interface found within 10 s, at most")
    assert [line.split()[0] for line in lines[2:5]] == [
        *("$packet_count", "$timer_seconds", "$low_water")
    ]
    told = " ".join(done.stdout.replace("\n# ", " ").split())
    assert "low_water 0, as now, a dead interface is never found" in told
    assert "at most 20 s after the last packet" in told  # as failoverd -t says
    assert "rule of three" in told and "takes 90 days" in told
    assert "shorter than a day" in told and "###" in told
    assert sum(" to " in line and "###" in line for line in lines) <= tune.ROWS
    assert max(map(len, lines)) <= 100
    short = tuned(tmp_path, until(steady(random.Random(4), 20), 300)).stdout.splitlines()
    assert short[:-1] == lines[: len(short) - 1]
    assert short[-1].startswith("# -v shows") and len(short) < 20


@pytest.mark.parametrize(("rate", "within"), [(20, 10), (3, 10), (3, 5), (2, 10), (1, 300)])
@pytest.mark.parametrize("witness", ["", "@witness = ('eth0 192.0.2.1');"])
def test_only_an_aim_that_is_met_is_called_so(
    tmp_path: Path, rate: float, within: float, witness: str
) -> None:
    """What it says first, its exit status, and the row that it proposes agree."""
    capture = write_capture(tmp_path / "x.pcap", until(steady(random.Random(4), rate), 900))
    file = tmp_path / "conf"
    file.write_text(f"@interfaces = ('eth0'); {witness}\n")
    options = ("-c", str(file), "--tune", "--mac", OWN, "-r", capture, "--within", f"{within:g}")
    done, told = run(*options, "eth0"), json.loads(run(*options, "--json", "eth0").stdout)
    best = told["settings"][told["best"]]
    meets = best["expected_alarms"] <= 1 and best["found_within"] <= within
    heads = {0: "aim met", 1: "AIM NOT MET", 3: "cannot tell"}
    assert done.stdout.startswith(f"# eth0: {heads[done.returncode]}")
    assert (done.returncode == 0) is meets is (told["aim"]["met"] is True)
    assert done.returncode in ((0, 3) if witness else (0, 1))
    rows = [row["timer_seconds"] for name, row in told["settings"].items() if name != "now"]
    assert rows == sorted(rows)


@pytest.mark.parametrize("years", [56, -56])
def test_a_clock_that_is_set_is_no_silence(tmp_path: Path, years: int) -> None:
    """A time of more than a day that was not recorded is no time, and the clock may go back."""
    times = until(steady(random.Random(4), 20), 300)
    moved = [time + (time > 150) * years / 2 * 365 * 86_400 for time in times]
    done, plain = tuned(tmp_path, moved, "--json"), tuned(tmp_path, times, "--json")
    assert (done.returncode, plain.stderr) == (0, "")
    told, expected = json.loads(done.stdout), json.loads(plain.stdout)
    assert told["packets"] == expected["packets"]
    assert told["seconds"] == pytest.approx(expected["seconds"], abs=1)
    assert told["settings"]["as asked"]["alarms"] == 0
    what = "nothing was recorded from " if years > 0 else "the clock was set back by 10219 days"
    assert what in done.stderr and len(done.stderr.splitlines()) == 1


def test_it_says_what_the_present_settings_would_have_done(tmp_path: Path) -> None:
    times = until(quiet_night(random.Random(4)), 7200)
    done = tuned(tmp_path, times, "--json", timer_seconds=20, low_water=1)
    told = json.loads(done.stdout)
    assert done.returncode == 1 and told["aim"] == {"within": 10.0, "days": 30.0, "met": False}
    now = told["settings"]["now"]
    assert (now["packet_count"], now["timer_seconds"], now["low_water"]) == (500, 20, 1)
    assert now["alarms"] > 5 and now["found_within"] == 40
    judged = run("-c", conf_file(tmp_path, timer_seconds=20, low_water=1), "--mac", OWN,
                 "--json", "-r", str(tmp_path / "x.pcap"), "eth0")  # fmt: skip
    events = [json.loads(line) for line in judged.stdout.splitlines()]
    failed = [event["verdict"] == "fail" for event in events]
    assert now["alarms"] == sum(b and not a for a, b in zip([False, *failed], failed, strict=False))


def test_quiet_traffic_is_told_of_a_witness(tmp_path: Path) -> None:
    times = until(quiet_night(random.Random(4)), 7200)
    done = tuned(tmp_path, times)
    assert done.returncode == 1
    assert done.stdout.startswith("# eth0: AIM NOT MET (")
    assert "Quiet traffic needs a probe target (@witness)" in done.stdout
    with_one = tmp_path / "one"
    with_one.mkdir()
    capture = write_capture(with_one / "x.pcap", times)
    file = with_one / "conf"
    file.write_text("@interfaces = ('eth0'); @witness = ('eth0 192.0.2.1');\n")
    done = run("-c", str(file), "--tune", "--mac", OWN, "-r", capture, "eth0")
    assert done.returncode == 3 and "probe target 192.0.2.1 (@witness) is asked" in done.stdout
    assert "depends on the probe target" in " ".join(done.stdout.replace("\n#", "").split())
    assert "\n$timer_seconds = 5;\n" in done.stdout


def test_the_aim_can_be_another(tmp_path: Path) -> None:
    times = until(quiet_night(random.Random(4)), 7200)
    done = tuned(tmp_path, times, "--within", "300", "--days", "2")
    assert done.returncode == 0
    told = " ".join(done.stdout.replace("\n#", "").split())
    assert "found within 5 min, at most one false alarm in 2 days" in told


@pytest.mark.parametrize("times", [[0.0], [float(n) for n in range(5)]])
def test_too_little_to_tell(tmp_path: Path, times: list[float]) -> None:
    done = tuned(tmp_path, times)
    assert done.returncode == 3 and ": too few packets, measure" in done.stdout.replace("\n#", "")
    assert json.loads(tuned(tmp_path, times, "--json").stdout)["aim"]["met"] is None


def test_nothing_to_tell(tmp_path: Path) -> None:
    done = tuned(tmp_path, [])
    assert (done.returncode, done.stdout) == (3, "")
    assert "there is no packet in it" in done.stderr
    done = tuned(tmp_path, [float(n) for n in range(60)], filter="udp port 9")
    assert done.returncode == 3 and "no packet that counts was received" in done.stdout.replace(
        "\n#", ""
    )
    assert "needs a probe target (@witness)" in done.stdout


def test_what_cannot_be_read_is_no_sample(tmp_path: Path) -> None:
    capture = write_capture(tmp_path / "x.pcap", until(steady(random.Random(4), 20), 300))
    file, name = Path(capture), conf_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-5])
    done = run("-c", name, "--tune", "--mac", OWN, "-r", capture, "eth0")
    assert done.returncode == 0 and "what comes before counts" in done.stderr
    done = run("-c", name, "--tune", "-r", name, "eth0")
    assert done.returncode == 3 and done.stderr.startswith(f"watchd: {name}: ")
    done = run("-c", name, "--tune", "--seconds", "1", "plip0")
    assert done.returncode == 3 and "plip0 is the heartbeat link" in done.stderr
    done = run("-c", name, "--tune", "--seconds", "1", "eth7")
    assert done.returncode == 3 and "there is no interface eth7" in done.stderr


USAGE = [
    ("--seconds", "3", "lo"),
    ("--within", "3", "lo"),
    ("--tune", "-r", "x", "--seconds", "3", "lo"),
    ("--tune", "-r", "x", "--until", "3", "lo"),
    ("--tune", "--within", "0.1", "lo"),
    ("--tune", "--days", "0", "lo"),
]


@pytest.mark.parametrize("arguments", USAGE)
def test_usage_errors_exit_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: watchd"), done.stderr


# The command, live


@pytest.fixture
def spaces() -> Iterator[list[Namespace]]:
    with two_ends() as made:
        yield made


@pytest.fixture
def talking(spaces: list[Namespace]) -> Iterator[None]:
    """A host at the cable's other end sends something every 20 ms, until its input is closed."""
    code = (
        "import select, socket, sys\n"
        "sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); sock.bind(('far', 0))\n"
        "said = bytes.fromhex(sys.argv[1])\n"
        "while not select.select([sys.stdin], [], [], 0.02)[0]: sock.send(said)"
    )
    argv = spaces[1].enter([sys.executable, "-I", "-c", code, frame().hex()])
    with subprocess.Popen(argv, stdin=subprocess.PIPE):
        yield


def test_it_measures_a_live_interface(
    spaces: list[Namespace], talking: None, tmp_path: Path
) -> None:
    name = conf_file(tmp_path, filter=ONLY_OURS)
    more = ("--within", "30", "--json", "eth0")
    with by_hand(spaces[0], "-c", name, "--tune", "--seconds", "2.5", *more) as watcher:
        out, err = watcher.communicate(timeout=GENEROUS)
    told = json.loads(out)
    assert "watching eth0 for 2.5 s" in err
    assert told["seconds"] == 2.5 and told["packets"] > 20
    assert watcher.returncode in (0, 1)
    assert told["settings"]["as asked"]["timer_seconds"] == 15


def test_ctrl_c_is_enough(spaces: list[Namespace], talking: None, tmp_path: Path) -> None:
    name = conf_file(tmp_path, filter=ONLY_OURS)
    with by_hand(spaces[0], "-c", name, "--tune", "--json", "eth0") as watcher:
        assert watcher.stderr is not None
        while "watching" not in watcher.stderr.readline():
            pass
        time.sleep(1.5)  # for something to be measured
        watcher.send_signal(signal.SIGINT)
        out, _ = watcher.communicate(timeout=GENEROUS)
    assert 0 < json.loads(out)["seconds"] < 299
    assert watcher.returncode in (0, 1, 3)


def test_an_interface_that_is_down_cannot_be_measured(
    spaces: list[Namespace], tmp_path: Path
) -> None:
    spaces[0].ip("link set eth0 down")
    with by_hand(spaces[0], "-c", conf_file(tmp_path), "--tune", "eth0") as watcher:
        out, err = watcher.communicate(timeout=GENEROUS)
    assert (watcher.returncode, out) == (3, "")
    assert "ip link set dev eth0 up" in err


def test_what_failoverd_dumped_can_be_tuned(
    spaces: list[Namespace], talking: None, tmp_path: Path
) -> None:
    dump = tmp_path / "dump"
    name = conf_file(tmp_path, filter=ONLY_OURS, dumpfile=dump, timer_seconds=0.2)
    written = tmp_path / "dump.eth0"
    with by_hand(spaces[0], "-c", name, "eth0"):
        end = time.monotonic() + GENEROUS
        while not written.exists() or written.stat().st_size < 24 + 60 * (16 + 60):
            assert time.monotonic() < end
            time.sleep(0.1)
    done = run("-c", name, "--tune", "--within", "60", "--mac", OWN, "-r", str(written), "eth0")
    assert done.returncode in (0, 1), done.stderr
    assert "$timer_seconds = 30;" in done.stdout
