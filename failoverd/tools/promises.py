"""What a configuration promises: the lines of `failoverd -t` about times and statements.

Times are best and worst cases in seconds, up to the moment when the switch script begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from failoverd.conf import Conf
from failoverd.pair.bounds import (
    agreement_time,
    ethernet_healing_time,
    handover_time,
    linked_healing_time,
    longest_without_active,
    resume_time,
    silence_time,
    take_back_time,
)
from failoverd.pair.settings import rules


@dataclass(frozen=True)
class Bound:
    """From a cause to the moment when the switch script begins. worst None: it never comes."""

    what: str
    best: float
    worst: float | None
    why: str = ""

    def __str__(self) -> str:
        if self.worst is None:
            text = "never"
        elif self.best == self.worst:
            text = seconds(self.worst)
        else:
            text = f"{seconds(self.best)} to {seconds(self.worst)}"
        return f"{self.what}: {text}" + (f" ({self.why})" if self.why else "")


def seconds(value: float) -> str:
    return f"{value:.6g} s"


def silence(conf: Conf) -> Bound:
    """The private link is judged silent at the end of its second empty window."""
    found = rules(conf, "master")
    what = "takeover after the last heartbeat was heard"
    asked = "if nobody answers for @addresses" if found.confirm == "arp" else ""
    why = ", ".join(filter(None, (asked, what_runs_before(conf))))
    return Bound(what, 2 * conf.plip_timer, silence_time(found), why)


def power_cut(conf: Conf) -> Bound:
    """The last heartbeat was up to one interval old when the power went."""
    best = max(0.0, 2 * conf.plip_timer - conf.plip_hbeat)
    worst = silence_time(rules(conf, "master"))
    return Bound("takeover after the peer's power is cut", best, worst, what_runs_before(conf))


def what_runs_before(conf: Conf) -> str:
    programs = [program for program in (conf.confirm_prog, conf.fence_prog) if program]
    return f"plus the run of {' and '.join(programs)}" if programs else ""


def deaf(conf: Conf) -> Bound:
    what = "handover after the last packet of an interface"
    if conf.low_water == 0:
        return Bound(what, 0.0, None, "$low_water is 0")
    found = rules(conf, "master")
    best = conf.timer_seconds if conf.low_water == 1 else 0.0
    why = f"if the peer hears a packet within {seconds(found.proof_time)} of the alarm"
    return Bound(what, best, handover_time(found), why)


def resume(conf: Conf) -> Bound:
    what = "the boot master asks for its role after its start"
    if not conf.mresume:
        return Bound(what, 0.0, None, "$mresume is no: it takes the role without asking")
    worst = resume_time(rules(conf, "master"))
    return Bound(what, 0.0, worst, "if each interface hears a packet in its first window")


def healing(conf: Conf) -> Bound:
    worst = linked_healing_time(rules(conf, "master"))
    return Bound("end of two active machines that hear each other again", 0.0, worst)


def ethernet_healing(conf: Conf) -> Bound:
    what = "the same if they hear each other on the ethernet side only"
    if not conf.addresses:
        return Bound(what, 0.0, None, "@addresses is empty")
    return Bound(what, 0.0, ethernet_healing_time(rules(conf, "master")))


def nobody(conf: Conf) -> Bound:
    worst = agreement_time(rules(conf, "master"))
    return Bound("one becomes active when both hear that none is", 2 * conf.plip_timer, worst)


def lost_handover(conf: Conf) -> Bound:
    """A peer that vanished after `fail` was sent may have switched until then."""
    worst = take_back_time(rules(conf, "master"))
    return Bound("the role is taken back when the peer vanishes in a handover", 0.0, worst)


def without_anyone(conf: Conf) -> Bound:
    """The longest time without an active machine that statement 2 allows, scripts included."""
    worst = longest_without_active(rules(conf, "master"))
    return Bound("longest time without an active machine", 0.0, worst)


def all_bounds(conf: Conf) -> list[Bound]:
    return [
        silence(conf),
        power_cut(conf),
        deaf(conf),
        resume(conf),
        healing(conf),
        ethernet_healing(conf),
        nobody(conf),
        lost_handover(conf),
        without_anyone(conf),
    ]


# ---------------------------------------------------------------------------- what does not hold

NEVER_TWO, NEVER_NONE = '"never two active"', '"never none"'
NO_WORSE = '"no handover to a machine that is no better off"'


def not_held(conf: Conf) -> list[str]:
    """The statements of section 5 that these settings give up, each with the reason."""
    lines = [*two_may_be_active(conf), *none_may_be_active(conf)]
    if conf.low_water > 1:
        lines.append(
            f"{NO_WORSE} does not hold when both hear less than $low_water {conf.low_water}: "
            "a standby is judged by silence only"
        )
    return lines


def two_may_be_active(conf: Conf) -> list[str]:
    lines = []
    bare = sorted(set(conf.interfaces) - {entry.interface for entry in conf.addresses})
    if conf.confirm == "none":
        lines.append("does not hold while the link is cut: $confirm is none")
    elif conf.confirm_prog:
        lines.append(f"is as good as the program {conf.confirm_prog}")
    elif not conf.addresses:
        lines.append("does not hold while the link is cut: @addresses is empty")
    elif bare:
        only = " and ".join(bare)
        why = f"none of @addresses is on {only}"
        lines.append(f"does not hold while the machines hear each other on {only} only: {why}")
    if not conf.mresume:
        lines.append("does not hold at boot: $mresume is no")
    return [f"{NEVER_TWO} {line}" for line in lines]


def none_may_be_active(conf: Conf) -> list[str]:
    lines = []
    if conf.low_water == 0:
        lines.append(
            "does not hold for clients when the active card dies and the private link is whole: "
            "with $low_water 0 no card fails, with 1 it does"
        )
    elif quiet := sorted(set(conf.interfaces) - {entry.interface for entry in conf.witness}):
        only = " and ".join(quiet)
        lines.append(
            f"does not hold for clients on a quiet network when {only} of the active node neither "
            "receives nor sends, without a carrier say: the peer receives nothing there either; "
            f"name a probe target as @witness on {only}"
        )
    if conf.confirm_prog:
        lines.append(f"holds only if {conf.confirm_prog} tells that a dead service does not answer")
    if conf.fence_prog:
        lines.append(f"holds only if {conf.fence_prog} succeeds")
    if conf.plip_filter:
        lines.append(
            "holds only if nothing passes $plip_filter that comes from a peer without failoverd"
        )
    return [f"{NEVER_NONE} {line}" for line in lines]


def explain(conf: Conf, boot: str) -> list[str]:
    """The lines that `failoverd -t` prints about a machine with this host_type."""
    lines = [f"this machine is the boot {boot}"]
    lines += [str(bound) for bound in all_bounds(conf)]
    lines.append(f"the switch script has {seconds(conf.switch_timeout)} each time it runs")
    lines.append(
        f"a role that came because of an interface stays {seconds(conf.hold_down)} at least, "
        "whatever that interface does"
    )
    return lines + (not_held(conf) or ["all five statements about the pair hold"])
