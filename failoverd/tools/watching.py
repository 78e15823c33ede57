"""What all ways of watchd need: its configuration, what counts, and how it tells."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TextIO

from failoverd import conf, links, process
from failoverd.conf import files
from failoverd.process import Message
from failoverd.tools.words import Stop, counted
from failoverd.watch import filters
from failoverd.watch.counter import BadFilter, what_counts
from failoverd.wire.protocol import heartbeat_tags

CONF = "/etc/failover/failoverd.conf"
CANNOT_READ = 3  # 1 and 2 have their meaning with -r and --tune
WITHIN_SECONDS, DAYS = 10.0, 30.0  # what --tune aims at
TUNE_SECONDS = 300.0

Print = Callable[[Message], None]


def complain(message: str) -> None:
    print(f"watchd: {message}", file=sys.stderr)


def read_conf(path: str | None) -> conf.Conf:
    """The configuration; the defaults if none is named and the usual one is not there."""
    file = path or CONF
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            settings = conf.parse(stream.read(), file, pair=False)
    except FileNotFoundError:
        if path is not None:
            raise Stop(f"{file}: there is no such file") from None
        complain(f"there is no {CONF}: using the defaults")
        return conf.Conf()
    except OSError as error:
        raise Stop(f"{file}: {error.strerror}") from None
    except conf.ConfError as error:
        raise Stop("\n".join(str(problem) for problem in error.problems)) from None
    check_filters(settings, file)
    return settings


def check_filters(settings: conf.Conf, file: str) -> None:
    for name, expression in (("$filter", settings.filter), ("$plip_filter", settings.plip_filter)):
        if not expression:
            continue
        if problem := filters.check_filter(expression):
            raise Stop(f"{file}: {name} is not a pcap expression: {problem}")


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
            f"{interface} is the private link, where only heartbeats with the pair's tag count; "
            f"the tag comes from the secret, which cannot be had: {way}\n{error}"
        ) from None
    tags = heartbeat_tags(secret, settings.primary, settings.secondary).peers
    return what_counts(settings, interface, tags)


def must_exist(interface: str) -> None:
    if interface not in links.names():
        raise Stop(f"there is no interface {interface}; there are {', '.join(links.names())}")


def prepared(settings: conf.Conf, interface: str, expression: str) -> tuple[filters.Program, ...]:
    """The program to count with, which the kernel takes. Raises OSError."""
    name = "plip_filter" if interface == settings.plip_interface else "filter"
    own = getattr(settings, name)
    try:
        return filters.prepare(expression, own, [interface], "watchd: filter")
    except BadFilter as error:
        what = f"{settings.origin.file}: ${name}" if own else f"{interface}: what counts"
        raise Stop(f"{what} cannot be used: {error}") from None


def cannot_count(interface: str, error: Exception) -> Stop:
    if isinstance(error, PermissionError):
        return Stop(f"{interface}: not permitted to count packets; run it as root")
    return Stop(str(error))


@dataclass
class Tally:
    """What came out so far."""

    windows: int = 0
    judged: int = 0  # of them: those that could have failed
    fails: int = 0
    first_fail: Message | None = None

    def add(self, line: Message) -> None:
        windows = int(str(line.get("windows", 1)))
        self.windows += windows
        self.judged += windows if line["verdict"] != "boot" else 0
        if line["verdict"] == "fail":
            self.fails += windows
            self.first_fail = self.first_fail or line


def print_json(line: Message) -> None:
    print(json.dumps(line), flush=True)


def print_plain(line: Message) -> None:
    began = ", boot" if line["boot"] else ""
    alike = f", {line['windows']:,} windows alike" if "windows" in line else ""
    print(
        f"{line['t']:12.6f}  {line['interface']}  {line['event']:5}  {line['verdict']:4}  "
        f"{counted(line['packets'], 'packet')}, {line['last']} before{began}: {line['reason']}"
        f"{alike}",
        flush=True,
    )


def terminal_for(stream: TextIO) -> ModuleType | None:
    """What shows things that move, if the stream is a terminal that can, and rich is there."""
    if not stream.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        from failoverd.tools import screen
    except ImportError:
        return None
    return screen


@contextmanager
def progress(
    terminal: ModuleType | None, what: str, hint: str = ""
) -> Iterator[Callable[[str, float | None], object]]:
    """Where to show how far it has come: nowhere without a terminal."""
    if terminal is None:
        yield lambda _, __: None
        return
    with closing(terminal.Progress(what, hint)) as shows:
        yield shows.show
