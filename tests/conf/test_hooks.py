"""Which files of $switch_dir are hooks, and which root may trust: on real files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from failoverd.conf import Conf, hooks

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

NAMES = (
    *("10-conntrackd", "9-late", "B", "a", "_x", "-y", "A_B-c", "apache2", "Z"),
    *("x~", "#x#", ".hidden", "x.sh", "x.dpkg-old", "x.dpkg-dist", "x.bak", "x,v", "x y", "\u00e4"),
    *("line\nbreak", "latin\udce4"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "switch.d"
    made.mkdir(0o755)
    made.chmod(0o755)
    return made


def make(folder: Path, *names: str, mode: int = 0o755) -> None:
    for name in names:
        path = folder / name
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)


def names(folder: Path) -> list[str]:
    return [os.path.basename(path) for path in hooks.chosen(str(folder))[0]]


def faults(folder: Path) -> list[str]:
    conf = Conf(switch_dir=str(folder))
    return [problem.message for problem in hooks.check(conf)]


def test_the_choice_is_that_of_run_parts(folder: Path) -> None:
    if shutil.which("run-parts") is None:
        pytest.skip("there is no run-parts: install debianutils")
    make(folder, *NAMES)
    make(folder, "not-executable", mode=0o644)
    make(folder, "only-its-group", mode=0o610)
    (folder / "below").mkdir()
    (folder / "linked").symlink_to("a")
    (folder / "to-a-folder").symlink_to("below")
    environment = {**os.environ, "LC_ALL": "C"}
    listed = subprocess.run(
        ["run-parts", "--test", str(folder)], capture_output=True, env=environment, check=True
    )
    told = listed.stdout.decode().splitlines()
    expected = [path for path in told if not path.endswith("/only-its-group")]
    found, skipped = hooks.chosen(str(folder))
    assert [path for path in found if not path.endswith("/only-its-group")] == expected
    assert len(found) + len(skipped) == len(os.listdir(folder))


def test_hooks_without_run_parts(folder: Path) -> None:
    make(folder, *NAMES)
    assert names(folder) == [
        "-y",
        "10-conntrackd",
        "9-late",
        "A_B-c",
        "B",
        "Z",
        "_x",
        "a",
        "apache2",
    ]


def test_what_is_skipped_is_said_with_the_reason(folder: Path) -> None:
    make(folder, "x~", "x.dpkg-old", "line\nbreak")
    make(folder, "quiet", mode=0o644)
    (folder / "below").mkdir()
    (folder / "gone").symlink_to("nowhere")
    found, skipped = hooks.chosen(str(folder))
    assert not found
    name = "its name may have letters, digits, - and _ only"
    assert skipped == [
        f'"below" in {folder} is no hook: it is not a regular file',
        f'"gone" in {folder} is no hook: it cannot be looked at (No such file or directory)',
        f'"line\\nbreak" in {folder} is no hook: {name}',
        f'"quiet" in {folder} is no hook: it is not executable',
        f'"x.dpkg-old" in {folder} is no hook: {name}',
        f'"x~" in {folder} is no hook: {name}',
    ]


def test_the_order_is_told(folder: Path) -> None:
    make(folder, "20-b", "10-a", "x~")
    first, second = hooks.notes(Conf(switch_dir=str(folder)))
    assert first == f"hooks of each switch, in this order: 10-a, 20-b; in {folder}"
    assert second.startswith('"x~" in ')


def test_without_the_folder_there_are_none(folder: Path) -> None:
    folder.rmdir()
    assert hooks.chosen(str(folder)) == ([], [])
    assert not faults(folder)
    assert not hooks.notes(Conf(switch_dir=str(folder)))


def test_an_empty_folder_is_sound(folder: Path) -> None:
    assert not faults(folder)
    assert not hooks.notes(Conf(switch_dir=str(folder)))


# ------------------------------------------------------------------ whom root trusts


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_can_write(folder: Path, mode: int) -> None:
    """Be it empty by now."""
    folder.chmod(mode)
    (found,) = faults(folder)
    assert found.startswith(f"$switch_dir (not set, so the default): {folder} can be written by ")
    make(folder, "hook")
    assert faults(folder) == [found], "it is said once"


def test_a_hook_that_others_can_write(folder: Path) -> None:
    make(folder, "good")
    make(folder, "bad", mode=0o775)
    make(folder, "bad~", mode=0o777)  # it is never run
    (found,) = faults(folder)
    assert f": {folder}/bad can be written by others than root: chmod go-w {folder}/bad" in found


def test_a_hook_that_is_a_link_into_a_folder_that_others_can_write(
    folder: Path, tmp_path: Path
) -> None:
    """As an example may be linked from where it lies."""
    lax = tmp_path / "lax"
    lax.mkdir()
    make(lax, "hook")
    (folder / "hook").symlink_to(lax / "hook")
    assert not faults(folder)
    lax.chmod(0o777)
    (found,) = faults(folder)
    assert f"{lax} can be written by others" in found


@needs_root
@pytest.mark.parametrize("of_the_folder", [True, False])
def test_what_belongs_to_another_user(folder: Path, of_the_folder: bool) -> None:
    make(folder, "hook")
    path = folder if of_the_folder else folder / "hook"
    os.chown(path, 12345, -1)
    (found,) = faults(folder)
    assert f"{path} belongs to user 12345: chown root {path}" in found


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "switch-d")
    (found,) = faults(tmp_path / "switch-d")
    assert found.endswith("/switch-d cannot be read: Not a directory")
