"""What this node says of itself: the status of section 6."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from failoverd import __version__, hold, links, pair
from failoverd.conf import alike
from failoverd.log import utc_now
from failoverd.master import explain
from failoverd.master.context import Context
from failoverd.master.programs import Programs
from failoverd.master.reports import Reports
from failoverd.master.service_checks import ServiceChecks
from failoverd.master.watchers import Watchers
from failoverd.wire import protocol


def status_of(
    context: Context,
    reports: Reports,
    programs: Programs,
    watchers: Watchers,
    checks: ServiceChecks,
) -> protocol.Status:
    last = programs.last_switch
    since, age = context.since
    heard, rtt = reports.heard, reports.rtt
    return protocol.Status(
        role=role_of(context),
        boot=context.boot,
        since=since,
        version=__version__,
        interfaces=tuple(
            (i.name, interface(context, reports, i)) for i in context.state.interfaces
        ),
        plip_state=reports.link_state(),
        heartbeat_age=None if heard is None else round(time.monotonic() - heard, 3),
        rtt_ms=None if rtt is None else round(rtt * 1000, 3),
        switch_last=last.role if last else None,
        switch_exit=last.exit if last else None,
        switch_seconds=last.seconds if last else None,
        rejoining=pair.is_rejoining(context.state),
        speechless=pair.is_speechless(context.state),
        wants_relief=pair.wants_relief(context.state),
        settings=alike.settings(context.conf),
        host=protocol.host(os.uname().nodename),
        now=utc_now(),
        age=None if age is None else round(age, 3),
        service=context.service,
        claimed=context.state.claimed > 0,
        stranger=context.stranger,
        blocked=protocol.words(context.blocked),
        switch_why=last.why if last else "",
        failure=programs.failure,
        watchers=tuple(watchers.troubles.items()),
        peer_host=context.peer_host,
        held=tuple(context.held),
        change=context.history.last,
        checks=checks.statuses(),
        hold=context.hold_now,
        path=context.path if context.state.heard else "",
    )


def for_own_commands(context: Context, status: protocol.Status) -> protocol.Status:
    here, there = status.host, context.peer_host
    if not here or here == there:
        here, there = "this node", ""
    names = here, there or f"peer {context.conf.secondary}"
    held, until = context.hold_now, ""
    if held is not None and held.seconds_left is not None:
        until = hold.until(held.seconds_left).replace("T", " ")
    lines = (
        explain.lines(context.state, context.rules, context.conf, names, until)
        if context.started
        else ["failoverd is starting"]
    )
    explained = tuple(map(protocol.words, lines))[: protocol.MAX_EXPLAINED]
    return replace(status, counters=context.counters.told, explained=explained)


def role_of(context: Context) -> str:
    """As it is told: in a dry run `failed` keeps a live peer from giving away a role that this
    node would not take."""
    if context.dry:
        return "active" if context.saved.role == "active" else "failed"
    return context.role if context.started else "switching"  # it may be active


def interface(
    context: Context, reports: Reports, known: pair.Interface
) -> protocol.InterfaceStatus:
    name = known.name
    counts = reports.counts.get(name, (known.packets, known.last))
    own = context.fixed.get(name, ())
    return protocol.InterfaceStatus(known.state, *counts, links.hwaddr(name) or "", own)
