"""What a node counts over its restarts and boots: the `_total` metrics of `ha-status --prometheus`.

COUNTERS is the only list. A series is named as in Prometheus, without the prefix of the program:
windows_total{interface="eth0",verdict="ok"}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from failoverd.wire import typed
from failoverd.wire.protocol import MAX_COUNTERS, words


@dataclass(frozen=True)
class Metric:
    """first: values of its label that are there from the beginning: a monitor sees the step from 0
    to 1 only if it has seen the 0."""

    meaning: str
    labels: tuple[str, ...] = ()
    first: tuple[str, ...] = ()


RESULTS = ("success", "failure")
COUNTERS = {
    "role_changes_total": Metric(
        "Changes of the role; cause as in the log", ("from", "to", "cause")
    ),
    "takeovers_blocked_total": Metric("Takeovers that were blocked", ("reason",)),
    "fence_attempts_total": Metric("Runs of the fencing program", ("result",), RESULTS),
    "config_reloads_total": Metric("Reloads of the configuration", ("result",), RESULTS),
    "authentication_failures_total": Metric("Clients of the port that were refused"),
    "heartbeats_sent_total": Metric("Heartbeats sent"),
    "heartbeats_received_total": Metric("Heartbeats received from the peer"),
    "interface_received_packets_total": Metric(
        "Packets in windows that have ended", ("interface",)
    ),
    "windows_total": Metric("Windows that have ended", ("interface", "verdict")),
}

# What an event of the log counts: the values of the labels, {text} is the line's sentence.
BY_EVENT: dict[str, tuple[str, ...]] = {
    "ROLE": ("role_changes_total", "{from}", "{text}", "{cause}"),
    "TAKEOVER-BLOCKED": ("takeovers_blocked_total", "{found}"),
    "FENCE-OK": ("fence_attempts_total", "success"),
    "FENCE-FAILED": ("fence_attempts_total", "failure"),
    "CONFIG-RELOADED": ("config_reloads_total", "success"),
    "CONFIG-REJECTED": ("config_reloads_total", "failure"),
    "REQUEST-REFUSED": ("authentication_failures_total",),
}


def series(name: str, *values: str) -> str:
    pairs = zip(COUNTERS[name].labels, values, strict=True)
    labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
    return f"{name}{{{labels}}}" if labels else name


def _escaped(value: str) -> str:
    return words(value)[:100].replace("\\", r"\\").replace('"', r"\"")


FIRST = [
    series(name, *values)
    for name, metric in COUNTERS.items()
    for values in ([(value,) for value in metric.first] if metric.labels else [()])
]


@dataclass
class Counters:
    """counts: as they are. told: as they are known outside. news: an event was counted."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FIRST, 0))
    told: tuple[tuple[str, int], ...] = tuple((name, 0) for name in FIRST)
    news: bool = False

    def add(self, name: str, *values: str, amount: int = 1) -> None:
        """A series too many is left out: there are as many as interfaces and causes, or a bug."""
        found = series(name, *values)
        if found in self.counts or len(self.counts) < MAX_COUNTERS:
            self.counts[found] = min(self.counts.get(found, 0) + amount, typed.MOST - 1)

    def note(self, event: str, sentence: str, values: Mapping[str, object]) -> None:
        """Count an event of the log, if it is one that counts. A role without a `from` is the one
        before a restart."""
        if event not in BY_EVENT or (event == "ROLE" and "from" not in values):
            return
        text = sentence.removesuffix(", no takeover")
        known = {"text": text, "found": text} | {key: str(value) for key, value in values.items()}
        known["cause"] = known.get("cause", "").partition(";")[0]  # of several the first
        name, *labels = BY_EVENT[event]
        more = known.get("suppressed", "")  # of the same kind before it
        amount = 1 + int(more) if more.isdecimal() and len(more) < 10 else 1
        self.add(name, *(label.format_map(known) for label in labels), amount=amount)
        self.news = True

    def take_up(self, kept: Mapping[str, int]) -> None:
        """What was kept goes on."""
        self.counts |= kept
        self.told = tuple(self.counts.items())
