"""What `failoverd -t` says in seconds, worked out by hand from sections 4 and 5 of the contract.

That the pair keeps to it is shown elsewhere: in every state by the explorer, in real namespaces by
test_never_two.py and the chaos runs, which all use the same functions.
"""

from __future__ import annotations

import pytest

from failoverd import conf
from failoverd.tools import promises

SERVED = """
@interfaces = ('eth0');
@addresses = ('eth0 192.0.2.10/24');
@witness = ('eth0 192.0.2.1');
$low_water = 1;
"""
FAST = SERVED + "$timer_seconds = 0.006; $plip_timer = 0.006; $plip_hbeat = 0.005;"

TAKEOVER = "takeover after the last heartbeat was heard"
POWER = "takeover after the peer's power is cut"
HANDOVER = "handover after the last packet of an interface"
RESUME = "the boot master asks for its role after its start"
HEALING = "end of two active machines that hear each other again"
WIRED = "the same if they hear each other on the ethernet side only"
AGREEMENT = "one becomes active when both hear that none is"
BACK = "the role is taken back when the peer vanishes in a handover"
LONGEST = "longest time without an active machine"

NOBODY_ANSWERS = "(if nobody answers for @addresses)"
HEARS = "(if each interface hears a packet in its first window)"
IN_TIME = "(if the peer hears a packet within 40 s of the alarm)"
ALL_HOLD = "all five statements about the pair hold"
DEAF = (
    '"never none" does not hold for clients when the active card dies and the private link is '
    "whole: with $low_water 0 no card fails, with 1 it does"
)
QUIET = (
    '"never none" does not hold for clients on a quiet network when {0} of the active node neither '
    "receives nor sends, without a carrier say: the peer receives nothing there either; name a "
    "probe target as @witness on {0}"
)


def explained(text: str) -> list[str]:
    return promises.explain(conf.parse(text, "failoverd.conf"), "master")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (  # the original's defaults: windows of 11 s and 20 s, a heartbeat each 10 s
            "",
            [
                f"{TAKEOVER}: 22 s to 33 s",  # 2 windows to 3
                f"{POWER}: 12 s to 33 s",  # the last heartbeat was up to 10 s old
                f"{HANDOVER}: never ($low_water is 0)",
                f"{RESUME}: 0 s to 25 s {HEARS}",  # 20, and 5 for a lost question
                f"{HEALING}: 0 s to 15 s",  # a heartbeat, and a lost question
                f"{WIRED}: never (@addresses is empty)",
                f"{AGREEMENT}: 22 s to 42 s",  # 2 windows, a heartbeat, two questions
                f"{BACK}: 0 s to 43 s",  # 30 + 5 + 1 for the peer, three rounds of 1 s in 2, 5
                # A run of each of the two hangs, and is undone meanwhile; 42; and a run that works.
                f"{LONGEST}: 0 s to 132 s",
            ],
        ),
        (
            SERVED,
            [
                f"{TAKEOVER}: 22 s to 33 s {NOBODY_ANSWERS}",
                f"{HANDOVER}: 20 s to 80 s {IN_TIME}",
                f"{WIRED}: 0 s to 27 s",  # a window, 15 as above, a round
                ALL_HOLD,
            ],
        ),
        (SERVED + "$low_water = 2;", [f"{HANDOVER}: 0 s to 80 s {IN_TIME}"]),
        (
            FAST,
            [
                f"{TAKEOVER}: 0.012 s to 0.018 s {NOBODY_ANSWERS}",
                f"{POWER}: 0.007 s to 0.018 s",
                # At so short windows the peer has a tenth of a second to answer, and a question
                # a second.
                f"{HANDOVER}: 0.006 s to 0.112 s "
                "(if the peer hears a packet within 0.1 s of the alarm)",
                f"{RESUME}: 0 s to 1.006 s {HEARS}",
                f"{HEALING}: 0 s to 1.005 s",
                f"{WIRED}: 0 s to 1.017 s",
                f"{AGREEMENT}: 0.012 s to 2.017 s",
                f"{BACK}: 0 s to 37.012 s",
                # Standing down for a peer whose runs hang: 3 of 30, a question, a round; a run.
                f"{LONGEST}: 0 s to 121.006 s",
                ALL_HOLD,
            ],
        ),
        (  # whoever answered in the last window, which is longer than a switch, is asked again;
            # three windows of silence, and a run
            SERVED + "$plip_timer = 100;",
            [f"{BACK}: 0 s to 107 s", f"{LONGEST}: 0 s to 330 s"],
        ),
        (
            SERVED + "$confirm = '/usr/lib/ask'; $fence_prog = '/usr/lib/fence';",
            [
                f"{TAKEOVER}: 22 s to 33 s (plus the run of /usr/lib/ask and /usr/lib/fence)",
                f"{POWER}: 12 s to 33 s (plus the run of /usr/lib/ask and /usr/lib/fence)",
                # A run that hangs and its end, a window, two programs, and a run that works.
                f"{LONGEST}: 0 s to 161 s",
            ],
        ),
        (
            SERVED + "$mresume = 'no';",
            [f"{RESUME}: never ($mresume is no: it takes the role without asking)"],
        ),
        (
            SERVED + "$hold_down = 7; $switch_timeout = 8;",
            [
                f"{HEALING}: 0 s to 15 s",
                "the switch script has 8 s each time it runs",
                "a role that came because of an interface stays 7 s at least, "
                "whatever that interface does",
            ],
        ),
    ],
)
def test_the_seconds(text: str, lines: list[str]) -> None:
    found = explained(text)
    assert [line for line in found if line in lines] == lines, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (SERVED, []),
        ("", ['"never two active" does not hold while the link is cut: @addresses is empty', DEAF]),
        (SERVED + "$low_water = 0;", [DEAF]),
        (SERVED + "@witness = ();", [QUIET.format("eth0")]),
        (
            SERVED + "$low_water = 2;",
            [
                '"no handover to a machine that is no better off" does not hold when both hear '
                "less than $low_water 2: a standby is judged by silence only"
            ],
        ),
        (
            SERVED + "$confirm = 'none'; $mresume = 'no';",
            [
                '"never two active" does not hold while the link is cut: $confirm is none',
                '"never two active" does not hold at boot: $mresume is no',
            ],
        ),
        (
            SERVED + "@interfaces = qw(eth0 eth1 eth2);",
            [
                '"never two active" does not hold while the machines hear each other on eth1 and '
                "eth2 only: none of @addresses is on eth1 and eth2",
                QUIET.format("eth1 and eth2"),
            ],
        ),
        (
            SERVED + "$confirm = '/usr/lib/ask'; $fence_prog = '/usr/lib/fence';",
            [
                '"never two active" is as good as the program /usr/lib/ask',
                '"never none" holds only if /usr/lib/ask tells that a dead service does not answer',
                '"never none" holds only if /usr/lib/fence succeeds',
            ],
        ),
        (
            SERVED + "$plip_filter = 'inbound';",
            [
                '"never none" holds only if nothing passes $plip_filter that comes from a peer '
                "without failoverd"
            ],
        ),
    ],
)
def test_what_does_not_hold(text: str, lines: list[str]) -> None:
    found = explained(text)
    named = [line for line in found if line.startswith('"')]
    assert named == lines
    assert (ALL_HOLD in found) is (lines == [])
