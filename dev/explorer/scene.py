"""What happens in a world: a tick, or a fault between two ticks.

What the master does for the pair is done here in its place (`perform`), and so is what its children
do: queries over the heartbeat link, probes on the service network, windows, scripts. The
obligations that the pair counts on are kept here to the letter, because the explorer proves nothing
without them: a newer query of a purpose replaces the older, Forget drops what is asked, a command
that has not left within a tick is given up, one that lay unread for longer than that is refused,
and whoever stood still for longer than a window is told so first and gets no old reports.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from dev.explorer.model import (
    ASTRAY,
    AWAY,
    BACK,
    BUFFERED,
    CHECK,
    COMMAND,
    DEAD,
    DEAD_PORT,
    EITHER,
    FROZEN,
    GOING,
    GONE,
    HELD,
    INTERFACES,
    MISSED,
    NAMES,
    NEITHER,
    OFF,
    PLACED,
    PURPOSES,
    RECEIVES,
    RECEPTION,
    RUNNING,
    SCRIPTS,
    STILL,
    STOPPED,
    UNSEEN,
    WAITING,
    Asked,
    Chance,
    Counts,
    Exchange,
    Fault,
    Game,
    Host,
    Run,
    Stored,
    Violation,
    Window,
    World,
    counted,
    expired,
)
from dev.explorer.words import describe, describe_fault
from failoverd import pair
from failoverd.events import EVENTS, Level
from failoverd.pair.invariant import check
from failoverd.pair.resolver import MOVES

BEGUN = (pair.Phase.TOLD, pair.Phase.FENCING, pair.Phase.PROMOTING, pair.Phase.DEMOTING)


class Node:
    """A Host while something happens to it: the same fields, in the same order, to be set."""

    run: int
    mind: int
    stored: Stored
    script: Run | None
    behaviour: int
    stumbled: bool
    holds: int
    placed: int
    reception: tuple[int, ...]
    link: Window
    interfaces: tuple[Window, ...]
    asks: tuple[Exchange, ...]
    asked: tuple[Asked, ...]
    program: tuple[str, int, int] | None
    stale: tuple[str, bool, int] | None
    counts: Counts
    gap: int
    boots_in: int
    forgets_in: int
    airing: int
    sick: bool
    held: bool

    def __init__(self, host: Host) -> None:
        self.__dict__.update(zip(Host._fields, host, strict=True))

    def host(self) -> Host:
        return Host(*self.__dict__.values())


def tick(game: Game, world: World, chance: Chance, notes: list[str] | None = None) -> World:
    """A tick later. Whatever is worth telling goes to `notes`."""
    return Scene(game, world, chance, notes).tick()


def strike(
    game: Game, world: World, fault: Fault, chance: Chance, notes: list[str] | None = None
) -> World:
    """After a fault, a repair, or a person's command."""
    return Scene(game, world, chance, notes).strike(fault)


