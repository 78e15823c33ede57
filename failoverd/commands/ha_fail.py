"""ha-fail: switch by hand, on either node, or have no role change by itself for a while."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Iterator

from failoverd import process
from failoverd.conf import Conf
from failoverd.log import complain
from failoverd.second_path import SECOND
from failoverd.tools import nodes, verdict
from failoverd.tools.arguments import Parser
from failoverd.tools.client import Client, ExchangeError, prepare
from failoverd.tools.words import TYPED_UNITS, duration
from failoverd.wire.protocol import FILTER, MOST_HOLD, Reply, Status

EXTRA_SECONDS = 5.0  # beyond $switch_timeout, as section 6 says
SCRIPTS = 4  # that a switch may run: each node stands down and takes the role
EVERY = 0.1  # seconds between two looks while the role is on its way
MOST_PATIENCE = 30.0  # seconds that the peer has to learn of a hold, however rare heartbeats are
NO_END = 0  # of a hold
BUSY = ": another switch is under way, try again when it has ended"
TOO_OLD = "failoverd here is too old for that: restart it if a newer one is installed"


def main(argv: list[str] | None = None) -> int:
    """The entry point. Exit status 0: it has happened, 1: it has not, 2: usage."""
    options = parse(argv)
    process.open_streams()
    try:
        client = prepare(options.config)
        if options.release or options.hold is not None:
            status = _hold(client, options)
        else:
            status = _switch(client, options.verbose)
        _flush()
        return status
    except ExchangeError as error:
        doubt = "; ha-status shows whether it has happened" if error.sent else ""
        complain("ha-fail", f"{error}{doubt}")
        return 1
    except KeyboardInterrupt:
        complain("ha-fail", "interrupted; ha-status shows whether it has happened")
        return 128 + signal.SIGINT


def _flush() -> None:
    if why := process.flush_output():
        complain("ha-fail", f"cannot write the output: {why}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="ha-fail",
        description="Switch by hand: the active node gives up its role, the standby takes over. "
        "With --hold or --release nothing is switched.",
        epilog="Exit status: 0 done, 1 not done, and standard error says why, 2 usage.",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--hold", metavar="TIME", nargs="?", type=_seconds, const=NO_END,
        help="maintenance: no automatic role changes on either node until --release, or for TIME "
        "(90s, 30m, 2h, 1d)")  # fmt: skip
    either.add_argument("--release", action="store_true", help="end a hold")
    parser.add_argument("-v", dest="verbose", action="store_true", help="print each step")
    return parser.parse(argv)


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    seconds = int(found[1]) * TYPED_UNITS[found[2] or "s"] if found else 0
    if not 0 < seconds <= MOST_HOLD:
        raise argparse.ArgumentTypeError(f"not a time: {text} (90s, 30m, 2h, 1d)")
    return seconds


def _switch(client: Client, verbose: bool) -> int:
    """Tell this node's failoverd `resume` if it is active, else `fail`. Raises ExchangeError."""
    try:
        before = client.status(client.conf.primary)
    except ExchangeError as error:
        raise ExchangeError(error.why, error.advice) from None  # nothing to switch was sent
    command = "resume" if before.role == "active" else "fail"
    held = verdict.on_hold(before)
    for doubt in _doubts(client, before):
        rest = "" if held else ": the role may not stay there"
        complain("ha-fail", f"warning: {doubt}{rest}")
    if verbose:
        what = "stand by, for the peer" if command == "resume" else "take over"
        complain("ha-fail", f"asking failoverd on this node to {what} ({command})")
    began = time.monotonic()
    try:
        reply = _told(client, command)
    except ExchangeError as error:
        late = _late(client, command) if error.sent else None
        if late is None:
            raise
        reply = late
    took = time.monotonic() - began
    if reply.ok:
        print(f"{_what_happened(client.conf, before)} done in {duration(took)}")
        if held:
            print(held)
        return 0
    way_out = BUSY if reply.text == "busy" else ""
    by_script, busy = "script" in reply.text, bool(way_out)
    said = [f"not switched: {reply.text}{way_out}", *_why(client, began, by_script, busy)]
    where = f"ha-status shows both nodes, {client.conf.log} on each what was done"
    complain("ha-fail", "\n".join([*said, where]))
    return 1


def _told(client: Client, command: str) -> Reply:
    """What this node's failoverd answers. Raises ExchangeError."""
    timeout = client.conf.switch_timeout + EXTRA_SECONDS
    return client.exchange(client.conf.primary, command, timeout)


def _doubts(client: Client, us: Status) -> list[str]:
    """What is bad where the role is to go. An operator may have to move it all the same."""
    here, peer = verdict.names(us, None, client.conf.secondary)
    if us.role != "active":
        return verdict.why_not_for_long(here, us, None)
    there = nodes.ask(client, client.conf.secondary).status
    return verdict.why_not_for_long(peer, there, us) if there else []


