"""The page of figures, docs/dev/bench.md, and its picture: rows of different times, in one.

Each run replaces the rows that it measured, and what is between the page's two marks. The rest of
the page is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dev.lab.bench.report import Bar, Line, Panel, picture, table

BEGIN, END = "<!-- figures: written by dev/bench -->\n", "<!-- end of the figures -->\n"


@dataclass(frozen=True)
class Measured:
    """One row as it was measured. bars: by panel of the picture."""

    title: str
    about: Sequence[str]
    lines: Sequence[Line]
    bars: Mapping[str, Sequence[Bar]]


def update(
    page: Path,
    rows: Mapping[str, Measured],
    order: Sequence[str],
    panels: Mapping[str, tuple[str, str]],
) -> None:
    """Put rows into the page FILE.md, beside it FILE.svg, and FILE.json, which keeps all figures.

    Raises OSError, and ValueError if the page has no marks.
    """
    store = page.with_suffix(".json")
    known = json.loads(store.read_text()) if store.exists() else {}
    known.update({name: asdict(row) for name, row in rows.items()})
    known = {name: known[name] for name in order if name in known}
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no marks to put the figures between")
    page.write_text(f"{before}{BEGIN}{told(known)}{END}{after}")
    store.write_text(json.dumps(known, indent=1) + "\n")
    drawn = []
    for name, (title, unit) in panels.items():
        bars = [Bar(**bar) for row in known.values() for bar in row["bars"].get(name, ())]
        drawn += [Panel(title, unit, bars)] if bars else []
    captions = {row["about"][0] for row in known.values()}
    page.with_suffix(".svg").write_text(picture(drawn, "; ".join(sorted(captions))))


def told(known: Mapping[str, Any]) -> str:
    """The tables, one for the rows of each run."""
    runs: dict[tuple[str, ...], list[tuple[str, list[Line]]]] = {}
    for row in known.values():
        lines = [Line(**line) for line in row["lines"]]
        runs.setdefault(tuple(row["about"]), []).append((row["title"], lines))
    return "".join(f"```\n{table(sections, about)}```\n" for about, sections in runs.items())
