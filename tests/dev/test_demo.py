"""The README's first command, and the launchers: run as a newcomer runs them."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dev.lab.network import Lab
from dev.lab.simulation import Simulation
from dev.lab.spaces import ROOT
from dev.lab.story import Screen, tell

DEMO = (sys.executable, "-m", "dev.lab.demo")
NO_MORE = "echo 0 >/proc/sys/user/max_user_namespaces; echo 0 >/proc/sys/user/max_net_namespaces"


def run_demo(
    *prefix: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, "LC_ALL": "C", **(env or {})}
    return subprocess.run(
        [*prefix, *DEMO],
        cwd=ROOT,
        env=whole,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def links() -> str:
    return subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout


def outages(text: str) -> list[float]:
    """What the client saw, one for each act."""
    return [float(word) for word in re.findall(r"without an answer for ([\d.]+) s\.$", text, re.M)]


def tells_the_whole_story(text: str) -> None:
    assert "Now a is without power, b is active." in text
    assert "Now a is active, b is standby." in text
    assert "Now a is standby, b is active." in text
    assert len(outages(text)) == 3
    assert text.count("#####") >= 3
    assert "_____" in text
    assert all(len(line) < 80 for line in text.splitlines())


@pytest.mark.usefixtures("make_lab")  # for its skip
def test_the_demo_shows_a_real_pair_and_leaves_nothing(tmp_path: Path) -> None:
    before = links()
    began = time.monotonic()
    result = run_demo(env={"TMPDIR": str(tmp_path)})
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("This is real")
    tells_the_whole_story(result.stdout)
    assert time.monotonic() - began < 60
    assert links() == before
    assert list(tmp_path.iterdir()) == []


def test_where_no_namespaces_can_be_made_the_story_is_simulated() -> None:
    """Inside a user namespace that allows no other; where even that is forbidden, as it is."""
    prefix = ["unshare", "-U", "-r", "sh", "-c", f'{NO_MORE}; exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        prefix = []
    result = run_demo(*prefix)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("No namespaces here (")
    tells_the_whole_story(result.stdout)


def test_the_simulated_outages_are_what_the_windows_allow() -> None:
    """Half a second each: silence is seen in three windows, a dead port and its proof in four."""
    screen = io.StringIO()
    after_crash, after_resume, after_dead_port = tell(Simulation(), Screen(screen))
    assert 0.5 < after_crash < 1.6
    assert after_resume < 0.1
    assert 0.3 < after_dead_port < 2.0
    assert outages(screen.getvalue()) == [
        round(seconds, 2) for seconds in (after_crash, after_resume, after_dead_port)
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(
    number: signal.Signals, make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    mark = f"DEMO_MARK={tmp_path}"
    env = {**os.environ, "DEMO_MARK": str(tmp_path)}
    with subprocess.Popen(
        DEMO, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("This is real")
        demo.stdout.readline()
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert errors == "\ndemo: stopped; nothing is left behind\n"
    assert marked(mark) == []


def marked(mark: str) -> list[str]:
    """The processes with this variable in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue  # another user's, or just gone
    return found


# ---------------------------------------------------------------------------- the launchers


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose commands only tell how they were run, and whose .venv is this Python."""
    root = tmp_path / "check out"
    for name in ("dev/launch", "dev/launch.py", "bin/watchd", "bin/ha-status"):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
        target.chmod((ROOT / name).stat().st_mode)
    commands = root / "failoverd" / "commands"
    commands.mkdir(parents=True)
    for name in ("__init__.py", "commands/__init__.py"):
        (root / "failoverd" / name).touch()
    told = "import os, sys\ndef main():\n    print(os.getpid(), os.getcwd(), *sys.argv)\n"
    for command in ("watchd", "ha_status"):
        (commands / f"{command}.py").write_text(f"{told}    return 3\n")
    (root / "pyproject.toml").touch()
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (root / ".venv" / "made").touch()
    return root


@pytest.mark.parametrize("command", ["watchd", "ha-status"])
def test_a_launcher_keeps_the_folder_the_arguments_and_the_process(
    checkout: Path, tmp_path: Path, command: str
) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('taken from the folder')\n")
    link = elsewhere / "link"
    link.symlink_to(checkout / "bin" / command)
    for program in (str(checkout / "bin" / command), "./link"):
        with subprocess.Popen(
            [program, "-a b", "*"], cwd=elsewhere, stdout=subprocess.PIPE, text=True
        ) as process:
            output, _ = process.communicate(timeout=30)
        own = checkout / "bin" / command
        assert output == f"{process.pid} {elsewhere} {own} -a b *\n"
        assert process.returncode == 3


def refused(checkout: Path, command: str) -> str:
    """What a command says that cannot run here; its exit status is right."""
    result = subprocess.run(
        [checkout / "bin" / command], capture_output=True, text=True, check=False, timeout=60
    )
    status = 3 if command == "ha-status" else 1
    assert (result.returncode, result.stdout) == (status, ""), result.stderr
    assert result.stderr.startswith(f"{command}: ")
    assert result.stderr.endswith(f": run {checkout}/dev/setup\n")
    return result.stderr


def stale(checkout: Path, setup: str = "exit 1") -> None:
    """pyproject.toml is newer than .venv; what dev/setup is, which says whether that matters."""
    script = checkout / "dev" / "setup"
    script.write_text(f'#!/bin/sh\n[ "$*" = current ] && {setup}\ntouch "$0.done"\n')
    script.chmod(0o755)
    os.utime(checkout / ".venv" / "made", (0, 0))


@pytest.mark.parametrize("command", ["watchd", "ha-status"])
def test_a_launcher_sets_nothing_up_but_says_what_to_run(checkout: Path, command: str) -> None:
    stale(checkout)
    assert "for other packages than pyproject.toml names" in refused(checkout, command)
    stale(checkout, "exit 0")
    here = checkout / ".venv" / "bin" / "python"
    here.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n')
    assert "lacks the modules pcapy, ping3, daemon" in refused(checkout, command)
    here.unlink()  # its Python is gone, by an upgrade of the system
    assert f"there is no {here}" in refused(checkout, command)
    assert not (checkout / "dev" / "setup.done").exists()


@pytest.mark.parametrize("command", ["watchd", "ha-status"])
def test_without_an_environment_the_systems_python_serves_if_it_has_the_modules(
    checkout: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale(checkout)
    (checkout / ".venv" / "made").unlink()
    monkeypatch.setenv("PATH", f"{checkout}:/usr/bin:/bin")
    python = checkout / "python3"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    result = subprocess.run([checkout / "bin" / command], capture_output=True, check=False)
    assert result.returncode == 3  # the command's own
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n')
    assert "lacks the modules" in refused(checkout, command)
    assert not (checkout / "dev" / "setup.done").exists()
