"""The story's simulated stage: the same decision code over a network that exists in numbers only.

Two nodes step `failoverd.pair`, and judge their windows with `failoverd.watch`, as the real daemon
does; the network, the scripts and the client are events in a queue, and time jumps from one to the
next. Nothing here decides anything.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from dev.lab.network import SERVICE
from dev.lab.node import perl
from dev.lab.record import Record
from dev.lab.story import SETTINGS, Line
from failoverd import conf, pair
from failoverd.log import tail
from failoverd.master.requests import MEANS
from failoverd.watch import judge

HOP = 0.0002  # seconds that a packet is under way
SCRIPT = 0.012  # seconds that ha-switch takes
START = 0.3  # seconds from the start of failoverd until it watches
PROBE = 0.005  # seconds between two of the client's probes
LIMIT = 60.0  # virtual seconds that one event of the story may take at most
INTERFACE = "eth0"
TOLD = (pair.Query.FAIL, pair.Query.RESUME)


class Node:
    """One simulated node: a failoverd, an interface, an end of the heartbeat link."""

    def __init__(self, world: Simulation, name: str) -> None:
        self.world = world
        self.name = name
        boot, number, other = ("master", 1, 2) if name == "a" else ("slave", 2, 1)
        settings = {
            **SETTINGS,
            "interfaces": [INTERFACE],
            "addresses": [f"{INTERFACE} {SERVICE}/24"],
            "primary": f"1.0.0.{number}",
            "secondary": f"1.0.0.{other}",
        }
        text = "".join(perl(key, value) for key, value in settings.items())
        self.conf = conf.parse(text, "failoverd.conf")
        self.boot = boot
        self.rules = pair.rules(self.conf, boot)
        self.judges = {
            INTERFACE: judge.Rules(
                self.conf.packet_count, self.conf.timer_seconds, self.conf.low_water, False
            ),
            "plip0": judge.Rules(self.conf.packet_count, self.conf.plip_timer, 0, True),
        }
        self.lines: list[Line] = []
        self.life = 0  # what a former life has begun never ends
        self.powered = False
        self.dead_port = False
        self.lose_all()

    def lose_all(self) -> None:
        """What a power cut takes."""
        self.running = False
        self.holds = False
        self.heartbeats = True
        self.state = pair.initial(self.rules)
        self.windows: dict[str, judge.Window] = {}
        self.verdicts: dict[str, str] = {}
        self.counted = self.looked = 0  # packets, and how many there were when the peer last asked
        self.probes = 0
        self.asked: dict[pair.Query, int] = {}

    @property
    def peer(self) -> Node:
        return self.world.nodes["b" if self.name == "a" else "a"]

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do this later, unless the power has failed by then."""
        life = self.life
        self.world.at(seconds, lambda: act() if self.life == life else None)

    def log(self, event: str, subject: str, sentence: str, **values: str) -> None:
        text = f"{event} {subject}: {sentence}{tail(values)}"
        self.lines.append(Line(self.world.now(), text, event))

    # ------------------------------------------------------------------ what happens

    def begin(self) -> None:
        """failoverd has started."""
        self.running = True
        self.log("STARTED", "config", "started", boot=self.boot)
        for interface in self.judges:
            self.open_window(interface)
        self.beat()
        self.feed(pair.Started())

    def feed(self, event: pair.Event) -> None:
        """One event for the pair's table, and all that it wants done."""
        before = pair.role(self.state)
        self.state, actions = pair.step(self.state, event, self.rules, self.world.now())
        for action in actions:
            self.perform(action)
        role = pair.role(self.state)
        if role not in (before, "switching"):
            self.log("ROLE", "role", role)
        deadline = pair.next_deadline(self.state)
        if deadline is not None:
            self.after(deadline - self.world.now(), lambda: self.tick(deadline))

    def tick(self, deadline: float) -> None:
        if pair.next_deadline(self.state) == deadline:  # else a later event has moved it
            self.feed(pair.Tick())

    def open_window(self, interface: str) -> None:
        self.windows[interface] = judge.start(self.judges[interface], self.world.now())
        self.wait_for_alarm(interface)

    def wait_for_alarm(self, interface: str) -> None:
        deadline = self.windows[interface].deadline
        if interface == INTERFACE:
            half = self.judges[INTERFACE].timer / 2
            self.after(deadline - half - self.world.now(), lambda: self.ask_witness(deadline))
        self.after(deadline - self.world.now(), lambda: self.alarm(interface, deadline))

    def ask_witness(self, deadline: float) -> None:
        """In the middle of an empty window the router is asked, and answers."""
        window = self.windows[INTERFACE]
        if window.packets == 0 and window.deadline == deadline:
            self.packet(INTERFACE)

    def packet(self, interface: str) -> None:
        """A packet comes in, unless the switch's port is dead."""
        if not self.running or (interface == INTERFACE and self.dead_port):
            return
        self.counted += interface == INTERFACE
        window, event = judge.count(
            self.judges[interface], self.windows[interface], 1, self.world.now()
        )
        self.windows[interface] = window
        if event:
            self.judged(interface, event)
            self.wait_for_alarm(interface)

    def alarm(self, interface: str, deadline: float) -> None:
        if self.windows[interface].deadline != deadline:
            return  # the window has been re-set
        self.windows[interface], event = judge.expire(
            self.judges[interface], self.windows[interface], self.world.now()
        )
        self.judged(interface, event)
        self.wait_for_alarm(interface)

    def judged(self, interface: str, event: judge.Event) -> None:
        if event.verdict == "fail" and self.verdicts.get(interface) != "fail":
            self.tell_silence(interface, event)
        self.verdicts[interface] = event.verdict
        if interface == INTERFACE:
            self.feed(pair.Watched(interface, event.packets, event.last, event.verdict))
        else:
            self.feed(pair.LinkWatched(event.packets, event.verdict))

    def tell_silence(self, interface: str, event: judge.Event) -> None:
        if interface == INTERFACE:
            received = str(event.packets)
            self.log("IFACE-FAIL", f"interface {interface}", "not receiving", received=received)
        else:
            self.log("HEARTBEAT-LOST", "peer", "no heartbeat", link=interface)

    def beat(self) -> None:
        """A heartbeat leaves, and the next one is due."""
        if self.heartbeats:
            self.peer.after(HOP, lambda: self.peer.packet("plip0"))
        self.after(self.conf.plip_hbeat, self.beat)

    # ------------------------------------------------------------------ what is done

    def perform(self, action: pair.Action) -> None:
        match action:
            case pair.Log():
                self.log(action.event, action.subject, action.sentence, **dict(action.values))
            case pair.RunScript():
                command = f"ha-switch {action.role}"
                self.log("SCRIPT-START", "script ha-switch", "running", command=command)
                self.after(SCRIPT, lambda: self.script_ended(action.role))
            case pair.Ask():
                self.ask(action)
            case pair.Probe():
                self.probe(action)
            case pair.Forget():
                self.forget(action)
            case pair.Answer():
                self.world.answered(self, action)
            case pair.Announce():
                if not self.dead_port:
                    self.world.believed = self
            case pair.Heartbeats():
                self.heartbeats = action.on
            case pair.RestartWatchers():
                self.open_window(INTERFACE)
            case pair.Look():
                self.after(0.0, self.tell_count)
            case pair.RunProgram():
                raise AssertionError("no program is set in the story")

    def tell_count(self) -> None:
        self.feed(pair.Counted(INTERFACE, self.windows[INTERFACE].packets))

    def script_ended(self, role: str) -> None:
        self.holds = role == "master"
        self.feed(pair.Ended("script", True))

    def ask(self, action: pair.Ask) -> None:
        """Ask the peer's port; one without power never answers."""
        if action.query in TOLD:
            self.log("PEER-TOLD", "peer", f"told to {MEANS[action.query.value]}")
        number = self.asked[action.query] = self.asked.get(action.query, 0) + 1

        def lost() -> None:
            if self.asked[action.query] == number:
                self.asked[action.query] += 1
                self.feed(pair.Unreplied(action.query))

        def replied(reply: pair.Replied) -> None:
            if self.asked[action.query] == number:
                self.asked[action.query] += 1
                self.feed(reply)

        self.after(action.timeout, lost)
        self.peer.after(HOP, lambda: self.peer.be_asked(action.query, self, replied))

    def be_asked(
        self, query: pair.Query, asker: Node, replied: Callable[[pair.Replied], None]
    ) -> None:
        """The peer asks us."""
        if not self.running:
            return
        if query in TOLD:
            self.log("PEER-REQUESTED", "peer", f"told this node to {MEANS[query.value]}")
            number = self.world.remember(asker, query, replied)
            self.feed(pair.Request(number, query.value, True))
            return
        if self.counted == self.looked:
            # It asks its witness, as the real one does.
            self.after(HOP, lambda: self.packet(INTERFACE))
        self.looked = self.counted
        view = self.view()
        asker.after(HOP, lambda: replied(pair.Replied(query, True, view=view)))

    def view(self) -> pair.PeerView:
        """What a `status` tells of us."""
        window = self.windows[INTERFACE]
        bad = frozenset(i.name for i in self.state.interfaces if i.useless)
        return pair.PeerView(
            role="rejoining" if pair.is_rejoining(self.state) else pair.role(self.state),
            boot=self.boot,
            bad=bad,
            counts=((INTERFACE, window.packets, window.last),),
            down=frozenset(i.name for i in self.state.interfaces if not i.up),
            failed=frozenset(i.name for i in self.state.interfaces if i.failed),
            wants_relief=pair.wants_relief(self.state),
        )

    def forget(self, action: pair.Forget) -> None:
        for query in self.asked:
            if query is not pair.Query.COMPARE:
                self.asked[query] += 1
        if action.probes:
            self.probes += 1

    def probe(self, action: pair.Probe) -> None:
        """Ask on the service network who answers for the address; report at the end."""
        number = self.probes
        answers: list[bool] = []
        now = self.world.now()

        def once() -> None:
            answers.append(self.peer.holds and not self.dead_port and not self.peer.dead_port)

        def report() -> None:
            if self.probes == number:
                found = any(answers)
                self.feed(pair.Answers(action.own, len(answers), found, self.peer.name))

        for at in action.at:
            self.after(max(0.0, at - now), once)
        self.after(max(HOP, action.until - now), report)


