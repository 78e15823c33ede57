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

TAKEOVER = "takeover after last heartbeat"
POWER = "takeover after peer's power loss"
SWITCHOVER = "switchover after last packet"
RESUME = "preferred node asks for its role"
HEALING = "end of split brain, link works"
WIRED = "end of split brain, link is cut"
AGREEMENT = "takeover when no node is active"
BACK = "role taken back, peer vanished"
LONGEST = "longest time without active node"

ARP = "no ARP reply"
CUT = '"never two active" does not hold while both paths are cut: '
LINK_CUT = '"never two active" does not hold while the heartbeat link is cut: '
FIRST = "receives in first window"
NEVER_FAILS = (
    '"never without an active node" does not hold for clients when an interface of the active '
    "node fails and the heartbeat link works: with $low_water 0 no interface fails, with 1 it does"
)
QUIET = (
    '"never without an active node" does not hold for clients on a quiet network when {0} of '
    "the active node neither receives nor sends, without a carrier say: the peer receives nothing "
    "there either; name a probe target as @witness on {0}"
)


def explained(text: str) -> list[str]:
    """What is printed, with folded lines put together again."""
    lines = promises.explain(conf.parse(text, "failoverd.conf"), "master")
    assert max(map(len, lines)) <= 80
    return "\n".join(lines).replace("\n    ", " ").split("\n")


def told(what: str, *times: str) -> str:
    """A line of the table, at best and at worst, and on what that depends."""
    best, worst, *why = times if times[0] != "never" else ("", *times)
    return f"{what:<32}{best:>10}{worst:>10}  {''.join(why)}".rstrip()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (  # the original's defaults: windows of 11 s and 20 s, a heartbeat each 10 s
            "",
            [
                told(TAKEOVER, "22 s", "33 s"),  # 2 windows to 3
                told(POWER, "12 s", "33 s"),  # the last heartbeat was up to 10 s old
                told(SWITCHOVER, "never", "$low_water is 0"),
                told(RESUME, "0 s", "25 s", FIRST),  # 20, and 5 for a lost query
                told(HEALING, "0 s", "15 s"),  # a heartbeat, and a lost query
                told(WIRED, "never", "@addresses is empty"),
                told(AGREEMENT, "22 s", "42 s"),  # 2 windows, a heartbeat, two queries
                told(BACK, "0 s", "43 s"),  # 30 + 5 + 1 for the peer, three rounds of 1 s in 2, 5
                # A run of each of the two hangs, and is undone meanwhile; 42; and a run that works.
                told(LONGEST, "0 s", "132 s"),
            ],
        ),
        (
            SERVED,
            [
                told(TAKEOVER, "22 s", "33 s", ARP),
                told(SWITCHOVER, "20 s", "80 s", "peer receives in 40 s"),
                told(WIRED, "0 s", "27 s"),  # a window, 15 as above, a round
                promises.ALL_HOLD,
            ],
        ),
        (SERVED + "$low_water = 2;", [told(SWITCHOVER, "0 s", "80 s", "peer receives in 40 s")]),
        (
            FAST,
            [
                told(TAKEOVER, "0.012 s", "0.018 s", ARP),
                told(POWER, "0.007 s", "0.018 s"),
                # At so short windows the peer has a tenth of a second to answer, and a query
                # a second.
                told(SWITCHOVER, "0.006 s", "0.112 s", "peer receives in 0.1 s"),
                told(RESUME, "0 s", "1.006 s", FIRST),
                told(HEALING, "0 s", "1.005 s"),
                told(WIRED, "0 s", "1.017 s"),
                told(AGREEMENT, "0.012 s", "2.017 s"),
                told(BACK, "0 s", "37.012 s"),
                # Standing down for a peer whose runs hang: 3 of 30, a query, a round; a run.
                told(LONGEST, "0 s", "121.006 s"),
                promises.ALL_HOLD,
            ],
        ),
        (  # whoever answered in the last window, which is longer than a switch, is asked again;
            # three windows of silence, and a run
            SERVED + "$plip_timer = 100;",
            [told(BACK, "0 s", "107 s"), told(LONGEST, "0 s", "330 s")],
        ),
        (
            SERVED + "$confirm = '/usr/lib/ask'; $fence_prog = '/usr/lib/fence';",
            [
                told(TAKEOVER, "22 s", "33 s", "$confirm + $fence_prog"),
                told(POWER, "12 s", "33 s", "$confirm + $fence_prog"),
                # A run that hangs and its end, a window, two programs, and a run that works.
                told(LONGEST, "0 s", "161 s"),
            ],
        ),
        (
            SERVED + "$mresume = 'no';",
            [told(RESUME, "never", "$mresume is no")],
        ),
        (
            SERVED + "$failback = 'no';",
            [told(RESUME, "never", "$failback is no")],
        ),
        (
            SERVED + "$fence_prog = '/usr/lib/fence';",
            [
                told(TAKEOVER, "22 s", "33 s", "no ARP reply + $fence_prog"),
                told(POWER, "12 s", "33 s", "$fence_prog"),
            ],
        ),
    ],
)
def test_the_seconds(text: str, lines: list[str]) -> None:
    found = explained(text)
    assert [line for line in found if line in lines] == lines, "\n".join(found)


