"""ha-status: both nodes side by side."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import NoReturn

from failoverd import history, statefile
from failoverd.conf import Conf
from failoverd.log import complain
from failoverd.tools import prometheus, table
from failoverd.tools.arguments import Parser, file_path, guarded
from failoverd.tools.client import AS_ROOT, ExchangeError, load, prepare
from failoverd.tools.nodes import Look, Pair
from failoverd.tools.terminal import terminal_for
from failoverd.tools.verdict import UNKNOWN, WORDS, Verdict, moment
from failoverd.tools.words import TYPED_UNITS, Stop
from failoverd.wire.protocol import Change, Status


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status as a Verdict; 3 too if nothing could be asked or written."""
    options = _parse(argv)
    return guarded("ha-status", lambda: _tell(options), UNKNOWN)


def _tell(options: argparse.Namespace) -> int:
    """The exit status. Raises Stop, and OSError for the output."""
    try:
        if options.history:
            _tell_history(load(options.config), options)
            return 0
        client = prepare(options.config)
        if options.explain:
            return _explain(client.status(client.conf.primary))
        pair = Pair(client)
    except ExchangeError as error:
        unasked = Verdict(UNKNOWN, f"nothing can be asked with {options.config}")
        if options.check:
            print(_for_nagios(unasked, str(error)))
            return UNKNOWN
        if not (options.json or options.prometheus or options.history or options.explain):
            print(unasked, flush=True)
        raise Stop(str(error)) from None
    if options.watch:
        return _watch(pair, options)
    look = pair.look()
    if options.check:
        why = look.here.trouble or look.there.trouble
        print(_for_nagios(look.verdict, why), _measured(look), sep=" | ", flush=True)
        return look.verdict.status
    if options.prometheus is not None:
        _export(options.prometheus, look)
    elif options.json:
        print(look.json())
    else:
        _show(list(table.lines(look, options.verbose)))
        return look.verdict.status
    sys.stdout.flush()
    for trouble in _troubles(look):
        complain("ha-status", trouble)
    return look.verdict.status


class _Parser(Parser):
    """A monitor must not take a wrong option for an outage: 2 is CRITICAL."""

    unwritten = UNKNOWN

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(UNKNOWN, f"{self.prog}: error: {message}\n")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="ha-status",
        description="Show both nodes of the pair side by side.",
        epilog="Exit status: 0 OK, one node is active and the other can take over; 1 WARNING, "
        "redundancy is lost; 2 CRITICAL, no node is active, or two are; 3 UNKNOWN: failoverd is "
        "not running here, the configuration is invalid, usage, or FILE could not be written.",
    )
    add = parser.add_argument
    add("--watch", action="store_true", help="update every second, until Ctrl-C")
    add("--json", action="store_true", help='print one JSON object: {"us": ..., "peer": ...}')
    add("--check", action="store_true", help="print one line for Nagios, with performance data")
    add("--prometheus", type=file_path, metavar="FILE",
        help="write metrics for node_exporter (- prints them)")  # fmt: skip
    add("--explain", action="store_true", help="what this node would do now, or why it would not")
    add("--history", action="store_true", help="print the last changes of this node's role")
    add("--since", metavar="TIME", type=_since,
        help='with --history: only after "2026-11-28 02:00", or 30m, 12h, 7d ago')  # fmt: skip
    add("-v", dest="verbose", action="store_true", help="show versions and hardware addresses too")
    options = parser.parse(argv)
    modes = ("check", "watch", "prometheus", "history", "explain")
    told = [name for name in modes if vars(options)[name]]
    if len(told) > 1 or (options.json and told in (["check"], ["prometheus"], ["explain"])):
        other = told[1] if len(told) > 1 else "json"
        parser.error(f"--{told[0]} cannot be combined with --{other}")
    if options.since and not options.history:
        parser.error("--since needs --history")
    return options


def _since(text: str) -> datetime:
    """A moment, or one so long ago."""
    try:
        if seconds := TYPED_UNITS.get(text[-1:]):
            return datetime.now().astimezone() - timedelta(seconds=seconds * float(text[:-1]))
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"not a time: {text}") from None


def _troubles(look: Look) -> list[str]:
    """What is wrong, for who reads no table."""
    return [*(each.why for each in (look.here, look.there) if each.trouble), *look.remarks]


