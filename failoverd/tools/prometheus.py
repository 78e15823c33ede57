"""The pair as a file of metrics, for the textfile collector of Prometheus' node_exporter.

Imported only where one is asked for: prometheus_client is an optional package. The label `machine`
is us or peer, as seen from this node. What is not known is left out, not zero.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Gauge, generate_latest, write_to_textfile

from failoverd.tools.verdict import age, moment
from failoverd.wire.protocol import ROLES, STATES, Status

STANDARD_OUTPUT = "-"
MEANINGS = {
    "status": "Exit status of ha-status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
    "active_machines": "Nodes that have answered and are active: one is right.",
    "clock_difference_seconds": "The peer's clock minus this node's, at the least.",
    "up": "Whether failoverd answered.",
    "info": "Version of failoverd, and the node's role at boot.",
    "role": "The role the node has now.",
    "role_since_timestamp_seconds": "When it got the role, in seconds since 1970.",
    "role_age_seconds": "Since it has the role, by its own clock.",
    "interface_state": "How the interface was judged.",
    "interface_window_packets": "Packets in the window that is open.",
    "interface_last_window_packets": "Packets in the window before.",
    "private_link_state": "How the heartbeat link was judged.",
    "heartbeat_age_seconds": "Since the last heartbeat was received.",
    "heartbeat_round_trip_seconds": "Of the last heartbeat.",
    "last_switch_exit_status": "Of the switch script; none while it runs.",
    "last_switch_duration_seconds": "How long the switch script ran.",
    "failed_switch_age_seconds": "Since the switch script failed for this argument; none once it "
    "has worked again.",
}


Metric = tuple[str, float | None, dict[str, str]]  # name, value, None if unknown, and labels


def write(
    path: str, us: Status | None, peer: Status | None, verdict: int, ahead: float | None
) -> None:
    """Put the file in place whole, readable by all users. Raises OSError.

    ahead: by how many seconds the peer's clock is ahead of this node's, None if that is not known.
    What is in its place is replaced only if it is a file.
    """
    nodes = {"us": us, "peer": peer}
    active = sum(status is not None and status.role == "active" for status in nodes.values())
    registry = _registry(
        ("status", verdict, {}),
        ("active_machines", active, {}),
        ("clock_difference_seconds", ahead, {}),
        *(metric for machine, status in nodes.items() for metric in _node(machine, status)),
    )
    if path == STANDARD_OUTPUT:
        print(generate_latest(registry).decode(), end="")
        return
    if os.path.lexists(path) and not os.path.isfile(path):
        raise OSError("it is not a file")
    os.umask(0o022)
    write_to_textfile(os.path.realpath(path), registry)


def _registry(*metrics: Metric) -> CollectorRegistry:
    """Gauges whose names begin with failoverd_, of what is known."""
    registry, gauges = CollectorRegistry(), dict[str, Gauge]()
    for name, value, labels in metrics:
        if value is None:
            continue
        if name not in gauges:
            gauges[name] = Gauge(f"failoverd_{name}", MEANINGS[name], [*labels], registry=registry)
        (gauges[name].labels(**labels) if labels else gauges[name]).set(float(value))
    return registry


def _node(machine: str, status: Status | None) -> Iterator[Metric]:
    own = {"machine": machine}
    yield "up", status is not None, own
    if status is None:
        return
    since, rtt = moment(status.since), status.rtt_ms
    yield "info", 1, {**own, "version": status.version, "boot": status.boot}
    yield from _one_of("role", {**own, "role": status.role}, ROLES)
    yield "role_since_timestamp_seconds", since.timestamp() if since else None, own
    yield "role_age_seconds", age(status), own
    for name, interface in status.interfaces:
        labels = {**own, "interface": name}
        yield from _one_of("interface_state", {**labels, "state": interface.state}, STATES)
        yield "interface_window_packets", interface.packets, labels
        yield "interface_last_window_packets", interface.last, labels
    yield from _one_of("private_link_state", {**own, "state": status.plip_state}, STATES)
    yield "heartbeat_age_seconds", status.heartbeat_age, own
    yield "heartbeat_round_trip_seconds", None if rtt is None else rtt / 1000, own
    if status.switch_last is not None:
        labels = {**own, "argument": status.switch_last}
        yield "last_switch_exit_status", status.switch_exit, labels
        yield "last_switch_duration_seconds", status.switch_seconds, labels
    if status.failure is not None:
        failed = {**own, "argument": status.failure.role}
        yield "failed_switch_age_seconds", status.failure.age, failed


def _one_of(name: str, labels: dict[str, str], known: Iterable[str]) -> Iterator[Metric]:
    """One series for each word that the last label may have: 1 for that which is true, else 0."""
    label, true = [*labels.items()][-1]
    for word in known:
        yield name, word == true, {**labels, label: word}
