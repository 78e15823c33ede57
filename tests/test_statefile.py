"""What `$state` may say, what it is taken for, and how it is written."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from failoverd import statefile
from failoverd.conf import parse
from failoverd.statefile import FailedRun, Saved

BOOT = "0e3b7d0c-3a6e-4b0a-9b1a-7d1e0c0ffee0"
SINCE = "2026-11-22T12:00:00.123Z"
FULL = Saved(
    role="active",
    since=SINCE,
    began=12.5,
    resuming=True,
    unclean=True,
    from_peer=True,
    guarded=["check web", "eth0"],
    checks=["web"],
    hwaddrs={"eth0": "02:00:00:00:00:01"},
    script=(2, 1),
    programs=[(3, 7), (4, 8)],
    failed=[FailedRun("master", 1, "no", "because", SINCE, 12.5)],
    peer_hwaddrs=["02:00:00:00:00:02"],
    peer_fixed={"eth0": ["192.0.2.2/24", "fe80::2/64"]},
    left=(["eth0 192.0.2.10/24"], ["eth0 02:00:00:00:00:10"]),
    seen=[("eth0", "192.0.2.10")],
    pidfile="/run/failoverd.pid",
)


def written(**other: Any) -> bytes:
    """What `encode` writes, with other values."""
    return json.dumps({**json.loads(statefile.encode(FULL, BOOT)), **other}).encode()


def test_what_is_written_is_read_back_in_the_same_boot() -> None:
    data = statefile.encode(FULL, BOOT).encode()
    assert data.endswith(b"}\n")
    assert statefile.decode(data, BOOT) == FULL
    assert statefile.decode(data, "another boot") == Saved()


def test_what_an_older_one_did_not_write_is_as_if_nothing_was() -> None:
    for role in ("active", "standby", "switching", "failed"):
        data = json.dumps({"boot_id": BOOT, "role": role}).encode()
        assert statefile.decode(data, BOOT) == Saved(role=role)


@pytest.mark.parametrize(
    ("field", "value", "taken"),
    [
        ("since", "", ""),
        ("began", None, None),
        ("script", None, None),
        ("left", None, None),
        ("guarded", None, None),
        ("guarded", [], []),
        ("left", [[], []], ([], [])),
    ],
)
def test_a_value_that_may_be_missing(field: str, value: object, taken: object) -> None:
    found = statefile.decode(written(**{field: value}), BOOT)
    assert getattr(found, field) == taken
    assert found.role == "active"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "leader"),
        ("role", None),
        ("resuming", 1),
        ("unclean", "yes"),
        ("from_peer", 1),
        ("guarded", "eth0"),
        ("checks", None),
        ("guarded", [1]),
        ("since", "yesterday"),
        ("since", SINCE + " or later"),
        ("since", SINCE.replace("2026", "\u0662\u0660\u0662\u0666")),  # digits elsewhere
        ("began", "12.5"),
        ("began", -0.5),
        ("began", True),
        ("failed", ["master"]),
        ("failed", [["master", 1, "no", "", SINCE]]),
        ("failed", [["active", 1, "no", "", SINCE, 12.5]]),
        ("failed", [["master", True, "no", "", SINCE, 12.5]]),
        ("failed", [["master", 1, "n\no", "", SINCE, 12.5]]),
        ("failed", [["master", 1, "no", 5, SINCE, 12.5]]),
        ("failed", [["master", 1, "no", "", "today", 12.5]]),
        ("failed", [["master", 1, "no", "", SINCE, -1.0]]),
        ("script", [1, 1]),  # init is never killed
        ("script", [2, 0]),
        ("script", [True, 5]),
        ("script", [5, True]),
        ("script", [5, 5.0]),
        ("script", [5.0, 5]),
        ("programs", [[5.0, 5]]),
        ("programs", [[1, 1]]),
        ("script", [5]),
        ("script", [float("inf"), 1]),
        ("role", ["active"]),
        ("left", 7),
        ("hwaddrs", [1, 2]),
        ("hwaddrs", {"eth0": 5}),
        ("hwaddrs", {"eth\n0": "02:00:00:00:00:01"}),
        ("peer_hwaddrs", "02:00:00:00:00:02"),
        ("peer_hwaddrs", ["a\nb"]),
        ("peer_hwaddrs", {"a": 1}),
        ("peer_fixed", {"eth0": "192.0.2.2/24"}),
        ("peer_fixed", {"eth0": ["router"]}),
        ("peer_fixed", {"eth\n0": ["192.0.2.2/24"]}),
        ("left", [["a"]]),
        ("left", [["a\nb"], []]),
        ("left", [[], ["a\nb"]]),
        ("seen", [["eth0"]]),
        ("seen", [["eth0", "a\nb"]]),
        ("seen", [["eth\n0", "a"]]),
    ],
)
def test_a_value_that_makes_all_of_it_worthless(field: str, value: object) -> None:
    assert statefile.decode(written(**{field: value}), BOOT) == Saved()


@pytest.mark.parametrize("missing", ["boot_id", "role"])
def test_without_its_boot_and_a_role_it_says_nothing(missing: str) -> None:
    found = json.loads(written())
    del found[missing]
    assert statefile.decode(json.dumps(found).encode(), BOOT) == Saved()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"[" * 100_000, b"\xff", b"{}\0"])
def test_what_is_no_state_at_all_is_none(data: bytes) -> None:
    assert statefile.decode(data, BOOT) == Saved()


def test_an_address_that_is_listed_twice_is_read_once() -> None:
    found = statefile.decode(
        written(peer_hwaddrs=["b", "a", "b"], left=[["x", "x"], ["y", "y"]]), BOOT
    )
    assert found.peer_hwaddrs == ["b", "a"]
    assert found.left == (["x"], ["y"])


def test_what_was_put_on_the_interfaces_is_known_until_it_is_taken_away() -> None:
    saved = Saved()
    interface = "@ethernet_addresses = ('a 02:00:00:00:00:1{}');"
    for number in (0, 1, 0):
        text = f"@interfaces = ('a'); @addresses = ('a 192.0.2.1{number}/24');"
        saved.placed(parse(text + interface.format(number), "x"))
    assert saved.left == (
        ["a 192.0.2.10/24", "a 192.0.2.11/24"],
        ["a 02:00:00:00:00:10", "a 02:00:00:00:00:11"],
    )


# ---------------------------------------------------------------------------- the file


def test_only_root_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "state"
    before = os.umask(0)
    try:
        statefile.write(str(path), FULL)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert statefile.read(str(path)) == FULL
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_nothing_is_written_through_a_link_that_was_planted(tmp_path: Path) -> None:
    path, victim = tmp_path / "state", tmp_path / "victim"
    victim.write_text("precious")
    for name in ("state", "state.new"):
        (tmp_path / name).symlink_to(victim)
    statefile.write(str(path), FULL)
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert statefile.read(str(path)) == FULL


def test_nothing_is_read_through_a_link(tmp_path: Path) -> None:
    statefile.write(str(tmp_path / "state"), FULL)
    (tmp_path / "link").symlink_to(tmp_path / "state")
    assert statefile.read(str(tmp_path / "link")) == Saved()
    assert statefile.read(str(tmp_path / "nothing")) == Saved()


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "state"
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        statefile.write(str(path), FULL)
        statefile.read(str(path))
        assert statefile._overwrite(str(path), b"{}")
    path.chmod(0o622)
    statefile.read(str(path))
    assert not statefile._overwrite(str(path), b"{}")
    assert len(os.listdir("/proc/self/fd")) <= len(before)  # others may have been closed


def test_a_folder_in_its_place_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(0o700)
    assert statefile.read(str(tmp_path / "state")) == Saved()


def test_a_pipe_in_its_place_does_not_keep_it_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state", 0o600)
    assert statefile.read(str(tmp_path / "state")) == Saved()


@pytest.mark.parametrize(
    ("mode", "counts"),
    [(0o600, True), (0o644, True), (0o711, True), (0o620, False), (0o602, False)],
)
def test_what_others_may_have_written_does_not_count(
    tmp_path: Path, mode: int, counts: bool
) -> None:
    path = tmp_path / "state"
    statefile.write(str(path), FULL)
    path.chmod(mode)
    assert (statefile.read(str(path)) == FULL) is counts


@pytest.mark.skipif(os.geteuid() != 0, reason="to give a file away needs root")
def test_the_file_of_another_user_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "state"
    statefile.write(str(path), FULL)
    os.chown(path, 65534, -1)
    assert statefile.read(str(path)) == Saved()


BLOCK, MOST = 4096, 1 << 20


def sized(size: int, role: str = "active") -> Saved:
    """What makes a file of so many bytes before it is filled up."""
    room = size - len(statefile.encode(Saved(role=role), statefile.boot_id()))
    return Saved(role=role, pidfile="x" * room)


def test_a_long_one_is_read_whole_or_not_written(tmp_path: Path) -> None:
    """What is too long to be read again must not take the place of what can be."""
    path = str(tmp_path / "state")
    longest = sized(MOST)
    statefile.write(path, longest)
    assert os.path.getsize(path) == MOST
    assert statefile.read(path) == longest
    with pytest.raises(OSError, match="File too large"):
        statefile.write(path, sized(MOST + 1, "standby"))
    assert statefile.read(path) == longest


@pytest.mark.parametrize(("size", "blocks"), [(1000, 1), (BLOCK, 1), (BLOCK + 1, 2)])
def test_the_file_is_whole_blocks(tmp_path: Path, size: int, blocks: int) -> None:
    path = str(tmp_path / "state")
    statefile.write(path, sized(size))
    assert os.path.getsize(path) == blocks * BLOCK
    assert statefile.read(path) == sized(size)


@pytest.mark.parametrize(
    ("number", "written_over"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False), (errno.EROFS, False)],
)
def test_it_is_written_over_only_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, written_over: bool
) -> None:
    path = str(tmp_path / "state")
    statefile.write(path, sized(BLOCK))
    inode = os.stat(path).st_ino

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(statefile, "replace", refuse)
    if written_over:
        statefile.write(path, sized(500, "standby"))
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            statefile.write(path, sized(500, "standby"))
    assert os.stat(path).st_ino == inode
    assert statefile.read(path).role == ("standby" if written_over else "active")
    with pytest.raises(OSError, match=os.strerror(number)):
        statefile.write(path, sized(BLOCK + 1, "failed"))  # that needs more room than it has


def test_a_new_file_that_was_not_written_whole_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the room that the old one is written over for want of."""
    path = str(tmp_path / "state")
    statefile.write(path, sized(2 * BLOCK))
    real, calls = os.pwrite, iter([100])
    monkeypatch.setattr(os, "pwrite", lambda *args: next(calls, 0) or real(*args))
    statefile.write(path, sized(2 * BLOCK, "standby"))
    assert os.listdir(tmp_path) == ["state"]
    assert statefile.read(path) == sized(2 * BLOCK, "standby")


