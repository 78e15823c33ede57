"""What several tests begin with."""

from __future__ import annotations

from dataclasses import replace

from failoverd.wire.protocol import InterfaceStatus, Status

ACTIVE = Status(
    role="active",
    boot="master",
    since="2026-11-22T12:00:00.123Z",
    version="2.0.0",
    interfaces=(("eth0", InterfaceStatus("ok", 12, 40, "02:00:00:00:00:01")),),
    plip_state="ok",
    heartbeat_age=0.4,
    rtt_ms=0.2,
    switch_last="master",
    switch_exit=0,
    switch_seconds=0.006,
)
STANDBY = replace(
    ACTIVE,
    role="standby",
    boot="slave",
    interfaces=(("eth0", InterfaceStatus("ok", 12, 40, "02:00:00:00:00:02")),),
    heartbeat_age=None,
    rtt_ms=None,
    switch_last=None,
)
