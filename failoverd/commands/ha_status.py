"""ha-status: both machines side by side."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from failoverd import __version__, process
from failoverd.conf import Conf, Problem, alike, survey
from failoverd.tools import verdict
from failoverd.tools.client import ExchangeError, exchange, prepare
from failoverd.tools.observe import look_around
from failoverd.tools.verdict import CRITICAL, OK, UNKNOWN, WARNING, Verdict
from failoverd.tools.words import Stop, counted, exact_span
from failoverd.wire.protocol import (
    FILTER,
    FILTERED,
    LOOK_THERE,
    Failure,
    InterfaceStatus,
    Status,
    parse_status,
    status_tree,
)

if TYPE_CHECKING:
    from failoverd.tools.screen import Cell

# A status is answered at once. The kernel finds out within 3 s that a machine does not answer ARP,
# and says so better than our running out of patience.
SECONDS = 4.0
EVERY = 1.0  # seconds between two questions of --watch
OLD = 2 * EVERY  # seconds after which an answer is said to be old
CLOCKS_DIFFER = 3.0  # seconds from which on that is said


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status as a Verdict; 3 too if nothing could be asked or written."""
    options = _parse(argv)
    process.open_streams()
    try:
        return _ask_and_show(options)
    except Stop as stop:
        _complain(str(stop))
        return UNKNOWN
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # not by SIGPIPE's default, which would end us for a socket's sake, too
        process.discard_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        process.discard_output()
        _complain(f"cannot write the output: {error.strerror}")
        return UNKNOWN


def _ask_and_show(options: argparse.Namespace) -> int:
    """The exit status. Raises Stop, and OSError for the output."""
    try:
        conf, secret = prepare(options.config)
    except ExchangeError as error:
        if not options.json and options.prometheus is None:
            print(Verdict(UNKNOWN, f"nothing can be asked with {options.config}"), flush=True)
        _complain(str(error))
        return UNKNOWN
    pair = Pair(conf, secret)
    if options.watch:
        return _watch(pair, options)
    look = pair.look()
    if options.prometheus is not None:
        _export(options.prometheus, look)
    elif options.json:
        print(look.json())
    else:
        _show(conf, look, options.verbose)
    sys.stdout.flush()
    for trouble in look.troubles:
        _complain(trouble)
    return look.verdict.status


