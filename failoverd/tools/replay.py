"""watchd -r: judges a capture, and says whether it would have failed over."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from datetime import datetime

from failoverd import conf, links
from failoverd.process import Message
from failoverd.tools import watching
from failoverd.tools.capture import (
    NANOSECONDS,
    Capture,
    Clock,
    Truncated,
    counts_in_capture,
    knows_direction,
    link_name,
    open_capture,
)
from failoverd.tools.recording import replay as judged
from failoverd.tools.words import Stop, counted, exact_span
from failoverd.watch import watcher
from failoverd.watch.filters import BadFilter
from failoverd.wire.frames import NO_HWADDR

WOULD_FAIL_OVER = 1
NOTHING_JUDGED = watching.CANNOT_READ


def replay(options: argparse.Namespace, settings: conf.Conf) -> int:
    """Judge a capture; the exit status says whether it would have failed over."""
    rules = watcher.rules_for(settings, options.interface, NANOSECONDS)
    for remark in [] if rules.private else conf.remarks(settings):
        watching.complain(remark)
    until = None if options.until is None else round(options.until * NANOSECONDS)
    screen, tally = watching.Plain(options.json), watching.Tally()
    with open_capture(options.capture) as opened:
        batches = opened.batches(filter_for(options, settings, opened))
        for event in judged(rules, batches, until):
            line: Message = dict(event.line(options.interface, 0, NANOSECONDS))
            screen.say(line)
            tally.add(line)
    sys.stdout.flush()
    end_of(opened)
    never_fails = rules.low_water == 0 and not rules.private
    print(conclusion(tally, opened, never_fails), file=sys.stderr if options.json else sys.stdout)
    if opened.problem is not None and not isinstance(opened.problem, Truncated):
        return watching.CANNOT_READ
    if tally.first_fail:
        return WOULD_FAIL_OVER
    return 0 if tally.judged else NOTHING_JUDGED


def end_of(opened: Capture) -> None:
    """Say how the reading ended. Raises Unreadable if there was nothing to read."""
    if opened.problem is not None and opened.clock.first is None:
        raise opened.problem
    for remark in of_its_clock(opened.clock):
        watching.complain(remark)
    if opened.problem is not None:
        watching.complain(f"{opened.problem}; what comes before counts")


def filter_for(
    options: argparse.Namespace, settings: conf.Conf, opened: Capture
) -> Callable[[bytes], int]:
    """What counts in this capture. Says so if what the interface sent itself cannot be told."""
    expression, linktype = watching.counted_here(settings, options.interface), opened.linktype
    own, kind = options.mac or own_address(settings, options.interface), link_name(linktype)
    try:
        accept = counts_in_capture(expression, linktype, own)
    except BadFilter as error:
        raise Stop(f"{options.capture}: {misfit(options, settings, linktype, error)}") from None
    if not knows_direction(linktype, own):
        way = (
            "--mac ADDRESS names its hardware address"
            if knows_direction(linktype, NO_HWADDR)
            else f"link type {kind} does not tell: capture with tcpdump -Q in"
        )
        watching.complain(
            f"which packets this interface has sent itself is not known: all count ({way})"
        )
    return accept


def misfit(
    options: argparse.Namespace, settings: conf.Conf, linktype: int, error: BadFilter
) -> str:
    """That what counts cannot be asked of packets of this link type, and the way out."""
    name = "plip_filter" if options.interface == settings.plip_interface else "filter"
    what = f"{settings.origin.file}: ${name}" if getattr(settings, name) else "what counts here"
    return (
        f"{what} does not fit packets of link type {link_name(linktype)}: {error}; capture on the "
        f"interface itself, tcpdump -i {options.interface} -w FILE, or name another ${name} with "
        "-c CONF"
    )


def own_address(settings: conf.Conf, interface: str) -> str | None:
    """The hardware address that goes with the interface; that of the loopback says nothing."""
    for entry in settings.ethernet_addresses:
        if entry.interface == interface:
            return entry.hwaddr
    own = links.hwaddr(interface)
    return None if own == NO_HWADDR else own


def of_its_clock(clock: Clock) -> Iterator[str]:
    """Remarks on times in the capture that are no times of one clock that goes on evenly."""
    pause, begin, end = clock.pause
    if pause:
        what = (
            "is left out"
            if clock.passes_over
            else "is judged as silence; if the clock was set or the recording interrupted, cut the "
            "capture there (editcap -A, -B) and judge each part"
        )
        yield (
            f"nothing was recorded from {time_of_day(begin)} to {time_of_day(end)} "
            f"({exact_span(pause / 1e9)}): that {what}"
        )
    if clock.set_back:
        step = exact_span(clock.set_back / 1e9)
        yield f"the clock was set back by {step}: time goes on from there"


def time_of_day(nanoseconds: float) -> str:
    """Local time, from nanoseconds since 1970."""
    return datetime.fromtimestamp(nanoseconds / 1e9).isoformat(" ", "milliseconds")


def conclusion(tally: watching.Tally, opened: Capture, never_fails: bool) -> str:
    """One sentence: would this configuration have failed over here, when and why?"""
    clock = opened.clock
    if clock.first is None:
        return "there is no packet in it: nothing was judged"
    if tally.first_fail is None:
        if not tally.judged:
            ended = "only the first window has ended in it, which never fails"
            none = "not one window has ended in it"
            return f"{ended if tally.ended else none}: nothing was judged (--until S judges on)"
        never = ": a service interface never fails with $low_water 0" if never_fails else ""
        return f"would not have failed over ({counted(tally.ended, 'window')}){never}"
    after = float(str(tally.first_fail["t"]))
    at = "" if clock.set_back else f", at {time_of_day(clock.first + after * 1e9)}"
    return (
        f"would have failed over {after:.3f} s after the first packet{at}: "
        f"{tally.first_fail['reason']}"
    )
