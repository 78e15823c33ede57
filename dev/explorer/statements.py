"""The five statements of section 5, and what of a world they are about.

A statement is judged by how long something has been so. `flags` says what is so in a world, as bits
of one number, and a statement is a stretch: these bits set, those not, for at most so many ticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, auto
from math import ceil

from dev.explorer.model import (
    DEAD,
    FEW,
    FROZEN,
    GONE,
    HELD,
    NAMES,
    NEITHER,
    OFF,
    RECEIVES,
    RUNNING,
    SCRIPTS,
    Game,
    Host,
    Setup,
    World,
)
from failoverd import pair
from failoverd.pair import bounds

AB = (0, 1)


class Flag(IntFlag):
    """What is so in a world. _A and _B belong to one node."""

    TWO = auto()  # both hold the addresses, with a kernel that answers for them
    BOTH = auto()  # by their own doing, or are about to again; no script failed to take them away
    NONE = auto()  # neither does, and none believes to be active on an interface that is gone
    UNSERVED = auto()  # neither does where clients could reach it
    ONE = auto()  # one is active by its own word, and holds them, unless its interface is gone
    REACH = auto()  # both run, and can reach each other on some path
    NEAR = auto()  # on the service network
    LINKED = auto()  # by queries, on the heartbeat link or the second path
    WORKS = auto()  # the switch script works somewhere
    LOST = auto()  # the clients take the wrong node for the one that serves
    WELL_A = auto()  # runs, receives on the service network, and its script works
    WELL_B = auto()
    FIT_A = auto()  # well, and has not failed when it had the role last
    FIT_B = auto()
    BEST_A = auto()  # the peer's service network is no better
    BEST_B = auto()
    GIVES_A = auto()  # gives its role away because of an interface
    GIVES_B = auto()
    ALONE_A = auto()  # stands by, is well, and the other node is off
    ALONE_B = auto()
    LOSES_A = auto()  # has told the other node something, is well, and that one is off
    LOSES_B = auto()
    USELESS_A = auto()  # active with no interface; the other is linked, stands by and is well
    USELESS_B = auto()
    WANTS_A = auto()  # preferred, stands by, is well, and knows the peer to be active
    WANTS_B = auto()
    IDLE = auto()  # linked, and on standby, both of them
    OWES_A = auto()  # an asker waits for its answer
    OWES_B = auto()
    SICK_A = auto()  # active with a bad check, and the peer is linked, stands by and is well
    SICK_B = auto()
    MUTE_A = auto()  # active, worse off, and does not reach the peer, which reaches it
    MUTE_B = auto()


WELL = (Flag.WELL_A, Flag.WELL_B)
FIT = (Flag.FIT_A, Flag.FIT_B)
BEST = (Flag.BEST_A, Flag.BEST_B)
GIVES = (Flag.GIVES_A, Flag.GIVES_B)
ALONE = (Flag.ALONE_A, Flag.ALONE_B)
LOSES = (Flag.LOSES_A, Flag.LOSES_B)
USELESS = (Flag.USELESS_A, Flag.USELESS_B)
WANTS = (Flag.WANTS_A, Flag.WANTS_B)
OWES = (Flag.OWES_A, Flag.OWES_B)
SICK = (Flag.SICK_A, Flag.SICK_B)
MUTE = (Flag.MUTE_A, Flag.MUTE_B)
# What is an operator's affair while he has changes of role on hold.
NOT_HELD = Flag.NONE | Flag.UNSERVED | Flag.WORKS | Flag.IDLE
for _each in (ALONE, USELESS, WANTS, SICK, MUTE):
    NOT_HELD |= _each[0] | _each[1]

ON_STANDBY = ("standby", "failed")
TOLD = (pair.Posture.CALLING, pair.Posture.GIVING)


def works(host: Host) -> bool:
    script = SCRIPTS[host.behaviour]
    return script.master_ok and script.slave_ok and not host.stumbled and GONE not in host.reception


def may_announce(game: Game, hosts: tuple[Host, Host], number: int) -> bool:
    """Whether a node runs, and announces on every interface when there is something to announce."""
    host, mind = hosts[number], game.minds[number]
    if host.run != RUNNING or any(host.reception):
        return False
    return len(pair.announceable(mind.states[host.mind])) == game.setup.interfaces


def has_role(game: Game, host: Host, number: int) -> bool:
    """Whether it holds the addresses by its own doing, or is about to put them back."""
    if host.run in (OFF, FROZEN):
        return False
    if host.mind < 0:
        return host.holds == HELD
    state = game.minds[number].states[host.mind]
    restores = state.phase is pair.Phase.PROMOTING and state.purpose is pair.Purpose.RESTORE
    return (
        host.holds == HELD or restores or state.posture is pair.Posture.SERVING
    ) and not state.unclean


def holds_on(game: Game, host: Host, number: int) -> bool:
    """Whether it keeps a role that came because of an interface that is not proved here yet."""
    if host.mind < 0:
        return False
    state = game.minds[number].states[host.mind]
    return state.from_peer and not all(i.proved for i in state.interfaces)


def flags(game: Game, world: World) -> int:
    """The flags of a world, as a plain number. None are set before both nodes have been booted:
    a boot is an event like a fault, after which all stretches begin again."""
    hosts = world.hosts
    if hosts[0].boots_in >= 0 or hosts[1].boots_in >= 0:
        return 0
    found = 0
    holding = [host.holds and host.run not in (OFF, FROZEN) for host in hosts]
    alive = hosts[0].run == RUNNING == hosts[1].run
    # A script that cannot end lets neither stand down: what is so meanwhile breaks no statement.
    ends = all(SCRIPTS[host.behaviour].slave_removes and not host.stumbled for host in hosts)
    receiving = [
        {at for at, how in enumerate(host.reception) if how == RECEIVES and world.switch}
        for host in hosts
    ]
    link = all((*world.wire, world.whole))
    round_ = game.setup.two_paths and 0 in receiving[0] & receiving[1]
    asks = [(link and world.ports[n]) or (round_ and world.seconds[n]) for n in AB]
    linked = all(asks)
    if all(has_role(game, host, number) for number, host in enumerate(hosts)):
        found |= Flag.BOTH
    if all(holding):
        found |= Flag.TWO
    elif not any(holding) and not any(GONE in host.reception for host in hosts):
        found |= Flag.NONE
    if alive and ends and receiving[0] & receiving[1] and any(holding) and all(world.airs):
        found |= Flag.NEAR | Flag.REACH
    if alive and ends and linked:
        found |= Flag.LINKED | Flag.REACH
    if any(works(host) for host in hosts):
        found |= Flag.WORKS
    serving = [holding[n] and bool(receiving[n]) for n in AB]
    held = any(holds_on(game, host, number) for number, host in enumerate(hosts))
    if ends and world.traffic and not any(serving) and not held:
        found |= Flag.UNSERVED
    if ends and serving[0] is not serving[1]:
        server = 0 if serving[0] else 1
        if world.believed not in (server, NEITHER) and may_announce(game, hosts, server):
            found |= Flag.LOST
    active = 0
    for n in AB:
        host = hosts[n]
        if host.run == RUNNING and len(receiving[n]) == game.setup.interfaces and works(host):
            found |= WELL[n]
        if not world.traffic or len(receiving[1 - n]) <= len(receiving[n]):
            found |= BEST[n] if world.traffic != FEW else 0
        if host.run in (OFF, DEAD):
            continue
        state = game.minds[n].states[host.mind]
        if found & WELL[n] and not state.broken:
            found |= FIT[n]
        active += (host.holds or GONE in host.reception) and pair.role(state) == "active"
        if state.phase is pair.Phase.DEMOTING and state.purpose is pair.Purpose.INTERFACE:
            found |= GIVES[n]
    if active == 1:
        found |= Flag.ONE
    found |= waiting(game, world, found, [len(those) for those in receiving], asks)
    return int(found & ~NOT_HELD if any(host.held for host in hosts) else found)


def waiting(game: Game, world: World, found: int, receiving: list[int], asks: list[bool]) -> int:
    """Which of the times that `failoverd -t` tells is passing. receiving: on how many interfaces it
    does; asks: whether its queries reach the peer's port."""
    states = [game.minds[n].states[host.mind] for n, host in enumerate(world.hosts)]
    roles = ["" if host.mind < 0 else pair.role(states[n]) for n, host in enumerate(world.hosts)]
    more = 0
    if found & Flag.LINKED and all(role in ON_STANDBY for role in roles):
        more |= Flag.IDLE
    for n, state in enumerate(states):
        if world.hosts[n].run == RUNNING and state.waiting:
            more |= OWES[n]
        if found & WELL[n] and world.hosts[1 - n].run == OFF:
            more |= ALONE[n] if roles[n] in ON_STANDBY else 0
            more |= LOSES[n] if state.posture in TOLD else 0
        peer_can = found & WELL[1 - n] and roles[1 - n] == "standby" and world.traffic
        serves = state.posture is pair.Posture.SERVING and works(world.hosts[n])
        fewer = receiving[n] < game.setup.interfaces and game.setup.low_water
        sicker = world.hosts[n].sick and not world.hosts[1 - n].sick
        serves = serves and not state.from_peer
        if peer_can and serves and asks[1 - n] and not asks[n] and (fewer or sicker):
            more |= MUTE[n]
        if not found & Flag.LINKED:
            continue
        if peer_can and serves and not receiving[n]:
            more |= USELESS[n]
        if peer_can and serves and found & WELL[n] and world.hosts[n].sick:
            more |= 0 if world.hosts[1 - n].sick else SICK[n]
        wants = (
            not game.setup.failback
            and state.resuming
            and roles[n] in ON_STANDBY
            and roles[1 - n] == "active"
            and not state.checks  # what was bad here as it had the role still counts
        )
        if wants and found & WELL[n] and world.traffic and not world.hosts[1 - n].stumbled:
            more |= WANTS[n]
    return more


