"""What a client's prober recorded, and how long no answer came. Pure: times are values."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Record:
    """Times of probes sent and of replies received, both ascending, in seconds."""

    sent: list[float] = field(default_factory=list)
    replies: list[float] = field(default_factory=list)

    def gaps(self, since: float, until: float) -> list[tuple[float, float]]:
        """Every (begin, end) with unanswered probes: from the first of them to the next reply.

        A time in which the prober itself stood still is no gap: it sent nothing then.
        """
        replies = self.replies[bisect_left(self.replies, since) : bisect_right(self.replies, until)]
        gaps = []
        for before, after in zip([since, *replies], [*replies, until], strict=True):
            first = bisect_right(self.sent, before)
            if first < len(self.sent) and self.sent[first] < after:
                gaps.append((self.sent[first], after))
        return gaps

    def outage(self, since: float, until: float) -> float:
        """The longest gap, in seconds; 0.0 if nothing was sent."""
        return max((end - begin for begin, end in self.gaps(since, until)), default=0.0)

    def shares(self, since: float, until: float, columns: int) -> Sequence[float | None]:
        """For each of `columns` equal times the share of probes answered; None: none was sent."""
        width = (until - since) / columns
        sent = self._counts(self.sent, since, width, columns)
        replies = self._counts(self.replies, since, width, columns)
        return [
            min(1.0, got / asked) if asked else (1.0 if got else None)
            for asked, got in zip(sent, replies, strict=True)
        ]

    @staticmethod
    def _counts(times: Sequence[float], since: float, width: float, columns: int) -> list[int]:
        edges = [bisect_left(times, since + width * column) for column in range(columns + 1)]
        return [after - before for before, after in pairwise(edges)]


def strip(shares: Sequence[float | None], fancy: bool) -> str:
    """One line of a picture: full where every probe was answered, bare where none was."""
    blocks = "·▁▂▃▄▅▆▇█" if fancy else "_:#"
    last = len(blocks) - 1
    return "".join(
        " " if share is None else blocks[0 if share == 0 else max(1, round(share * last))]
        for share in shares
    )


def scale(seconds: float, columns: int, fancy: bool) -> str:
    """The line below a picture: a tick a round number of seconds."""
    step = next((s for s in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if seconds / s <= 9), 10.0)
    line = [" "] * (columns + 8)
    for number in range(int(seconds / step + 1e-9) + 1):
        at = round(number * step / seconds * columns)
        label = ("╵" if fancy else "'") + f"{number * step:g}"
        if at + len(label) <= columns:
            line[at : at + len(label)] = label
    text = "".join(line).rstrip()
    return f"{text} s"
