"""How soon the pair reacts: the worst cases of the rules of sections 4 and 5, in seconds, up to the
moment when the switch script begins: how long that runs is the site's affair.

The explorer and the lab judge by them, and `failoverd -t` prints them (`promises`), but for that of
a relief, which takes two faults at once.
"""

from __future__ import annotations

from failoverd.pair.settings import Rules


def silence_time(rules: Rules) -> float:
    """The last heartbeat came at the begin of a window; the two after it are empty."""
    return 3 * rules.window


def handover_time(rules: Rules) -> float:
    """The window of the last packet is not empty, the next one is. Then the peer is asked, and has
    so long to show that it receives what does not arrive here."""
    return 2 * rules.news_time + rules.proof_time


def relief_time(rules: Rules) -> float:
    """An active node has a bad interface, and then knows that no query of it is answered; the peer
    learns that when roles are compared, and makes sure that it receives itself."""
    worse = max(2 * rules.news_time, rules.wordless_time)
    return worse + rules.compare_time + rules.proof_time + rules.status_timeout


def resume_time(rules: Rules) -> float:
    """A packet is told of at the end of its window; the peer may be asked just then."""
    return rules.news_time + rules.status_timeout


def ethernet_healing_time(rules: Rules) -> float:
    """Only the service network is whole: the own addresses are asked for once a window, after a
    comparison has failed, and then three times in a row."""
    return rules.window + rules.compare_time + rules.round


def agreement_time(rules: Rules) -> float:
    """Two windows in which none is active, a comparison before and one query after."""
    return 2 * rules.window + rules.heartbeat + 2 * rules.status_timeout


def take_back_time(rules: Rules) -> float:
    """A `fail` that was sent may have its effect until then, and who answered in the last window is
    asked again; then the service network is asked."""
    return max(rules.switch_time, rules.window) + 2 * rules.round + rules.status_timeout


def programs_time(rules: Rules) -> float:
    """What the programs of $confirm and $fence_prog may take before a takeover by silence."""
    return ((rules.confirm == "program") + rules.fence) * rules.switch_timeout


def longest_without_active(rules: Rules) -> float:
    """Statement 2, scripts included: a run of the well node's own, after what takes longest."""
    run = rules.switch_timeout
    return run + max(
        silence_time(rules) + programs_time(rules),
        2 * run + rules.window + programs_time(rules),  # its own run before hung, and its end
        2 * run + agreement_time(rules),  # so did the peer's, and then none is active
        3 * run + rules.status_timeout + rules.round,  # it stood down for a peer whose runs hung
        run + take_back_time(rules),  # it stood down for a peer that vanished
    )