class Scene:
    """A world while it goes on: one tick, or one fault."""

    def __init__(self, game: Game, world: World, chance: Chance, notes: list[str] | None) -> None:
        self.game = game
        self.setup = game.setup
        self.nodes = [Node(host) for host in world.hosts]
        self.wire = world.wire
        self.ports, self.whole, self.airs = world.ports, world.whole, world.airs
        self.seconds = world.seconds
        self.switch = world.switch
        self.traffic = world.traffic
        self.owner = world.owner
        self.believed = world.believed
        self.giver = world.giver
        self.held = world.held
        self.faults = world.faults
        self.delays = world.delays
        self.news = world.news
        self.chance = chance
        self.notes = notes
        self.errands: deque[tuple[int, Exchange]] = deque()
        self.unstarted: deque[tuple[int, str, int]] = deque()  # programs: node, kind, number
        self.fed = 0

    def world(self) -> World:
        a, b = self.nodes
        return World(
            (a.host(), b.host()),
            self.wire,
            self.ports,
            self.seconds,
            self.whole,
            self.airs,
            self.switch,
            self.traffic,
            self.owner,
            self.believed,
            self.giver if self.held else -1,
            self.held,
            self.faults,
            self.delays,
            self.news,
        )

    def note(self, text: str) -> None:
        if self.notes is not None:
            self.notes.append(text)

    # ------------------------------------------------------------------ time

    def tick(self) -> World:
        answers = [self.read_answers(node) for node in (0, 1)]
        for node in self.nodes:
            self.age(node)
        self.held = max(0, self.held - 1)
        self.send_packets()
        first = self.setup.first
        for number in (first, 1 - first):
            self.live(number, answers[number])
        self.see_clients()
        return self.world()

    def age(self, node: Node) -> None:
        node.boots_in = max(-1, node.boots_in - 1)
        node.forgets_in -= node.forgets_in > 0
        node.airing = max(0, node.airing - 1)
        node.stumbled = False
        node.asks = tuple(
            e._replace(left=max(e.left - 1, 0) if e.left >= 0 else -1, waited=min(3, e.waited + 1))
            for e in node.asks
        )
        if node.run in (OFF, DEAD):
            return
        number = self.nodes.index(node)
        node.mind = self.game.minds[number].age(node.mind)
        oldest = -2 * max(self.setup.window, self.setup.interface_window)
        node.link = (*node.link[:3], max(oldest, node.link[3] - 1))
        node.interfaces = tuple((*w[:3], max(oldest, w[3] - 1)) for w in node.interfaces)
        if node.script and node.run != FROZEN:
            self.run_script(number, node.script)
        if node.program and node.run != FROZEN:
            kind, left, run = node.program
            node.program = (kind, max(0, left - 1), run)
        if node.run != RUNNING:
            node.gap = min(self.setup.window + 1, node.gap + 1)

    def run_script(self, number: int, script: Run) -> None:
        """It goes on while failoverd stands still, but is not killed then."""
        left = max(0, script.left - 1)
        ok = self.take_effect(number, script.role) if left == 0 and script.ok is None else script.ok
        self.nodes[number].script = script._replace(left=left, ok=ok)

    def send_packets(self) -> None:
        """Heartbeats over the link, and what there is to receive on the service network."""
        for number, node in enumerate(self.nodes):
            if node.run in (OFF, DEAD, FROZEN):
                continue
            peer = self.nodes[1 - number]
            if peer.run == RUNNING and self.wire[1 - number] and not self.state(1 - number).mute:
                node.link = counted(self.game.link_rules, node.link)
            packets = self.game.packets[self.traffic if self.switch else STILL]
            node.interfaces = tuple(
                counted(self.game.interface_rules, w, packets) if how == RECEIVES else w
                for w, how in zip(node.interfaces, node.reception, strict=True)
            )

    def live(self, number: int, answers: list[pair.Answers]) -> None:
        """Everything that a node's main loop finds in this tick."""
        node = self.nodes[number]
        if node.boots_in == 0:
            node.boots_in = -1
            self.boot(number)
        if node.run == RUNNING:
            stood_still, old = node.gap > 0, node.gap > self.setup.window
            node.gap = 0
            if old:
                self.feed(number, pair.Stalled())
            if stood_still:
                self.look_at_interfaces(number)
            for answer in answers:
                self.feed(number, answer)
            self.end_programs(number)
            self.end_windows(number, drop=old)
            self.run_check(number)
        self.pursue(number)
        if node.run == RUNNING and self.game.minds[number].due[node.mind]:
            self.feed(number, pair.Tick())
        if node.run == RUNNING:
            self.look_for_addresses(number)

    def look_for_addresses(self, number: int) -> None:
        """Tell the pair, once, if they have come without its doing, or are gone from an interface
        that is there."""
        node = self.nodes[number]
        role, seen = self.role(number), node.placed
        if pair.is_switching(self.state(number)):
            return
        if node.holds:
            node.placed = PLACED
        if node.holds and seen == UNSEEN and role != "active":
            self.feed(number, pair.Stray())
        gone = seen == PLACED and not node.holds and GONE not in node.reception
        if gone and role == "active":
            node.placed = MISSED
            self.feed(number, pair.Bare())

    def end_programs(self, number: int) -> None:
        node = self.nodes[number]
        run = node.script
        if run and run.ok is not None:
            role, ok, node.script = run.role, run.ok and self.is_shown(number, run.role), None
            node.placed = PLACED if node.holds else UNSEEN
            script = SCRIPTS[node.behaviour]
            self.note(f"{NAMES[number]}: the {role} script {'succeeds' if ok else script.name}")
            self.feed(number, pair.Ended("script", ok))
        if node.stale:
            (kind, ok, its_run), node.stale = node.stale, None
            self.note(f"{NAMES[number]}: the forgotten {kind} program ends")
            self.feed(number, pair.Ended(kind, ok, number=its_run))
        if node.program and node.program[1] == 0:
            (kind, _, its_run), node.program = node.program, None
            ok = not self.fence_fails(number) if kind == "fence" else self.answering(number)
            self.feed(number, pair.Ended(kind, ok, number=its_run))

    def run_check(self, number: int) -> None:
        """The service is checked where it runs: on the active node. What was bad there when the
        role went is forgotten once the peer has asked for it."""
        state, node, rules = self.state(number), self.nodes[number], self.setup.rules(number)
        sick = node.sick
        if "check" not in self.setup.menu:
            return
        if pair.role(state) == "active":
            node.forgets_in = -1
            if CHECK not in (state.checks if sick else state.passed):
                self.feed(number, pair.Checked(CHECK, not sick))
        elif node.forgets_in == 0:
            node.forgets_in = -1
            self.feed(number, pair.Checked(CHECK, None))
        elif state.checks and node.forgets_in < 0:
            node.forgets_in = ceil(max(rules.hold_down, rules.window) + rules.compare_time)

    def is_shown(self, number: int, role: str) -> bool:
        """Whether the kernel shows what a script says (section 5, "Evidence"): the addresses may
        have gone, or come, between its end and the look."""
        held = self.nodes[number].holds != AWAY
        return held is (role == "master") or not self.setup.addresses

    def fence_fails(self, number: int) -> bool:
        fails = "fence" in self.setup.menu and self.faults > 0 and self.chance.pick(2) > 0
        self.faults -= fails
        self.nodes[number].stumbled |= fails
        return fails

    def take_effect(self, number: int, role: str) -> bool:
        node = self.nodes[number]
        script = SCRIPTS[node.behaviour]
        if role == "master":
            there = GONE not in node.reception
            if script.master_adds and there:
                node.holds = HELD
            return script.master_ok and there
        if script.slave_removes:
            node.holds = AWAY
        return script.slave_ok

    def end_windows(self, number: int, drop: bool) -> None:
        """drop: the reports are old ones, from before the loop stood still."""
        node = self.nodes[number]
        if node.link[3] <= 0:
            node.link, event = expired(self.game.link_rules, node.link)
            if not drop:
                self.feed(number, pair.LinkWatched(event.packets, event.verdict))
        for interface, window in enumerate(node.interfaces):
            if node.interfaces[interface][3] <= 0 and node.interfaces[interface] is window:
                after, event = expired(self.game.interface_rules, window)
                others = node.interfaces[:interface], node.interfaces[interface + 1 :]
                node.interfaces = (*others[0], after, *others[1])
                node.counts = tuple(w[:2] for w in node.interfaces)
                if not drop:
                    self.feed(
                        number,
                        pair.Watched(
                            INTERFACES[interface], event.packets, event.last, event.verdict
                        ),
                    )

    # ------------------------------------------------------------------ the service network

    def reaches(self, number: int, interface: int) -> bool:
        node = self.nodes[number]
        return (
            self.switch and node.run not in (OFF, FROZEN) and node.reception[interface] == RECEIVES
        )

    def read_answers(self, number: int) -> list[pair.Answers]:
        """What came of the probes on the service network that are to be reported now."""
        node = self.nodes[number]
        if node.run not in (RUNNING, STOPPED):
            return []
        found = []
        still = []
        for asked in node.asked:
            if asked.left > 1:
                still.append(asked._replace(left=asked.left - 1))
                continue
            answered = asked.answered
            if answered < 0:
                answered = int(self.answering(number) and not self.loses_round(number, asked))
            if node.run == STOPPED or (asked.answered < 0 and self.delayed()):
                still.append(asked._replace(answered=answered))
                continue
            sent = any(how in (RECEIVES, DEAD_PORT) for how in node.reception)
            found.append(pair.Answers(asked.own, asked.rounds if sent else 0, bool(answered)))
        node.asked = tuple(still)
        return found

    def loses_round(self, number: int, asked: Asked) -> bool:
        """Of three probes one may be lost; where there is only one, that one."""
        lost = asked.rounds == 1 and self.lost(1) > 0
        if lost:
            self.note(f"{NAMES[number]} loses what answers on the service network")
        return lost

    def answering(self, number: int) -> bool:
        """Does the other node answer for the addresses?"""
        return (
            self.airs[number]
            and self.nodes[1 - number].holds != AWAY
            and any(
                self.reaches(0, interface) and self.reaches(1, interface)
                for interface in range(self.setup.interfaces)
            )
        )

    def see_clients(self) -> None:
        """Whom the clients take for the service: whoever has announced the addresses last."""
        active = [n for n in (0, 1) if self.nodes[n].holds and self.role(n) == "active"]
        if len(active) == 1:
            self.owner = active[0]
        serving = [self.serves(number) for number in (0, 1)]
        if all(serving):
            both = self.role(0) == "active" == self.role(1)  # else a script cannot stand down
            self.believed = EITHER if both else NEITHER
            return
        for number in (0, 1):
            if self.nodes[number].airing:
                self.believed = number if serving[number] else NEITHER

    def role(self, number: int) -> str:
        """What the node's failoverd says it is, or was when it was killed."""
        node = self.nodes[number]
        return node.stored.role or "standby"

    def serves(self, number: int) -> bool:
        node = self.nodes[number]
        return node.holds != AWAY and any(
            self.reaches(number, i) for i in range(self.setup.interfaces)
        )

    # ------------------------------------------------------------------ the pair

    def state(self, number: int) -> pair.State:
        return self.game.minds[number].states[self.nodes[number].mind]

    def feed(self, number: int, event: pair.Event) -> None:
        """One event for the pair of a node, and all that follows from it at once."""
        self.fed += 1
        if self.fed > 200:
            raise Violation("the two nodes talk without end and no time passes")
        node, mind = self.nodes[number], self.game.minds[number]
        before = node.mind
        node.mind, actions = mind.step(before, event)
        after = mind.states[node.mind]
        if wrong := check(after):
            raise Violation(f"{NAMES[number]}: {wrong}")
        if node.stored != mind.stored[node.mind]:
            node.stored = mind.stored[node.mind]
        if self.notes is not None:
            self.tell(number, event, before, actions)
        if after.phase is pair.Phase.DEMOTING is not mind.states[before].phase:
            self.stand_down(number, after.purpose)
        promoted = after.phase is pair.Phase.PROMOTING is not mind.states[before].phase
        silence = (
            promoted and after.purpose is pair.Purpose.SILENCE and not mind.states[before].told
        )
        fenced = isinstance(event, pair.Ended) and event.kind == "fence" and event.ok
        if silence and self.setup.fence and not fenced:
            raise Violation(f"{NAMES[number]} takes over by silence without its fence program")
        told = isinstance(event, (pair.Replied, pair.Request))  # the peer's word outweighs ARP
        if promoted and after.taken and not told:
            raise Violation(f"{NAMES[number]} takes a role that another host answers for")
        failed = isinstance(event, pair.Ended) and event.kind == "script" and not event.ok
        was = mind.states[before]
        moves = after.purpose in MOVES and was.phase is not after.phase in BEGUN
        if was.held and moves and was.told is None and was.phase is pair.Phase.RESOLVING:
            raise Violation(f"{NAMES[number]} changes a role that is on hold")
        said = was.failed or was.unclean or "script" in was.blocked  # and not mended since
        if failed and not said and not any(map(is_problem, actions)):
            raise Violation(f"{NAMES[number]} does not report that its script failed")
        for action in actions:
            self.perform(number, action)
        while self.unstarted:
            who, kind, run = self.unstarted.popleft()
            self.feed(who, pair.Ended(kind, False, ran=False, number=run))
        while self.errands:
            self.travel(*self.errands.popleft())

    def stand_down(self, number: int, cause: pair.Purpose) -> None:
        """Whoever got the role because of the peer's interface, or check, keeps it for the
        hold-down, unless it receives nothing and could ask nobody."""
        state, other = self.state(number), self.state(1 - number)
        relieved = cause is pair.Purpose.PEER and other.purpose is pair.Purpose.RELIEF
        by_check = cause is pair.Purpose.CHECK or (relieved and bool(state.checks))
        given = by_check or cause is pair.Purpose.INTERFACE or relieved
        if relieved and pair.receives_nothing(state):
            self.held = 0
        if given and self.held and self.giver == 1 - number + 2 * by_check:
            raise Violation(f"{NAMES[number]} gives the role back before the hold-down is over")
        self.giver, self.held = number + 2 * by_check, self.setup.hold_down if given else 0

    def tell(
        self, number: int, event: pair.Event, before: int, actions: tuple[pair.Action, ...]
    ) -> None:
        mind = self.game.minds[number]
        was, now = mind.states[before], mind.states[self.nodes[number].mind]
        said = [f"{a.event} {a.sentence}" for a in actions if isinstance(a, pair.Log)]
        if was.phase is not now.phase or said:
            line = f"{NAMES[number]}: {describe(event)}"
            if was.phase is not now.phase:
                line += f": {was.phase.value} -> {now.phase.value}"
            self.note("; ".join([line, *said]))

    def perform(self, number: int, action: pair.Action) -> None:
        node = self.nodes[number]
        match action:
            case pair.Ask():
                self.ask(number, action)
            case pair.Probe():
                left = max(1, ceil(action.until))
                kept = tuple(a for a in node.asked if a.own != action.own)
                node.asked = tuple(sorted((*kept, Asked(action.own, len(action.at), left))))
            case pair.Look():
                self.look(number)
            case pair.Forget():
                node.asks = tuple(rest for e in node.asks if (rest := forgotten(e)) is not None)
                if action.probes:
                    self.drop(number)
            case pair.Answer():
                self.answer(number, action)
            case pair.RunScript():
                if node.script:
                    raise Violation(f"{NAMES[number]} runs two scripts at once")
                script = SCRIPTS[node.behaviour]
                if self.starts(number, "script", script.runs):
                    node.script = Run(action.role, script.ticks or self.setup.switch_timeout)
            case pair.RunProgram():
                if self.starts(number, action.kind, run=action.number):
                    node.program = (action.kind, 1, action.number)
            case pair.RestartWatchers():
                start = (0, 0, True, self.setup.interface_window)
                node.interfaces = tuple(start for _ in node.interfaces)
                node.counts = tuple(start[:2] for _ in node.interfaces)
            case pair.Announce():
                if pair.announceable(self.state(number)):
                    node.airing = 2

    def drop(self, number: int) -> None:
        """The master ends a program that is not wanted any more; its end may be on the way."""
        node = self.nodes[number]
        node.asked = ()
        if node.program and "stale" in self.setup.menu and self.faults and self.chance.pick(2):
            self.faults -= 1
            kind, _, run = node.program
            node.stale = kind, kind == "fence", run
        node.program = None

    def starts(self, number: int, kind: str, may: bool = True, run: int = 0) -> bool:
        """Whether a program can be started; if not, the pair is told so before time goes on."""
        refused = "norun" in self.setup.menu and self.faults > 0 and self.chance.pick(2) > 0
        self.faults -= refused
        if may and not refused:
            return True
        self.nodes[number].stumbled = True
        self.note(f"{NAMES[number]}: the {kind} cannot be started")
        self.unstarted.append((number, kind, run))
        return False

    def look(self, number: int) -> None:
        """Every watcher tells what it has counted."""
        for interface, window in zip(INTERFACES, self.nodes[number].interfaces, strict=False):
            self.feed(number, pair.Counted(interface, window[0]))

    def ask(self, number: int, action: pair.Ask) -> None:
        """A newer query of the same purpose replaces the older."""
        node = self.nodes[number]
        purpose = PURPOSES.index(action.query)
        exchange = Exchange(purpose, int(action.timeout), GOING, direct=action.direct)
        kept = (e if e.purpose != purpose else forgotten(e, True) for e in node.asks)
        node.asks = tuple(e for e in kept if e is not None)
        self.errands.append((number, exchange))

    # ------------------------------------------------------------------ queries, over two paths

    def wired(self) -> bool:
        return self.wire == (True, True)

    def enters(self, number: int, exchange: Exchange) -> bool:
        """Does a query of this node come into the other's port?"""
        return (self.wired() and self.ports[number]) or self.goes_round(number, exchange)

    def goes_round(self, number: int, exchange: Exchange) -> bool:
        """Does the second path work for it? It is on the first interface."""
        way = self.setup.two_paths and self.seconds[number] and not exchange.direct
        return way and self.reaches(0, 0) and self.reaches(1, 0)

    def returns(self, number: int, exchange: Exchange) -> bool:
        """Does an answer come through? A status takes a large packet."""
        whole = self.wired() and (self.whole or exchange.purpose in COMMAND)
        return whole or self.goes_round(number, exchange)

    def delayed(self) -> bool:
        """Does what is sent now take a tick?"""
        if self.delays and self.chance.pick(2):
            self.delays -= 1
            return True
        return False

    def lost(self, ways: int) -> int:
        """Is what is sent now lost, and in which of some ways? 0: it is not."""
        if "loss" not in self.setup.menu or not self.faults:
            return 0
        way = self.chance.pick(ways + 1)
        if way:
            self.faults -= 1
        return way

    def travel(self, number: int, exchange: Exchange) -> None:
        """A new query sets out, or an answer its way back."""
        node = self.nodes[number]
        if exchange.stage == GOING:
            self.set_out(number, exchange)
            return
        assert exchange.answer is not None
        if exchange.left < 0:
            return
        exchange = exchange._replace(waited=0)
        if isinstance(exchange.answer, pair.Unreplied):
            self.deliver(number, exchange)
        elif not self.returns(number, exchange):
            node.asks = (*node.asks, exchange)
        elif self.lost(1):
            self.note(f"{NAMES[number]} loses the answer to {PURPOSES[exchange.purpose].value}")
            self.unanswered(number, exchange)
        elif self.delayed():
            node.asks = (*node.asks, exchange)
        else:
            self.deliver(number, exchange)

    def deliver(self, number: int, exchange: Exchange) -> None:
        """An answer has come; failoverd reads it as soon as it runs."""
        node = self.nodes[number]
        assert exchange.answer is not None
        if node.run == RUNNING:
            if exchange.purpose not in COMMAND and isinstance(exchange.answer, pair.Replied):
                self.learn_of_hold(number)
            self.feed(number, exchange.answer)
        elif node.run in (STOPPED, FROZEN):
            node.asks = (*node.asks, exchange._replace(stage=BACK))

    def learn_of_hold(self, number: int) -> None:
        """A status tells of it."""
        if self.news == 1 - number:
            self.hold(number, self.nodes[1 - number].held)
            self.news = -1

    def hold(self, number: int, on: bool) -> None:
        self.nodes[number].held = on
        self.feed(number, pair.Hold(on))

    def set_out(self, number: int, exchange: Exchange) -> None:
        node, peer = self.nodes[number], self.nodes[1 - number]
        if not self.enters(number, exchange) or peer.run in (OFF, FROZEN):
            node.asks = (*node.asks, exchange)
            return
        if peer.run == DEAD:
            self.unanswered(number, exchange)
            return
        way = self.lost(2 if exchange.purpose in COMMAND else 1)
        if way:
            what = "loses the query" if way == 1 else "loses the connection after the query"
            self.note(f"{NAMES[number]} {what} {PURPOSES[exchange.purpose].value}")
            if way == 2:
                node.asks = (*node.asks, exchange._replace(left=-1))
            self.unanswered(number, exchange)
        elif exchange.purpose in COMMAND and self.delayed():
            node.asks = (*node.asks, exchange)
        else:
            self.arrive(number, exchange)

    def unanswered(self, number: int, exchange: Exchange) -> None:
        if exchange.left >= 0:
            lost = pair.Unreplied(PURPOSES[exchange.purpose])
            self.deliver(number, exchange._replace(answer=lost, waited=0))

    def arrive(self, number: int, exchange: Exchange) -> None:
        """A query reaches the other node, which may not be able to read it."""
        node, peer = self.nodes[number], self.nodes[1 - number]
        if peer.run == STOPPED:
            node.asks = (*node.asks, exchange._replace(stage=BUFFERED, waited=0))
            return
        purpose = PURPOSES[exchange.purpose]
        if exchange.purpose not in COMMAND:
            peer.counts = tuple(w[:2] for w in peer.interfaces)
            view = self.game.minds[1 - number].look(peer.mind, peer.counts)
            reply = pair.Replied(purpose, True, "", view)
            self.errands.append((number, exchange._replace(stage=BACK, answer=reply)))
            self.look(1 - number)
            return
        if exchange.stage == BUFFERED and exchange.waited > 1:
            reply = pair.Replied(purpose, False)
            self.errands.append((number, exchange._replace(stage=BACK, answer=reply)))
            return
        request = self.new_request(1 - number)
        if exchange.left >= 0:
            waiting = exchange._replace(stage=WAITING, number=request, waited=0)
            node.asks = (*node.asks, waiting)
        self.note(f"{NAMES[1 - number]} is told {COMMAND[exchange.purpose]} by {NAMES[number]}")
        self.feed(1 - number, pair.Request(request, COMMAND[exchange.purpose], True))

    def new_request(self, number: int) -> int:
        """A number that no request has that this node has not answered yet."""
        used = {request for request, _ in self.state(number).waiting}
        used |= {e.number for e in self.nodes[1 - number].asks if e.stage == WAITING}
        return next(n for n in range(1, 99) if n not in used)

    def answer(self, number: int, action: pair.Answer) -> None:
        """A node answers a request: the peer's, or a person's, which is not played here."""
        role = pair.role(self.state(number))
        true = {"active": ("active",), "standby": ("standby", "switching", "failed")}
        if action.ok and role not in true[action.text]:
            raise Violation(f"{NAMES[number]} answers ok {action.text}, but it is {role}")
        asker = self.nodes[1 - number]
        for exchange in asker.asks:
            if exchange.stage == WAITING and exchange.number == action.id:
                asker.asks = tuple(e for e in asker.asks if e is not exchange)
                reply = pair.Replied(PURPOSES[exchange.purpose], action.ok)
                self.errands.append(
                    (1 - number, exchange._replace(stage=BACK, number=0, answer=reply))
                )
                return

    def pursue(self, number: int) -> None:
        """What is under way for a node arrives, or it gives up."""
        node = self.nodes[number]
        if node.run in (OFF, DEAD):
            node.asks = tuple(e for e in node.asks if e.left < 0)
        for exchange in node.asks:
            if exchange in node.asks:
                self.pursue_one(number, exchange)
        while self.errands:
            self.travel(*self.errands.popleft())

    def pursue_one(self, number: int, exchange: Exchange) -> None:
        node, peer = self.nodes[number], self.nodes[1 - number]

        def take() -> None:
            node.asks = tuple(e for e in node.asks if e is not exchange)

        arrived = self.enters(number, exchange) and peer.run not in (OFF, FROZEN)
        if exchange.stage == GOING and exchange.purpose in COMMAND and exchange.waited > 1:
            take()
            self.unanswered(number, exchange)
        elif exchange.stage == GOING and exchange.waited and arrived and node.run != FROZEN:
            take()
            if peer.run == DEAD:
                self.unanswered(number, exchange)
            else:
                self.arrive(number, exchange)
        elif exchange.stage == BUFFERED and peer.run == RUNNING:
            take()
            self.arrive(number, exchange)
        elif exchange.stage in (BUFFERED, WAITING) and peer.run in (OFF, DEAD):
            if peer.run == DEAD and self.enters(number, exchange):
                take()
                self.unanswered(number, exchange)
        elif (
            exchange.stage == BACK
            and exchange.waited
            and node.run == RUNNING
            and (self.returns(number, exchange) or isinstance(exchange.answer, pair.Unreplied))
        ):
            take()
            self.deliver(number, exchange)
        if exchange in node.asks and exchange.left == 0 and node.run == RUNNING:
            take()
            kept = forgotten(exchange, True)
            if kept is not None:
                node.asks = (*node.asks, kept)
            self.unanswered(number, exchange)

    # ------------------------------------------------------------------ faults

    def strike(self, fault: Fault) -> World:
        word, number, what = fault
        self.faults -= 1
        self.note(f"** {describe_fault(fault)}")
        match word:
            case "cut" | "mend":
                up = word == "mend"
                ends = [up if number in (2, end) else self.wire[end] for end in (0, 1)]
                self.wire = (ends[0], ends[1])
            case "port":
                self.ports = replaced(self.ports, number, bool(what))
            case "second":
                self.seconds = replaced(self.seconds, number, bool(what))
            case "onearp":
                self.airs = replaced(self.airs, number, bool(what))
            case "hole":
                self.whole = bool(what)
            case "poll":
                self.look(number)
            case "switch":
                self.switch = bool(what)
            case "traffic":
                self.traffic = what
            case "fail" | "resume":
                self.feed(number, pair.Request(self.new_request(number), word, False))
            case "check":
                self.nodes[number].sick = bool(what)
            case "hold":
                self.news = -1 if self.nodes[1 - number].held is bool(what) else number
                self.hold(number, bool(what))
            case "script":
                self.nodes[number].behaviour = what
            case "bare":
                self.nodes[number].holds = AWAY
            case "stray":
                self.nodes[number].holds = ASTRAY
            case "interface":
                self.plug(number, *divmod(what, len(RECEPTION)))
            case _:
                self.break_node(word, number)
        while self.errands:
            self.travel(*self.errands.popleft())
        self.see_clients()
        return self.world()

    def plug(self, number: int, interface: int, how: int) -> None:
        node = self.nodes[number]
        node.reception = (*node.reception[:interface], how, *node.reception[interface + 1 :])
        if how == GONE:
            node.holds = AWAY
        if node.run == RUNNING:
            self.look_at_interfaces(number)

    def look_at_interfaces(self, number: int) -> None:
        """Tell the pair whose carrier has come or gone."""
        for interface, how in enumerate(self.nodes[number].reception):
            up = how in (RECEIVES, DEAD_PORT)
            if self.state(number).interfaces[interface].up is not up:
                self.feed(number, pair.Carrier(INTERFACES[interface], up))

    def break_node(self, word: str, number: int) -> None:
        node = self.nodes[number]
        match word:
            case "boot":
                self.boot(number)
            case "crash":
                self.nodes[number] = Node(
                    Host(
                        reception=node.reception,
                        behaviour=node.behaviour,
                        asks=orphans(node),
                        sick=node.sick,
                        held=node.held,
                    )
                )
            case "kill" | "restart":
                self.kill(number)
                if word == "restart":
                    self.begin(number)
            case "start":
                self.begin(number)
            case "freeze" | "stop":
                node.run = FROZEN if word == "freeze" else STOPPED
                node.gap = 0
            case "thaw":
                node.run = RUNNING

    def boot(self, number: int) -> None:
        self.note(f"{NAMES[number]} is booted")
        self.nodes[number].run = DEAD
        self.begin(number)

    def kill(self, number: int) -> None:
        """failoverd is killed; a script that runs has had its effect, or not."""
        node = self.nodes[number]
        if node.script and node.script.ok is None and self.chance.pick(2):
            self.take_effect(number, node.script.role)
        node.run, node.mind, node.script, node.forgets_in = DEAD, -1, None, -1
        node.asks, node.asked = orphans(node), ()
        node.program = node.stale = None
        node.link, node.interfaces, node.airing = Host().link, (), 0
        node.counts = ()

    def begin(self, number: int) -> None:
        """failoverd starts, after a boot or after it was killed."""
        node, setup = self.nodes[number], self.setup
        node.run = RUNNING
        node.mind = self.game.minds[number].new
        node.link = (0, 0, True, setup.window)
        node.interfaces = tuple((0, 0, True, setup.interface_window) for _ in node.reception)
        node.counts = tuple((0, 0) for _ in node.reception)
        node.gap = 0
        node.placed = PLACED if node.placed else UNSEEN
        was = node.stored
        self.look_at_interfaces(number)
        if node.held:
            self.feed(number, pair.Hold(True))
        self.feed(number, pair.Started(*was[:-1]))
        for name in was.checks if was.role == "standby" else ():
            self.feed(number, pair.Checked(name, False))


def replaced(ways: tuple[bool, bool], number: int, way: bool) -> tuple[bool, bool]:
    return (way, ways[1]) if number == 0 else (ways[0], way)


def forgotten(exchange: Exchange, always: bool = False) -> Exchange | None:
    """What is left of a query whose answer means nothing any more; comparisons go on."""
    if exchange.purpose == PURPOSES.index(pair.Query.COMPARE) and not always:
        return exchange
    under_way = exchange.stage in (GOING, BUFFERED) and exchange.purpose in COMMAND
    return exchange._replace(left=-1) if under_way and exchange.waited <= 1 else None


def orphans(node: Node) -> tuple[Exchange, ...]:
    return tuple(kept for e in node.asks if (kept := forgotten(e, True)) is not None)


def is_problem(action: pair.Action) -> bool:
    """Whether it is logged as one that may wake a person."""
    return isinstance(action, pair.Log) and EVENTS[action.event].level <= Level.WARNING
