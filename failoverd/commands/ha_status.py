"""ha-status: both machines side by side."""

from __future__ import annotations

import argparse
import json
import sys

from failoverd import __version__
from failoverd.client import ExchangeError, exchange, prepare
from failoverd.conf import Conf
from failoverd.protocol import InterfaceStatus, Status, parse_status, status_tree

# A status is answered at once. The kernel finds out within 3 s that a machine does not answer ARP,
# and says so better than our running out of patience.
SECONDS = 4.0


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status as `verdict`, or 2: usage, or nothing could be asked."""
    options = _parse(argv)
    try:
        conf, secret = prepare(options.config)
    except ExchangeError as error:
        _complain(str(error))
        return 2
    us, our_trouble = _ask(conf, secret, conf.primary)
    peer, peer_trouble = _ask(conf, secret, conf.secondary)
    if options.json:
        print(json.dumps({"us": us and status_tree(us), "peer": peer and status_tree(peer)}))
    else:
        _show(conf, us, peer, options.verbose)
    for trouble in filter(None, (our_trouble, peer_trouble)):
        _complain(trouble)
    return verdict(us, peer)


def verdict(us: Status | None, peer: Status | None) -> int:
    """0: exactly one is active and both were heard. 1: one is, and the other was not heard.

    2: as far as can be seen none is active, or both are; somebody should look at once.
    """
    heard = [status for status in (us, peer) if status is not None]
    active = sum(status.role == "active" for status in heard)
    if active != 1:
        return 2
    return 0 if len(heard) == 2 else 1


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ha-status",
        description="Show both machines of the pair side by side.",
        epilog="Exit status: 0 exactly one is active and both were heard; 1 one is active, the "
        "other was not heard; 2 none or both are active, as far as can be seen, or usage.",
    )
    add = parser.add_argument
    add("-c", dest="config", metavar="CONF", default="/etc/failover/failoverd.conf",
        help="default: %(default)s")  # fmt: skip
    add("--json", action="store_true", help='print one JSON object: {"us": ..., "peer": ...}')
    add("-v", dest="verbose", action="store_true", help="show versions and hardware addresses too")
    add("--version", action="version", version=f"ha-status {__version__}")
    return parser.parse_args(argv)


def _ask(conf: Conf, secret: bytes, address: str) -> tuple[Status | None, str]:
    """The status of a machine, or None and why there is none."""
    try:
        reply = exchange(conf, secret, address, "status", SECONDS)
    except ExchangeError as error:
        return None, str(error)
    status = parse_status(reply.text) if reply.ok else None
    return status, "" if status else f"{address} answers, but with no status that we understand"


def _show(conf: Conf, us: Status | None, peer: Status | None, verbose: bool) -> None:
    """A table: one line a fact, one column a machine."""
    ours, theirs = _facts(us, verbose), _facts(peer, verbose)
    lines = [("", f"us ({conf.primary})", f"peer ({conf.secondary})")]
    lines += [(name, ours.get(name, "-"), theirs.get(name, "-")) for name in {**ours, **theirs}]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for name, left, right in lines:
        print(f"{name:{widths[0]}}  {left:{widths[1]}}  {right}".rstrip())


def _facts(status: Status | None, verbose: bool) -> dict[str, str]:
    """What the table says of one machine, by the names of its lines."""
    if status is None:
        return {"role": "not heard"}
    rejoining = " (asks before it announces)" if status.rejoining else ""
    facts = {
        "role": status.role + rejoining,
        "since": status.since.replace("T", " ").replace("Z", " UTC"),
        "at boot": status.boot,
    }
    for name, interface in status.interfaces:
        facts[f"interface {name}"] = _interface(interface, verbose)
    facts["private link"] = status.plip_state
    facts["heartbeat"] = _measure(status.heartbeat_age, "s ago", "not heard")
    facts["round trip"] = _measure(status.rtt_ms, "ms", "unknown")
    facts["last switch"] = _last_switch(status)
    if verbose:
        facts["version"] = status.version
    return facts


def _interface(interface: InterfaceStatus, verbose: bool) -> str:
    hwaddr = f", {interface.hwaddr or 'no hardware address'}" if verbose else ""
    return f"{interface.state}, {interface.packets} packets, before {interface.last}{hwaddr}"


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
    return f"{status.switch_last}, exit {status.switch_exit}{took}"


def _complain(sentence: str) -> None:
    for line in sentence.splitlines():
        print(f"ha-status: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