class _Parser(argparse.ArgumentParser):
    """A monitor must not take a wrong option for an outage: 2 is CRITICAL."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(UNKNOWN, f"{self.prog}: error: {message}\n")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="ha-status",
        description="Show both machines of the pair side by side.",
        epilog="Exit status: 0 OK, one node is active and the other can take over; 1 WARNING, "
        "redundancy is lost; 2 CRITICAL, no node is active, or two are; 3 UNKNOWN: failoverd does "
        "not run here, the configuration cannot be used, usage, or FILE could not be written.",
    )
    add = parser.add_argument
    add("-c", dest="config", metavar="CONF", default="/etc/failover/failoverd.conf",
        help="the configuration (default: %(default)s)")  # fmt: skip
    add("--watch", action="store_true", help="go on, every second, until Ctrl-C")
    add("--json", action="store_true", help='print one JSON object: {"us": ..., "peer": ...}')
    add("--prometheus", metavar="FILE",
        help="write metrics for node_exporter's textfile collector (- prints them)")  # fmt: skip
    add("-v", dest="verbose", action="store_true", help="show versions and hardware addresses too")
    add("--version", action="version", version=f"ha-status {__version__}")
    options = parser.parse_args(argv)
    if options.prometheus is not None and (options.watch or options.json):
        parser.error("--prometheus goes without --watch and --json")
    return options


# Asking


@dataclass(frozen=True)
class Said:
    """What a machine said, or why it said nothing.

    clock: its clock is ahead of ours by no less and no more than so many seconds, None if unknown.
    """

    status: Status | None = None
    trouble: str = ""
    clock: tuple[float, float] | None = None


@dataclass(frozen=True)
class Look:
    """What the machines said, or why one said nothing. address: the peer's."""

    us: Status | None
    peer: Status | None
    our_trouble: str = ""
    peer_trouble: str = ""
    ages: tuple[float, float] = (0.0, 0.0)  # seconds since they were asked for this
    clock: tuple[float, float] | None = None  # the peer's, as in Said
    address: str = Conf.secondary
    switch_timeout: float = Conf.switch_timeout
    amiss: tuple[Problem, ...] = ()  # with this node's network

    @property
    def verdict(self) -> Verdict:
        return verdict.judge(
            self.us,
            self.peer,
            address=self.address,
            switch_timeout=self.switch_timeout,
            differences=self.differences,
            amiss=[problem.message for problem in self.amiss],
        )

    @property
    def ahead(self) -> float | None:
        """By how many seconds the peer's clock is ahead of ours, at the least: the way there and
        back proves no more. Negative if it is behind, None if unknown."""
        if self.clock is None:
            return None
        least, most = self.clock
        return min(max(0.0, least), most)

    @property
    def clocks(self) -> str:
        """A sentence if the clocks differ by more than a little."""
        if self.ahead is None or abs(self.ahead) < CLOCKS_DIFFER:
            return ""
        where = "ahead of" if self.ahead > 0 else "behind"
        by = exact_span(round(abs(self.ahead)))
        return f"the peer's clock is {by} {where} this node's: set both by NTP"

    @property
    def troubles(self) -> list[str]:
        found = [self.our_trouble, self.peer_trouble, *map(str, self.amiss), self.clocks]
        if self.us and self.peer and self.peer.speechless:
            found.append(f"what the peer asks of this node is not answered: {FILTER}")
        if self.us and self.peer and self.us.boot == self.peer.boot:
            found.append(alike.same_boot(self.us.boot))
        if self.differences:
            found.append(f"not the same on both machines: {'; '.join(self.differences)}")
        return [trouble for trouble in found if trouble]

    @property
    def differences(self) -> list[str]:
        """In what must be alike, each as a sentence."""
        if self.us is None or self.peer is None:
            return []
        told = alike.of_status(self.us), alike.of_status(self.peer)
        return list(alike.differences(*told).values())

    def json(self) -> str:
        """Section 6. "differences" is there only if there are some."""
        us, peer = self.us, self.peer
        tree: dict[str, object] = {
            "us": us and status_tree(us),
            "peer": peer and status_tree(peer),
            "verdict": str(self.verdict),
        }
        if self.differences:
            tree["differences"] = self.differences
        if self.ahead is not None:
            tree["clock_difference"] = round(self.ahead, 3)
        return json.dumps(tree)


class Question:
    """One question to one machine, in a thread of its own: a dead one takes its time."""

    def __init__(self, conf: Conf, secret: bytes, address: str) -> None:
        self.asked = time.monotonic()
        self.answer = Said()
        self._args = conf, secret, address
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        self.answer = _ask(*self._args)

    def is_answered(self, wait: float | None = 0.0) -> bool:
        self._thread.join(wait)
        return not self._thread.is_alive()


class Machine:
    """One of the two, and the last that was heard of it."""

    def __init__(self, conf: Conf, secret: bytes, address: str) -> None:
        self._args = conf, secret, address
        self._question: Question | None = None
        self.answer = Said()
        self.asked = 0.0

    def ask(self) -> None:
        """Ask, unless that is still being done."""
        if self._question is None or self._question.is_answered():
            self._question = Question(*self._args)

    def collect(self, wait: float | None) -> bool:
        """Take the answer, waiting so long for it. Whether there is one."""
        if self._question is None or not self._question.is_answered(wait):
            return False
        self.answer, self.asked = self._question.answer, self._question.asked
        return True


class Pair:
    """Both machines, asked at the same time."""

    def __init__(self, conf: Conf, secret: bytes) -> None:
        self.conf = conf
        self._us = Machine(conf, secret, conf.primary)
        self._peer = Machine(conf, secret, conf.secondary)

    def look(self) -> Look:
        """Ask both, and wait for both. Their answers are of two moments: between them one may have
        handed its role to the other, so what is grave is asked again, but nobody who is silent."""
        self._ask(self._us, self._peer)
        look = self._seen()
        if look.verdict.status != CRITICAL:
            return look
        self._ask(*(each for each in (self._us, self._peer) if each.answer.status is not None))
        return self._seen()

    def _ask(self, *machines: Machine) -> None:
        for machine in machines:
            machine.ask()
        for machine in machines:
            machine.collect(None)

    def looks(self) -> Iterator[Look]:
        """What is known, every second. The first waits for both, the others wait for nobody."""
        yield self.look()
        while True:
            began = time.monotonic()
            for machine in (self._us, self._peer):
                machine.ask()
            for machine in (self._us, self._peer):
                machine.collect(max(0.0, began + EVERY - time.monotonic()))
            yield self._seen()
            time.sleep(max(0.0, began + EVERY - time.monotonic()))

    def _seen(self) -> Look:
        us, peer = self._us.answer, self._peer.answer
        trouble = peer.trouble
        if us.status is not None and us.status.speechless:
            trouble = trouble.replace(LOOK_THERE, FILTERED)
        now = time.monotonic()
        return Look(
            us.status,
            peer.status,
            us.trouble,
            trouble,
            ages=(now - self._us.asked, now - self._peer.asked),
            clock=peer.clock,
            address=self.conf.secondary,
            switch_timeout=self.conf.switch_timeout,
            amiss=_amiss(self.conf),
        )


