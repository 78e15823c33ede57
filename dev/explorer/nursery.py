"""Runs pytest in forks of a process that has loaded it, but nothing of failoverd yet.

To load pytest and hypothesis takes longer than most rooms' tests, and there are thousands of
changes. Told on stdin, a JSON list a line: a checkout's folder, a file for the output, and pytest's
arguments. Tells on stdout the pid of each run, which leads a process group, and then its status.
"""

from __future__ import annotations

import json
import os
import sys

import hypothesis.strategies  # noqa: F401 - so that no fork has to load it
import pytest


def main() -> None:
    for line in sys.stdin:
        folder, output, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            run(folder, output, arguments)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(folder: str, output: str, arguments: list[str]) -> None:
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        told = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for fd, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, told), (2, told)):
            os.dup2(source, fd)
        sys.path[0] = folder
        code = int(pytest.main(arguments))
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
