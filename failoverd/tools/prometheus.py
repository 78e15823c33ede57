"""The pair as a file of metrics, for the textfile collector of Prometheus' node_exporter.

Imported only where one is asked for: prometheus_client is an optional package. `machine` is us or
peer, as seen from this machine. What is not known is left out, not zero.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from failoverd.tools.verdict import age
from failoverd.wire.protocol import ROLES, STATES, Status

STANDARD_OUTPUT = "-"


def write(
    path: str, us: Status | None, peer: Status | None, verdict: int, ahead: float | None
) -> None:
    """Put the file in place whole, readable by everybody. Raises OSError.

    ahead: by how many seconds the peer's clock is ahead of ours, None if that is not known. Nobody
    ever reads half of the file, and what stands in its place is replaced only if it is a file.
    """
    metrics = registry({"us": us, "peer": peer}, verdict)
    metrics.add("clock_difference_seconds", "The peer's clock minus this machine's, at the least.",
                ahead)  # fmt: skip
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


def registry(machines: Mapping[str, Status | None], verdict: int) -> Metrics:
    metrics = Metrics()
    heard = [status for status in machines.values() if status is not None]
    metrics.add("status", "Exit status of ha-status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
                verdict)  # fmt: skip
    metrics.add("active_machines", "Machines that were heard and are active: one is right.",
                sum(status.role == "active" for status in heard))  # fmt: skip
    for machine, status in machines.items():
        metrics.add("up", "Whether failoverd answered.", status is not None, machine=machine)
        if status is not None:
            add_machine(metrics, machine, status)
            add_link(metrics, machine, status)
    return metrics


def add_machine(metrics: Metrics, machine: str, status: Status) -> None:
    metrics.add("info", "Version of failoverd, and the machine's role at boot.", 1,
                machine=machine, version=status.version, boot=status.boot)  # fmt: skip
    metrics.one_of("role", "The role the machine has now.", ROLES, status.role, machine=machine)
    metrics.add("role_since_timestamp_seconds", "When it got the role, in seconds since 1970.",
                datetime.fromisoformat(status.since).timestamp(), machine=machine)  # fmt: skip
    metrics.add("role_age_seconds", "Since it has the role, by its own clock.",
                age(status), machine=machine)  # fmt: skip
    for name, interface in status.interfaces:
        labels = {"machine": machine, "interface": name}
        metrics.one_of("interface_state", "How the interface was judged.", STATES,
                       interface.state, **labels)  # fmt: skip
        metrics.add("interface_window_packets", "Packets in the window that is open.",
                    interface.packets, **labels)  # fmt: skip
        metrics.add("interface_last_window_packets", "Packets in the window before.",
                    interface.last, **labels)  # fmt: skip


def add_link(metrics: Metrics, machine: str, status: Status) -> None:
    metrics.one_of("private_link_state", "How the private link was judged.", STATES,
                   status.plip_state, machine=machine)  # fmt: skip
    metrics.add("heartbeat_age_seconds", "Since the last heartbeat was answered.",
                status.heartbeat_age, machine=machine)  # fmt: skip
    rtt = None if status.rtt_ms is None else status.rtt_ms / 1000
    metrics.add("heartbeat_round_trip_seconds", "Of the last heartbeat.", rtt, machine=machine)
    if status.switch_last is not None:
        labels = {"machine": machine, "argument": status.switch_last}
        metrics.add("last_switch_exit_status", "Of the switch script; none while it runs.",
                    status.switch_exit, **labels)  # fmt: skip
        metrics.add("last_switch_duration_seconds", "How long the switch script ran.",
                    status.switch_seconds, **labels)  # fmt: skip
    if status.failure is not None:
        metrics.add("failed_switch_age_seconds", "Since the switch script failed for this argument;"
                    " none once it has worked again.", status.failure.age, machine=machine,
                    argument=status.failure.role)  # fmt: skip


class Metrics:
    """Gauges whose names begin with failoverd_, each made when it is first used."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}

    def add(self, name: str, meaning: str, value: float | None, **labels: str) -> None:
        """None is not known, and left out."""
        if value is None:
            return
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = Gauge(f"failoverd_{name}", meaning, list(labels), registry=self.registry)
            self._gauges[name] = gauge
        (gauge.labels(**labels) if labels else gauge).set(float(value))

    def one_of(
        self, name: str, meaning: str, known: Iterable[str], value: str, **labels: str
    ) -> None:
        """One series for each word that is possible: 1 for the one that is true, 0 for others."""
        label = "role" if name == "role" else "state"
        for word in known:
            self.add(name, meaning, word == value, **{**labels, label: word})
