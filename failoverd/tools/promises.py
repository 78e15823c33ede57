"""What a configuration promises: the table of `failoverd -t`, and which guarantees do not hold.

Times are best and worst cases in seconds, up to the moment when the switch script begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import TextWrapper

from failoverd.conf import Conf
from failoverd.pair import bounds
from failoverd.pair.settings import Rules, rules

WIDTH = 80
HEAD = ("until the switch script begins", "at best", "at worst", "condition")
ALL_HOLD = "All five guarantees of failoverd.conf(5) hold with these settings."
GIVEN_UP = "Of the five guarantees of failoverd.conf(5), with these settings:"


@dataclass(frozen=True)
class Bound:
    """From a cause to the moment when the switch script begins. worst None: it never comes."""

    what: str
    best: float
    worst: float | None
    why: str = ""

    def __str__(self) -> str:
        times = ("", "never")
        if self.worst is not None:
            times = (seconds(self.best), seconds(self.worst))
        return row(self.what, *times, self.why)

    def unless(self, why: str, never: bool) -> Bound:
        """The same, or that it never comes, and why."""
        return Bound(self.what, 0.0, None, why) if never else self


def row(what: str, best: str, worst: str, why: str = "") -> str:
    return f"{what:<32}{best:>10}{worst:>10}  {why}".rstrip()


def seconds(value: float) -> str:
    return f"{value:.6g} s"


def all_bounds(conf: Conf, mute: Sequence[str] = ()) -> dict[str, Bound]:
    """By a short name, in the order of the table. mute: where the service addresses are, if no
    interface among these can send a probe."""
    found, two = rules(conf, "master"), 2 * conf.plip_timer
    silent, healed = bounds.silence_time(found), bounds.ethernet_healing_time(found)
    programs = ["$confirm"] * bool(conf.confirm_prog) + ["$fence_prog"] * bool(conf.fence_prog)
    reply = "ARP" if any("." in each.address for each in conf.addresses) else "NA"
    known = " + ".join([*[f"no {reply} reply"] * (found.confirm == "arp"), *programs])
    early = max(0.0, two - conf.plip_hbeat)  # the last heartbeat was so old when the power went
    resumed, received = bounds.resume_time(found), "receives in first window"
    wait = conf.failback or 0.0
    no_probes = f"no {reply} on {' and '.join(mute)}"
    unsure = bool(mute) and conf.confirm == "arp"
    return {
        "silence": Bound("takeover after last heartbeat", two, silent, known).unless(
            no_probes, unsure
        ),
        "power_cut": Bound(
            "takeover after peer's power loss", early, silent, " + ".join(programs)
        ).unless(no_probes, unsure),
        "interface": _interface(conf, found),
        **({"check": _checked(conf)} if conf.checks else {}),
        "resume": Bound("preferred node asks for its role", wait, wait + resumed, received)
        .unless("$failback is no", conf.failback is None)
        .unless("$mresume is no", not conf.mresume),
        "healing": Bound("end of split brain, link works", 0.0, found.compare_time),
        "ethernet_healing": Bound("end of split brain, link is cut", 0.0, healed)
        .unless("@addresses is empty", not conf.addresses)
        .unless(no_probes, bool(mute) and not conf.has_second_path),
        "none_active": Bound("takeover when no node is active", two, bounds.agreement_time(found)),
        # A peer that vanished after `fail` was sent may have switched until then.
        "lost_switchover": Bound(
            "role taken back, peer vanished", 0.0, bounds.take_back_time(found)
        ).unless(no_probes, bool(mute)),
        # What guarantee 2 allows, scripts included.
        "without_active": Bound(
            "longest time without active node", 0.0, bounds.longest_without_active(found)
        ).unless(no_probes, unsure),
    }


def _interface(conf: Conf, found: Rules) -> Bound:
    what = "switchover after last packet"
    if conf.low_water == 0:
        return Bound(what, 0.0, None, "$low_water is 0")
    best = conf.timer_seconds if conf.low_water == 1 else 0.0
    why = f"peer receives in {seconds(round(found.proof_time, 3))}"
    return Bound(what, best, bounds.handover_time(found), why)


def _checked(conf: Conf) -> Bound:
    """Best: each run fails at once, or a process ends. Worst: the service hangs just after a run,
    and so does each run."""
    wait, more = conf.check_timeout, conf.check_fall - 1
    every = [check.interval for check in conf.checks if not check.pidfile]
    best = more * min(every) if len(every) == len(conf.checks) else 0.0
    worst = max((each + more * max(each, wait) + wait for each in every), default=0.0)
    return Bound("switchover after a check fails", best, worst, "less is bad at the peer")


# ---------------------------------------------------------------------------- what does not hold


def not_held(conf: Conf, mute: Sequence[str]) -> list[str]:
    """The guarantees (section 5 of the contract) that these settings give up, with the reason."""
    return [
        *(f'"never two active" {line}' for line in _two_may_be_active(conf)),
        *(f'"never without an active node" {line}' for line in _none_may_be_active(conf, mute)),
        *(f'"no switchover to a node that is no better off" {line}' for line in _worse(conf)),
    ]


def _two_may_be_active(conf: Conf) -> Iterator[str]:
    cut = "while both paths are cut" if conf.has_second_path else "while the heartbeat link is cut"
    bare = sorted(set(conf.interfaces) - {entry.interface for entry in conf.addresses})
    if conf.confirm == "none":
        yield f"does not hold {cut}: $confirm is none"
    elif conf.confirm_prog:
        yield f"holds only if {conf.confirm_prog} tells that a live service answers"
    elif not conf.addresses:
        yield f"does not hold {cut}: @addresses is empty"
    elif bare:
        only = " and ".join(bare)
        yield (
            f"does not hold while the nodes reach each other on {only} only: none of @addresses is "
            f"on {only}"
        )
    if not conf.mresume:
        yield "does not hold at boot: $mresume is no"


def _none_may_be_active(conf: Conf, mute: Sequence[str]) -> Iterator[str]:
    if mute and conf.confirm == "arp":
        yield (
            f"does not hold when the active node is lost: {' and '.join(mute)} has no hardware "
            'address, so no ARP probe can be sent there; set $confirm to "none" or a program'
        )
    if conf.low_water == 0:
        yield (
            "does not hold for clients when an interface of the active node fails and the "
            "heartbeat link works: with $low_water 0 no interface fails, with 1 it does"
        )
    elif quiet := sorted(set(conf.interfaces) - {entry.interface for entry in conf.witness}):
        only = " and ".join(quiet)
        yield (
            f"does not hold for clients on a quiet network when {only} of the active node neither "
            "receives nor sends, without a carrier say: the peer receives nothing there either; "
            f"name a probe target as @witness on {only}"
        )
    if conf.confirm_prog:
        yield f"holds only if {conf.confirm_prog} tells that a dead service does not answer"
    if conf.fence_prog:
        yield f"holds only if {conf.fence_prog} succeeds"
    if conf.plip_filter:
        yield "holds only if nothing passes $plip_filter that comes from a peer without failoverd"


def _worse(conf: Conf) -> Iterator[str]:
    if conf.low_water > 1:
        yield (
            f"does not hold when both nodes receive less than $low_water {conf.low_water}: the "
            "standby has failed only if it receives nothing"
        )


def explain(conf: Conf, boot: str, mute: Sequence[str] = ()) -> list[str]:
    """What `failoverd -t` prints about a node with this host_type: lines that fit a terminal. mute:
    as in all_bounds."""
    kind = "the preferred" if boot == "master" else "not the preferred"
    lines = [line for each in not_held(conf, mute) for line in _folded(each)]
    return [
        f"This node is {kind} one (boot:{boot}).",
        "",
        row(*HEAD),
        *map(str, all_bounds(conf, mute).values()),
        "",
        *([GIVEN_UP, *lines] if lines else [ALL_HOLD]),
    ]


def _folded(sentence: str) -> list[str]:
    indented = TextWrapper(WIDTH, "  ", "    ", break_on_hyphens=False, break_long_words=False)
    return indented.wrap(sentence)
