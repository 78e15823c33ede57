""".ci/run: it tests as newcomers do, tells what failed, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from netns import ROOTLESS
from processes import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
# bin/test of the checkout under test: it writes where it was run, and by whom.
SUITE = """#!/bin/sh
echo "$(readlink -f "$0") $(id -u) $(stat -c %u "$0")"
[ ! -e "${0%/*}/last" ] || { trap 'kill $!; exit 1' INT; sleep 999 & echo $! >FOLDER/pid; wait; }
[ "$(id -u)" != "$(cat "${0%/*}/red")" ]
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user reaches: pytest's own is for one user alone."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def checkout(place: Path, **files: str) -> Path:
    """The committed checkout's .ci/run. files: what lies beside its bin/test."""
    root = place / "check out"
    (root / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", root / ".ci")
    (root / "bin").mkdir()
    for name, text in {"red": "none", **files}.items():
        (root / "bin" / name).write_text(text)
    (root / "bin" / "test").write_text(SUITE.replace("FOLDER", str(place)))
    (root / "bin" / "test").chmod(0o755)
    (place / "temporary").mkdir()
    who = ("-c", "user.name=who", "-c", "user.email=who@example.org", "-c", "commit.gpgsign=false")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "all")):
        subprocess.run(["git", "-C", root, *words], check=True, timeout=60)
    return root


def start(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [root / ".ci" / "run"],
        env={**os.environ, "TMPDIR": str(root.parent / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(root: Path) -> tuple[int, list[list[str]], str]:
    """Its exit status, where the suite was run and by whom, and what else was said."""
    with start(root) as process:
        out, said = process.communicate(timeout=120)
    assert list((root.parent / "temporary").iterdir()) == []
    return process.returncode, [line.rsplit(None, 2) for line in out.splitlines()], said


def test_a_newcomers_clone_is_tested_as_root_and_as_an_ordinary_user(place: Path) -> None:
    status, runs, said = run(checkout(place))
    assert status == 0, said
    for program, _, _ in runs:
        assert program.endswith("/failoverd/bin/test")
        assert program.startswith(str(place / "temporary"))
    if ROOTLESS:
        assert [user for _, user, _ in runs] == [str(os.geteuid())]
        return
    if "not as daemon, who cannot reach" in said:
        pytest.skip("the folder for temporary files is root's alone")
    assert runs[0][1:] == ["0", "0"]
    assert runs[1][1] == runs[1][2] != "0"


@pytest.mark.parametrize("first", [True, False])
def test_it_fails_if_any_run_does_and_goes_on_with_the_other(place: Path, first: bool) -> None:
    users = [user for _, user, _ in run(checkout(place / "green"))[1]]
    if not first and len(users) == 1:
        pytest.skip("there is one run only: not by root, or the folder is root's alone")
    root = checkout(place / "red", red=users[0 if first else -1])
    status, runs, said = run(root)
    assert (status, said.count("exit status 1")) == (1, 1)
    assert [user for _, user, _ in runs] == users


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_leaves_nothing(place: Path, number: signal.Signals) -> None:
    root = checkout(place, last="")
    with start(root) as process:
        wait_until(lambda: (place / "pid").exists() and (place / "pid").read_text())
        process.send_signal(number)
        process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert list((place / "temporary").iterdir()) == []
    sleeping = int((place / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{sleeping}").exists())