def _amiss(conf: Conf) -> tuple[Problem, ...]:
    """What `failoverd -t` takes for an error in this node's network."""
    found = survey.findings(conf, look_around(conf, port=False))
    return tuple(conf.problem(each.variable, each.text) for each in found if each.is_error)


def _ask(conf: Conf, secret: bytes, address: str) -> Said:
    """The status of a machine, or why there is none."""
    before = datetime.now(UTC)
    try:
        reply = exchange(conf, secret, address, "status", SECONDS)
    except ExchangeError as error:
        return Said(trouble=str(error))
    status = parse_status(reply.text) if reply.ok else None
    if status is None:
        return Said(trouble=f"{address} answers, but with no status that we understand")
    return Said(status, clock=_ahead(status, before, datetime.now(UTC)))


def _ahead(status: Status, before: datetime, after: datetime) -> tuple[float, float] | None:
    """By how many seconds its clock is ahead, at the least and at the most: it said so between
    these two moments."""
    told = verdict.moment(status.now)
    if told is None:
        return None
    return (told - after).total_seconds(), (told - before).total_seconds()


# Showing


def _watch(pair: Pair, options: argparse.Namespace) -> int:
    """Show the pair every second until Ctrl-C; without a terminal, when something has changed."""
    region = None
    try:
        terminal = None if options.json else _terminal()
        region = terminal and terminal.Region(stays=True)
        before = None
        for look in pair.looks():
            if options.json:
                print(look.json(), flush=True)
            elif region is not None and terminal is not None:
                region.show(
                    terminal.pair(*_picture(pair.conf, look, options.verbose, "Ctrl-C ends"))
                )
            elif (now := _gist(look)) != before:
                before = now
                print(datetime.now().strftime("%H:%M:%S"))
                _show(pair.conf, look, options.verbose)
                print(*look.troubles, sep="\n", flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        if region is not None:
            region.close()
    return 0


def _gist(look: Look) -> tuple[object, ...]:
    """What of a look is worth telling again: no ages, no counts."""
    parts: list[object] = [*(each for each in look.troubles if each != look.clocks)]
    parts += [look.verdict, bool(look.clocks)]
    for status in (look.us, look.peer):
        if status is not None:
            states = [(name, interface.state) for name, interface in status.interfaces]
            parts += [status.role, status.since, status.plip_state, status.switch_exit, *states]
        parts.append(None)
    return tuple(parts)


def _terminal() -> ModuleType | None:
    """What shows colours, if stdout is a terminal that can, and rich is there."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        from failoverd.tools import screen
    except ImportError:
        return None
    return screen


def _export(path: str, look: Look) -> None:
    """Write the file of metrics. Raises Stop."""
    try:
        from failoverd.tools import prometheus
    except ImportError:
        raise Stop(
            "--prometheus needs the Python package prometheus_client: install "
            "python3-prometheus-client, or failoverd[prometheus] with pip"
        ) from None
    try:
        prometheus.write(path, look.us, look.peer, look.verdict.status, look.ahead)
    except OSError as error:
        raise Stop(f"{path} cannot be written: {error.strerror or error}") from None


def _show(conf: Conf, look: Look, verbose: bool) -> None:
    """What the pair does, then a table: one line a fact, one column a machine."""
    headline, rows, _ = _picture(conf, look, verbose)
    terminal = _terminal()
    if terminal is not None:
        terminal.show(terminal.pair(headline, rows, []))
        return
    print(headline[0])
    widths = [max(len(row[column][0]) for row in rows) for column in (0, 1)]
    for (name, _), (left, _), (right, _) in rows:
        print(f"{name:{widths[0]}}  {left:{widths[1]}}  {right}".rstrip())


def _picture(
    conf: Conf, look: Look, verbose: bool, footer: str = ""
) -> tuple[Cell, list[tuple[Cell, Cell, Cell]], list[Cell]]:
    """Headline, rows and notes, each text with what it is like."""
    ours, theirs = _facts(look.us, verbose), _facts(look.peer, verbose)
    rows: list[tuple[Cell, Cell, Cell]] = [
        (("", ""), (f"us ({conf.primary})", "head"), (f"peer ({conf.secondary})", "head"))
    ]
    nothing: Cell = ("-", "")
    for name in {**ours, **theirs}:
        rows.append(((name, ""), ours.get(name, nothing), theirs.get(name, nothing)))
    notes: list[Cell] = [(trouble, "odd") for trouble in look.troubles]
    for name, age in zip(("this machine", "the peer"), look.ages, strict=True):
        if age > OLD:
            notes.append((f"what is shown of {name} is {age:.0f} s old", "odd"))
    if footer:
        notes.append((f"{datetime.now():%H:%M:%S}  {footer}", "faint"))
    return (str(look.verdict), VERDICT_STYLES[look.verdict.status]), rows, notes


VERDICT_STYLES = {OK: "good", WARNING: "odd", CRITICAL: "bad", UNKNOWN: "odd"}


ROLE_STYLES = {"active": "good", "standby": "", "switching": "odd", "failed": "bad"}
STATE_STYLES = {"boot": "odd", "ok": "good", "silent": "odd", "fail": "bad", "down": "bad"}


def _facts(status: Status | None, verbose: bool) -> dict[str, Cell]:
    """What the table says of one machine, by the names of its lines."""
    if status is None:
        return {"role": ("not heard", "bad")}
    rejoining = " (asks before it announces)" if status.rejoining else ""
    facts: dict[str, Cell] = {
        "role": (status.role + rejoining, ROLE_STYLES[status.role]),
        "since": (status.since.replace("T", " ").replace("Z", " UTC"), ""),
    }
    age = verdict.age(status)
    if age is not None:
        facts["held for"] = exact_span(age), ""
    facts["at boot"] = status.boot, ""
    for name, interface in status.interfaces:
        cell = _interface(interface, verbose), STATE_STYLES[interface.state]
        facts[f"interface {name}"] = cell
    facts["private link"] = status.plip_state, STATE_STYLES[status.plip_state]
    beat = "odd" if status.heartbeat_age is None else ""
    facts["heartbeat"] = _measure(status.heartbeat_age, "s ago", "not heard"), beat
    facts["round trip"] = _measure(status.rtt_ms, "ms", "unknown"), ""
    has_failed = status.switch_exit or status.switch_why
    facts["last switch"] = _last_switch(status), "bad" if has_failed else ""
    if status.failure is not None:
        facts["failed switch"] = _failed_switch(status.failure), "bad"
    if verbose:
        facts["version"] = status.version, ""
    return facts


def _interface(interface: InterfaceStatus, verbose: bool) -> str:
    hwaddr = f", {interface.hwaddr or 'no hardware address'}" if verbose else ""
    packets = counted(interface.packets, "packet")
    return f"{interface.state}, {packets}, before {interface.last}{hwaddr}"


def _measure(value: float | None, unit: str, unknown: str) -> str:
    if value is None:
        return unknown
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def _last_switch(status: Status) -> str:
    if status.switch_last is None:
        return "none"
    if status.switch_exit is None:
        return f"{status.switch_last}, still running"
    took = "" if status.switch_seconds is None else f", {status.switch_seconds:.3g} s"
    why = f", failed: {status.switch_why}" if status.switch_why else ""
    return f"{status.switch_last}, exit {status.switch_exit}{took}{why}"


def _failed_switch(failure: Failure) -> str:
    """The last that has failed, until one for the same role works: cleaning up hides it."""
    said = "".join(f": {text}" for text in (failure.why, failure.line) if text)
    return f"{failure.role}, exit {failure.exit}, {exact_span(failure.age)} ago{said}"


def _complain(sentence: str) -> None:
    for line in sentence.splitlines():
        print(f"ha-status: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
