"""How the commands write numbers, spans of time and failures for people."""

from __future__ import annotations

UNITS = (("days", 86_400), ("h", 3_600), ("min", 60))


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


def exact_span(seconds: float) -> str:
    """The two largest units: 3 h 12 min."""
    parts = []
    rest = max(0, int(seconds))
    for unit, size in (*UNITS, ("s", 1)):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit[:-1] if (unit, number) == ('days', 1) else unit}")
    return " ".join(parts[:2]) or "0 s"
