"""The table of events: whole, used, and with prose that has no value in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.lab import logs
from failoverd import statefile
from failoverd.conf import Conf
from failoverd.events import ALONE, EVENTS, SUBJECTS, WORKER_EVENTS, Level
from failoverd.log import Log
from failoverd.master.context import Context
from failoverd.master.messages import Logged
from failoverd.process import logged
from failoverd.wire.typed import decode

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    path
    for path in sorted((ROOT / "failoverd").rglob("*.py"))
    if path.name == "sensor.py"
    or (path.name != "events.py" and path.parent.name not in ("conf", "tools"))
]
SAYING = {"say": 3, "say_once": 3, "say_over": 3, "logged": 3, "write": 3, "_tell": 3, "_log": 2}
EVENT = re.compile("[A-Z]{2,}(-[A-Z]+)*")


def strings(node: ast.AST) -> Iterator[str]:
    """Every text in a piece of code, those within f-strings too."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def sayings(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef, ast.Call]]:
    """Every call that says something, and the function that it is in."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for call in ast.walk(function):
                if isinstance(call, ast.Call):
                    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                    if len(call.args) >= SAYING.get(name, 99):
                        yield function, call


def values_of(function: ast.FunctionDef, argument: ast.expr) -> list[ast.expr]:
    """What an argument is: itself, or what its name is given in the function."""
    if not isinstance(argument, ast.Name):
        return [argument]
    found: list[ast.expr] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                found += [v for t, v in pairs if isinstance(t, ast.Name) and t.id == argument.id]
    return found


def said() -> Iterator[tuple[str, list[str], list[str]]]:
    """Where something is said, as which events, and in which words."""
    for path in FILES:
        for function, call in sayings(ast.parse(path.read_text())):
            events = [t for v in values_of(function, call.args[0]) for t in strings(v)]
            at = SAYING[getattr(call.func, "attr", getattr(call.func, "id", ""))] - 1
            words = [t for v in values_of(function, call.args[at]) for t in strings(v)]
            yield f"{path.name}:{call.lineno}", [e for e in events if EVENT.fullmatch(e)], words


def used() -> set[str]:
    """Every text of the daemon that could be an event's name."""
    texts = {text for path in FILES for text in strings(ast.parse(path.read_text()))}
    return {text for text in texts if EVENT.fullmatch(text)}


def test_every_event_is_used_and_every_one_that_is_used_is_there() -> None:
    unused = {*EVENTS} - used() - {"LOG-LOST"}  # which log.lost writes
    assert not unused
    wrong = {where: events for where, events, _ in said() if not EVENTS.keys() >= {*events}}
    assert not wrong
    unknown = {name for name in used() if "-" in name} - {*EVENTS}
    assert not unknown


def test_nothing_that_changes_stands_in_the_prose() -> None:
    found = list(said())
    assert len(found) > 80
    for where, _, words in found:
        for text in words:
            assert not re.search(r"[\d;=]|: ", text), f"{where}: {text!r}"
            never = r"\b(we|us|our|it|somebody|nobody|who)\b"
            assert not re.search(never, text.replace("stays as it was", "")), text


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_well_defined(name: str) -> None:
    event = EVENTS[name]
    assert EVENT.fullmatch(name)
    assert event.meaning[0].isupper() or event.meaning.startswith(("failoverd", "$"))
    assert not event.meaning.endswith(".")
    assert event.ended_by in ("", *EVENTS)
    if event.ended_by:
        end = EVENTS[event.ended_by]
        assert end.level >= Level.NOTICE, "an end is no problem"
        assert event.level <= Level.WARNING <= end.level or event.level >= Level.NOTICE


@pytest.fixture
def told(tmp_path: Path) -> Iterator[tuple[Context, list[tuple[str, str, str]]]]:
    """This node, and what $notify_prog is told."""
    conf = Conf(log=str(tmp_path / "log"), state=str(tmp_path / "state"))
    told: list[tuple[str, str, str]] = []
    log = Log(conf.log)
    yield Context(conf, "slave", log, lambda *words: told.append(words), dry=False), told
    log.close()


Told = tuple[Context, list[tuple[str, str, str]]]


@pytest.mark.parametrize("name", EVENTS)
def test_notify_prog_is_run_for_problems_and_their_ends(told: Told, name: str) -> None:
    us, runs = told
    event = EVENTS[name]
    us.say(name, "role", "x", link="plip0")
    wakes = event.level <= Level.WARNING and name != "NOTIFY-FAILED"
    assert runs == ([("alarm", "role: x; link=plip0", name)] if wakes else [])
    if event.ended_by not in ("", "ROLE") and event.level <= Level.WARNING:
        us.say(event.ended_by, "role", "over")
        us.say(event.ended_by, "role", "over")
        assert runs[1:] == [("alarm", "role: over", event.ended_by)], "once for each problem"


def test_notify_prog_is_run_for_changes_of_role(told: Told) -> None:
    us, runs = told
    for cause, role in (("clean up", "standby"), ("heartbeat lost", "active")):
        us.change_role("standby", "switching")
        us.history.because(cause)
        us.change_role("switching", role)
    assert runs == [("role", "standby", "ROLE"), ("role", "active", "ROLE")]
    first, second = map(str, logs.lines(Path(us.conf.log).read_text(), "ROLE"))
    assert first.startswith("ROLE role: standby; from=none cause=start took=")
    assert second.startswith("ROLE role: active; from=standby cause=heartbeat-lost took=")


def test_a_failed_role_is_told_once_however_often_its_script_fails(told: Told) -> None:
    us, runs = told
    for cause in ("told by the peer", "clean up", "clean up", "clean up"):
        us.change_role("failed", "switching")
        us.history.because(cause)
        us.change_role("switching", "failed")
    causes = [line.values["cause"] for line in logs.lines(Path(us.conf.log).read_text(), "ROLE")]
    assert causes == ["start", "clean-up"] and runs == [("role", "failed", "ROLE")]


def test_a_role_that_was_there_before_a_restart_came_from_nowhere(told: Told) -> None:
    us, runs = told
    statefile.write(us.conf.state, statefile.Saved(role="active"))
    again = Context(us.conf, "slave", us.log, lambda *words: runs.append(words), dry=False)
    again.change_role("standby", "active")
    (line,) = logs.lines(Path(us.conf.log).read_text(), "ROLE")
    assert str(line) == "ROLE role: active" and not runs


def test_a_worker_logs_what_workers_may_and_nothing_else() -> None:
    said = logged("HEARTBEAT-UNSENT", "interface plip0", "heartbeats cannot be sent", error="no")
    told = decode(Logged, said)
    assert (told.name, told.values) == ("HEARTBEAT-UNSENT", {"error": "no"})
    assert decode(Logged, {**said, "subject": "worker watchd eth0"}).subject == "worker watchd eth0"
    for changes in (
        {"name": "NO-EVENT"},
        {"name": "ROLE"},
        {"name": None},
        {"subject": "role: active; a=b"},
        {"subject": "somebody else"},
        {"sentence": "sent; took=4ms"},
        {"sentence": "sent\nROLE role: active"},
        {"values": {"Key": "x"}},
        {"values": {str(n): "x" for n in range(9)}},
        {"values": "x"},
    ):
        with pytest.raises(ValueError):
            decode(Logged, {**said, **changes})
    assert "ROLE" not in WORKER_EVENTS and {*WORKER_EVENTS} < EVENTS.keys()
    assert {*ALONE} < {*SUBJECTS}
