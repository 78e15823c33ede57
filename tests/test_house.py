"""The house: which room may import what (contract, section 9), and that its parts are complete."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "failoverd"
DEV = ROOT / "dev"
GUIDE = ROOT / "CONTRIBUTING.md"

# A name is a package, or one file of it.
PURE = {"pair", "wire", "conf", "conf.language", "conf.variables", "conf.alike", "watch.judge"}
PURE |= {"counters", "events", "master.explain", "second_path", "conf.survey", "tools.promises"}
PURE |= {"tools.recording"}
# log and process serve every edge room, and so do links, what the kernel says of interfaces, files
# and hooks, which read what the configuration names, filters, which makes programs of what is to
# count, and burst, which sends many frames.
SHARED = {"log", "process", "links", "burst", "conf.files", "conf.hooks", "watch.filters"}
SHARED |= {"statefile", "history"}  # which know how a file is kept
SHARED |= {"users"}
EDGE = {"watch.counter", "watch.watcher", "watch.dumpfile", "heartbeat", "listener", "neighbours"}
EDGE |= {"addresses", "switch", "statefile", "history", "log_writer", "sd_notify", "checks"}
EDGE |= SHARED
EDGE |= {"tools.capture", "tools.client", "tools.edit", "hold"}
TOP = {"__init__", "watch.__init__", "master", "commands", "tools"}
NOT_THE_DAEMON = {"commands", "tools"}

# What reads a clock, the host or the world.
IMPURE = {
    *("os", "sys", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "mmap", "pwd", "stat"),
    *("socket", "select", "selectors", "ssl", "socketserver", "asyncio", "http", "urllib"),
    *("time", "datetime", "sched", "random", "secrets", "uuid", "platform", "locale"),
    *("signal", "subprocess", "threading", "multiprocessing", "concurrent", "ctypes"),
    *("logging", "syslog"),
}


def room(path: Path) -> str:
    """log for failoverd/log.py, watch.judge for failoverd/watch/judge.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def part_of(name: str, rooms: set[str]) -> bool:
    """Whether the file is one of these rooms, or in one."""
    return name.removesuffix(".__init__") in rooms or name.split(".")[0] in rooms


def kind(name: str) -> str:
    """The narrower name counts: conf.files is an edge in a room that is pure."""
    kinds = {"pure": PURE, "edge": EDGE, "top": TOP}
    narrow = [each for each, rooms in kinds.items() if name in rooms]
    broad = [each for each, rooms in kinds.items() if name.split(".")[0] in rooms]
    found = narrow or broad
    assert len(found) == 1, f"{name}: in which room?"
    return found[0]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            folder = PACKAGE.parent / node.module.replace(".", "/")
            for alias in node.names:
                part = node.module == "failoverd" or (folder / f"{alias.name}.py").exists()
                yield f"{node.module}.{alias.name}" if part else node.module


def rooms_of(path: Path) -> set[str]:
    """The files of the package that a file imports; a package's offer is its __init__."""
    return {name.removeprefix("failoverd.") for name in imports(path) if "failoverd." in name}


@pytest.mark.parametrize("path", modules(), ids=room)
def test_every_module_has_a_room_and_keeps_to_it(path: Path) -> None:
    name = room(path)
    if kind(name) == "pure":
        assert all(kind(used) == "pure" for used in rooms_of(path))
    elif kind(name) == "edge":
        for used in rooms_of(path) - {"__init__", "__version__"}:
            own = used.split(".")[0] == name.split(".")[0]
            assert kind(used) == "pure" or part_of(used, SHARED) or own, f"{name} imports {used}"


@pytest.mark.parametrize(
    "path", [p for p in modules() if room(p).split(".")[0] not in NOT_THE_DAEMON], ids=room
)
def test_the_daemon_imports_no_command_and_no_tool(path: Path) -> None:
    assert not {used.split(".")[0] for used in rooms_of(path)} & NOT_THE_DAEMON