# On a terminal, or not


def _show(lines: list[table.Line]) -> None:
    """A terminal has sentences wrapped at words."""
    terminal = terminal_for(sys.stdout)
    if terminal is not None:
        terminal.show(terminal.coloured(lines))
    else:
        print(table.plain(lines), flush=True)


def _watch(pair: Pair, options: argparse.Namespace) -> int:
    """Show the pair every second until Ctrl-C; without a terminal, when something has changed."""
    terminal = None if options.json else terminal_for(sys.stdout)
    region = terminal and terminal.Region(stays=True)
    before = None
    try:
        for look in pair.looks():
            if options.json:
                print(look.json(), flush=True)
            elif region is not None and terminal is not None:
                last = [*table.end(look), *table.footer(look)]
                top = terminal.coloured(table.top(look, options.verbose))
                region.show(top, terminal.coloured(last))
            elif (now := _gist(look)) != before:
                before = now
                print(time.strftime("%H:%M:%S"))
                _show(list(table.lines(look, options.verbose)))
    except KeyboardInterrupt:
        pass
    finally:
        if region is not None:
            region.close()
    return 0


def _gist(look: Look) -> tuple[object, ...]:
    """What of a look is worth telling again: no ages, no counts."""
    parts: list[object] = [each for each in _troubles(look) if each != look.clocks]
    parts += [look.verdict, bool(look.clocks)]
    for status in (look.us, look.peer):
        if status is not None:
            states = [(name, interface.state) for name, interface in status.interfaces]
            states += [(name, check.state) for name, check in status.checks]
            parts += [status.role, status.since, status.plip_state, status.switch_exit, *states]
        parts.append(None)
    return tuple(parts)


# For monitors


def _for_nagios(verdict: Verdict, more: str = "") -> str:
    text = f"{verdict.sentence}: {more}" if more else verdict.sentence
    text = " ".join(text.replace("\n", "; ").split()).replace("|", "/")
    return f"FAILOVERD {WORDS[verdict.status]} - {text}"


def _measured(look: Look) -> str:
    """Performance data: label=value[unit];warn;crit;min;max. What is unknown is left out."""
    active = sum(each is not None and each.role == "active" for each in (look.us, look.peer))
    found = [f"active={active};;1:1;0;2"]
    us = look.us
    if us is not None:
        measures = (("heartbeat_age", us.heartbeat_age, "s"), ("round_trip", us.rtt_ms, "ms"))
        found += [f"{name}={value:g}{unit};;;0" for name, value, unit in measures
                  if value is not None]  # fmt: skip
        found += [f"'{name} packets'={each.last};;;0" for name, each in us.interfaces]
    return " ".join(found)


def _export(path: str, look: Look) -> None:
    """Write the file of metrics, or print them. Raises Stop, and OSError for the output."""
    text = prometheus.exposition(look, datetime.now().astimezone())
    if path == "-":
        print(text, end="")
        return
    try:
        prometheus.write(path, text)
    except OSError as error:
        raise Stop(f"{path} cannot be written: {error.strerror or error}") from None


def _explain(us: Status) -> int:
    """Raises Stop."""
    if not us.explained:
        raise Stop(f"failoverd here, version {us.version}, is too old for --explain: restart it")
    _show([[(line, "")] for line in us.explained])
    return 0


# --history


def _tell_history(conf: Conf, options: argparse.Namespace) -> None:
    """Raises Stop."""
    path = statefile.place(conf.state, "history")
    try:
        changes = history.read(path)
    except PermissionError:
        raise Stop(f"{path} cannot be read: {AS_ROOT}") from None
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}") from None
    if options.since:
        changes = [each for each in changes if _is_since(each, options.since)]
    if options.json:
        for each in changes:
            print(json.dumps(asdict(each)))
    elif not changes:
        print(f"no change of this node's role {'since then ' if options.since else ''}in {path}")
    else:
        width = shutil.get_terminal_size((table.WIDTH, 0)).columns
        print(*table.changes(changes, width), sep="\n")
    sys.stdout.flush()


def _is_since(change: Change, since: datetime) -> bool:
    when = moment(change.when)
    return when is not None and when >= since


if __name__ == "__main__":
    sys.exit(main())
