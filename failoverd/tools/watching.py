"""What all ways of watchd need: its configuration, what counts, and how it tells."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from failoverd import conf, links, log, process
from failoverd.conf import files
from failoverd.process import Message
from failoverd.tools.arguments import DEFAULT_CONF
from failoverd.tools.words import HEADER, Stop, row
from failoverd.watch import filters, watcher
from failoverd.watch.counter import what_counts
from failoverd.wire.protocol import heartbeat_tags

CANNOT_READ = 3  # 1 and 2 have their meaning with -r and --tune
IFF_PROMISC = 0x100
UNFIT = {  # by state, what is said of an interface that receives nothing
    "down": "{0} is down: nothing is received; ip link set dev {0} up",
    "no-carrier": "{0} has no carrier: nothing is received; check the cable and the switch port",
    "missing": "{0} is missing: nothing is received",
}


complain = partial(log.complain, "watchd")


def read_conf(path: str | None, quiet: bool = False) -> conf.Conf:
    """The configuration; the defaults if none is named and the usual one is not there."""
    if path is None and not os.path.exists(DEFAULT_CONF):
        if not quiet:
            complain(f"there is no {DEFAULT_CONF}: using the defaults")
        return conf.Conf()
    try:
        settings = files.load(path or DEFAULT_CONF, pair=False)
    except conf.ConfError as error:
        raise Stop(str(error)) from None
    for name, expression in (("$filter", settings.filter), ("$plip_filter", settings.plip_filter)):
        if expression and (problem := filters.check_filter(expression)):
            raise Stop(f"{path or DEFAULT_CONF}: {name} is not a pcap expression: {problem}")
    return settings


def counted_here(settings: conf.Conf, interface: str) -> str:
    """The pcap expression for what counts, with the heartbeats' tag where it is needed.

    Raises Stop if that cannot be known: whatever else was counted would tell something else than
    failoverd sees.
    """
    if interface != settings.plip_interface or settings.plip_filter:
        return what_counts(settings, interface)
    process.keep_secret()
    try:
        secret = files.read_secret(settings.secret)
    except conf.ConfError as error:
        way = "set $plip_filter" if os.geteuid() == 0 else "run it as root, or set $plip_filter"
        raise Stop(
            f"{interface} is the heartbeat link, where only heartbeats with the pair's tag count; "
            f"the tag comes from the shared secret, which cannot be read: {way}\n{error}"
        ) from None
    tags = heartbeat_tags(secret, settings.primary, settings.secondary).peers
    return what_counts(settings, interface, tags)


def must_exist(interface: str) -> None:
    if interface not in links.names():
        raise Stop(f"there is no interface {interface}; there are {', '.join(links.names())}")


def prepared(settings: conf.Conf, interface: str) -> tuple[str, tuple[filters.Program, ...]]:
    """What counts, and the program to count it with, which the kernel takes. Raises OSError."""
    expression = counted_here(settings, interface)
    name = "plip_filter" if interface == settings.plip_interface else "filter"
    own = getattr(settings, name)
    try:
        return expression, filters.prepare(expression, own, [interface], "watchd: filter")
    except filters.BadFilter as error:
        what = f"{settings.origin.file}: ${name}" if own else f"{interface}: what counts"
        raise Stop(f"{what} is invalid: {error}") from None


@contextmanager
def opening(interface: str) -> Iterator[None]:
    """Make one sentence of what goes wrong when counting begins."""
    try:
        yield
    except PermissionError:
        raise Stop(f"{interface}: not permitted to count packets; run it as root") from None
    except (OSError, ValueError) as error:
        raise Stop(str(error)) from None


def odd_at_start(settings: conf.Conf, interface: str) -> Iterator[str]:
    """What is odd before the first packet."""
    state = watcher.link_state(interface)
    if state != "up":
        yield UNFIT[state].format(interface)
    if not links.addresses(interface):
        yield f"{interface} has no address: broadcasts at best are received"
    if links.flags(interface) & IFF_PROMISC:
        yield f"{interface} is promiscuous: packets for others count too"
    if not watcher.rules_for(settings, interface).private:  # $low_water does not concern it
        yield from conf.remarks(settings)


@dataclass
class Tally:
    """What came out so far, by verdict, and the packets of each window."""

    windows: dict[str, int] = field(default_factory=dict)
    packets: list[int] = field(default_factory=list)  # the fewest, the most and the sum
    first_fail: Message | None = None

    def add(self, line: Message) -> None:
        verdict, packets = str(line["verdict"]), int(str(line["packets"]))
        windows = int(str(line.get("windows", 1)))
        self.windows[verdict] = self.windows.get(verdict, 0) + windows
        least, most, total = self.packets or (packets, packets, 0)
        self.packets = [min(least, packets), max(most, packets), total + packets * windows]
        if verdict == "fail":
            self.first_fail = self.first_fail or line

    @property
    def ended(self) -> int:
        return sum(self.windows.values())

    @property
    def judged(self) -> int:
        """Windows that could have failed."""
        return self.ended - self.windows.get("boot", 0)


class Plain:
    """Shows windows as lines of text, or as JSON objects; the same face as screen.Screen."""

    every: float | None = None  # seconds between two pictures of the open window

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._header = "" if as_json else f"{HEADER}\n"

    def say(self, line: Message) -> None:
        print(self._header + (json.dumps(line) if self._as_json else row(line)), flush=True)
        self._header = ""

    def complain(self, sentence: str) -> None:
        complain(sentence)

    def refresh(self, watcher: watcher.Watcher, now: float) -> None:
        pass

    def close(self) -> None:
        pass