@dataclass(frozen=True)
class Stretch:
    """For so many ticks without a fault, at most, may these be set and those not."""

    statement: int
    text: str
    set: Flag
    clear: Flag
    most: int


@dataclass(frozen=True)
class Entry:
    """After a flag has been set for more than so many ticks, none may lead into another."""

    statement: int
    text: str
    after: Flag
    into: Flag
    most: int


def stretches(setup: Setup) -> list[Stretch]:
    """The bounds are those that `failoverd -t` prints, in ticks.

    A third of a round is a whole tick here, so three probes in a row take two ticks more. No
    role is given to a node whose script has failed: by section 5 it is no standby, and not able,
    until a person has tried it. And where only the service network is whole it is the node with
    boot:slave that stands down: two with boot:master, which is a mistake that the log names, need
    the link for that, and so do two nodes that have no addresses to ask for. One lost message is
    allowed for; when a second one is lost, what it was part of begins once more. When the scripts
    of both hang, and one is repaired while the other is tried, it has to wait for the end of that
    run.
    """
    rules, none = setup.rules(0), Flag(0)
    switch = rules.switch_timeout
    linked = ceil(rules.compare_time + switch)
    reached = ceil(bounds.ethernet_healing_time(rules) + switch) + 2
    none_active = ceil(bounds.longest_without_active(rules))
    unserved = none_active + ceil(3 * rules.card_window + rules.proof_time + rules.hold_down)
    if lost_twice(setup):  # the second costs another comparison
        none_active += setup.window
        reached += ceil(rules.window + rules.compare_time)
        unserved += ceil(bounds.handover_time(rules))
    if "script" in setup.menu and setup.faults > 2:
        none_active += ceil(switch)
    return [
        *(
            [Stretch(1, "two active that reach each other", Flag.TWO | Flag.REACH, none, reached)]
            if setup.addresses and setup.boots[0] != setup.boots[1]
            else []
        ),
        Stretch(
            1, "two active that answer each other's queries", Flag.TWO | Flag.LINKED, none, linked
        ),
        Stretch(1, "clients at the wrong node", Flag.LOST, none, linked),
        Stretch(2, "none active, A is well", Flag.NONE | Flag.WELL_A, none, none_active),
        Stretch(2, "none active, B is well", Flag.NONE | Flag.WELL_B, none, none_active),
        *(
            Stretch(2, f"clients unserved, {name} is fit", Flag.UNSERVED | fit, none, unserved)
            for name, fit in zip(NAMES, FIT, strict=True)
            if setup.low_water
        ),
        Stretch(3, "linked, not one active", Flag.LINKED | Flag.WORKS, Flag.ONE, none_active),
        *waits(setup),
    ]


