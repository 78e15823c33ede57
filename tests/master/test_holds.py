"""Holds in the main loop: asked for, kept, learnt of from the peer, and ended."""

from __future__ import annotations

import errno
import itertools
import json
import selectors
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_pair import context

from dev.lab import logs
from failoverd import hold, pair, statefile
from failoverd.hold import Kept
from failoverd.master.errands import Errands
from failoverd.master.holds import Holds
from failoverd.statefile import uptime
from failoverd.wire.protocol import Hold

SINCE = "2026-11-28T12:30:03.369Z"
HELD = Hold(7, True, None, "root", "node-b", SINCE)
FOR_AN_HOUR = replace(HELD, seconds_left=3600.0)
RELEASED = replace(HELD, held=False)
LIMIT = 60.0
WHO = {"via": "ha-fail", "user": "operator", "client": ""}


class Node:
    """The holds of a failoverd, and a loop for them."""

    def __init__(self, folder: Path, *, dry: bool = False) -> None:
        self.selector = selectors.DefaultSelector()
        self.answers: list[tuple[int, bool, str]] = []
        self.context = context(folder, dry=dry)
        self.errands = Errands(self.context, self.selector)
        self.holds = Holds(self.context, self.errands, lambda *told: self.answers.append(told))

    def close(self) -> None:
        self.errands.close()
        self.context.spare.close()
        self.selector.close()
        self.context.log.close()

    @property
    def path(self) -> Path:
        return Path(statefile.place(self.context.conf.state, "hold"))

    @property
    def known(self) -> Hold | None:
        return self.context.hold_now

    @property
    def is_idle(self) -> bool:
        return self.holds.deadline is None and self.errands.deadline is None

    def told(self) -> list[bool]:
        """What the pair was told since the last time."""
        events, self.context.events = [*self.context.events], type(self.context.events)()
        return [event.on for event in events if isinstance(event, pair.Hold)]

    def said(self, event: str) -> list[logs.LogLine]:
        return list(logs.lines(Path(self.context.conf.log).read_text(), event))

    def turn_until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < end
            for key, _ in self.selector.select(0.01):
                key.data()
            self.errands.tend(time.monotonic())
            self.holds.tend(time.monotonic())

    def ask(self, command: str) -> tuple[bool, str]:
        number = len(self.answers)
        self.holds.ask(number, command, WHO)
        self.turn_until(lambda: len(self.answers) > number)
        return self.answers[number][1:]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Node]]:
    """Makes a failoverd, again and again on the same node."""
    monkeypatch.setattr("failoverd.master.holds.WRITE_SECONDS", LIMIT)  # of a busy host's disk
    made: list[Node] = []

    def make() -> Node:
        made.append(Node(tmp_path))
        made[-1].holds.begin()
        return made[-1]

    yield make
    for node in made:
        node.close()


def test_what_a_person_asks_for_is_kept_before_the_answer(make: Callable[[], Node]) -> None:
    node = make()
    assert node.known is None and not node.told() and not node.path.exists()
    for command, held, seconds, answer in (
        ("hold", True, None, "held"),
        ("hold 3600", True, 3600, "held"),
        ("release", False, None, "released"),
        ("release", False, None, "released"),
    ):
        before = node.known.serial if node.known else 0
        assert node.ask(command) == (True, answer)
        kept, known = hold.read(str(node.path)), node.known
        assert kept is not None and known is not None
        assert kept.told.rank == known.rank and known.serial > before
        assert (known.held, known.by) == (held, "operator")
        assert (known.seconds_left or 0) == pytest.approx(seconds or 0, abs=LIMIT)
    assert node.told() == [True, False]
    first, second = node.said("HOLD-ON")
    assert first.values["by"] == "operator" and first.values["via"] == "ha-fail"
    left = float(second.values["left"].removesuffix("s"))
    assert "left" not in first.values and 3600 - LIMIT <= left <= 3600
    (released,), (again,) = node.said("HOLD-OFF"), node.said("HOLD-NONE")
    assert (released.values["via"], again.values["by"]) == ("ha-fail", "operator")


def test_who_starts_again_goes_on_with_it(make: Callable[[], Node]) -> None:
    make().ask("hold 3600")
    node = make()
    assert node.known is not None and node.known.held and node.told() == [True]
    assert [line.values["via"] for line in node.said("HOLD-ON")] == ["ha-fail", "file"]
    node.ask("release")
    node = make()
    assert node.known is not None and not node.known.held and not node.told()


