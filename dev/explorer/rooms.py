"""The rooms of the house whose code is changed thing by thing, and the tests that have to notice.

Every change is written into a copy of the checkout elsewhere, and the tests of its room run there
in processes of their own, so that what they start is changed, too. `EQUIVALENT` of `refinements`
names the changes that make no difference, or none that matters.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from dev.explorer.changes import ROOT, Change, changes
from dev.explorer.mutants import Verdict
from dev.explorer.refinements import EQUIVALENT

Tests = tuple[str, ...]  # arguments of pytest


@dataclass(frozen=True)
class Room:
    """files: of the package, each perhaps with the name of a part. stages: cheap tests first."""

    files: tuple[str, ...]
    stages: tuple[Tests, ...]


def tests(name: str, chosen: str = "") -> Tests:
    """name: room/part for tests/room/test_part.py."""
    folder, _, part = name.rpartition("/")
    return (f"tests/{folder}/test_{part}.py", *(("-k", chosen) if chosen else ()))


EXPLORED = tests("pair/explorer", "the_statements_hold")
PAIR = (
    *("compare", "invariant", "knowledge", "policy", "requests", "resolver"),
    *("settings", "step", "turn", "watching"),
)
ROOMS = {
    "judge": Room(("watch/judge", "tools/recording"), (tests("watch/judge"),)),
    "bounds": Room(("pair/bounds",), (tests("pair/bounds"),)),
    "frames": Room(("wire/frames",), (tests("wire/frames"), tests("neighbours"))),
    "statefile": Room(("statefile",), (tests("statefile"),)),
    "heartbeat": Room(("heartbeat:Beat",), (tests("beat"),)),
    "supervisor": Room(
        ("log:Allowance", "master/supervisor:Slot", "master/supervisor:Supervisor._later"),
        (tests("master/supervisor"),),
    ),
    "neighbours": Room(
        ("neighbours:next_announcement", "neighbours:Rounds", "neighbours:_Probe"),
        (("tests/test_rounds.py", *tests("neighbours", "rounds or schedule")), tests("neighbours")),
    ),
    "counter": Room(("watch/counter",), (tests("watch/counter"),)),
    "listener": Room(
        ("listener/client:Queries", "listener/server:Server"),
        (tests("listener/in_time"), tests("listener/server")),
    ),
    "gratuitous_arp": Room(
        ("master/gratuitous_arp",), (tests("master/gratuitous_arp"), tests("live/pair"))
    ),
    "requests": Room(
        ("master/requests",),
        (tests("listener/in_time"), tests("master/hostile"), tests("live/believed")),
    ),
    "queries": Room(
        ("master/queries",),
        (tests("master/hostile"), tests("master/evidence"), tests("live/pair")),
    ),
    "interfaces": Room(
        ("master/interfaces",), (tests("master/evidence"), tests("pair/left_alone"))
    ),
    "pair": Room(
        tuple(f"pair/{name}" for name in PAIR),
        (
            (
                *tests("pair/policy"),
                *tests("pair/rules"),
                *tests("master/gratuitous_arp", "only_who or nothing"),
            ),
            EXPLORED,
        ),
    ),
}


def changes_of(rooms: tuple[str, ...]) -> list[tuple[Change, Room]]:
    """All changes of the rooms, which may be files of the package as well, and how to find them."""
    found = []
    for name, room in ROOMS.items():
        for entry in room.files:
            if name in rooms or entry in rooms:
                path, _, scope = entry.partition(":")
                found += [(one, room) for one in changes(f"failoverd/{path}.py", scope)]
    return found


class Copy:
    """A copy of the checkout, for one change after the other."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "failoverd"
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(".git", ".venv"))
        (self.root / ".venv").symlink_to(ROOT / ".venv")
        self.output = folder / "output"
        self.nursery = subprocess.Popen(
            [sys.executable, str(ROOT / "dev/explorer/nursery.py")],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def close(self) -> None:
        self.nursery.communicate()

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        file = self.root / change.path
        file.write_text(change.text, encoding="utf-8")
        try:
            yield
        finally:
            shutil.copy2(ROOT / change.path, file)

    def run(self, tests: Tests, limit: float | None) -> str:
        """The first test that fails; "" if none does."""
        options = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist")
        asking, telling = self.nursery.stdin, self.nursery.stdout
        assert asking is not None
        assert telling is not None
        asking.write(json.dumps([str(self.root), str(self.output), *options, *tests]).encode())
        asking.write(b"\n")
        asking.flush()
        pid = int(telling.readline())
        for after, number in ((limit, signal.SIGINT), (TIDYING, signal.SIGKILL)):
            if select.select([telling], [], [], after)[0]:
                break
            os.killpg(pid, number)
        hangs, code = number is signal.SIGKILL, int(telling.readline())
        if hangs:
            return f"hangs in {tests[0]}"
        told = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        failed = [line.split()[1] for line in told if line[:6] in ("FAILED", "ERROR ")]
        return (failed or [f"{tests[0]} ends with {code}"])[0] if code else ""


TIDYING = 20.0  # seconds that tests which were ended may take for it
PATIENCE = 30.0  # seconds, and so many times what the sound code takes:
FACTOR = 4


class Hunt:
    """The changes of some rooms, each until a test finds it."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.limits: dict[Tests, float] = {}
        self.copies: SimpleQueue[Copy] = SimpleQueue()

    def stages(self, room: Room) -> list[Tests]:
        return list(room.stages[: 1 if self.quick else None])

    def prove(self, room: Room) -> None:
        """The tests must pass with the code as it is. How long they take, is noted."""
        copied = self.copies.get()
        for chosen in self.stages(room):
            if chosen not in self.limits:
                began = time.monotonic()
                found = copied.run(chosen, None)
                if found:
                    raise RuntimeError(f"{found} fails with the code as it is")
                self.limits[chosen] = PATIENCE + FACTOR * (time.monotonic() - began)
        self.copies.put(copied)

    def judge(self, change: Change, room: Room) -> Verdict:
        copied = self.copies.get()
        try:
            with copied.changed(change):
                return self.follow(change, room, copied)
        finally:
            self.copies.put(copied)

    def follow(self, change: Change, room: Room, copied: Copy) -> Verdict:
        for chosen in self.stages(room):
            found = copied.run(chosen, self.limits[chosen])
            if found:
                kind = "explored" if chosen is EXPLORED else "case"
                return Verdict(change.what, kind, found)
        kind = "refinement" if change.what in EQUIVALENT else "missed"
        return Verdict(f"{change.what} (line {change.line})", kind)


def hunt(
    rooms: tuple[str, ...], jobs: int, part: int, parts: int, quick: bool
) -> Iterator[Verdict]:
    """Every change of a part, in order."""
    mine = changes_of(rooms)[part::parts]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        search = Hunt(quick)
        copies = [Copy(Path(folder, str(number))) for number in range(jobs)]
        for copied in copies:
            search.copies.put(copied)
        for room in {id(room): room for _, room in mine}.values():
            search.prove(room)
        yield from pool.map(lambda one: search.judge(*one), mine)
        for copied in copies:
            copied.close()