class Simulation:
    """Implements dev.lab.story.Stage in virtual time."""

    def __init__(self) -> None:
        self._time = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._asked: dict[int, tuple[Node, pair.Query, Callable[[pair.Replied], None]]] = {}
        self._record = Record()
        self.believed: Node | None = None  # whom the client's ARP cache names
        self.nodes = {name: Node(self, name) for name in ("a", "b")}
        self.at(0.0, self._probe)

    def now(self) -> float:
        return self._time

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Do this in so many seconds."""
        self._number += 1
        heapq.heappush(self._queue, (self._time + max(0.0, seconds), self._number, act))

    def remember(
        self, asker: Node, query: pair.Query, replied: Callable[[pair.Replied], None]
    ) -> int:
        """Whom to answer when a request is done; its number."""
        self._number += 1
        self._asked[self._number] = (asker, query, replied)
        return self._number

    def answered(self, _by: Node, answer: pair.Answer) -> None:
        asker, query, replied = self._asked.pop(answer.id)
        reply = pair.Replied(query, answer.ok, answer.text)
        asker.after(HOP, lambda: replied(reply))

    def _probe(self) -> None:
        """The client asks whom it believes to have the address."""
        self._record.sent.append(self._time)
        node = self.believed
        if node is not None and node.powered and not node.dead_port:
            self.at(HOP, lambda: node.packet(INTERFACE))
            if node.holds:
                self._record.replies.append(self._time + 2 * HOP)
        self.at(PROBE, self._probe)

    def _run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self._time, _number, act = heapq.heappop(self._queue)
            act()
        self._time = max(self._time, until)

    # ------------------------------------------------------------------ the stage

    @property
    def record(self) -> Record:
        return self._record

    def start(self, name: str) -> None:
        node = self.nodes[name]
        node.powered = True
        node.after(START, node.begin)

    def power_cut(self, name: str) -> None:
        node = self.nodes[name]
        node.powered = False
        node.life += 1
        node.lose_all()

    def power_on(self, name: str) -> None:
        self.start(name)

    def kill_port(self, name: str) -> None:
        self.nodes[name].dead_port = True

    def holders(self) -> list[str]:
        return [node.name for node in self.nodes.values() if node.holds]

    def role(self, name: str) -> str:
        node = self.nodes[name]
        return pair.role(node.state) if node.running else ""

    def log(self, name: str) -> list[Line]:
        return self.nodes[name].lines

    def pause(self, seconds: float) -> None:
        self._run(self._time + seconds)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        end = self._time + LIMIT
        while not condition():
            if self._time > end:
                raise TimeoutError(f"not within {LIMIT:g} virtual seconds: {what}")
            self._run(self._time + PROBE)
