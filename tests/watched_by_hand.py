"""watchd as a person runs it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from netns import Namespace

from failoverd.commands import watchd as command

ROOT = Path(__file__).resolve().parent.parent
WATCHD = [sys.executable, "-m", "failoverd.commands.watchd"]
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PATH": os.environ.get("PATH", os.defpath),
    "TERM": "xterm",
    "TZ": "UTC",
}


def conf_file(folder: Path, **variables: object) -> str:
    file = folder / "failoverd.conf"
    lines = [f'${name} = "{value}";' for name, value in variables.items() if value is not None]
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in this very process: it does not watch here, so it ends by itself."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = command.main(list(arguments))
    except SystemExit as end:
        status = int(str(end.code))
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


@contextmanager
def by_hand(
    namespace: Namespace, *arguments: str, **streams: Any
) -> Iterator[subprocess.Popen[str]]:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    started = subprocess.Popen(
        namespace.enter([*WATCHD, *arguments]), env=ENVIRONMENT, text=True, **given
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()
