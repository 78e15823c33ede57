"""Reads the lines of failoverd's log: the one place outside the daemon that knows their form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from failoverd.events import ALONE, EVENTS, SUBJECTS

_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d) "
    r"(?P<program>[^\s\[\]]+)\[(?P<pid>\d+)\]: (?P<level>[A-Z]+) (?P<event>[A-Z]+(?:-[A-Z]+)*) "
    r"(?P<text>(?P<subject>.+?): (?P<sentence>.*?)(?:; (?P<values>.*))?)"
)
_VALUE = re.compile(r'([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?: |$)')


@dataclass(frozen=True)
class LogLine:
    """One line. text: what comes after the event."""

    at: float  # seconds since the epoch
    program: str
    pid: int
    level: str
    event: str
    subject: str
    sentence: str
    text: str
    values: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.event} {self.text}"


def parse(line: str) -> LogLine | None:
    """None if it is no line of failoverd's, or not all of one."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    event, subject = EVENTS.get(found["event"]), found["subject"]
    kind = subject.partition(" ")[0]
    if event is None or event.level.name != found["level"] or kind not in SUBJECTS:
        return None
    if (subject == kind) is not (kind in ALONE):
        return None
    values = parse_values(found["values"] or "")
    if values is None:
        return None
    at = datetime.fromisoformat(found["time"]).timestamp()
    return LogLine(at, found["program"], int(found["pid"]), found["level"], found["event"], subject,
                   found["sentence"], found["text"], values)  # fmt: skip


def parse_values(text: str) -> dict[str, str] | None:
    values, at = {}, 0
    while at < len(text):
        found = _VALUE.match(text, at)
        if found is None:
            return None
        quoted = found[2]
        values[found[1]] = found[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        at = found.end()
    return values


def lines(log: str, *events: str) -> Iterator[LogLine]:
    """Those of a log, or of some events."""
    for line in map(parse, log.splitlines()):
        if line is not None and (not events or line.event in events):
            yield line


def told(log: str, event: str, text: str = "") -> bool:
    """Whether there is a line of this event with this text. Raises KeyError if there is no such
    event, or a check that it was not told would always hold."""
    EVENTS[event]
    return any(text in line.text for line in lines(log, event))


def roles(log: str) -> list[str]:
    """The roles that a node has had, in their order."""
    return [line.sentence for line in lines(log, "ROLE")]
