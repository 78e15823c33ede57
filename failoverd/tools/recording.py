"""What `watch.judge` makes of a whole recording, as fast as it is read."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace

from failoverd.watch.judge import Event, Rules, Window, count, expire, start

# A recording's silence of more windows has two events, one for its first window and one for all
# others: a clock that was set in the middle of a capture makes a silence of years.
LISTED = 1000


def replay(
    rules: Rules, batches: Iterable[tuple[Sequence[float], float]], until: float | None = None
) -> Iterator[Event]:
    """All events of a recording: times of packets, ascending, and how far time has come with them.

    The first window begins at 0. One that is open at the end is not judged; with `until`, time goes
    on to that moment, and no further. Without a single packet no window ever begins.
    """
    window = None
    for times, now in batches:
        end = now if until is None else min(now, until)
        window = yield from _pass(rules, window or start(rules, 0), times, end)
        if end != now:
            return
    if until is not None and window is not None:
        yield from _pass(rules, window, (), until)


def _pass(
    rules: Rules, window: Window, times: Sequence[float], now: float
) -> Generator[Event, None, Window]:
    """Let time pass to `now`, and packets arrive. A deadline at a packet's time goes first."""
    at, stop = 0, bisect_right(times, now)
    while True:
        before_deadline = bisect_left(times, window.deadline, at, stop)
        end = min(before_deadline, at + rules.packet_count - window.packets)
        if end > at:
            window, event = count(rules, window, end - at, times[end - 1])
            at = end
            if event:
                yield event
                continue
        if now < window.deadline:
            return window
        alike = _alike(rules, window, times[at] if at < stop else now)
        for windows in [1] * alike if alike <= LISTED else [1, alike - 1]:
            deadline = window.deadline + (windows - 1) * rules.timer
            window, event = expire(rules, replace(window, deadline=deadline), deadline)
            yield event if windows == 1 else replace(event, windows=windows)


def _alike(rules: Rules, window: Window, until: float) -> int:
    """How many windows, from this one on, end in the same way before anything is received."""
    if window.packets or window.last or window.boot:
        return 1
    return 1 + int((until - window.deadline) // rules.timer)