def test_it_ends_by_itself_once(make: Callable[[], Node]) -> None:
    node = make()
    node.ask("hold 4")  # the disk may take some of it
    serial = node.known and node.known.serial
    deadline = node.holds.deadline
    assert deadline is not None and deadline <= time.monotonic() + 4.0
    node.turn_until(lambda: node.said("HOLD-OFF"))
    assert node.told() == [True, False]
    (line,) = node.said("HOLD-OFF")
    assert line.values["via"] == "expired"
    known = node.known
    assert known is not None and (known.serial, known.held, known.seconds_left) == (
        serial,
        False,
        0,
    )
    assert node.holds.deadline is None
    node.holds.learn(replace(known, held=True, seconds_left=0.5))  # the peer's count is behind
    assert not node.told() and len(node.said("HOLD-ON")) == 1
    assert not make().told()


def test_a_file_that_cannot_be_written_is_a_refusal(make: Callable[[], Node]) -> None:
    node = make()
    node.path.mkdir()
    ok, why = node.ask("hold")
    assert not ok and why.startswith(f"{node.path} cannot be written: ")
    assert node.known is None and not node.told() and not node.said("HOLD-ON")
    node.path.rmdir()
    assert node.ask("hold") == (True, "held")


@pytest.mark.parametrize("before", [None, "hold", "release"])
def test_what_was_refused_is_not_in_the_file_at_the_next_start(
    make: Callable[[], Node], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str | None
) -> None:
    """The disk may fail when the new file is in its place already."""
    node, broken = make(), tmp_path / "broken"
    if before:
        node.ask(before)
    known, sync = node.known, statefile._sync_folder

    def fail_once(path: str) -> None:
        if broken.exists():
            broken.unlink()
            raise OSError(errno.EIO, "the disk fails")
        sync(path)

    monkeypatch.setattr(statefile, "_sync_folder", fail_once)
    broken.touch()
    ok, why = node.ask("release" if before == "hold" else "hold")
    assert not ok and why.endswith("the disk fails")
    node.turn_until(lambda: node.is_idle)
    assert node.known == known and make().known == known


