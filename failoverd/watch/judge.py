"""What the packets of one interface mean: section 4 of the contract, and nothing else.

The same four functions judge a live interface, a capture file, and every state that the explorer of
the tests can reach. So a window is a small value that compares and hashes, and time is an argument
that appears in it only as a deadline. Times may be seconds as floats, or whole numbers of any
smaller unit: a capture is judged in nanoseconds, because 0.1 s three times over is not 0.3 s in
floats. `Rules.second` says how many units a second has.
"""

from __future__ import annotations

from dataclasses import dataclass

LATE_SECONDS = 0.05  # a window may always end this late before that says something of this node

Line = dict[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Rules:
    """How one interface is judged. `timer` is the window, in units of time."""

    packet_count: int
    timer: float
    low_water: int
    private: bool
    second: float = 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """The window that is open: what was read in it and in the one before, and when it ends."""

    packets: int
    last: int
    boot: bool
    deadline: float


@dataclass(frozen=True, slots=True)
class Event:
    """A window that has ended. `packets`, `last` and `boot` are what they were before it did.

    Over a recording it may stand for so many `windows` in a row that do not differ; `t` is the end
    of the last.
    """

    t: float
    event: str  # full, alarm
    packets: int
    last: int
    boot: bool
    verdict: str  # ok, boot, late, fail
    reason: str
    windows: int = 1

    def line(self, interface: str, began: float = 0.0, second: float = 1.0) -> Line:
        """The JSON object of this event; `began` is when watching began, in the unit of `t`."""
        line: Line = {
            "t": round((self.t - began) / second, 9),
            "interface": interface,
            "event": self.event,
            "packets": self.packets,
            "last": self.last,
            "boot": self.boot,
            "verdict": self.verdict,
            "reason": self.reason,
        }
        return line if self.windows == 1 else line | {"windows": self.windows}


def start(rules: Rules, now: float) -> Window:
    """The first window, and the one after a switch of this node."""
    return Window(packets=0, last=0, boot=True, deadline=now + rules.timer)


def count(rules: Rules, window: Window, packets: int, now: float) -> tuple[Window, Event | None]:
    """`packets` more were received. If that makes the window full, it restarts."""
    total = window.packets + packets
    if total < rules.packet_count:
        return Window(total, window.last, window.boot, window.deadline), None
    event = Event(now, "full", total, window.last, window.boot, "ok", "packet_count reached")
    return Window(0, total, window.boot, now + rules.timer), event


def expire(rules: Rules, window: Window, now: float) -> tuple[Window, Event]:
    """The window ends. To be called once `now` has reached the deadline, and after `count`."""
    verdict, reason = judge(rules, window, now)
    event = Event(now, "alarm", window.packets, window.last, window.boot, verdict, reason)
    last = window.last if verdict == "late" else window.packets
    return Window(0, last, False, now + rules.timer), event


def judge(rules: Rules, window: Window, now: float) -> tuple[str, str]:
    """Verdict and reason for a window that ends at `now`."""
    late = now - window.deadline
    if late > rules.timer / 2 and late > LATE_SECONDS * rules.second:
        return "late", f"the window ended {late / rules.second:.3f} s late"
    if window.boot:
        return "boot", "first window"
    if not rules.private and window.packets < rules.low_water:
        return "fail", "below low water"
    if window.packets:
        return "ok", "packets came in"
    if window.last:
        return "ok", "silent once"
    if rules.private:
        return "fail", "silent twice"
    return "ok", "silent, but low_water is 0"  # with another one it is below low water
