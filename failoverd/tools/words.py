"""How the commands write numbers, spans of time and failures for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

HEADER = f"{'time':>14}  verdict  {'packets':>9}  {'previous':>9}  reason"
UNITS = (("days", 86_400), ("h", 3_600), ("min", 60))
TYPED_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}  # as in 30m


def row(line: Mapping[str, object], now: datetime | None = None) -> str:
    """A window that has ended, below HEADER: at its own time, or that of the day."""
    time = f"{now:%H:%M:%S.%f}"[:-3] if now else f"{line['t']:.6f}"
    alike = f", {line['windows']:,} windows alike" if "windows" in line else ""
    return (
        f"{time:>14}  {line['verdict']:7}  {line['packets']:9}  {line['last']:9}  "
        f"{line['reason']}{alike}"
    )


class Stop(Exception):
    """Ends a command with one sentence on stderr."""


def counted(number: object, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def span(seconds: float) -> str:
    """So much time, to two places or a little more: 20 s, 3.5 min, 4 h, 30 days."""
    for unit, size in UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def duration(seconds: float) -> str:
    """How long something took: 4 ms, 3.02 s."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def exact_span(seconds: float) -> str:
    """The two largest units: 3 h 12 min."""
    parts = []
    rest = max(0, int(seconds))
    for unit, size in (*UNITS, ("s", 1)):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit[:-1] if (unit, number) == ('days', 1) else unit}")
    return " ".join(parts[:2]) or "less than 1 s"