def test_a_disk_that_hangs_holds_nothing_up(
    make: Callable[[], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make()
    with monkeypatch.context() as patch:
        patch.setattr(hold, "write", lambda *_: time.sleep(LIMIT))
        for number in range(2):
            node.holds.ask(number, "hold", WHO)
        node.holds.tend(time.monotonic())
        deadline = node.errands.deadline
        assert deadline is not None and not node.answers
        node.errands.tend(deadline)
        node.holds.ask(2, "hold", WHO)
    hangs = f"{node.path} cannot be written: the disk does not answer"
    assert node.answers == [(number, False, hangs) for number in range(3)]
    assert not node.told()
    node.turn_until(lambda: node.ask("hold 60") == (True, "held"))


def test_what_was_refused_for_a_disk_that_hangs_is_not_carried_out_when_it_answers(
    make: Callable[[], Node], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel ends a write that has begun before it ends who writes."""
    node, answers, write = make(), tmp_path / "answers", hold.write

    def write_late(path: str, kept: Kept) -> None:
        while not answers.exists():
            time.sleep(0.01)
        write(path, kept)

    monkeypatch.setattr(hold, "write", write_late)
    monkeypatch.setattr(Errands, "kill", lambda *_: None)
    node.holds.ask(0, "hold", WHO)
    node.holds.tend(time.monotonic())
    node.errands.tend(node.errands.deadline or 0.0)
    assert [ok for _, ok, _ in node.answers] == [False]
    answers.touch()
    node.turn_until(lambda: node.is_idle)
    assert node.known is None and not node.told() and make().known is None


def test_what_the_peer_tells_counts_at_once_and_is_kept(make: Callable[[], Node]) -> None:
    node = make()
    node.holds.learn(None)
    assert not node.told()
    for told in (FOR_AN_HOUR, replace(RELEASED, serial=8)):
        node.holds.learn(told)
        node.holds.learn(told)
        assert node.told() == [told.held] and node.known is not None
        assert node.known.rank == told.rank

        def is_kept(rank: object = told.rank) -> bool:
            kept = hold.read(str(node.path))
            return kept is not None and kept.told.rank == rank

        node.turn_until(is_kept)
    assert [line.values["via"] for line in node.said("HOLD-ON")] == ["peer"]
    (line,) = node.said("HOLD-OFF")
    assert (line.values["by"], line.values["node"]) == ("root", "node-b")


def test_a_change_that_the_peer_has_overtaken_is_refused(make: Callable[[], Node]) -> None:
    node = make()
    node.holds.ask(0, "hold", WHO)
    node.holds.tend(time.monotonic())
    newer = replace(RELEASED, serial=1 << 40)
    node.holds.learn(newer)
    node.turn_until(lambda: node.answers)
    assert node.answers == [(0, False, "the peer has changed it meanwhile: try again")]
    assert not node.told() and node.known == newer
    node.turn_until(lambda: json.loads(node.path.read_text())["hold"]["serial"] == 1 << 40)
    assert node.ask("hold") == (True, "held")


def test_what_is_unsaved_is_tried_again(
    make: Callable[[], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("failoverd.master.holds.RETRY_SECONDS", 0.05)
    node = make()
    node.path.mkdir()
    node.holds.learn(HELD)
    node.turn_until(lambda: node.said("HOLD-FAILED"))
    assert node.told() == [True]
    node.path.rmdir()
    node.turn_until(lambda: node.said("HOLD-KEPT"))
    assert hold.read(str(node.path)) is not None and not node.told()


def test_a_damaged_file_counts_as_none_until_the_peer_tells(make: Callable[[], Node]) -> None:
    make().ask("hold")
    node = make()
    known = node.known
    node.path.write_bytes(b"\0" * 300)
    node = make()
    assert node.known is None and not node.told()
    (line,) = node.said("HOLD-FAILED")
    assert line.sentence == "the file of the hold cannot be read, and counts as no hold"
    node.holds.learn(known)
    assert node.told() == [True]
    node.turn_until(lambda: node.is_idle)
    assert hold.read(str(node.path)) is not None


def test_a_person_is_not_overruled_by_what_a_lost_file_said(make: Callable[[], Node]) -> None:
    """The peer has known of changes that this node has lost with its disk."""
    node = make()
    node.ask("hold")
    node.ask("release")
    lost = node.known
    node.path.unlink()
    node = make()
    assert node.known is None
    time.sleep(1.1)  # by the time of day the next change is later
    assert node.ask("hold") == (True, "held")
    node.holds.learn(lost)
    assert node.known is not None and node.known.held


def test_after_a_reboot_the_peer_knows_better_how_much_time_is_left(
    make: Callable[[], Node],
) -> None:
    make().ask("hold 3600")
    node = make()
    told = json.loads(node.path.read_text())
    node.path.write_text(json.dumps(told | {"boot_id": "another", "time": told["time"] - 9000}))
    node = make()
    known = node.known
    assert known is not None and not known.held, "the clock is hours ahead"
    node.holds.learn(replace(known, held=True, seconds_left=1800.0))
    assert node.told() == [True]
    node.holds.learn(replace(known, held=True, seconds_left=900.0))
    assert node.known is not None and node.known.seconds_left == pytest.approx(1800, abs=LIMIT)


def test_a_dry_run_keeps_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, dry=True)
    node.holds.begin()
    node.holds.learn(HELD)
    assert node.told() == [True] and node.holds.deadline is None
    node.holds.tend(time.monotonic())
    assert not node.selector.get_map()
    node.close()
    assert not node.path.exists()


# ------------------------------------------------------------------ what two nodes make of it


CHANGES = st.builds(
    lambda serial, kind, by, node: Hold(
        serial, kind > 0, 3600.0 if kind == 1 else None, by, node, SINCE
    ),
    st.integers(1, 4),
    st.integers(0, 2),
    st.sampled_from(["root", "operator"]),
    st.sampled_from(["node-a", "node-b"]),
)


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("dry"), dry=True)
    yield node
    node.close()


def learnt(node: Node, told: tuple[Hold, ...]) -> tuple[int, int, str, str, str]:
    node.context.hold = None
    for each in told:
        node.holds.learn(each)
    assert node.known is not None
    return node.known.rank


@given(told=st.lists(CHANGES, min_size=1, max_size=4))
def test_in_whatever_order_and_however_often_both_come_to_the_same(
    dry: Node, told: list[Hold]
) -> None:
    every = {learnt(dry, order) for order in itertools.permutations(told)}
    every |= {learnt(dry, (*told, *reversed(told))), max(each.rank for each in told)}
    assert len(every) == 1
    (rank,) = every
    latest = [each for each in told if each.serial == rank[0]]
    assert dry.known is not None
    assert dry.known.held is any(each.held for each in latest), "of the same serial a hold"
    if any(each.held and each.seconds_left is None for each in latest):
        assert dry.known.seconds_left is None, "the longest"


@given(told=CHANGES, passed=st.floats(0, 9000))
def test_time_makes_no_other_change_of_it(told: Hold, passed: float) -> None:
    later = told.after(passed)
    assert later.rank == told.rank and later.after(0) == later
    assert later.held is (told.held and (told.seconds_left is None or passed < 3600 - 0.0005))


def test_the_time_that_is_left_does_not_grow_by_being_told(dry: Node) -> None:
    dry.context.hold = Kept(FOR_AN_HOUR, uptime() - 600)
    for _ in range(3):
        dry.holds.learn(replace(FOR_AN_HOUR, seconds_left=3599.9))
    assert dry.known is not None and dry.known.seconds_left is not None
    assert dry.known.seconds_left <= 3000
