"""A real terminal for tests: tmux, whose screen can be read and whose keys can be pressed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from netns import PATH, Namespace

LIMIT = 60.0  # seconds in which anything must have happened


class Terminal:
    """A tmux server of its own in a network namespace, with one window."""

    def __init__(
        self, space: Namespace, socket: Path, argv: Sequence[str], environment: dict[str, str]
    ) -> None:
        self._space, self._socket = space, str(socket)
        shell = " ".join([*(f"{k}={shlex.quote(v)}" for k, v in environment.items())])
        # what is on the screen at the end, and how it ended, stays there
        command = f"env {shell} {shlex.join(argv)}; echo ended with $?; exec cat"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", command)

    def tmux(self, *arguments: str) -> str:
        return self._space.run(
            "tmux", "-S", self._socket, *arguments, env={"LC_ALL": "C.UTF-8"}
        ).stdout

    def text(self, colours: bool = False) -> str:
        """What is on the screen, with `colours` as escape sequences."""
        return self.tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def cursor_is_shown(self) -> bool:
        return self.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def wait(self, condition: Callable[[str], object]) -> str:
        """The screen, once it is so. Fails with what is on it if it never is."""
        end = time.monotonic() + LIMIT
        while True:
            text = self.text()
            if condition(text):
                return text
            assert time.monotonic() < end, f"the screen:\n{text}"
            time.sleep(0.05)

    def see(self, *words: str) -> str:
        return self.wait(lambda text: all(word in text for word in words))


@contextmanager
def terminal(
    space: Namespace, folder: Path, argv: Sequence[str], **environment: str
) -> Iterator[Terminal]:
    """A command on a terminal. It ends with the block, or with this process."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: apt-get install tmux")
    socket = folder / "tmux"
    kill = f"read nothing; tmux -S {shlex.quote(str(socket))} kill-server"
    guard = subprocess.Popen(
        ["sh", "-c", kill],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": PATH},
        start_new_session=True,
    )
    try:
        yield Terminal(space, socket, argv, environment)
    finally:
        guard.communicate(timeout=LIMIT)