def test_there_must_be_a_file_to_write_over(tmp_path: Path) -> None:
    assert not statefile._overwrite(str(tmp_path / "state"), b"{}")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("size", [500, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("role", ["standby", "failed"])
def test_what_is_written_over_is_read_back(tmp_path: Path, size: int, role: str) -> None:
    path = str(tmp_path / "state")
    statefile.write(path, sized(3 * BLOCK))
    assert statefile._overwrite(
        path, statefile.encode(sized(size, role), statefile.boot_id()).encode()
    )
    assert statefile.read(path) == sized(size, role)
    assert os.path.getsize(path) == 3 * BLOCK


@pytest.mark.parametrize(("size", "writes"), [(BLOCK, [0]), (BLOCK + 1, [0, BLOCK, 0])])
def test_more_than_a_block_is_worth_nothing_until_its_begin_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, writes: list[int]
) -> None:
    path = str(tmp_path / "state")
    statefile.write(path, sized(size))
    real, seen = os.pwrite, []

    def write(fd: int, data: bytes, offset: int) -> int:
        seen.append((offset, statefile.read(path)))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    assert statefile._overwrite(path, statefile.encode(FULL, statefile.boot_id()).encode())
    assert [offset for offset, _ in seen] == writes
    assert [found for _, found in seen] == [sized(size), *[Saved()] * (len(writes) - 1)]
    assert statefile.read(path) == FULL
