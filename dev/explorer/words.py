"""The story of a world, told in plain words."""

from __future__ import annotations

from dev.explorer.model import INTERFACES, NAMES, RECEPTION, SCRIPTS, Fault, Game, World
from failoverd import pair

CONDITION = ("off", "without failoverd", "running", "stopped", "frozen")


def describe(event: pair.Event) -> str:
    match event:
        case pair.Request():
            return f"{event.command} from {'the peer' if event.from_peer else 'a person'}"
        case pair.Replied(purpose, ok, _, view):
            if view is not None:
                bad = f", bad: {' '.join(sorted(view.bad))}" if view.bad else ""
                return f"{purpose.value}: the peer is {view.role}{bad}"
            return f"{purpose.value}: {'ok' if ok else 'error'}"
        case pair.Unreplied(purpose):
            return f"no answer to {purpose.value}"
        case pair.LinkWatched():
            return f"heartbeat link: {event.packets} packets, {event.verdict}"
        case pair.Watched():
            return f"{event.interface}: {event.packets} packets, {event.verdict}"
        case pair.Answers():
            who = "answered" if event.anybody else f"unanswered ({event.asked} asked)"
            return f"asked for {'our own' if event.own else 'the'} addresses: {who}"
        case pair.Ended(ran=False):
            return f"{event.kind} could not be started"
        case pair.Ended():
            return f"{event.kind} {'succeeded' if event.ok else 'failed'}"
        case pair.Checked():
            found = {True: "good", False: "bad", None: "not known any more"}[event.ok]
            return f"the check is {found}"
        case pair.Hold():
            return "on hold" if event.on else "released"
        case pair.Started():
            return f"started, was {event.role}"
        case pair.Carrier():
            return f"{event.interface} goes {'up' if event.up else 'down'}"
        case _:
            return type(event).__name__.lower()


def describe_fault(fault: Fault) -> str:
    word, number, what = fault
    who = (*NAMES, "both")[number]
    match word:
        case "cut" | "mend":
            way = ("from A to B", "from B to A", "in both directions")[number]
            return f"the heartbeat link is {'cut' if word == 'cut' else 'mended'} {way}"
        case "switch":
            return f"the switch {'works again' if what else 'dies'}"
        case "traffic":
            busy = ("falls quiet", "is less busy than $low_water", "is busy again")
            return f"the service network {busy[what]}"
        case "interface":
            interface, how = divmod(what, len(RECEPTION))
            words = (
                "receives again",
                "has a dead port",
                "goes down",
                "is deleted, with the addresses",
            )
            return f"{INTERFACES[interface]} of {who} {words[how]}"
        case "port":
            return f"the port of {NAMES[1 - number]} is {'open' if what else 'closed'} to {who}"
        case "second":
            which = f"the port of {NAMES[1 - number]} on the second path"
            return f"{which} is {'open' if what else 'closed'} to {who}"
        case "onearp":
            return f"what {who} asks on the service network is {'' if what else 'not '}answered"
        case "hole":
            return f"the heartbeat link passes {'all' if what else 'only small'} packets"
        case "poll":
            return f"a person asks {who} for the status"
        case "check":
            return f"the service of {who} {'is sick' if what else 'is well'}"
        case "hold":
            return f"a person tells {who} to {'hold' if what else 'release'}"
        case "script":
            return f"the script of {who} {SCRIPTS[what].name}"
        case "fail" | "resume":
            return f"a person tells {who} {word}"
        case "restart":
            return f"failoverd of {who} is killed and started again"
        case "kill" | "start":
            return f"failoverd of {who} is {'killed' if word == 'kill' else 'started again'}"
        case "bare":
            return f"the addresses vanish from the interface of {who}"
        case "stray":
            return f"something puts the addresses on the interface of {who}"
        case "freeze":
            return f"{who} freezes, kernel and all"
        case "stop":
            return f"failoverd of {who} is stopped"
    return f"{who}: {word}"


def describe_world(game: Game, world: World) -> str:
    """What has become of both nodes."""
    return (
        "; ".join(describe_host(game, world, number) for number in (0, 1))
        + f"; the link is {describe_link(world.wire)}"
    )


def describe_host(game: Game, world: World, number: int) -> str:
    host = world.hosts[number]
    words = [NAMES[number], CONDITION[host.run]]
    if host.mind >= 0:
        words.append(game.minds[number].states[host.mind].phase.value)
    if host.holds:
        words.append("with the addresses")
    if any(host.reception):
        words.append("and not receiving")
    return " ".join(words)


def describe_link(wire: tuple[bool, bool]) -> str:
    if all(wire):
        return "whole"
    return "cut" if not any(wire) else f"open from {'A to B' if wire[0] else 'B to A'} only"
