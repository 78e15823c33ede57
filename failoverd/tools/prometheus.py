"""This node as a file of metrics, for the textfile collector of Prometheus' node_exporter.

Each node tells what is its own, so nothing is counted twice where both are scraped; what it knows
of the pair has names of its own. What is not known is left out, not zero. Times are moments in
seconds since 1970: an age would be wrong until the next file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime

from failoverd import __version__, statefile
from failoverd.conf import Conf
from failoverd.counters import COUNTERS, Metric
from failoverd.tools import verdict
from failoverd.tools.nodes import Look
from failoverd.tools.verdict import moment
from failoverd.wire.protocol import CHECK_STATES, ROLES, STATES, Status

GAUGES = {
    "up": Metric("Whether failoverd answered on this node"),
    "build_info": Metric("1, with the version of failoverd", ("version",)),
    "export_timestamp_seconds": Metric("When this was written"),
    "role": Metric("1 for the role that the node has, 0 for the others", ("role",)),
    "role_since_timestamp_seconds": Metric("When the role began"),
    "preferred": Metric("Whether the node is the preferred one (boot:master)"),
    "standby_ready": Metric("Whether the node is a standby that can take over"),
    "hold": Metric("Whether changes of role are on hold"),
    "service_addresses": Metric("Service addresses that are on the node, 16 at most"),
    "address_conflict": Metric("Whether another host answers for the addresses of this node"),
    "interface_state": Metric("1 for the state that it has, 0 for the others",
                              ("interface", "state")),
    "interface_last_window_packets": Metric("Packets in the window before the open one",
                                            ("interface",)),
    "check_state": Metric("1 for the state that the service check has, 0 for the others",
                          ("check", "state")),
    "heartbeat_link_state": Metric("1 for the state that it has, 0 for the others", ("state",)),
    "heartbeat_last_received_timestamp_seconds": Metric("When the last heartbeat was received"),
    "heartbeat_round_trip_seconds": Metric("Of the last heartbeat that was sent"),
    "script_last_exit_status": Metric("Of the last run of the switch script", ("argument",)),
    "script_last_duration_seconds": Metric("Of the last run of the switch script", ("argument",)),
    "script_failed_timestamp_seconds": Metric("When the switch script failed; none once it has "
                                              "worked again", ("argument",)),
    "pair_status": Metric("Exit status of ha-status here: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN"),
    "pair_active_nodes": Metric("Nodes that have answered this one and are active"),
    "peer_up": Metric("Whether the failoverd of the peer answered this node"),
    "peer_clock_difference_seconds": Metric("The clock of the peer minus that of this node, at the "
                                            "least"),
    "pair_config_differences": Metric("Settings that must be the same on both nodes and are not"),
}  # fmt: skip
METRICS = GAUGES | COUNTERS
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[str, float | None, tuple[str, ...]]  # name, value, None if unknown; of the labels


def write(path: str, text: str) -> None:
    """Put the file in place whole, readable by all users. Raises OSError.

    What is in its place is replaced only if it is a file: root writes here, often into a directory
    of another user, who could plant a link to any file there.
    """
    if os.path.lexists(path) and not os.path.isfile(path):
        raise OSError("it is not a file")
    if os.path.islink(path):
        raise OSError("it is a symbolic link: name the file itself")
    statefile.replace(path, text.encode(), mode=0o644, suffix=str(os.getpid()))


def exposition(look: Look, now: datetime) -> str:
    """In Prometheus' text format. All of a metric stand together, behind what it means."""
    us = look.us
    host = us.host if us and us.host else os.uname().nodename
    own = {"pair": pair_of(look.conf), "node": host}
    found: dict[str, list[str]] = {}
    metrics = [*_pair(look, now), *(_node(us, look.peer) if us else ())]
    for name, value, labels in metrics:
        if value is not None:
            told = own | dict(zip(GAUGES[name].labels, labels, strict=True))
            sample = f"failoverd_{name}{{{_labels(told)}}} {float(value)!r}"
            found.setdefault(name, []).append(sample)
    for series, count in us.counters if us else ():
        name, _, rest = series.partition("{")
        if name in COUNTERS:
            labelled = ",".join(filter(None, (_labels(own), rest.removesuffix("}"))))
            found.setdefault(name, []).append(f"failoverd_{name}{{{labelled}}} {count}")
    return "".join(f"{line}\n" for name in found for line in (*_head(name), *found[name]))


def pair_of(conf: Conf) -> str:
    """What both nodes call the pair, and no other pair nearby: its first service address."""
    if conf.addresses:
        return conf.addresses[0].address
    return "-".join(sorted((conf.primary, conf.secondary)))


def _head(name: str) -> tuple[str, str]:
    kind = "counter" if name in COUNTERS else "gauge"
    return f"# HELP failoverd_{name} {METRICS[name].meaning}.", f"# TYPE failoverd_{name} {kind}"


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{text.translate(_ESCAPED)}"' for name, text in labels.items())


def _pair(look: Look, now: datetime) -> Iterator[Sample]:
    us, peer = look.us, look.peer
    yield "up", us is not None, ()
    yield "build_info", 1, (us.version if us else __version__,)
    yield "export_timestamp_seconds", now.timestamp(), ()
    yield "pair_status", look.verdict.status, ()
    yield "pair_active_nodes", sum(each.role == "active" for each in (us, peer) if each), ()
    yield "peer_up", peer is not None, ()
    yield "peer_clock_difference_seconds", look.there.ahead, ()
    if us is not None and peer is not None:
        drift = [each for each in look.differences if not verdict.is_of_version(each)]
        yield "pair_config_differences", len(drift), ()


def _node(us: Status, peer: Status | None) -> Iterator[Sample]:
    yield from _one_of("role", us.role, ROLES)
    yield "role_since_timestamp_seconds", _seconds(us.since), ()
    yield "preferred", us.boot == "master", ()
    yield "standby_ready", verdict.is_ready(us, peer), ()
    yield "hold", bool(verdict.on_hold(us)), ()
    yield "service_addresses", None if us.held is None else len(us.held), ()
    yield "address_conflict", us.claimed, ()
    for name, interface in us.interfaces:
        yield from _one_of("interface_state", interface.state, STATES, name)
        yield "interface_last_window_packets", interface.last, (name,)
    for name, check in us.checks:
        yield from _one_of("check_state", check.state, CHECK_STATES, name)
    yield from _one_of("heartbeat_link_state", us.plip_state, STATES)
    told = _seconds(us.now)
    if told is not None and us.heartbeat_age is not None:
        yield "heartbeat_last_received_timestamp_seconds", round(told - us.heartbeat_age, 3), ()
    yield "heartbeat_round_trip_seconds", us.rtt_ms and round(us.rtt_ms / 1000, 6), ()
    if us.switch_last is not None:
        yield "script_last_exit_status", us.switch_exit, (us.switch_last,)
        yield "script_last_duration_seconds", us.switch_seconds, (us.switch_last,)
    if us.failure is not None:
        yield "script_failed_timestamp_seconds", _seconds(us.failure.when), (us.failure.role,)


def _seconds(time: str) -> float | None:
    found = moment(time)
    return found.timestamp() if found else None


def _one_of(name: str, true: str, known: Iterable[str], *labels: str) -> Iterator[Sample]:
    """One series for each word that the last label may have: 1 for that which is true, else 0."""
    return ((name, word == true, (*labels, word)) for word in known)
