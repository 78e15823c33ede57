"""What outlives a boot is written by a worker: no disk holds up failoverd."""

from __future__ import annotations

import os
import re
import selectors
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_pair import LONG, context

from failoverd import history, statefile
from failoverd.master import keeper as module
from failoverd.master.context import Context
from failoverd.master.errands import Errands
from failoverd.master.keeper import PATIENCE, Keeper
from failoverd.wire.protocol import Change

FIXED = {"eth0": ["192.0.2.2/24"]}


@pytest.fixture
def us(tmp_path: Path) -> Context:
    return context(tmp_path)


class Loop:
    """Its keeper and its errands, which it attends to when it is told to."""

    def __init__(self, us: Context) -> None:
        self.selector = selectors.DefaultSelector()
        self.errands = Errands(us, self.selector)
        self.keeper = Keeper(us, self.errands)

    def turn(self) -> None:
        """Until all is written, or has failed."""
        while (due := self.keeper.deadline) is not None and due <= time.monotonic():
            self.step()

    def step(self) -> None:
        self.keeper.tend(time.monotonic())
        for key, _ in self.selector.select(LONG):
            key.data()


@pytest.fixture
def loop(us: Context) -> Iterator[Loop]:
    made = Loop(us)
    yield made
    made.errands.close()
    made.selector.close()


def change_role(us: Context) -> None:
    us.history.because("operator")
    us.change_role("standby", "active")
    us.save()


def said(tmp_path: Path) -> list[str]:
    return [line for line in (tmp_path / "log").read_text().splitlines() if "outlives" in line]


def test_all_is_written_by_another_process(
    us: Context, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: str, changes: list[Change]) -> None:
        Path(path).write_text(f"{os.getpid()}\n")

    monkeypatch.setattr(history, "write", write)
    us.saved.peer_fixed = FIXED
    us.keep_peer()
    change_role(us)
    loop.turn()
    assert int((tmp_path / "state.history").read_text()) != os.getpid()
    assert statefile.read_peer(str(tmp_path / "state.peer")) == FIXED
    assert not said(tmp_path)


def test_a_disk_that_hangs_is_told_and_not_waited_for(
    us: Context, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(history, "write", lambda *_: time.sleep(LONG))
        change_role(us)
        loop.keeper.tend(time.monotonic())
    late = loop.errands.deadline
    assert late is not None and late > time.monotonic() + PATIENCE / 2
    for _ in range(2):
        loop.errands.tend(late)
    assert loop.keeper.deadline is None
    (line,) = said(tmp_path)
    assert "the disk does not answer" in line
    loop.keeper.close()
    assert not (tmp_path / "state.history").exists()


def test_what_fails_is_told_once_and_tried_again(
    us: Context, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer tells its addresses once, and they would be missing after the next boot."""
    places = [tmp_path / f"state.{what}" for what in ("peer", "history")]
    for place in places:
        place.mkdir()
    us.saved.peer_fixed = FIXED
    us.keep_peer()
    change_role(us)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    for _ in range(6):
        loop.step()
    told = [line.split("file=")[1].split()[0] for line in said(tmp_path)]
    assert told == list(map(str, places))
    for place in places:
        place.rmdir()
    loop.turn()
    assert statefile.read_peer(str(places[0])) == FIXED
    assert [each.role for each in history.read(str(places[1]))] == ["active"]
    over = [line for line in said(tmp_path) if " INFO HISTORY-OK " in line]
    assert [line.split("file=")[1] for line in over] == list(map(str, places))
    assert len(said(tmp_path)) == 4


def test_what_fails_is_told_and_the_next_tells_all(
    us: Context, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PARTING", LONG)
    (tmp_path / "state.history").mkdir()
    change_role(us)
    loop.turn()
    assert re.search('/state.history error=".*Is a directory"', said(tmp_path)[0])
    (tmp_path / "state.history").rmdir()
    us.change_role("active", "standby")
    us.save()
    loop.keeper.close()
    found = history.read(str(tmp_path / "state.history"))
    assert [each.role for each in found] == ["active", "standby"]
