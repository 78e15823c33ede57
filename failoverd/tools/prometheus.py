"""The pair as a file of metrics, for the textfile collector of Prometheus' node_exporter.

Imported only where one is asked for: prometheus_client is an optional package. The label `machine`
is us or peer, as seen from this node. What is not known is left out, not zero.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge, generate_latest

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


def write(
    path: str, us: Status | None, peer: Status | None, verdict: int, ahead: float | None
) -> None:
    """Put the file in place whole, readable by all users. Raises OSError.

    ahead: by how many seconds the peer's clock is ahead of this node's, None if that is not known.
    Nothing ever reads half of the file, and what is in its place is replaced only if it is a file.
    """
    metrics = registry({"us": us, "peer": peer}, verdict)
    metrics.add("clock_difference_seconds", ahead)
    data = generate_latest(metrics.registry)
    if path == STANDARD_OUTPUT:
        print(data.decode(), end="")
        return
    if os.path.lexists(path) and not os.path.isfile(path):
        raise OSError("it is not a file")
    target = os.path.realpath(path)
    # node_exporter reads only names that end in .prom, so never this one
    with tempfile.NamedTemporaryFile(
        dir=os.path.dirname(target), prefix=".ha-status-", delete=False
    ) as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def registry(nodes: Mapping[str, Status | None], verdict: int) -> Metrics:
    metrics = Metrics()
    answered = [status for status in nodes.values() if status is not None]
    metrics.add("status", verdict)
    metrics.add("active_machines", sum(status.role == "active" for status in answered))
    for machine, status in nodes.items():
        metrics.add("up", status is not None, machine=machine)
        if status is not None:
            add_node(metrics, machine, status)
    return metrics


def add_node(metrics: Metrics, machine: str, status: Status) -> None:
    own = {"machine": machine}
    metrics.add("info", 1, **own, version=status.version, boot=status.boot)
    metrics.one_of("role", "role", ROLES, status.role, **own)
    since = moment(status.since)
    metrics.add("role_since_timestamp_seconds", since.timestamp() if since else None, **own)
    metrics.add("role_age_seconds", age(status), **own)
    for name, interface in status.interfaces:
        labels = {**own, "interface": name}
        metrics.one_of("interface_state", "state", STATES, interface.state, **labels)
        metrics.add("interface_window_packets", interface.packets, **labels)
        metrics.add("interface_last_window_packets", interface.last, **labels)
    metrics.one_of("private_link_state", "state", STATES, status.plip_state, **own)
    metrics.add("heartbeat_age_seconds", status.heartbeat_age, **own)
    rtt = None if status.rtt_ms is None else status.rtt_ms / 1000
    metrics.add("heartbeat_round_trip_seconds", rtt, **own)
    if status.switch_last is not None:
        labels = {**own, "argument": status.switch_last}
        metrics.add("last_switch_exit_status", status.switch_exit, **labels)
        metrics.add("last_switch_duration_seconds", status.switch_seconds, **labels)
    if status.failure is not None:
        labels = {**own, "argument": status.failure.role}
        metrics.add("failed_switch_age_seconds", status.failure.age, **labels)


class Metrics:
    """Gauges whose names begin with failoverd_, each made when it is first used."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}

    def add(self, name: str, value: float | None, **labels: str) -> None:
        """None is not known, and left out."""
        if value is None:
            return
        if name not in self._gauges:
            self._gauges[name] = Gauge(
                f"failoverd_{name}", MEANINGS[name], list(labels), registry=self.registry
            )
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(float(value))

    def one_of(self, name: str, label: str, known: Iterable[str], value: str, **own: str) -> None:
        """One series for each word that is possible: 1 for the one that is true, 0 for others."""
        for word in known:
            self.add(name, word == value, **own, **{label: word})
