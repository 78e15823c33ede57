"""What dev/fuzz tries by the million, in short: every target, from its seeds, by hypothesis."""

from __future__ import annotations

import importlib
import operator
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dev.fuzzer import command
from dev.fuzzer.targets import TARGETS

edits = st.lists(
    st.tuples(st.integers(0, 4096), st.integers(0, 8), st.binary(max_size=4), st.integers(0, 999)),
    max_size=6,
)
Edit = tuple[int, int, bytes, int]


def why_not(name: str) -> str:
    """Why a target cannot be tried here, "" if it can."""
    if name == "perl" and shutil.which("perl") is None:
        return "perl is not installed"
    if name == "told":
        try:
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
        except PermissionError:
            return "failoverd's main loop needs a packet socket, and so root"
    return ""


def edited(seed: bytes, words: tuple[bytes, ...], changes: list[Edit]) -> bytes:
    """The seed with some bytes taken out, and others, or words that are often there, put in."""
    for place, gone, new, word in changes:
        at = place % (len(seed) + 1)
        put = words[word % len(words)] if words and word % 2 else new
        seed = seed[:at] + put + seed[at + gone :]
    return seed


@pytest.mark.parametrize("name", TARGETS)
def test_what_must_hold_holds_near_every_seed(name: str) -> None:
    if why_not(name):
        pytest.skip(why_not(name))
    target = TARGETS[name]
    for seed in target.seeds:
        target.check(seed)

    @settings(
        max_examples=3 if name == "long" else 80,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.sampled_from(target.seeds), edits)
    def holds(seed: bytes, changes: list[Edit]) -> None:
        target.check(edited(seed, target.words, changes)[: target.longest])

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_the_rooms_of_a_target_are_there(name: str) -> None:
    for room in TARGETS[name].rooms:
        module, _, names = room.partition(":")
        there = importlib.import_module(f"failoverd.{module}")
        for one in names.split():
            operator.attrgetter(one)(there)


def test_the_fuzzer_s_words_are_understood() -> None:
    said = [
        "INFO: Seed: 1",
        "#2\tINITED cov: 3 ft: 3 corp: 1/1b exec/s: 0 rss: 50Mb",
        "#589667\tDONE   cov: 46 ft: 93 corp: 31/2986b lim: 4096 exec/s: 65518 rss: 50Mb",
        "artifact_prefix='/f/'; Test unit written to /f/crash-7f",
    ]
    ran = command.understood(said, 77, 1.0)
    assert (ran.inputs, ran.edges, ran.status, ran.finding) == (589667, 46, 77, Path("/f/crash-7f"))
    assert command.understood([], 1, 1.0).finding is None


def test_one_input_is_tried_without_a_fuzzer(tmp_path: Path) -> None:
    frame = tmp_path / "frame"
    frame.write_bytes(b"any bytes")
    arguments = [sys.executable, "-m", "dev.fuzzer.command", "--input", str(frame), "frame"]
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={"PYTHONPATH": str(command.ROOT)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0 and "all that must hold holds" in done.stdout, done.stderr


@pytest.mark.parametrize("wrong", [["nonsense"], ["--input", "x"], ["--seconds", "long"]])
def test_usage_errors_exit_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(wrong)
    assert ended.value.code == 2
    assert "fuzz: error:" in capsys.readouterr().err
