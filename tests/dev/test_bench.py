"""The benchmark's harness: that it runs, tells and cleans up. Nothing is timed here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest
from processes import children_of, wait_until

from dev.lab.bench import flood, page, report, weights
from dev.lab.bench.plan import ROWS
from dev.lab.bench.report import Bar, Line, Panel, at_most, compared, figure, spread
from dev.lab.spaces import ROOT

BENCH = (sys.executable, "-m", "dev.lab.bench")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BENCH, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


# ---------------------------------------------------------------------------- what it tells


def test_a_figure_meets_its_target_or_does_not() -> None:
    assert at_most("memory", "MB", 30.0, 30).met is True
    assert at_most("memory", "MB", 30.1, 30).met is False
    line = compared("outage", "ms", 20.0, "keepalived", 25.0, 0.8)
    assert (line.ratio, line.met) == (0.8, True)
    assert compared("outage", "ms", 21.0, "keepalived", 25.0, 0.8).met is False
    assert compared("outage", "ms", 21.0, "keepalived", None, 0.8).met is None


def test_two_samples_are_told_by_their_median_and_their_worst() -> None:
    median, worst = spread("cut", [0.01, 0.02, 0.09], "k", [0.04, 0.05, 0.06], (0.8, 1.0))
    assert (median.ours, median.theirs, median.met) == (20.0, 50.0, True)
    assert (worst.ours, worst.theirs, worst.met) == (90.0, 60.0, False)
    assert [line.met for line in spread("cut", [0.01], "k", [], (0.8, 1.0))] == [None, None]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.1234, "s", "0.12 s"), (12.34, "ms", "12.3 ms"), (1234.5, "ms", "1234 ms"), (2, "", "2")],
)
def test_a_figure_is_told_with_its_unit(value: float, unit: str, text: str) -> None:
    assert figure(value, unit) == text


def test_the_table_fits_a_terminal() -> None:
    widest = Line("w" * 99, "k/s", 12345.0, "r" * 99, 12345.0, ">= 0.95", False, 0.00123)
    told = report.table([("A title", [widest])], ["about"])
    assert all(len(line) <= report.WIDTH for line in told.splitlines())
    assert told.splitlines()[-1].endswith("NO")
    assert "A title" in told


def test_the_picture_is_drawn_to_scale() -> None:
    bars = [Bar("ours <", 10.0, True), Bar("theirs", 1000.0, False), Bar("none", 0.0, False)]
    drawn = xml.etree.ElementTree.fromstring(report.picture([Panel("Outage", "ms", bars)], "here"))
    space = "{http://www.w3.org/2000/svg}"
    widths = [float(rect.attrib["width"]) for rect in drawn.iter(f"{space}rect")]
    assert widths[0] < widths[1]
    texts = [text.text for text in drawn.iter(f"{space}text")]
    assert {"ours <", "theirs", "10 ms", "here"} <= set(texts)


# ---------------------------------------------------------------------------- what it measures with


def test_the_flood_sends_packets_that_are_right() -> None:
    data = flood.packet("02:00:00:00:00:64", "02:00:00:00:00:01", "192.0.2.1")
    assert len(data) == flood.LENGTH
    header = data[14:34]
    total = sum(int.from_bytes(header[i : i + 2]) for i in range(0, 20, 2))
    assert total % 0xFFFF == 0
    assert int.from_bytes(header[2:4]) == len(data) - 14


def test_what_proc_tells_is_summed() -> None:
    text = "Pss:  12 kB\nPss_Anon: 99 kB\nPss:  30 kB\n"
    assert weights.summed(text, "Pss:") == 42


def test_a_capture_is_one_that_watchd_reads(tmp_path: Path) -> None:
    weights.write_capture(tmp_path / "capture", 1234)
    took = subprocess.run(
        [*weights.WATCHD, "-c", "/dev/null", "-r", str(tmp_path / "capture"), "eth0"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert took.returncode == 0, took.stderr
    assert took.stdout.count("packet_count reached") >= 2


# ---------------------------------------------------------------------------- the command


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("wrong", [("--rows", "nonsense"), ("--runs", "0"), ("--timers", "1")])
def test_what_it_does_not_know_is_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as found:
        _arguments(list(wrong))
    assert found.value.code == 2


def _arguments(words: list[str]) -> object:
    from dev.lab.bench.__main__ import arguments

    return arguments(words)


@pytest.mark.usefixtures("make_lab")  # for its skip
def test_a_short_run_tells_a_table_and_draws_the_picture(tmp_path: Path) -> None:
    picture, figures = tmp_path / "bench.svg", tmp_path / "figures"
    slower = ("--timers", "0.5,0.1", "--set", "timer_seconds=1.0")
    short = ("--quick", "--alone", "--runs", "1", "--rows", "power,cpu,replay", *slower)
    result = run(*short, "--svg", str(picture), "--figures", str(figures))
    assert result.stderr == ""
    assert result.returncode in (0, 1)  # whether a target is met is not the matter here
    assert "power cut, median" in result.stdout
    assert "CPU per million packets" in result.stdout
    assert "watchd -r, 0.2 million" in result.stdout
    what, who, seconds = figures.read_text().splitlines()[0].split(",")
    assert (what, who) == ("power cut", "failoverd")
    assert float(seconds) > 0.0
    assert picture.read_text().startswith("<svg")


@pytest.mark.usefixtures("make_lab")
def test_when_it_is_interrupted_nothing_is_left(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*BENCH, "--alone", "--rows", "power"], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        wait_until(lambda: children_of(process.pid))
        (namespaces,) = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
        assert b"nothing is left behind" in process.stderr.read()
    wait_until(lambda: not Path(f"/proc/{namespaces}").exists())
    assert list(tmp_path.iterdir()) == []


def test_the_page_keeps_the_rows_of_other_runs(tmp_path: Path) -> None:
    written = tmp_path / "bench.md"
    written.write_text(f"# By hand\n{page.BEGIN}{page.END}And more\n")
    panels = {"outage": ("Outage", "ms")}

    def put(name: str, value: float, about: str) -> None:
        lines = [Line(f"the {name} line", "ms", value)]
        row = page.Measured(f"Row {name}", [about], lines, {"outage": [Bar(name, value, True)]})
        page.update(written, {name: row}, ["power", "dead"], panels)

    put("dead", 11.0, "one day")
    put("power", 22.0, "one day")
    put("dead", 33.0, "another day")
    told = written.read_text()
    assert told.startswith("# By hand\n") and told.endswith("And more\n")
    assert "22 ms" in told and "33 ms" in told and "11 ms" not in told
    assert told.index("the power line") < told.index("the dead line")
    assert "one day" in told and "another day" in told
    drawn = (tmp_path / "bench.svg").read_text()
    assert "33 ms" in drawn and "22 ms" in drawn
    with pytest.raises(ValueError, match="no marks"):
        written.write_text("nothing")
        put("power", 1.0, "today")
