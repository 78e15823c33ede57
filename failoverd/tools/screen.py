"""What the commands show on a terminal.

The only place that imports rich, and imported only where there is a terminal, after the first line
has been printed: it takes a while. Nothing here hides the cursor, so that nothing has to bring it
back when the command is stopped or killed. All that moves is ASCII.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.segment import SegmentLines
from rich.text import Text

from failoverd.process import Message
from failoverd.tools.words import HEADER, row

if TYPE_CHECKING:
    from failoverd.watch.watcher import Watcher

REFRESH_SECONDS = 0.25
WIDTH = 24  # of a bar
VERDICTS = {"ok": "green", "boot": "dim", "late": "yellow", "fail": "bold red"}


class Region:
    """The lines at the bottom that change, below those that stay."""

    def __init__(self, stays: bool = False) -> None:
        """`stays`: the last picture is left on the screen."""
        self.console = Console(highlight=False)
        self._whole: RenderableType | None = None
        self._live = Live(
            console=self.console,
            auto_refresh=False,
            transient=not stays,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show(self, what: RenderableType, last: RenderableType | None = None) -> None:
        """last: what stands below it, and is shown even where the terminal is too low for both."""
        if isinstance(what, Text):  # an echoed ^C must not go to another line
            what.truncate(max(1, self.console.width - len("^C") - 1), overflow="crop")
        if last is not None:
            self._whole = Group(what, last)
            what = self._fitted(what, last)
        with undisturbed():
            if not self._live.is_started:
                self._live.start()
                self.console.show_cursor(True)
            self._live.update(what, refresh=True)

    def _fitted(self, what: RenderableType, last: RenderableType) -> RenderableType:
        above, below = (self.console.render_lines(each, pad=False) for each in (what, last))
        room = self.console.height - len(below)
        if len(above) <= room:
            return Group(what, last)
        return Group(SegmentLines(above[: max(0, room - 1)], new_lines=True), Text("..."), last)

    def close(self) -> None:
        """The last picture scrolls, and so is left whole."""
        if self._whole is not None and self._live.is_started:
            self._live.update(self._whole)
        self._live.stop()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait: after half a picture, whatever follows goes to the wrong lines."""
    pressed: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if pressed and callable(handler):
            handler(signal.SIGINT, None)


class Screen:
    """watchd's: a line a window, and below them the one that is open."""

    every: float | None = REFRESH_SECONDS

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._region = Region()
        self._since = time.monotonic(), 0  # a second or so ago, and the packets until then
        self._rate = 0.0
        self._region.console.print(Text(HEADER, "bold"), soft_wrap=True)

    def say(self, line: Message) -> None:
        text = Text(row(line, datetime.now()))
        verdict = str(line["verdict"])
        text.highlight_words([f" {verdict} "], VERDICTS[verdict])
        self._region.console.print(text, soft_wrap=True)

    def complain(self, sentence: str) -> None:
        self._region.console.print(Text(f"watchd: {sentence}", "yellow"), soft_wrap=True)

    def refresh(self, watcher: Watcher, now: float) -> None:
        window, rules = watcher.window, watcher.rules
        left = max(0.0, window.deadline - now)
        low = not rules.private and window.packets < rules.low_water
        style = "red" if low else "green" if window.packets else "yellow"
        passed = 1 - min(1.0, left / rules.timer)
        since, before = self._since
        if now - since >= 1:
            self._rate = (watcher.total - before) / (now - since)
            self._since = now, watcher.total
        self._region.show(
            one_line(
                (self._interface, "bold"),
                f"  [{'=' * round(passed * WIDTH):{WIDTH}}] {left:.1f} s left  ",
                (str(window.packets), style),
                f" of {rules.packet_count} packets  {self._rate:.1f} packets/s",
            )
        )

    def close(self) -> None:
        self._region.close()


def one_line(*parts: str | tuple[str, str]) -> Text:
    """Text that a narrow terminal cuts off instead of wrapping it."""
    return Text.assemble(*parts, no_wrap=True, overflow="crop")


# Lines of cells, a text and what it is like each

STYLES = {"good": "green", "odd": "yellow", "bad": "bold red", "faint": "dim", "head": "bold"}


def coloured(lines: Iterable[Iterable[tuple[str, str]]]) -> Group:
    styled = ([(text, STYLES.get(like, "")) for text, like in line] for line in lines)
    return Group(*(Text.assemble(*line) for line in styled))


def show(what: RenderableType) -> None:
    Console(highlight=False).print(what)
