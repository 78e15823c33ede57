"""What the benchmark tells: one table of plain text, and one picture. Pure: numbers are values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

WIDTH = 80
_COLUMNS = "{:<28} {:>9}  {:<10} {:>9} {:>7} {:<8} {:<2}"


@dataclass(frozen=True)
class Line:
    """One figure: ours, a rival's if there is one, and what is to be reached.

    target: what the ratio (if there is a rival) or our own figure must be. met: None if nothing is
    to be reached, or if it cannot be told because the rival is missing.
    """

    what: str
    unit: str
    ours: float
    rival: str = ""
    theirs: float | None = None
    target: str = ""
    met: bool | None = None
    ratio: float | None = None

    def __str__(self) -> str:
        rival = self.rival if self.theirs is not None else ""
        return _COLUMNS.format(
            self.what[:28],
            figure(self.ours, self.unit),
            rival[:10],
            "" if self.theirs is None else figure(self.theirs, self.unit),
            "" if self.ratio is None else f"{self.ratio:.3g}",
            self.target,
            {True: "ok", False: "NO", None: ""}[self.met],
        ).rstrip()


def figure(value: float, unit: str) -> str:
    """At least three digits, and the unit."""
    digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}".rstrip()


def at_most(what: str, unit: str, ours: float, limit: float) -> Line:
    """A figure of ours with a limit of its own."""
    return Line(what, unit, ours, target=f"<= {limit:g}", met=ours <= limit)


def compared(
    what: str, unit: str, ours: float, rival: str, theirs: float | None, limit: float | None
) -> Line:
    """A figure that must be at most `limit` times the rival's. theirs None: it is missing."""
    if theirs is None:
        return Line(what, unit, ours)
    ratio = ours / theirs if theirs else math.inf
    if limit is None:
        return Line(what, unit, ours, rival, theirs, ratio=ratio)
    return Line(what, unit, ours, rival, theirs, f"<= {limit:g}", ratio <= limit, ratio)


def spread(
    what: str,
    ours: Sequence[float],
    rival: str,
    theirs: Sequence[float],
    limits: tuple[float | None, float | None],
) -> list[Line]:
    """The medians and the worst of two samples in seconds, told in milliseconds."""
    lines = []
    for word, pick, limit in (("median", median, limits[0]), ("worst", max, limits[1])):
        other = pick(theirs) * 1000 if theirs else None
        lines.append(compared(f"{what}, {word}", "ms", pick(ours) * 1000, rival, other, limit))
    return lines


def heading() -> str:
    words = ("what", "failoverd", "rival", "", "ratio", "to reach", "")
    return _COLUMNS.format(*words).rstrip()


def table(sections: Iterable[tuple[str, Sequence[Line]]], about: Sequence[str]) -> str:
    """Everything, at most WIDTH columns wide."""
    parts = [*about, "", heading(), "-" * (WIDTH - 1)]
    for title, lines in sections:
        parts += [title, *(f"{line}" for line in lines)]
    return "\n".join(part[:WIDTH] for part in parts) + "\n"


# ---------------------------------------------------------------------------- the picture


@dataclass(frozen=True)
class Bar:
    """One bar of the picture. ours: drawn in the colour of failoverd."""

    label: str
    value: float
    ours: bool


@dataclass(frozen=True)
class Panel:
    """Bars of one unit on a logarithmic scale, longest last decade first."""

    title: str
    unit: str
    bars: Sequence[Bar]


_LABEL, _BAR, _HEIGHT, _STEP = 190, 400, 14, 20
_OURS, _THEIRS, _INK = "#2a7f62", "#b9a07a", "#666"


def picture(panels: Sequence[Panel], caption: str) -> str:
    """An SVG; the scales are logarithmic, as an outage lasts from milliseconds to seconds."""
    parts, y = [], 10
    for panel in panels:
        y += 22
        parts.append(_text(10, y, f"{panel.title} ({panel.unit}, logarithmic)", "bold"))
        y += 8
        low, high = _decades([bar.value for bar in panel.bars])
        for bar in panel.bars:
            length = (math.log10(max(bar.value, low)) - math.log10(low)) * _BAR
            width = max(2.0, length / (math.log10(high) - math.log10(low)))
            colour = _OURS if bar.ours else _THEIRS
            parts.append(_text(_LABEL - 8, y + 11, bar.label, "normal", "end"))
            parts.append(
                f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_HEIGHT}" '
                f'fill="{colour}"/>'
            )
            parts.append(_text(_LABEL + width + 6, y + 11, figure(bar.value, panel.unit)))
            y += _STEP
    y += 16
    parts.append(_text(10, y, caption))
    width = _LABEL + _BAR + 90
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 12}" '
        'font-family="sans-serif" font-size="12">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The powers of ten around positive values."""
    positive = [value for value in values if value > 0] or [1.0]
    low = 10.0 ** math.floor(math.log10(min(positive)))
    high: float = 10.0 ** math.ceil(math.log10(max(positive)) + 1e-9)
    return low, max(high, low * 10)


def _text(x: float, y: float, text: str, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{_INK}">{escape(text)}</text>'
    )
