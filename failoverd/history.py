"""The last changes of this node's role, kept in a file over restarts and reboots.

One JSON object a line, the oldest first, at most MOST of them. It tells people what happened and
decides nothing: what cannot be read is left out, what cannot be written is tried with the next.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from dataclasses import asdict

from failoverd import statefile
from failoverd.wire import typed
from failoverd.wire.protocol import Change, words

MOST = 200
MOST_BYTES = 1 << 20


def read(path: str) -> list[Change]:
    """What the file tells, the oldest first. Raises OSError; a file that is missing is empty."""
    try:
        lines = statefile.content(path, MOST_BYTES).splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            found.append(typed.decode(Change, json.loads(line)))
    return found[-MOST:]


def write(path: str, changes: list[Change]) -> None:
    """Replace the file in one step, readable by root only. Raises OSError."""
    statefile.keep(path, "".join(f"{json.dumps(asdict(change))}\n" for change in changes).encode())


class History:
    """Follows the role. A change begins when a settled role is left, and ends with the next."""

    def __init__(self) -> None:
        self._known: deque[Change] = deque(maxlen=MOST)
        self._role = "none"
        self._entered: float | None = None  # when the settled role of now was, by this failoverd
        self._left: float | None = None  # when a settled role was left
        self._causes: list[str] = []

    def begin(self, path: str, role: str | None) -> None:
        """Take up what was recorded. role: what $state remembers of this boot. Raises OSError."""
        if role is not None and role != "switching":
            self._role = role
        self._known.extend(read(path))
        if role == "switching" and self.last:
            self._role = self.last.role

    @property
    def last(self) -> Change | None:
        return self._known[-1] if self._known else None

    def because(self, cause: str, since: float | None = None) -> None:
        """The switch script is about to run for this. since: when that began, if it is known; no
        role is left before it is entered."""
        if cause not in self._causes:
            self._causes.append(cause)
        if since is not None:
            self._left = since if self._entered is None else max(since, self._entered)

    def entered(self, role: str, when: str, now: float) -> Change | None:
        """The role is this now. when: in UTC; now: monotonic. The change that has ended by it."""
        if role == "switching":
            self._left = now if self._left is None else self._left
            return None
        left, causes, was = self._left, self._causes, self._role
        if left is None and role == was and not causes:
            return None
        self._left, self._causes, self._role = None, [], role
        self._entered = now if role != was or self._entered is None else self._entered
        cause = "; ".join(causes) if was != "none" and (causes or role == was) else "start"
        took = 0.0 if left is None else round(now - left, 3)
        change = Change(when, was, role, words(cause), took)
        if role != was or (causes and not self._is_repeated(change)):
            self._known.append(change)
        return change

    def _is_repeated(self, change: Change) -> bool:
        """Tried again every window, that would soon be all that is known."""
        last = self.last
        return last is not None and (last.role, last.cause) == (change.role, change.cause)

    def save(self, path: str) -> None:
        """Raises OSError."""
        write(path, list(self._known))