@pytest.mark.parametrize("path", modules(), ids=room)
def test_the_package_imports_nothing_that_only_developers_have(path: Path) -> None:
    only_here = {DEV.name, *(test.stem for test in ROOT.glob("tests/**/*.py"))}
    assert not only_here & {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", [p for p in modules() if kind(room(p)) == "pure"], ids=room)
def test_a_pure_room_reaches_nothing_of_the_world(path: Path) -> None:
    name = room(path)
    for module in imports(path):
        top = module.partition(".")[0]
        assert top not in IMPURE, f"{name} imports {module}"
        assert top == "failoverd" or top in sys.stdlib_module_names, f"{name} imports {module}"


def test_no_module_is_needed_by_what_it_needs() -> None:
    """Arrows go one way, from file to file, so each can be read after those that it names."""
    paths = modules()
    needs = {f"failoverd.{room(path)}".removesuffix(".__init__"): imports(path) for path in paths}
    TopologicalSorter(needs).prepare()


@pytest.mark.parametrize(
    "path", [*modules(), *sorted(DEV.rglob("*.py"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_module_says_why_it_is_there(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sorted((PACKAGE / "commands").glob("[!_]*.py")), ids=room)
def test_every_command_can_be_run_from_the_checkout_and_installed(path: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    command = path.stem.replace("_", "-")
    assert scripts[command] == f"failoverd.commands.{path.stem}:main"
    assert os.access(ROOT / "bin" / command, os.X_OK)


def test_bin_holds_what_users_type_and_nothing_else() -> None:
    typed = {"failoverd", "watchd", "ha-status", "ha-fail", "ha-edit", "demo", "test"}
    assert {path.name for path in (ROOT / "bin").iterdir()} == typed
    assert all(os.access(ROOT / "bin" / name, os.X_OK) for name in typed)


def test_a_newcomer_is_told_in_a_screen_what_is_in_dev_and_where_a_test_is() -> None:
    text = GUIDE.read_text()
    assert len(text.splitlines()) <= 45
    there = {path.name + "/" * path.is_dir() for path in DEV.glob("[!_]*")}
    rows = re.findall(r"(?m)^\| (`.*?) \|", text.split("## What is in dev/")[1].split("\n## ")[0])
    assert {name for row in rows for name in re.findall("`(.*?)`", row)} - {"dev/..."} == there


def test_each_room_has_its_tests_where_they_are_looked_for() -> None:
    """tests/ is laid out as the package is: tests/wire/ for wire/, tests/test_log.py for log.py."""
    rooms = {room(path).split(".")[0] for path in modules()} - {"__init__"}
    for name in rooms - TOLD_ELSEWHERE:
        folder = ROOT / "tests" / name
        assert list(folder.glob("test_*.py")) or (ROOT / f"tests/test_{name}.py").exists(), name


TOLD_ELSEWHERE = {"log_writer", "sd_notify"}  # tests/test_log.py, tests/dev/test_package.py


# What tells the time of day: for people, in logs, captures and on their terminals; and how long a
# reboot took. Decisions count monotonic seconds, so a clock that is set is no event.
WALL_CLOCK = {
    "time.time": {"tools.tune", "hold"},
    "time.gmtime": set(),
    "datetime.now": {"log", "commands.ha_status", "tools.nodes", "tools.screen"},
}
OTHER_CLOCKS = ("CLOCK_REALTIME", "utcnow(", "time.time_ns(", "today(")


@pytest.mark.parametrize("path", modules(), ids=room)
def test_only_what_people_read_knows_the_time_of_day(path: Path) -> None:
    text, name = path.read_text(), room(path)
    for clock, rooms in WALL_CLOCK.items():
        assert name in rooms or f"{clock}(" not in text, f"{name} asks {clock}"
    assert not [word for word in OTHER_CLOCKS if word in text]