def lost_twice(setup: Setup) -> bool:
    """Of two faults, one is needed to come to where a message matters."""
    return "loss" in setup.menu and setup.faults > 2


def waits(setup: Setup) -> list[Stretch]:
    """The other times that `failoverd -t` prints: until a switch script begins.

    A preferred node that is refused asks again a window later. An answer that is lost, or late by a
    tick, half of a window here, costs another attempt. When those of both nodes are lost, or one
    is late, in the same moment, neither has reached the other for a window, and both count again.
    """
    rules = setup.rules(0)
    silent = ceil(bounds.silence_time(rules) + bounds.programs_time(rules))
    lost, idle = ceil(bounds.take_back_time(rules)), ceil(bounds.agreement_time(rules))
    useless = ceil(bounds.handover_time(rules))
    mute = ceil(bounds.relief_time(rules))
    owed = ceil(rules.patience + lost + 4 * rules.switch_timeout)
    again = ceil(max(bounds.resume_time(rules), rules.window + rules.status_timeout))
    if setup.delays or "loss" in setup.menu:
        useless, again = useless + 2 * setup.interface_window, again + setup.window
    if lost_twice(setup) or (setup.delays and "loss" in setup.menu):
        idle += 2 * setup.window
    each = [
        *(
            (f"{name} stands by, the other is off", ALONE[n], silent)
            for n, name in enumerate(NAMES)
        ),
        *((f"{name} has told one that is off", LOSES[n], lost) for n, name in enumerate(NAMES)),
        *(
            (f"{name} is active without an interface", USELESS[n], useless)
            for n, name in enumerate(NAMES)
            if setup.low_water
        ),
        *(
            (f"{name} is worse off, and asks in vain", MUTE[n], mute)
            for n, name in enumerate(NAMES)
        ),
        *((f"{name} is active, its check is bad", SICK[n], again) for n, name in enumerate(NAMES)),
        *((f"{name} wants its role", WANTS[n], again) for n, name in enumerate(NAMES)),
        ("both stand by", Flag.IDLE, idle),
        *((f"{name} owes an answer", OWES[n], owed) for n, name in enumerate(NAMES)),
    ]
    return [Stretch(2, text, flag, Flag(0), most) for text, flag, most in each]


def entries(setup: Setup) -> list[Entry]:
    """Two become active only if a script had begun when they could not reach each other, or if
    something else has put the addresses on an interface, or a script that could not be started has
    left them there, which no table can prevent: for how long, the stretches judge. What is known of
    the other's service network is two windows old at most.

    The paths are judged apart: when the link is mended in the very moment in which the service
    network breaks, what was asked there is not answered here, and roles are yet to be compared.
    Where both receive less than $low_water, the standby is better off by section 5, which judges it
    by silence only. And a node that probes for nothing before it takes over is told by none on the
    service network.
    """
    rules, lag = setup.rules(0), setup.interface_window + 2
    blind = ceil(rules.switch_timeout + rules.round)
    near = Entry(1, "two become active, having reached each other for", Flag.NEAR, Flag.BOTH, blind)
    return [
        *([near] if setup.addresses and setup.confirm != "none" else []),
        Entry(1, "two become active, having been linked for", Flag.LINKED, Flag.BOTH, blind),
        Entry(4, "A stands down, B having been no better off for", Flag.BEST_A, Flag.GIVES_A, lag),
        Entry(4, "B stands down, A having been no better off for", Flag.BEST_B, Flag.GIVES_B, lag),
    ]
