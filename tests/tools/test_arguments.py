"""What a person meets first: the help of each command, and a command line that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMANDS = {"failoverd": 1, "watchd": 1, "ha_fail": 1, "ha_edit": 1, "ha_status": 3}
ENVIRONMENT = os.environ | {"COLUMNS": "80", "PYTHONUNBUFFERED": ""}


def run(command: str, *words: str, out: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", f"failoverd.commands.{command}", *words]
    shell = ["sh", "-c", f'"$@" {out}', "sh", *argv]
    return subprocess.run(shell, capture_output=True, text=True, env=ENVIRONMENT, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_and_tells_the_exit_status(command: str) -> None:
    done = run(command, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\nExit status: 0 " in done.stdout


@pytest.mark.parametrize(("command", "status"), COMMANDS.items())
def test_help_that_cannot_be_written(command: str, status: int) -> None:
    for option in ("-h", "--version"):
        done = run(command, option, out=">/dev/full")
        name = command.replace("_", "-")
        why = "cannot write the output: No space left on device"
        assert (done.returncode, done.stderr) == (status, f"{name}: {why}\n")


@pytest.mark.parametrize(("command", "status"), COMMANDS.items())
def test_a_path_that_is_empty_is_a_wrong_command_line(command: str, status: int) -> None:
    """As of a variable of a script that is not set."""
    done = run(command, "-c", "", "x")
    assert done.returncode == max(status, 2)
    assert "argument -c: the path is empty" in done.stderr


def test_no_command_takes_an_empty_path_for_none() -> None:
    for command, words in (("ha_status", ("--prometheus", "")), ("ha_edit", ("",))):
        assert "the path is empty" in run(command, *words).stderr