def _hold(client: Client, options: argparse.Namespace) -> int:
    """Ask this node's failoverd for a hold or a release. Raises ExchangeError."""
    command = "release" if options.release else f"hold {options.hold or ''}".rstrip()
    reply = _told(client, command)
    if not reply.ok:
        undone = "not released" if options.release else "not held"
        complain("ha-fail", f"{undone}: {TOO_OLD if reply.is_unknown else reply.text}")
        return 1
    us = client.status(client.conf.primary)
    print(verdict.on_hold(us) or "released: automatic role changes are allowed again")
    _flush()
    name = verdict.names(us, None, client.conf.secondary)[1]
    if why := _why_not_there(client, us):
        text = f"{name} does not know that yet: {why}; it learns it at the next exchange"
        complain("ha-fail", text)
    else:
        print(f"{name} knows that too")
    return 0


def _why_not_there(client: Client, us: Status) -> str:
    """Why the peer does not know of this node's hold or release, "" once it does. It asks this node
    with every heartbeat."""
    patience = min(client.conf.plip_hbeat + EXTRA_SECONDS, MOST_PATIENCE)
    for _ in _moments(patience):
        answer = nodes.ask(client, client.conf.secondary)
        there = answer.status
        if there is None:
            return answer.why
        if us.hold is None or (there.hold is not None and there.hold.rank >= us.hold.rank):
            return ""
    return f"it has not asked this node for {patience:g} s, or its version is too old"


def _late(client: Client, command: str) -> Reply | None:
    """How a switch ends whose answer has not come in time: each script may take $switch_timeout.
    None if this node does not say."""
    seen = False
    for _ in _moments(SCRIPTS * client.conf.switch_timeout + EXTRA_SECONDS):
        us = nodes.ask(client, client.conf.primary).status
        if us is None or us.role != "switching":
            break
        seen = True
    if us is None or us.role == "switching":
        return None
    if us.role == ("standby" if command == "resume" else "active"):
        return Reply(True, us.role)
    return Reply(False, "the switch script failed, or did not end in time") if seen else None


def _what_happened(conf: Conf, before: Status) -> str:
    here, peer = verdict.names(before, None, conf.secondary)
    if before.role == "active":
        return f"switchover: {here} -> {peer}"
    if before.role == "switching":
        return f"switch to {here}, which was under way,"
    served = before.service in ("peer", "answered")
    return f"switchover: {peer} -> {here}" if served else f"takeover by {here}"


# Why not


def _why(client: Client, began: float, by_script: bool, busy: bool) -> Iterator[str]:
    """The switch scripts that have failed since then, and which node is active now. by_script:
    whether one is the reason. busy: whether another switch is, which may take long."""
    us, there = _settled(client, by_script, busy)
    if us is None:
        return
    here, peer = verdict.names(us, there, client.conf.secondary)
    statuses = [(here, us), *([(peer, there)] if there else [])]
    for name, status in statuses:
        failure = status.failure
        if failure is not None and failure.age <= time.monotonic() - began:
            script, told = os.path.basename(client.conf.failover_prog), verdict.against(failure)
            yield f"{name}: {script} {failure.role} failed, exit {failure.exit}{told}"
    if us.path == SECOND and us.plip_state == "ok":
        yield f"{peer} answers over the second path only, though heartbeats are received: {FILTER}"
    active = [name for name, status in statuses if status.role == "active"]
    serves = {"peer": peer, "unknown": "not known"}
    asked = f"{client.conf.log} has the hardware address (by=)"
    probably = f"probably {peer}: a host answers for the service addresses, {asked}"
    serves["answered"] = f"no node: {verdict.strange(us)}" if us.stranger else probably
    under_way = [name for name, status in statuses if status.role == "switching"]
    none = "no node" if us.path or there else f"not known: {peer} gives no valid answer"
    switching = f"no node yet: {under_way[0]} is switching" if under_way else ""
    known = " and ".join(active) or switching or serves.get(us.service, none)
    yield f"active now: {known}"


def _settled(client: Client, by_script: bool, busy: bool) -> tuple[Status | None, Status | None]:
    """This node's status and, if a script has failed, the peer's: then, or after a peer that did
    not take it, the role is on its way back to where it was, and a moment is given for that."""
    for _ in _moments(0.0 if busy else EXTRA_SECONDS):
        us = nodes.ask(client, client.conf.primary).status
        there = nodes.ask(client, client.conf.secondary).status if by_script else None
        if any(each and each.role == "active" for each in (us, there)):
            break
        if not by_script and (us is None or us.role != "switching"):
            break
    return us, there


def _moments(seconds: float) -> Iterator[None]:
    """Now, and then one after the other for so long."""
    end = time.monotonic() + seconds
    yield
    while time.monotonic() < end:
        time.sleep(EVERY)
        yield


if __name__ == "__main__":
    sys.exit(main())