@pytest.mark.parametrize(
    ("checks", "best", "worst"),
    [
        ("'web 2 /bin/a'", "4 s", "17 s"),  # 3 runs at 0, 2, 4; 2, and 3 that last 5
        ("'web 10 /bin/a', 'db 2 /bin/b'", "4 s", "35 s"),  # 10, two intervals of 10, and 5
        ("'web 2 /bin/a', 'db 0 pidfile:/run/db.pid'", "0 s", "17 s"),
        ("'db 0 pidfile:/run/db.pid'", "0 s", "0 s"),
    ],
)
def test_the_seconds_of_checks(checks: str, best: str, worst: str) -> None:
    line = told("switchover after a check fails", best, worst, "less is bad at the peer")
    assert line in explained(f"@checks = ({checks});")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (SERVED, []),
        ("", [f"{CUT}@addresses is empty", NEVER_FAILS]),
        ("$second_path = 'no';", [f"{LINK_CUT}@addresses is empty", NEVER_FAILS]),
        (SERVED + "$low_water = 0;", [NEVER_FAILS]),
        (SERVED + "@witness = ();", [QUIET.format("eth0")]),
        (
            SERVED + "$low_water = 2;",
            [
                '"no switchover to a node that is no better off" does not hold when '
                "both nodes receive less than $low_water 2: the standby has failed only if it "
                "receives nothing"
            ],
        ),
        (
            SERVED + "$confirm = 'none'; $mresume = 'no';",
            [
                f"{LINK_CUT}$confirm is none",
                '"never two active" does not hold at boot: $mresume is no',
            ],
        ),
        (
            SERVED + "@interfaces = qw(eth0 eth1 eth2);",
            [
                '"never two active" does not hold while the nodes reach each other '
                "on eth1 and eth2 only: none of @addresses is on eth1 and eth2",
                QUIET.format("eth1 and eth2"),
            ],
        ),
        (
            SERVED + "$confirm = '/usr/lib/ask'; $fence_prog = '/usr/lib/fence';",
            [
                '"never two active" holds only if /usr/lib/ask tells that a live service answers',
                '"never without an active node" holds only if /usr/lib/ask tells that a dead '
                "service does not answer",
                '"never without an active node" holds only if /usr/lib/fence succeeds',
            ],
        ),
        (
            SERVED + "$plip_filter = 'inbound';",
            [
                '"never without an active node" holds only if nothing passes $plip_filter that '
                "comes from a peer without failoverd"
            ],
        ),
    ],
)
def test_what_does_not_hold(text: str, lines: list[str]) -> None:
    found = explained(text)
    named = [line for line in found if line.startswith('  "')]
    assert [line.strip() for line in named] == lines
    assert (promises.ALL_HOLD in found) is (lines == [])


@pytest.mark.parametrize(
    ("more", "never", "takes_over"),
    [
        ("", {TAKEOVER, POWER, BACK, LONGEST}, False),
        ("$second_path = 'no';", {TAKEOVER, POWER, WIRED, BACK, LONGEST}, False),
        ("$confirm = 'none';", {WIRED, BACK}, True),
    ],
)
def test_what_never_comes_where_no_probe_can_be_sent(
    more: str, never: set[str], takes_over: bool
) -> None:
    text = SERVED.replace("eth0", "tun0") + more
    lines = promises.explain(conf.parse(text, "failoverd.conf"), "master", ["tun0"])
    assert {told(what, "never", "no ARP on tun0") for what in never} == {
        line for line in lines if "never  " in line
    }
    without = "does not hold when the active node is lost: tun0 has no hardware address"
    assert (without not in "\n".join(lines).replace("\n    ", " ")) is takes_over


@pytest.mark.parametrize(("boot", "kind"), [("master", "the"), ("slave", "not the")])
def test_which_node_it_is(boot: str, kind: str) -> None:
    lines = promises.explain(conf.parse(SERVED, "failoverd.conf"), boot)
    assert lines[0] == f"This node is {kind} preferred one (boot:{boot})."
