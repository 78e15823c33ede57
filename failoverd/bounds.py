"""What the settings mean in seconds: how soon the pair reacts, and which promises do not hold.

Everything follows from the rules of sections 4 and 5, so this is arithmetic over a Conf; `failoverd
-t` prints it, and the explorer and the lab hold the pair to it. Times are best and worst cases, in
seconds, without the run of the switch script, which is named apart because it is the site's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failoverd import pair

if TYPE_CHECKING:
    from failoverd.conf import Conf


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
    return Bound(
        "takeover after the last heartbeat was heard", 2 * conf.plip_timer, 3 * conf.plip_timer
    )


def power_cut(conf: Conf) -> Bound:
    """The last heartbeat was up to one interval old when the power went."""
    best = max(0.0, 2 * conf.plip_timer - conf.plip_hbeat)
    return Bound("takeover after the peer's power is cut", best, 3 * conf.plip_timer)


def deaf(conf: Conf) -> Bound:
    """The window of the last packet is not empty, the next one is."""
    what = "handover after the last packet of an interface"
    if conf.low_water == 0:
        return Bound(what, 0.0, None, "$low_water is 0")
    best = conf.timer_seconds if conf.low_water == 1 else 0.0
    return Bound(what, best, 3 * conf.timer_seconds, "once the peer has heard a packet meanwhile")


def linked_healing_time(rules: pair.Rules) -> float:
    """Roles are compared every heartbeat, and one question may be lost."""
    return rules.heartbeat + rules.status_timeout


def ethernet_healing_time(rules: pair.Rules) -> float:
    """Only the ethernet side is whole: the own addresses are asked for once a window, after a
    comparison has failed, and then three times in a row."""
    return rules.window + linked_healing_time(rules) + rules.round


def agreement_time(rules: pair.Rules) -> float:
    """Two windows in which none is active, a comparison before and one question after."""
    return 2 * rules.window + rules.heartbeat + 2 * rules.status_timeout


def take_back_time(rules: pair.Rules) -> float:
    """A `fail` that was sent may have its effect until then; then the ethernet side is asked."""
    return rules.switch_time + 2 * rules.round + rules.status_timeout


def longest_without_active(rules: pair.Rules) -> float:
    """Statement 2, scripts included: what takes longest, and then one attempt of each machine."""
    longest = max(3 * rules.window, agreement_time(rules), take_back_time(rules))
    return longest + 2 * rules.switch_timeout


def healing(conf: Conf) -> Bound:
    return Bound(
        "end of two active machines that hear each other again",
        0.0,
        linked_healing_time(pair.rules(conf, "master")),
    )


def nobody(conf: Conf) -> Bound:
    worst = agreement_time(pair.rules(conf, "master"))
    return Bound("one becomes active when both hear that none is", 2 * conf.plip_timer, worst)


def lost_handover(conf: Conf) -> Bound:
    """A peer that vanished after `fail` was sent may have switched until then."""
    worst = take_back_time(pair.rules(conf, "master"))
    return Bound("the role is taken back when the peer vanishes in a handover", 0.0, worst)


def resume(conf: Conf) -> Bound:
    """Each interface must have heard a packet; then three messages go over the link."""
    what = "the boot master asks for its role after its start"
    if not conf.mresume:
        return Bound(what, 0.0, None, "$mresume is no: it takes the role without asking")
    worst = conf.timer_seconds + conf.plip_timer
    return Bound(what, 0.0, worst, "if each interface hears a packet in its first window")


def without_anyone(conf: Conf) -> Bound:
    """The longest time without an active machine that statement 2 allows, scripts included."""
    worst = longest_without_active(pair.rules(conf, "master"))
    return Bound("longest time without an active machine", 0.0, worst)


def all_bounds(conf: Conf) -> list[Bound]:
    return [
        silence(conf),
        power_cut(conf),
        deaf(conf),
        resume(conf),
        healing(conf),
        nobody(conf),
        lost_handover(conf),
        without_anyone(conf),
    ]


def not_held(conf: Conf) -> list[str]:
    """The statements of section 5 that these settings give up, each with the reason."""
    lines = []
    if conf.confirm == "none":
        lines.append('"never two active" does not hold while the link is cut: $confirm is none')
    elif conf.confirm == "arp" and not conf.addresses:
        lines.append('"never two active" does not hold while the link is cut: @addresses is empty')
    elif conf.confirm != "arp":
        lines.append(f'"never two active" is as good as the program {conf.confirm}')
    if not conf.mresume:
        lines.append('"never two active" does not hold at boot: $mresume is no')
    if conf.fence_prog:
        lines.append(f'"never none" holds only if {conf.fence_prog} succeeds')
    if conf.low_water == 0:
        lines.append(
            '"never none" does not hold for clients when the active card dies and the private link '
            "is whole: with $low_water 0 no card fails, with 1 it does"
        )
    elif conf.low_water > 1:
        lines.append(
            '"no handover to a machine that is no better off" does not hold when both hear less '
            f"than $low_water {conf.low_water}: a standby is judged by silence only"
        )
    return lines


def explain(conf: Conf, boot: str) -> list[str]:
    """The lines that `failoverd -t` prints about a machine with this host_type."""
    lines = [f"this machine is the boot {boot}"]
    lines += [str(bound) for bound in all_bounds(conf)]
    lines.append(f"the switch script has {seconds(conf.switch_timeout)} each time it runs")
    return lines + (not_held(conf) or ["all five statements about the pair hold"])
