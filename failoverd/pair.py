"""What the pair decides: one table of phases and events, with the time as an argument.

How it works (contract, section 5). An event comes in. First every fact it tells is brought up to
date (`facts`); that turns it into one or more names of `On`. Then the first row of `TABLE` whose
phase and name match and whose guards all hold says what to do and which phase comes next. Nothing
here does anything: the actions that come out are performed by the master, and the explorer of the
tests performs them on a simulated network.

Phases are finer than roles: `ROLE` maps them. A *standby* machine is in STANDBY, or on its way:
INQUIRING (asks the peer's status), SEEKING (got none, asks on the ethernet side), CONFIRMING (the
private link is silent, asks whether the service still answers), FENCING. An *active* one is ACTIVE,
REJOINING (it may have been overtaken: asks before it announces), or ASKING (wants to hand over). A
*switching* one is CALLING (told the peer `resume`) or DOUBTING (lost its answer) before it takes
the role; PROMOTING, DEMOTING or CLEANING while the script runs; TELLING (told the peer `fail`) or
UNSURE (lost its answer) when it has stood down and the peer is taking over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from failoverd.conf import Conf

REQUEST_SECONDS = 5.0  # how long a client of the port may take to say its request (section 6)
GRACE_SECONDS = 1.0  # how much longer than its script an answer may take (section 6)
ROUNDS = 3  # questions without an answer that make sure (RFC 5227 sends as many probes)
LEAST_PROOF = 0.1  # seconds that a busy peer may take to hear a packet and to tell us
MAX_WAITING = 16  # requests that one transition may have waiting for its end


class Phase(Enum):
    NEW = "new"
    STANDBY = "standby"
    INQUIRING = "inquiring"
    SEEKING = "seeking"
    CALLING = "calling"
    DOUBTING = "doubting"
    CONFIRMING = "confirming"
    FENCING = "fencing"
    PROMOTING = "promoting"
    ACTIVE = "active"
    REJOINING = "rejoining"
    ASKING = "asking"
    DEMOTING = "demoting"
    TELLING = "telling"
    UNSURE = "unsure"
    CLEANING = "cleaning"


class Cause(Enum):
    """Why the transition under way was begun."""

    BOOT = "boot"
    PEER = "told by the peer"
    PERSON = "told by a person"
    SILENCE = "the private link is silent"
    INTERFACE = "an interface failed"
    HEALING = "both machines had the same role"
    TAKE_BACK = "the handover failed"
    RESTORE = "our addresses were gone"
    STRAY = "our addresses have come back"


class Timer(Enum):
    COMPARE = "compare roles"
    RETRY = "try again"
    GIVE_UP = "the peer has had as long as a switch may take"
    NOBODY = "nobody has been active for two windows"
    OWN = "a window since we asked for our own addresses"
    HOLD = "hold-down is over"
    NEWS = "the peer's open window has begun since we asked"
    UNDER_WAY = "what we told the peer may still arrive"
    HEARD = "a window without an exchange"
    UNHEARD = "two windows without an exchange"


class Purpose(Enum):
    """What a question to the peer's port is for."""

    COMPARE = "compare"
    STATUS = "status"
    FAIL = "fail"
    RESUME = "resume"


class On(Enum):
    """What an event means to the table."""

    START_FRESH = "start, first of this boot"
    START_ACTIVE = "start, was active"
    START_STANDBY = "start, was standby"
    START_SWITCHING = "start, died while switching"
    PEER_SAYS_FAIL = "peer tells us fail"
    PERSON_SAYS_FAIL = "person tells us fail"
    PEER_SAYS_RESUME = "peer tells us resume"
    PERSON_SAYS_RESUME = "person tells us resume"
    STATUS = "peer's status"
    AGREED = "peer answers ok"
    REFUSED = "peer answers error"
    LOST = "no answer from the peer"
    COMPARED = "roles compared"
    UNCOMPARED = "roles could not be compared"
    SCRIPT_OK = "script succeeded"
    SCRIPT_FAILED = "script failed"
    NOT_RUN = "program could not be run"
    FENCED = "fence program succeeded"
    FENCE_FAILED = "fence program failed"
    ANSWERED = "somebody answers for the addresses"
    UNANSWERED = "nobody answers for the addresses"
    UNASKED = "the ethernet side could not be asked"
    OWN_ANSWERED = "the peer answers for our addresses"
    OWN_UNANSWERED = "the peer does not answer for our addresses"
    INTERFACE_FAILED = "interface failed"
    INTERFACE_BACK = "interface is back"
    STILL_SILENT = "a failed interface hears nothing still"
    HEARS_AGAIN = "a failed interface hears again"
    INTERFACES_HEARD = "every interface has heard a packet"
    FALLING_SILENT = "private link: an empty window"
    LINK_SILENT = "private link: silent twice"
    LINK_ALIVE = "private link: heard again"
    STALLED = "we stood still"
    BARE = "our addresses are gone from their card"
    STRAY = "our addresses have come back to their card"
    WANTED = "somebody waits for our role"
    RETRY = "timer: try again"
    GIVE_UP = "timer: give up"
    NOBODY = "timer: nobody active"
    COMPARE = "timer: compare"
    OWN = "timer: ask for our own"


# ---------------------------------------------------------------------------- what comes in


@dataclass(frozen=True)
class Started:
    """failoverd began. role: of this boot's $state, None if there is none."""

    role: str | None = None
    resuming: bool = False


@dataclass(frozen=True)
class Watched:
    """A watcher of the ethernet side ended a window (section 4)."""

    interface: str
    packets: int
    last: int
    verdict: str


@dataclass(frozen=True)
class Counted:
    """The answer to Look: what a card has read in its open window so far."""

    interface: str
    packets: int


@dataclass(frozen=True)
class Carrier:
    """An interface of the ethernet side went up or down."""

    interface: str
    up: bool


@dataclass(frozen=True)
class Bare:
    """The addresses that our `master` run had put on a card are gone, and the card is there."""


@dataclass(frozen=True)
class Stray:
    """An address of the service has appeared on its card, and we have not put it there."""


@dataclass(frozen=True)
class LinkWatched:
    """The watcher of the private link ended a window."""

    packets: int
    verdict: str


@dataclass(frozen=True)
class Request:
    """Somebody with the secret told us `fail` or `resume`."""

    id: int
    command: str
    from_peer: bool


@dataclass(frozen=True)
class Visited:
    """The peer has asked our port for the status: it lives, and both ways of the link are open."""


# By interface: packets of the open window, packets of the one before.
Counts = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class PeerView:
    """What a `status` told of the peer. bad: its bad interfaces by section 5.

    role is a role, or "rejoining": it holds the addresses, but asks before it calls them its own.
    """

    role: str
    boot: str
    bad: frozenset[str]
    down: frozenset[str] = frozenset()  # those of the bad ones that have no carrier
    counts: Counts = ()
    failed: frozenset[str] = frozenset()  # whose last verdict there was `fail`, as at ours


@dataclass(frozen=True)
class Replied:
    """The peer's port answered. view is None when the answer was no status."""

    purpose: Purpose
    ok: bool
    text: str = ""
    view: PeerView | None = None


@dataclass(frozen=True)
class Unreplied:
    """A question to the peer's port got no authentic answer.

    sent: what we told it may have left, and may still arrive.
    """

    purpose: Purpose
    sent: bool = True


@dataclass(frozen=True)
class Ended:
    """A program ended. kind: script, fence or confirm; ok: exit status 0.

    ran: not if it could not be started, so that nothing has changed and nothing was asked.
    """

    kind: str
    ok: bool
    ran: bool = True


@dataclass(frozen=True)
class Answers:
    """What came of a question on the ethernet side. asked: rounds that were really sent."""

    own: bool
    asked: int
    anybody: bool
    peer: bool
    who: str = ""


@dataclass(frozen=True)
class Stalled:
    """The loop stood still for longer than a window: what we knew is old."""


@dataclass(frozen=True)
class Tick:
    """Time has come for a deadline (`next_deadline`)."""


Event = (
    Started
    | Watched
    | Counted
    | Carrier
    | Bare
    | Stray
    | LinkWatched
    | Request
    | Visited
    | Replied
    | Unreplied
    | Ended
    | Answers
    | Stalled
    | Tick
)


# ---------------------------------------------------------------------------- what comes out


@dataclass(frozen=True)
class RunScript:
    """Run $failover_prog with this role ("master" or "slave")."""

    role: str
    reason: str


@dataclass(frozen=True)
class RunProgram:
    """Run $fence_prog ("fence") or the program that $confirm names ("confirm")."""

    kind: str


@dataclass(frozen=True)
class Ask:
    """Ask the peer's port. A newer question of the same purpose replaces the older."""

    purpose: Purpose
    timeout: float


@dataclass(frozen=True)
class Question:
    """Ask on the ethernet side for the addresses, at these times; report at `until`."""

    own: bool
    at: tuple[float, ...]
    until: float


@dataclass(frozen=True)
class Look:
    """Have every watcher of the ethernet side tell at once what it has counted."""


@dataclass(frozen=True)
class Forget:
    """Answers to what was asked of the peer mean nothing any more (comparisons excepted).

    questions: nor do those to what was asked on the ethernet side.
    """

    questions: bool


@dataclass(frozen=True)
class Answer:
    """Answer a request."""

    id: int
    ok: bool
    text: str


@dataclass(frozen=True)
class Announce:
    """Announce our addresses, now and by the schedule of section 7."""


@dataclass(frozen=True)
class Heartbeats:
    """Send heartbeats, or stop sending them."""

    on: bool


@dataclass(frozen=True)
class RestartWatchers:
    """The ethernet watchers begin again with boot true."""


@dataclass(frozen=True)
class Log:
    """A line for the log. alarm: worth waking someone for."""

    text: str
    alarm: bool = False


Action = (
    RunScript
    | RunProgram
    | Ask
    | Question
    | Look
    | Forget
    | Answer
    | Announce
    | Heartbeats
    | RestartWatchers
    | Log
)


# ---------------------------------------------------------------------------- what is known


@dataclass(frozen=True)
class Rules:
    """The settings that the decisions depend on, times in seconds."""

    boot: str
    precedes: bool  # our private address is the lower one
    mresume: bool
    interfaces: tuple[str, ...]
    window: float
    heartbeat: float
    switch_timeout: float
    hold_down: float
    confirm: str  # "arp", "none" or "program"
    addressed: frozenset[str]  # interfaces that carry one of @addresses
    fence: bool
    status_timeout: float
    low_water: int = 1
    card_window: float = 0.0  # of the ethernet side; 0: as long as that of the private link
    request_time: float = REQUEST_SECONDS
    grace: float = GRACE_SECONDS

    @property
    def round(self) -> float:
        """A second or a window of the private link, whichever is shorter."""
        return min(1.0, self.window)

    @property
    def proof_time(self) -> float:
        """How long the peer may take to show that it hears what we do not."""
        return max(2 * self.news_time, LEAST_PROOF)

    @property
    def news_time(self) -> float:
        """After it the peer's open window has begun since we asked: what it holds is news."""
        return self.card_window or self.window

    @property
    def switch_time(self) -> float:
        """When a request sent now has certainly had its effect, if it ever has one."""
        return self.switch_timeout + self.arrival

    @property
    def arrival(self) -> float:
        """When a request sent now has certainly arrived, if it ever does."""
        return self.request_time + self.grace


def rules(conf: Conf, boot: str) -> Rules:
    """The decisions' settings in a configuration, for a machine with this host_type."""
    from ipaddress import ip_address

    addressed = frozenset(entry.interface for entry in conf.addresses)
    confirm = conf.confirm if conf.confirm in ("arp", "none") else "program"
    if confirm == "arp" and not addressed:
        confirm = "none"
    return Rules(
        boot=boot,
        precedes=int(ip_address(conf.primary)) < int(ip_address(conf.secondary)),
        mresume=conf.mresume,
        interfaces=conf.interfaces,
        window=conf.plip_timer,
        heartbeat=conf.plip_hbeat,
        switch_timeout=conf.switch_timeout,
        hold_down=conf.hold_down,
        confirm=confirm,
        addressed=addressed,
        fence=bool(conf.fence_prog),
        status_timeout=max(1.0, min(REQUEST_SECONDS, conf.plip_timer)),
        card_window=conf.timer_seconds,
        low_water=conf.low_water,
    )


@dataclass(frozen=True)
class Interface:
    """One interface of the ethernet side, as its watcher last told."""

    name: str
    verdict: str = "boot"
    packets: int = 0
    last: int = 0
    up: bool = True
    heard: bool = False  # a packet, ever
    proved: bool = False  # one good window since we became active
    unasked: bool = False  # was bad: ask for our addresses before announcing them here

    @property
    def failed(self) -> bool:
        return self.verdict == "fail"

    @property
    def state(self) -> str:
        """The word for it in `status` (section 6)."""
        if not self.up:
            return "down"
        if self.failed or self.verdict == "boot":
            return self.verdict
        return "silent" if self.packets == 0 and self.last == 0 else "ok"

    @property
    def useless(self) -> bool:
        """Bad as the peer would judge it, so that both machines count alike."""
        return is_bad(self.state, self.packets, self.last)


def is_bad(state: str, packets: int, last: int) -> bool:
    """Bad at a peer: down, or without a packet in its last two windows (section 5)."""
    return state in ("down", "silent") or (state == "fail" and packets == 0 and last == 0)


@dataclass(frozen=True)
class State:
    """All that one machine knows. Hashable; every time in it is a deadline in `timers`."""

    phase: Phase = Phase.NEW
    cause: Cause = Cause.BOOT
    failed: bool = False  # the last `master` run failed
    unclean: bool = False  # the last `slave` run failed: the addresses may still be here
    resuming: bool = False  # a boot master that has not had its role yet
    stalled: bool = False  # stood still while the script ran
    bare: bool = False  # our addresses have gone from their card
    interfaces: tuple[Interface, ...] = ()
    silent: bool = False  # the private link's last verdict
    peer: PeerView | None = None
    ahead: bool = False  # asked while the link fell silent, and it is not reported yet
    evidence: bool | None = None  # while the link fell silent: did anybody answer
    quiet: int = 0  # rounds in a row that nobody answered
    claimed: int = 0  # rounds in a row in which the peer answered for our addresses
    counts: Counts = ()  # of the peer, when an interface failed here
    latest: Counts = ()  # of the peer, as it answered last while we wanted to hand over
    from_peer: bool = False  # the role came by the peer's `fail`
    guarded: frozenset[str] | None = None  # the interfaces it came because of; None: not known yet
    mute: bool = False  # heartbeats are stopped
    waiting: tuple[tuple[int, bool], ...] = ()  # requests (id, from_peer) that want our result
    timers: tuple[tuple[Timer, float], ...] = ()

    def deadline(self, timer: Timer) -> float | None:
        return dict(self.timers).get(timer)

    @property
    def broken(self) -> bool:
        """The switch script did not work here."""
        return self.failed or self.unclean

    @property
    def heard(self) -> bool:
        return self.deadline(Timer.HEARD) is not None


STANDING_BY = (
    Phase.STANDBY,
    Phase.INQUIRING,
    Phase.SEEKING,
    Phase.CALLING,
    Phase.DOUBTING,
    Phase.CONFIRMING,
    Phase.FENCING,
)
BEING_ACTIVE = (Phase.ACTIVE, Phase.REJOINING, Phase.ASKING)
SWITCHING = (
    *(Phase.CALLING, Phase.DOUBTING),  # the peer may not take what is on its way to us
    *(Phase.PROMOTING, Phase.DEMOTING, Phase.TELLING, Phase.UNSURE, Phase.CLEANING),
)
ROLE = {
    Phase.NEW: "standby",
    **dict.fromkeys(STANDING_BY, "standby"),
    **dict.fromkeys(BEING_ACTIVE, "active"),
    **dict.fromkeys(SWITCHING, "switching"),
}


# From the first to the second, what was asked on the ethernet side means the same.
SAME_QUESTIONS = (
    *((Phase.STANDBY, Phase.INQUIRING), (Phase.INQUIRING, Phase.STANDBY)),
    *((Phase.STANDBY, Phase.CONFIRMING), (Phase.INQUIRING, Phase.CONFIRMING)),
    *((Phase.ACTIVE, Phase.ASKING), (Phase.ASKING, Phase.ACTIVE)),
)


def role(state: State) -> str:
    """active, standby, switching or failed."""
    word = ROLE[state.phase]
    return "failed" if word == "standby" and state.broken else word


def announceable(state: State) -> tuple[str, ...]:
    """The interfaces on which our addresses may be announced now."""
    if state.phase not in (Phase.ACTIVE, Phase.ASKING):
        return ()
    return tuple(i.name for i in state.interfaces if not i.failed and i.up and not i.unasked)


def initial(settings: Rules) -> State:
    """A machine before its Started event."""
    return State(interfaces=tuple(Interface(name) for name in settings.interfaces))


def adapt(state: State, settings: Rules) -> State:
    """The same machine after its configuration was read again."""
    known = {i.name: i for i in state.interfaces}
    names = settings.interfaces
    return replace(state, interfaces=tuple(known.get(n, Interface(n)) for n in names))


def next_deadline(state: State) -> float | None:
    """When a Tick is due at the latest."""
    return min((deadline for _, deadline in state.timers), default=None)


# ---------------------------------------------------------------------------- one step


def changed(state: State, changes: dict[str, object]) -> State:
    """As dataclasses.replace, which takes ten times as long, and half of the time of a step."""
    new = object.__new__(State)
    new.__dict__.update(state.__dict__, **changes)
    return new


class Turn:
    """One step under way: the state as it becomes, and the actions so far."""

    def __init__(self, state: State, event: Event, settings: Rules, now: float) -> None:
        self.state = state
        self.event = event
        self.rules = settings
        self.now = now
        self.actions: list[Action] = []
        self.pending: list[On] = []
        self.why = ""
        self.came_from = state.phase

    def set(self, **changes: object) -> None:
        self.state = changed(self.state, changes)

    def act(self, action: Action) -> None:
        self.actions.append(action)

    def log(self, text: str, alarm: bool = False) -> None:
        self.act(Log(text, alarm))

    def start(self, timer: Timer, seconds: float) -> None:
        timers = dict(self.state.timers)
        timers[timer] = self.now + seconds
        self.set(timers=tuple(sorted(timers.items(), key=lambda item: item[0].name)))

    def stop(self, *stopped: Timer) -> None:
        self.set(timers=tuple(item for item in self.state.timers if item[0] not in stopped))


def step(
    state: State, event: Event, settings: Rules, now: float
) -> tuple[State, tuple[Action, ...]]:
    """What becomes of a machine by an event at a time. Pure; now is monotonic, in seconds."""
    turn = Turn(state, event, settings, now)
    turn.pending = facts(turn)
    while turn.pending:
        on = turn.pending.pop(0)
        for row in TABLE.get((turn.state.phase, on), ()):
            if all(guard(turn) for guard in row.when):
                take(turn, row)
                break
    mute(turn)
    return turn.state, tuple(turn.actions)


def take(turn: Turn, row: Row) -> None:
    """Do what a row says, and enter the phase it leads to."""
    before = turn.came_from = turn.state.phase
    if row.go is not None and row.go is not before:
        turn.stop(Timer.RETRY)
        if row.go not in (Phase.DOUBTING, Phase.UNSURE):
            turn.stop(Timer.GIVE_UP, Timer.UNDER_WAY)
        forget = (before, row.go) not in SAME_QUESTIONS
        turn.act(Forget(forget))
        if forget:
            turn.set(ahead=False)
    if row.cause is not None:
        turn.set(cause=row.cause)
    if row.go is not None:
        turn.set(phase=row.go)
    for act in row.do:
        act(turn)
    if row.go is not None and row.go is not before and turn.state.phase is row.go:
        for act in ENTER.get(row.go, ()):
            act(turn)


def mute(turn: Turn) -> None:
    """A machine that neither serves nor can be asked stops its heartbeats (section 5).

    They would only keep the peer from taking over. So would those of a standby machine that cannot
    take over itself, when the link is cut in one direction.
    """
    state = turn.state
    deaf = bool(state.interfaces) and all(i.failed or not i.up for i in state.interfaces)
    serves = state.phase in BEING_ACTIVE and not deaf
    useless = not serves and state.phase is not Phase.NEW and unheard_for_long(turn)
    if useless is not state.mute:
        turn.set(mute=useless)
        turn.act(Heartbeats(not useless))
        if useless:
            turn.log(
                "we do not serve and the peer cannot be reached: "
                "no more heartbeats, so that it can take over if it lives",
                alarm=True,
            )
        else:
            turn.log("heartbeats go on")


# ---------------------------------------------------------------------------- facts


def facts(turn: Turn) -> list[On]:
    """Bring what is known up to date; the names of what that means, in order."""
    event = turn.event
    match event:
        case Tick():
            return expired(turn)
        case Watched():
            return watched(turn, event)
        case Counted():
            return counted(turn, event)
        case Carrier():
            before = heard_all(turn)
            back = changed_carrier(turn, event)
            return [*heard_all_now(turn, before), *back]
        case Bare():
            turn.set(bare=True)
            return [On.BARE]
        case Stray():
            return [On.STRAY]
        case LinkWatched():
            return link_watched(turn, event)
        case Request():
            if event.from_peer:
                hear(turn)
            source = "PEER" if event.from_peer else "PERSON"
            return [On[f"{source}_SAYS_{event.command.upper()}"]]
        case Visited():
            hear(turn)
            return []
        case Replied():
            return replied(turn, event)
        case Unreplied():
            if event.purpose is Purpose.COMPARE:
                return [uncompared(turn)]
            if not event.sent:
                turn.stop(Timer.UNDER_WAY)
            return [On.LOST]
        case Ended():
            return [ended(turn, event)]
        case Answers():
            return answered(turn, event)
        case Stalled():
            turn.set(silent=False, ahead=False, evidence=None, claimed=0, quiet=0, peer=None)
            turn.stop(Timer.HEARD, Timer.NOBODY)
            turn.act(Forget(True))
            return [On.STALLED]
        case Started():
            return started(turn, event)


ENDED = {
    ("script", True): On.SCRIPT_OK,
    ("script", False): On.SCRIPT_FAILED,
    ("fence", True): On.FENCED,
    ("fence", False): On.FENCE_FAILED,
    ("confirm", True): On.ANSWERED,
    ("confirm", False): On.UNANSWERED,
}


def ended(turn: Turn, event: Ended) -> On:
    if not event.ran and event.kind != "fence":
        return On.NOT_RUN
    if event.kind == "confirm":
        turn.set(quiet=0 if event.ok else ROUNDS)  # its word is enough
    return ENDED[event.kind, event.ok]


def started(turn: Turn, event: Started) -> list[On]:
    turn.start(Timer.UNHEARD, 2 * turn.rules.window)
    turn.start(Timer.COMPARE, turn.rules.heartbeat)
    turn.set(resuming=event.resuming, failed=event.role == "failed")
    match event.role:
        case "active":
            return [On.START_ACTIVE]
        case "standby" | "failed":
            return [On.START_STANDBY]
        case "switching":
            return [On.START_SWITCHING]
        case _:
            return [On.START_FRESH]


def expired(turn: Turn) -> list[On]:
    """Take away the deadlines that have passed; those that mean something to the table."""
    due = [timer for timer, deadline in turn.state.timers if deadline <= turn.now]
    turn.stop(*due)
    if Timer.HEARD in due:
        turn.stop(Timer.NOBODY)
    return [On[timer.name] for timer in due if timer.name in On.__members__]


def change_interface(turn: Turn, name: str, **changes: object) -> None:
    turn.set(
        interfaces=tuple(
            replace(i, **changes) if i.name == name else i  # type: ignore[arg-type]
            for i in turn.state.interfaces
        )
    )


def changed_carrier(turn: Turn, event: Carrier) -> list[On]:
    """What was announced on a card without a carrier, nobody has heard."""
    known = next((i for i in turn.state.interfaces if i.name == event.interface), None)
    if known is None:
        return []
    lost = known.unasked or (not event.up and turn.state.phase in BEING_ACTIVE)
    change_interface(turn, event.interface, up=event.up, unasked=lost)
    return [On.INTERFACE_BACK] if event.up and lost else []


def watched(turn: Turn, event: Watched) -> list[On]:
    before = next((i for i in turn.state.interfaces if i.name == event.interface), None)
    if before is None or event.verdict == "late":
        return []
    good = event.verdict == "ok" and event.packets > 0
    heard_before = heard_all(turn)
    change_interface(
        turn,
        event.interface,
        verdict=event.verdict,
        packets=event.packets,
        last=event.last,
        heard=before.heard or event.packets > 0,
        proved=before.proved or good,
        unasked=before.unasked or (event.verdict == "fail" and turn.state.phase in BEING_ACTIVE),
    )
    events = heard_all_now(turn, heard_before)
    if event.verdict == "fail":
        return [*events, On.INTERFACE_FAILED]
    if before.unasked and good:
        return [*events, On.INTERFACE_BACK]
    return events


def counted(turn: Turn, event: Counted) -> list[On]:
    known = next((i for i in turn.state.interfaces if i.name == event.interface), None)
    if known is None or not known.failed:
        return []
    silent = event.packets < max(1, turn.rules.low_water)
    return [On.STILL_SILENT if silent else On.HEARS_AGAIN]


def heard_all_now(turn: Turn, before: bool) -> list[On]:
    return [On.INTERFACES_HEARD] if heard_all(turn) and not before else []


def link_watched(turn: Turn, event: LinkWatched) -> list[On]:
    if event.verdict == "late":
        return []
    if event.verdict == "fail":
        turn.set(silent=True)
        return [On.LINK_SILENT]
    was_silent = turn.state.silent
    turn.set(silent=False)
    if event.packets == 0:
        return [On.FALLING_SILENT]
    turn.set(evidence=None)
    return [On.LINK_ALIVE] if was_silent else []


def hear(turn: Turn) -> None:
    """An exchange with the peer's port, or with ours by the peer: both ways are open."""
    turn.start(Timer.HEARD, turn.rules.window)
    turn.start(Timer.UNHEARD, 2 * turn.rules.window)


def replied(turn: Turn, event: Replied) -> list[On]:
    hear(turn)
    if event.view is not None:
        if turn.state.peer is None and event.view.boot == turn.rules.boot:
            turn.log(f"both machines have boot:{turn.rules.boot} in host_type: change one", True)
        turn.set(peer=event.view)
        if turn.state.phase is Phase.ASKING and event.purpose is Purpose.STATUS:
            turn.set(latest=event.view.counts)  # a comparison may have been under way for longer
    match event.purpose:
        case Purpose.COMPARE:
            if turn.state.from_peer and turn.state.guarded is None and event.view is not None:
                turn.set(guarded=event.view.bad | event.view.failed)
            done = uncompared(turn)
            return [done if event.view is None else On.COMPARED]
        case Purpose.STATUS:
            return [On.STATUS] if event.view is not None else [On.LOST]
        case _:
            return [On.AGREED if event.ok else On.REFUSED]


def uncompared(turn: Turn) -> On:
    """A comparison has ended, in whatever way: the next is due a heartbeat later."""
    turn.start(Timer.COMPARE, turn.rules.heartbeat)
    return On.UNCOMPARED


def answered(turn: Turn, event: Answers) -> list[On]:
    if event.own:
        if not event.peer:
            return [On.OWN_UNANSWERED]
        turn.set(claimed=min(ROUNDS, turn.state.claimed + 1))
        return [On.OWN_ANSWERED]
    turn.set(ahead=False)
    if event.anybody:
        turn.set(evidence=True, quiet=0)
        return [On.ANSWERED]
    if event.asked == 0:
        return [On.UNASKED]
    turn.set(evidence=False, quiet=min(ROUNDS, turn.state.quiet + event.asked))
    return [On.UNANSWERED]


# ---------------------------------------------------------------------------- guards

Guard = Callable[[Turn], bool]


def negate(guard: Guard, name: str) -> Guard:
    def negated(turn: Turn) -> bool:
        return not guard(turn)

    negated.__name__ = name
    return negated


def by_boot(turn: Turn) -> bool:
    return turn.state.cause is Cause.BOOT


def by_person(turn: Turn) -> bool:
    return turn.state.cause is Cause.PERSON


def by_interface(turn: Turn) -> bool:
    return turn.state.cause is Cause.INTERFACE


def by_healing(turn: Turn) -> bool:
    return turn.state.cause is Cause.HEALING


def boot_master(turn: Turn) -> bool:
    return turn.rules.boot == "master"


def boot_slave(turn: Turn) -> bool:
    return turn.rules.boot == "slave"


def contacts_nobody(turn: Turn) -> bool:
    return boot_master(turn) and not turn.rules.mresume


def is_resuming(turn: Turn) -> bool:
    return turn.state.resuming


def is_unclean(turn: Turn) -> bool:
    return turn.state.unclean


def has_failed(turn: Turn) -> bool:
    return turn.state.failed


def must_place(turn: Turn) -> bool:
    """A card that was away, or a stand-down that failed half-way, may have taken our addresses."""
    return turn.state.bare or turn.state.unclean


def peer_can_have_it(turn: Turn) -> bool:
    """The peer stood down for us, or stands by, and does not know yet that our script failed.

    If the role was the peer's to give, it hears of that by the answer to what it told us.
    """
    knows = turn.state.cause in (Cause.PEER, Cause.TAKE_BACK)
    return not knows and turn.state.heard and peer_is_idle(turn)


def stood_still(turn: Turn) -> bool:
    return turn.state.stalled


def peer_is_active(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.role in ("active", "rejoining")


def peer_is_rejoining(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.role == "rejoining"


def peer_is_switching(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.role == "switching"


def peer_is_idle(turn: Turn) -> bool:
    return turn.state.peer is not None and turn.state.peer.role in ("standby", "failed")


def heard_all(turn: Turn) -> bool:
    return all(i.up and i.heard for i in turn.state.interfaces)


not_heard_all = negate(heard_all, "not_heard_all")


def peer_is_better_off(turn: Turn) -> bool:
    peer = turn.state.peer
    ours = sum(i.useless for i in turn.state.interfaces)
    return peer is not None and len(peer.bad) < ours


def may_resume(turn: Turn) -> bool:
    """A boot master takes its role from an active peer only when it can do the work."""
    return not peer_is_active(turn) or (heard_all(turn) and not peer_is_better_off(turn))


def peer_is_able(turn: Turn) -> bool:
    """Standby, and good on an interface that failed here, with fewer bad ones than we have.

    One that has heard nothing since its watcher began is not called bad yet, nor is it good.
    """
    peer = turn.state.peer
    if peer is None or peer.role != "standby":
        return False
    ours = frozenset(i.name for i in turn.state.interfaces if i.failed)
    theirs = peer.bad | {name for name, packets, last in peer.counts if packets == last == 0}
    return bool(ours - theirs) and len(theirs) < len(ours)


def peer_has_news(turn: Turn) -> bool:
    """The peer has heard a packet since we asked, on an interface that failed here.

    Its last two windows say nothing of a switch that died for both just now. It looks at its cards
    before it answers, so later answers are compared with the first.
    """
    peer, before = turn.state.peer, {n: (p, last) for n, p, last in turn.state.counts}
    if peer is None:
        return False
    ours = frozenset(i.name for i in turn.state.interfaces if i.failed)
    return any(
        name in ours - peer.bad
        and name in before
        and (
            (packets > 0 and turn.state.deadline(Timer.NEWS) is None)
            or (packets, last) not in (before[name], (0, before[name][0]))
        )
        for name, packets, last in turn.state.latest
    )


def peer_can_serve(turn: Turn) -> bool:
    """For a person's handover: the peer stands by with a carrier; it may well hear little."""
    peer = turn.state.peer
    names = frozenset(turn.rules.interfaces)
    return peer_is_idle(turn) and peer is not None and not (names and names <= peer.down)


def may_hand_over(turn: Turn) -> bool:
    """Hold-down: a role that came because of an interface stays until that one is proved."""
    state = turn.state
    if not state.from_peer:
        return True
    held = state.deadline(Timer.HOLD) is not None
    return any(
        i.failed
        and ((state.guarded is not None and i.name not in state.guarded) or (i.proved and not held))
        for i in state.interfaces
    )


def hears_peer(turn: Turn) -> bool:
    return turn.state.heard


unheard = negate(hears_peer, "unheard")


def own_is_due(turn: Turn) -> bool:
    """Comparisons may fail faster than a question is answered, and would replace it every time."""
    return turn.state.deadline(Timer.OWN) is None


def unheard_for_long(turn: Turn) -> bool:
    return turn.state.deadline(Timer.UNHEARD) is None


def nothing_to_serve_on(turn: Turn) -> bool:
    names = turn.rules.addressed or frozenset(turn.rules.interfaces)
    return not any(i.up for i in turn.state.interfaces if i.name in names)


def confirm_by_arp(turn: Turn) -> bool:
    return turn.rules.confirm == "arp"


def confirm_by_program(turn: Turn) -> bool:
    return turn.rules.confirm == "program"


def evidence_of_life(turn: Turn) -> bool:
    return turn.state.evidence is True


def still_asked(turn: Turn) -> bool:
    return turn.state.ahead


def sure(turn: Turn) -> bool:
    """Three rounds in a row without an answer, or a program's word."""
    return turn.state.quiet >= ROUNDS


not_sure = negate(sure, "not_sure")


def nobody_to_ask(turn: Turn) -> bool:
    return not turn.rules.addressed


def fence_first(turn: Turn) -> bool:
    return turn.rules.fence


def is_claimed(turn: Turn) -> bool:
    """The peer answered for our addresses when we asked last."""
    return turn.state.claimed > 0


def claimed_thrice(turn: Turn) -> bool:
    return turn.state.claimed >= ROUNDS


def we_yield(turn: Turn) -> bool:
    """The peer comes first: failed last, fewer bad interfaces, boot master, lower address."""
    peer = turn.state.peer
    if peer is None:
        return not turn.rules.precedes
    ours = (
        turn.state.broken,
        sum(i.useless for i in turn.state.interfaces),
        turn.rules.boot != "master",
        not turn.rules.precedes,
    )
    theirs = (peer.role == "failed", len(peer.bad), peer.boot != "master", turn.rules.precedes)
    return theirs < ours


we_come_first = negate(we_yield, "we_come_first")


def peer_outranks(turn: Turn) -> bool:
    """The order by what never changes: for two that call each other at once."""
    peer = turn.state.peer
    boot = peer.boot if peer is not None else turn.rules.boot
    ours = (turn.rules.boot != "master", not turn.rules.precedes)
    return (boot != "master", turn.rules.precedes) < ours


def has_arrived(turn: Turn) -> bool:
    """A late `fail` would make the peer active beside us."""
    return turn.state.deadline(Timer.UNDER_WAY) is None


def nobody_counted(turn: Turn) -> bool:
    return turn.state.deadline(Timer.NOBODY) is None


# ---------------------------------------------------------------------------- acts

Act = Callable[[Turn], None]


def ask(purpose: Purpose) -> Act:
    def act(turn: Turn) -> None:
        rule = turn.rules
        long = purpose in (Purpose.FAIL, Purpose.RESUME)
        timeout = rule.switch_timeout + rule.request_time if long else rule.status_timeout
        turn.act(Ask(purpose, timeout))

    act.__name__ = f"ask_{purpose.value}"
    return act


def question(turn: Turn) -> None:
    """Ask three times, now, whether anybody answers for the addresses."""
    turn.set(quiet=0, evidence=None)
    if not turn.rules.addressed:
        turn.pending.append(On.UNASKED)
        return
    gap = turn.rules.round / ROUNDS
    at = tuple(turn.now + gap * i for i in range(ROUNDS))
    turn.act(Question(False, at, turn.now + turn.rules.round))


def question_once(turn: Turn) -> None:
    turn.act(Question(False, (turn.now,), turn.now + turn.rules.round))


def question_rest(turn: Turn) -> None:
    """A busy machine asked less often than it was told to: ask as often as is missing."""
    gap, missing = turn.rules.round / ROUNDS, ROUNDS - turn.state.quiet
    at = tuple(turn.now + gap * i for i in range(missing))
    turn.act(Question(False, at, turn.now + gap * missing))


def question_ahead(turn: Turn) -> None:
    """Ask while the link falls silent, so that asking costs the takeover no time.

    A window of a second or less is used from its begin on, so that a busy machine has time.
    """
    turn.set(quiet=0, evidence=None, ahead=confirm_by_arp(turn))
    if turn.state.ahead:
        verdict, unit = turn.now + turn.rules.window, turn.rules.round
        at = tuple(verdict - unit * fraction for fraction in (1.0, 0.7, 0.4))
        turn.act(Question(False, at, verdict - unit * 0.1))


def ask_both(turn: Turn) -> None:
    """Ask the peer how it is, and meanwhile the ethernet side, in case that the peer is dead."""
    ask(Purpose.STATUS)(turn)
    if turn.rules.addressed:
        question(turn)


def question_own(turn: Turn) -> None:
    turn.start(Timer.OWN, turn.rules.window)
    if turn.rules.addressed:
        turn.act(Question(True, (turn.now,), turn.now + turn.rules.round / ROUNDS))
    else:
        turn.pending.append(On.OWN_UNANSWERED)


def look(turn: Turn) -> None:
    """The peer hears something. So may we by now, if the switch was dead for both and is back."""
    turn.act(Look())


def question_own_soon(turn: Turn) -> None:
    """The peer is to stand down: our clients want to know as soon as it has."""
    turn.start(Timer.OWN, turn.rules.round / ROUNDS)


def end_claim(turn: Turn) -> None:
    turn.set(claimed=0)


def run_confirm(turn: Turn) -> None:
    turn.act(RunProgram("confirm"))


def run_fence(turn: Turn) -> None:
    turn.act(RunProgram("fence"))


def run_master(turn: Turn) -> None:
    turn.set(stalled=False, bare=False)
    turn.act(RunScript("master", turn.state.cause.value))


def run_slave(turn: Turn) -> None:
    turn.act(RunScript("slave", turn.state.cause.value))


def join(turn: Turn) -> None:
    """The request wants what is under way: it is answered at the end."""
    request = turn.event
    assert isinstance(request, Request)
    if len(turn.state.waiting) >= MAX_WAITING:
        busy(turn)
    else:
        turn.set(waiting=(*turn.state.waiting, (request.id, request.from_peer)))


def reply(turn: Turn, ok: bool, text: str) -> None:
    assert isinstance(turn.event, Request)
    turn.act(Answer(turn.event.id, ok, text))


def ok_active(turn: Turn) -> None:
    reply(turn, True, "active")


def ok_standby(turn: Turn) -> None:
    reply(turn, True, "standby")


def busy(turn: Turn) -> None:
    reply(turn, False, "busy")


def settle(ok: bool, text: str) -> Act:
    """Answer everyone who waits for the transition that ends."""

    def act(turn: Turn) -> None:
        for request, _ in turn.state.waiting:
            turn.act(Answer(request, ok, turn.why or text))
        turn.set(waiting=())

    act.__name__ = "settle"
    return act


def settle_peer(turn: Turn) -> None:
    """We have stood down: that is all that a peer who told us `resume` wants to know."""
    for request, from_peer in turn.state.waiting:
        if from_peer:
            turn.act(Answer(request, True, "standby"))
    turn.set(waiting=tuple(item for item in turn.state.waiting if not item[1]))


def refuse(text: str) -> Act:
    return settle(False, text)


def refuse_as_peer(turn: Turn) -> None:
    """The peer's error is ours."""
    assert isinstance(turn.event, Replied)
    turn.why = turn.event.text
    turn.log(f"the peer refused: {turn.event.text}", alarm=True)
    refuse("the peer refused")(turn)


def say_what_is_missing(turn: Turn) -> None:
    """Why a boot master stands by."""
    missing = [i.name for i in turn.state.interfaces if not (i.up and i.heard)]
    turn.log(
        f"the boot master stands by until something is heard on {', '.join(missing)}"
        if missing
        else "the boot master stands by: the peer is active and better off"
    )


def say(text: str, alarm: bool = False) -> Act:
    def act(turn: Turn) -> None:
        turn.log(text, alarm)

    act.__name__ = "say"
    return act


def say_who_answers(turn: Turn) -> None:
    who = turn.event.who if isinstance(turn.event, Answers) else ""
    turn.log(
        f"somebody still answers for the service{': ' + who if who else ''}: no takeover", True
    )


def say_script_failed(turn: Turn) -> None:
    turn.log(f"the switch script failed ({turn.state.cause.value}): the role goes elsewhere", True)


def say_not_able(turn: Turn) -> None:
    peer = turn.state.peer
    bad = ", ".join(sorted(peer.bad)) if peer and peer.bad else "no interface"
    turn.why = f"the peer is {peer.role if peer else 'unheard'} and {bad} is bad there"
    turn.log(f"{turn.why}: we keep the role", alarm=True)


def restart_watchers(turn: Turn) -> None:
    """They begin again with boot true. What a verdict was before is known until there is another.

    But a standby's verdict, which may be that it hears little, is none on an active machine.
    """
    turn.act(RestartWatchers())
    promoted = turn.state.phase is Phase.PROMOTING or turn.came_from is Phase.PROMOTING
    turn.set(
        interfaces=tuple(
            replace(i, proved=False, verdict="boot", packets=0, last=0)
            if promoted or not i.failed
            else replace(i, proved=False)
            for i in turn.state.interfaces
        )
    )


def wait_longest(turn: Turn) -> None:
    turn.start(Timer.UNDER_WAY, turn.rules.arrival)
    turn.start(Timer.GIVE_UP, turn.rules.switch_time)


def retry_soon(turn: Turn) -> None:
    turn.start(Timer.RETRY, turn.rules.round)


def compare_now(turn: Turn) -> None:
    """The next comparison waits for the end of this one, or a slow link would never see one end."""
    turn.stop(Timer.COMPARE)
    ask(Purpose.COMPARE)(turn)


def enter_asking(turn: Turn) -> None:
    turn.set(counts=(), latest=())
    if by_interface(turn):
        turn.start(Timer.GIVE_UP, turn.rules.proof_time)
    ask(Purpose.STATUS)(turn)


def compare_counts_soon(turn: Turn) -> None:
    """Note what the peer has counted, and ask again after a moment."""
    if not turn.state.counts:
        turn.set(counts=turn.state.latest)
        turn.start(Timer.NEWS, turn.rules.news_time)
    turn.start(Timer.RETRY, min(turn.rules.round, turn.rules.news_time / 8))


def count_nobody(turn: Turn) -> None:
    turn.start(Timer.NOBODY, 2 * turn.rules.window)


def wait_for_peer(turn: Turn) -> None:
    turn.start(Timer.NOBODY, turn.rules.heartbeat)


def stop_nobody(turn: Turn) -> None:
    turn.stop(Timer.NOBODY)


def announce(turn: Turn) -> None:
    turn.act(Announce())


def trust_interfaces(turn: Turn) -> None:
    """Nobody else answers for our addresses: good interfaces may be announced on again."""
    before = announceable(turn.state)
    turn.set(
        interfaces=tuple(
            i if i.failed else replace(i, unasked=False) for i in turn.state.interfaces
        )
    )
    if announceable(turn.state) != before:
        announce(turn)


def mark_stalled(turn: Turn) -> None:
    turn.set(stalled=True)


def note_why(turn: Turn) -> None:
    """The peer gives us the role: ask at once because of which interface, while it still tells."""
    turn.set(from_peer=True, guarded=None)
    compare_now(turn)


def mark_failed(turn: Turn) -> None:
    """A boot master that could not become active does not call for its role again."""
    turn.set(failed=True, resuming=False)


def mark_unclean(turn: Turn) -> None:
    """Our addresses must not stay beside those of a peer that has the role: stand down again."""
    turn.log("the switch script failed to stand down: trying again every window", alarm=True)
    turn.set(unclean=True)


def mark_clean(turn: Turn) -> None:
    turn.set(unclean=False)


def mark_resuming(turn: Turn) -> None:
    turn.set(resuming=True)


def stop_resuming(turn: Turn) -> None:
    turn.set(resuming=False)


def enter_standby(turn: Turn) -> None:
    if turn.came_from is not Phase.INQUIRING:  # else what was asked ahead still counts
        turn.set(quiet=0, evidence=None)
    turn.set(claimed=0, from_peer=False, guarded=None, stalled=False, bare=False)
    turn.stop(Timer.HOLD, Timer.NOBODY, Timer.OWN)
    if turn.state.resuming or turn.state.unclean:
        turn.start(Timer.RETRY, turn.rules.window)
    compare_now(turn)


def become_active(turn: Turn) -> None:
    came_from_peer = turn.state.cause is Cause.PEER
    turn.set(failed=False, resuming=False, stalled=False, unclean=False)
    turn.set(claimed=0, quiet=0, evidence=None)
    turn.set(interfaces=tuple(replace(i, unasked=not i.up) for i in turn.state.interfaces))
    turn.stop(Timer.NOBODY)
    if came_from_peer:
        turn.start(Timer.HOLD, turn.rules.hold_down)
    compare_now(turn)
    announce(turn)
    if unheard(turn):
        question_own(turn)  # another machine may have come to the same at the same moment
    if turn.state.waiting:
        turn.pending.append(On.WANTED)


def wait_a_round(turn: Turn) -> None:
    turn.start(Timer.GIVE_UP, turn.rules.round)


def retry_next_window(turn: Turn) -> None:
    turn.start(Timer.RETRY, turn.rules.window)


# ---------------------------------------------------------------------------- the table


@dataclass(frozen=True, slots=True)
class Row:
    """In these phases, on this event, if all guards hold: do this, and go there."""

    phases: tuple[Phase, ...]
    on: On
    when: tuple[Guard, ...] = ()
    do: tuple[Act, ...] = ()
    go: Phase | None = None
    cause: Cause | None = None


ask_status = ask(Purpose.STATUS)
settle_active = settle(True, "active")
settle_standby = settle(True, "standby")
refuse_for_life = refuse("the peer cannot be reached, but the service still answers")

ENTER: dict[Phase, tuple[Act, ...]] = {
    Phase.STANDBY: (enter_standby,),
    Phase.INQUIRING: (ask_status,),
    Phase.SEEKING: (question,),
    Phase.CALLING: (ask(Purpose.RESUME), wait_longest),
    Phase.DOUBTING: (ask_status,),
    Phase.FENCING: (run_fence,),
    Phase.PROMOTING: (run_master,),
    Phase.DEMOTING: (run_slave,),
    Phase.CLEANING: (run_slave,),
    Phase.ASKING: (enter_asking,),
    Phase.TELLING: (ask(Purpose.FAIL), wait_longest),
    Phase.UNSURE: (ask_status,),
}

P = Phase
ANY = tuple(phase for phase in Phase if phase is not Phase.NEW)
WATCHING = (P.STANDBY, P.INQUIRING)
SERVING = (P.ACTIVE, P.ASKING)

START = (
    Row((P.NEW,), On.START_FRESH, (boot_slave,), go=P.CLEANING, cause=Cause.BOOT),
    Row((P.NEW,), On.START_FRESH, (contacts_nobody,), go=P.PROMOTING, cause=Cause.BOOT),
    Row((P.NEW,), On.START_FRESH, (), (mark_resuming,), P.INQUIRING, Cause.BOOT),
    Row((P.NEW,), On.START_ACTIVE, (), (ask_both,), P.REJOINING),
    Row((P.NEW,), On.START_STANDBY, go=P.STANDBY),
    Row((P.NEW,), On.START_SWITCHING, go=P.CLEANING, cause=Cause.BOOT),
)

TOLD_FAIL = (
    Row(SERVING, On.PEER_SAYS_FAIL, (), (ok_active, announce)),
    Row((P.REJOINING,), On.PEER_SAYS_FAIL, (), (ok_active, become_active), P.ACTIVE),
    Row((P.PROMOTING,), On.PEER_SAYS_FAIL, (), (join,)),
    Row(STANDING_BY, On.PEER_SAYS_FAIL, (), (join, note_why), P.PROMOTING, Cause.PEER),
    Row(
        (P.TELLING, P.UNSURE),
        On.PEER_SAYS_FAIL,
        (),
        (refuse("the peer handed the role back"), join, note_why),
        P.PROMOTING,
        Cause.PEER,
    ),
    Row((P.DEMOTING, P.CLEANING), On.PEER_SAYS_FAIL, (), (busy,)),
    Row(BEING_ACTIVE, On.PERSON_SAYS_FAIL, (), (ok_active,)),
    Row((P.PROMOTING, P.CALLING, P.DOUBTING, P.FENCING), On.PERSON_SAYS_FAIL, (), (join,)),
    Row((P.INQUIRING, P.SEEKING), On.PERSON_SAYS_FAIL, (), (join,), cause=Cause.PERSON),
    Row((P.STANDBY, P.CONFIRMING), On.PERSON_SAYS_FAIL, (), (join,), P.INQUIRING, Cause.PERSON),
    Row((P.DEMOTING, P.TELLING, P.UNSURE, P.CLEANING), On.PERSON_SAYS_FAIL, (), (busy,)),
)

TOLD_RESUME = (
    Row((P.STANDBY,), On.PEER_SAYS_RESUME, (), (ok_standby, stop_nobody)),
    Row(
        (P.CONFIRMING, P.FENCING, P.INQUIRING, P.SEEKING),
        On.PEER_SAYS_RESUME,
        (),
        (refuse("the peer takes the role"), ok_standby),
        P.STANDBY,
    ),
    Row(
        (P.CALLING, P.DOUBTING),
        On.PEER_SAYS_RESUME,
        (peer_outranks,),
        (refuse("the peer takes the role"), ok_standby),
        P.STANDBY,
    ),
    Row((P.CALLING, P.DOUBTING), On.PEER_SAYS_RESUME, (), (busy,)),
    Row(BEING_ACTIVE, On.PEER_SAYS_RESUME, (), (join,), P.DEMOTING, Cause.PEER),
    Row((P.DEMOTING,), On.PEER_SAYS_RESUME, (), (join,)),
    Row(
        (P.TELLING, P.UNSURE),
        On.PEER_SAYS_RESUME,
        (),
        (settle_standby, ok_standby),
        P.STANDBY,
    ),
    Row((P.CLEANING,), On.PEER_SAYS_RESUME, (is_unclean,), (ok_standby,)),
    Row((P.PROMOTING, P.CLEANING), On.PEER_SAYS_RESUME, (), (busy,)),
    Row((P.STANDBY, P.CONFIRMING), On.PERSON_SAYS_RESUME, (), (ok_standby, stop_resuming)),
    Row((P.ACTIVE,), On.PERSON_SAYS_RESUME, (), (join,), P.ASKING, Cause.PERSON),
    Row((P.ASKING,), On.PERSON_SAYS_RESUME, (), (join,), cause=Cause.PERSON),
    Row((P.REJOINING,), On.PERSON_SAYS_RESUME, (), (join,)),
    Row((P.ACTIVE,), On.WANTED, go=P.ASKING, cause=Cause.PERSON),
    Row((P.DEMOTING, P.TELLING, P.UNSURE), On.PERSON_SAYS_RESUME, (), (join,)),
    Row(
        (
            *(P.INQUIRING, P.SEEKING, P.CALLING, P.DOUBTING, P.FENCING),
            *(P.PROMOTING, P.CLEANING),
        ),
        On.PERSON_SAYS_RESUME,
        (),
        (busy,),
    ),
)

# Whoever is heard must be asked again: that nobody answers for the addresses proves nothing while
# the other machine is between two steps of its own.
HEARD_AFTER_ALL = (
    Row((P.INQUIRING,), On.LOST, (hears_peer,), (retry_soon,)),
    Row((P.SEEKING,), On.UNANSWERED, (hears_peer,), go=P.INQUIRING),
    Row((P.DOUBTING, P.UNSURE), On.UNANSWERED, (hears_peer,), (ask_status,)),
    Row((P.REJOINING,), On.UNANSWERED, (hears_peer,), (ask_both,)),
    Row(
        (P.CONFIRMING,),
        On.UNANSWERED,
        (hears_peer,),
        (refuse("the peer is heard again"),),
        P.STANDBY,
    ),
)

RESUMING = (
    Row((P.STANDBY,), On.RETRY, (is_unclean,), go=P.CLEANING, cause=Cause.BOOT),
    Row((P.STANDBY,), On.RETRY, (is_resuming,), go=P.INQUIRING, cause=Cause.BOOT),
    Row((P.STANDBY,), On.INTERFACES_HEARD, (is_resuming,), go=P.INQUIRING, cause=Cause.BOOT),
    Row(
        (P.INQUIRING,),
        On.STATUS,
        (by_person, peer_is_switching),
        (refuse("the peer is switching"),),
        P.STANDBY,
    ),
    Row((P.INQUIRING,), On.STATUS, (peer_is_switching,), (retry_soon,)),
    Row((P.INQUIRING,), On.RETRY, (), (ask_status,)),
    Row(
        (P.INQUIRING,),
        On.STATUS,
        (by_boot, negate(may_resume, "may_not_resume")),
        (say_what_is_missing, refuse("the peer is better off")),
        P.STANDBY,
    ),
    Row(
        (P.INQUIRING,),
        On.STATUS,
        (by_healing, peer_is_active),
        (refuse("the peer is active"),),
        P.STANDBY,
    ),
    Row((P.INQUIRING,), On.STATUS, go=P.CALLING),
    Row(
        (P.INQUIRING,),
        On.LOST,
        (by_boot, not_heard_all),
        (say_what_is_missing, refuse("the peer is silent")),
        P.STANDBY,
    ),
    Row((P.INQUIRING,), On.LOST, (by_healing,), (refuse("the peer is silent"),), P.STANDBY),
    Row((P.INQUIRING,), On.LOST, go=P.SEEKING),
    Row(
        (P.SEEKING, P.DOUBTING),
        On.ANSWERED,
        (),
        (say_who_answers, refuse_for_life),
        P.STANDBY,
    ),
    Row((P.SEEKING, P.DOUBTING), On.UNANSWERED, (), go=P.PROMOTING),
    Row((P.SEEKING, P.DOUBTING), On.UNASKED, (nobody_to_ask,), go=P.PROMOTING),
    Row(
        (P.SEEKING,),
        On.UNASKED,
        (),
        (refuse("neither the peer nor the ethernet side can be asked"),),
        P.STANDBY,
    ),
    Row((P.CALLING,), On.AGREED, go=P.PROMOTING),
    Row((P.CALLING,), On.REFUSED, (), (refuse_as_peer,), P.STANDBY),
    Row((P.CALLING,), On.LOST, go=P.DOUBTING),
    Row((P.DOUBTING,), On.STATUS, (peer_is_idle,), go=P.PROMOTING),
    Row(
        (P.DOUBTING,),
        On.STATUS,
        (peer_is_active,),
        (refuse("the peer did not stand down"),),
        P.STANDBY,
    ),
)

NO_WORD = "the program of $confirm cannot be run"

SILENCE = (
    Row(WATCHING, On.FALLING_SILENT, (), (question_ahead,)),
    Row(
        WATCHING,
        On.LINK_SILENT,
        (hears_peer,),
        (
            say("the private link is silent, but the peer's port answers: no takeover", True),
            question_ahead,
        ),
    ),
    Row(
        WATCHING,
        On.LINK_SILENT,
        (nothing_to_serve_on,),
        (
            say("the private link is silent, but our own interfaces are down: no takeover", True),
            question_ahead,
        ),
    ),
    Row(WATCHING, On.LINK_SILENT, (confirm_by_program,), (run_confirm,), P.CONFIRMING),
    Row(
        WATCHING,
        On.LINK_SILENT,
        (evidence_of_life,),
        (say_who_answers, refuse_for_life, question_once),
        P.CONFIRMING,
    ),
    Row(WATCHING, On.LINK_SILENT, (still_asked,), go=P.CONFIRMING),
    Row(WATCHING, On.LINK_SILENT, (confirm_by_arp, not_sure), (question_rest,), P.CONFIRMING),
    Row(WATCHING, On.LINK_SILENT, (fence_first,), go=P.FENCING, cause=Cause.SILENCE),
    Row(WATCHING, On.LINK_SILENT, go=P.PROMOTING, cause=Cause.SILENCE),
    *(
        Row(
            (P.CONFIRMING,),
            on,
            (),
            (say("the peer is heard again"), refuse("the peer is heard again")),
            P.STANDBY,
        )
        for on in (On.LINK_ALIVE, On.COMPARED)
    ),
    Row(
        (P.CONFIRMING,),
        On.ANSWERED,
        (confirm_by_program,),
        (say_who_answers, refuse_for_life),
        P.STANDBY,
    ),
    Row((P.CONFIRMING,), On.ANSWERED, (), (say_who_answers, refuse_for_life, question_once)),
    Row((P.CONFIRMING,), On.UNANSWERED, (not_sure,), (question_once,)),
    Row(
        (P.CONFIRMING,),
        On.UNANSWERED,
        (nothing_to_serve_on,),
        (refuse("our own interfaces are down"),),
        P.STANDBY,
    ),
    Row((P.CONFIRMING,), On.UNANSWERED, (fence_first,), go=P.FENCING, cause=Cause.SILENCE),
    Row((P.CONFIRMING,), On.UNANSWERED, go=P.PROMOTING, cause=Cause.SILENCE),
    Row(
        (P.CONFIRMING,),
        On.NOT_RUN,
        (nobody_to_ask,),
        (say(f"{NO_WORD}: no takeover", True), refuse(NO_WORD)),
        P.STANDBY,
    ),
    Row((P.CONFIRMING,), On.NOT_RUN, (), (say(f"{NO_WORD}: asking by ARP", True), question)),
    Row((P.CONFIRMING,), On.UNASKED, (), (retry_soon,)),
    Row((P.CONFIRMING,), On.RETRY, (), (question_once,)),
    Row((P.FENCING,), On.FENCED, go=P.PROMOTING),
    Row(
        (P.FENCING,),
        On.FENCE_FAILED,
        (),
        (say("the fence program failed: no takeover", True), refuse("the fence program failed")),
        P.STANDBY,
    ),
)

HANDOVER = (
    Row((P.ACTIVE,), On.INTERFACE_FAILED, (may_hand_over,), go=P.ASKING, cause=Cause.INTERFACE),
    Row((P.ASKING,), On.STATUS, (by_person, peer_can_serve), go=P.DEMOTING),
    Row((P.ASKING,), On.STATUS, (by_interface, peer_is_able, peer_has_news), (look,)),
    Row((P.ASKING,), On.STILL_SILENT, (by_interface, peer_is_able, peer_has_news), go=P.DEMOTING),
    Row((P.ASKING,), On.HEARS_AGAIN, (by_interface,), (say("it hears again"),), P.ACTIVE),
    Row((P.ASKING,), On.STATUS, (by_interface, peer_is_able), (compare_counts_soon,)),
    Row((P.ASKING,), On.RETRY, (), (ask_status,)),
    Row(
        (P.ASKING,),
        On.GIVE_UP,
        (by_interface,),
        (say("the peer hears nothing either: we keep the role", True),),
        P.ACTIVE,
    ),
    Row((P.ASKING,), On.STATUS, (), (say_not_able, refuse("the peer is not able")), P.ACTIVE),
    Row(
        (P.ASKING,),
        On.LOST,
        (),
        (say("the peer cannot be asked: we keep the role", True), refuse("the peer is silent")),
        P.ACTIVE,
    ),
    Row((P.TELLING,), On.AGREED, (), (settle_standby,), P.STANDBY),
    Row((P.TELLING,), On.REFUSED, (has_failed,), (refuse_as_peer,), P.STANDBY),
    Row((P.TELLING,), On.REFUSED, (), (refuse_as_peer,), P.PROMOTING, Cause.TAKE_BACK),
    Row((P.TELLING,), On.LOST, go=P.UNSURE),
    Row((P.UNSURE,), On.STATUS, (peer_is_active,), (settle_standby,), P.STANDBY),
    Row((P.UNSURE,), On.STATUS, (peer_is_idle, has_failed), go=P.TELLING),
    Row(
        (P.UNSURE,),
        On.STATUS,
        (peer_is_idle, has_arrived),
        (refuse("the peer did not take over"),),
        P.PROMOTING,
        Cause.TAKE_BACK,
    ),
    Row((P.UNSURE,), On.ANSWERED, (), (settle_standby,), P.STANDBY),
    Row(
        (P.UNSURE,),
        On.UNANSWERED,
        (),
        (refuse("the peer was lost"),),
        P.PROMOTING,
        Cause.TAKE_BACK,
    ),
    Row(
        (P.UNSURE,),
        On.UNASKED,
        (nobody_to_ask,),
        (refuse("the peer was lost"),),
        P.PROMOTING,
        Cause.TAKE_BACK,
    ),
)

UNTIL_IT_KNOWS = (
    Row((P.DOUBTING, P.UNSURE), On.STATUS, (), (retry_soon,)),
    Row((P.DOUBTING, P.UNSURE), On.LOST, (), (retry_soon,)),
    Row((P.DOUBTING, P.UNSURE), On.RETRY, (), (ask_status,)),
    Row((P.DOUBTING, P.UNSURE), On.GIVE_UP, (hears_peer,), (wait_a_round,)),
    Row((P.DOUBTING, P.UNSURE), On.GIVE_UP, (), (question,)),
    Row((P.DOUBTING, P.UNSURE), On.UNASKED, (), (wait_a_round,)),
)

SCRIPTS = (
    Row(
        (P.PROMOTING,),
        On.SCRIPT_OK,
        (stood_still,),
        (restart_watchers, settle_active, ask_both),
        P.REJOINING,
    ),
    Row(
        (P.PROMOTING,),
        On.SCRIPT_OK,
        (),
        (restart_watchers, settle_active, become_active),
        P.ACTIVE,
    ),
    Row(
        SERVING,
        On.BARE,
        (unheard,),
        (
            say("our addresses are gone from their card: asking who has them", True),
            refuse("our addresses are gone"),
            ask_both,
        ),
        P.REJOINING,
    ),
    Row(
        SERVING,
        On.BARE,
        (),
        (
            say("our addresses are gone from their card: putting them there again", True),
            refuse("our addresses are gone"),
        ),
        P.PROMOTING,
        Cause.RESTORE,
    ),
    Row((P.REJOINING,), On.BARE, (), (say("our addresses are gone from their card", True),)),
    Row(
        (P.STANDBY,),
        On.STRAY,
        (),
        (say("our addresses have come to their card while we stand by: taking them away", True),),
        P.CLEANING,
        Cause.STRAY,
    ),
    *(
        Row((P.PROMOTING,), on, (), (mark_failed, say_script_failed), P.CLEANING)
        for on in (On.SCRIPT_FAILED, On.NOT_RUN)
    ),
    *(
        Row(
            (P.CLEANING,),
            on,
            when,
            (mark, restart_watchers, refuse("the switch script failed")),
            go,
        )
        for on, mark in (
            (On.SCRIPT_OK, mark_clean),
            (On.SCRIPT_FAILED, mark_unclean),
            (On.NOT_RUN, mark_unclean),
        )
        for when, go in (((has_failed, peer_can_have_it), P.TELLING), ((), P.STANDBY))
    ),
    *(
        Row((P.DEMOTING,), On.SCRIPT_OK, cause, (restart_watchers, settle_peer), P.TELLING)
        for cause in ((by_interface,), (by_person,), (by_healing, hears_peer))
    ),
    Row((P.DEMOTING,), On.SCRIPT_OK, (), (mark_clean, restart_watchers, settle_standby), P.STANDBY),
    *(
        Row(
            (P.DEMOTING,),
            on,
            (by_healing,),
            (
                mark_unclean,
                say_script_failed,
                refuse("the switch script failed"),
                retry_next_window,
            ),
            P.REJOINING,
        )
        for on in (On.SCRIPT_FAILED, On.NOT_RUN)
    ),
    Row(
        (P.DEMOTING,),
        On.NOT_RUN,
        (),
        (
            say("the switch script cannot be run: we keep the role", True),
            refuse("the switch script cannot be run"),
        ),
        P.ACTIVE,
    ),
    Row(
        (P.DEMOTING,),
        On.SCRIPT_FAILED,
        (),
        (say_script_failed, refuse("the switch script failed")),
        P.PROMOTING,
        Cause.TAKE_BACK,
    ),
)

REJOIN = (
    *(
        Row(
            (P.REJOINING,),
            on,
            (must_place, *when),
            (refuse("our addresses are gone"),),
            P.PROMOTING,
            Cause.RESTORE,
        )
        for on, when in (
            (On.STATUS, (peer_is_idle,)),
            (On.UNANSWERED, ()),
            (On.LOST, (nobody_to_ask,)),
        )
    ),
    Row(
        (P.REJOINING,),
        On.STATUS,
        (peer_is_active,),
        (say("the peer is active meanwhile: we stand by"),),
        P.DEMOTING,
        Cause.HEALING,
    ),
    Row((P.REJOINING,), On.STATUS, (peer_is_idle,), (become_active,), P.ACTIVE),
    Row((P.REJOINING,), On.STATUS, (), (retry_soon,)),
    Row((P.REJOINING,), On.LOST, (nobody_to_ask,), (become_active,), P.ACTIVE),
    Row(
        (P.REJOINING,),
        On.LOST,
        (evidence_of_life,),
        (say("somebody else has our addresses: we stand by", True),),
        P.DEMOTING,
        Cause.HEALING,
    ),
    # Its status may still come, and says more than that somebody answers.
    Row((P.REJOINING,), On.ANSWERED, (), (ask_status,)),
    Row((P.REJOINING,), On.UNANSWERED, (), (become_active,), P.ACTIVE),
    Row((P.REJOINING,), On.UNASKED, (), (retry_next_window,)),
    Row((P.REJOINING,), On.RETRY, (), (ask_both,)),
)

HEALING = (
    Row(ANY, On.COMPARE, (), (compare_now,)),
    Row((P.STANDBY, *SERVING), On.LINK_ALIVE, (), (compare_now,)),
    Row(SERVING, On.COMPARED, (peer_is_rejoining,)),
    Row(
        SERVING,
        On.COMPARED,
        (peer_is_active, we_yield),
        (say("both machines are active: the peer keeps the role", True),),
        P.DEMOTING,
        Cause.HEALING,
    ),
    Row(
        SERVING,
        On.COMPARED,
        (peer_is_active,),
        (say("both machines are active: we keep the role", True), announce),
    ),
    Row((P.STANDBY,), On.COMPARED, (peer_is_idle, nobody_counted), (count_nobody,)),
    Row((P.STANDBY,), On.COMPARED, (peer_is_active,), (stop_nobody,)),
    Row(
        (P.STANDBY,),
        On.NOBODY,
        (hears_peer, peer_is_idle, we_come_first),
        (say("no machine is active: we take the role", True),),
        P.INQUIRING,
        Cause.HEALING,
    ),
    Row((P.STANDBY,), On.NOBODY, (peer_is_switching,), (wait_for_peer,)),
    Row(SERVING, On.LINK_SILENT, (), (question_own,)),
    Row(SERVING, On.INTERFACE_BACK, (), (question_own,)),
    Row(SERVING, On.UNCOMPARED, (unheard, own_is_due), (question_own,)),
    Row(SERVING, On.OWN, (is_claimed,), (question_own,)),
    Row(
        SERVING,
        On.OWN_ANSWERED,
        (boot_slave, claimed_thrice),
        (say("the peer answers for our addresses: we stand by", True),),
        P.DEMOTING,
        Cause.HEALING,
    ),
    Row(SERVING, On.OWN_ANSWERED, (boot_slave,), (question_own,)),
    Row(SERVING, On.OWN_ANSWERED, (), (trust_interfaces, announce, question_own_soon)),
    *(
        Row(SERVING, On.OWN_UNANSWERED, when, (end_claim, trust_interfaces, announce))
        for when in ((is_claimed,), (unheard,))
    ),
    Row(SERVING, On.OWN_UNANSWERED, (), (trust_interfaces,)),
)

STANDSTILL = (
    Row((P.INQUIRING,), On.STALLED, (), (ask_status,)),
    Row((P.SEEKING, P.CALLING, P.DOUBTING), On.STALLED, go=P.INQUIRING),
    Row(
        (P.CONFIRMING, P.FENCING),
        On.STALLED,
        (),
        (refuse("we stood still meanwhile"),),
        P.STANDBY,
    ),
    Row((P.PROMOTING,), On.STALLED, (), (mark_stalled,)),
    Row(
        (P.ACTIVE, P.ASKING),
        On.STALLED,
        (),
        (
            say("we stood still for longer than a window: asking before anything else", True),
            ask_both,
        ),
        P.REJOINING,
    ),
    Row((P.REJOINING,), On.STALLED, (), (ask_both,)),
    Row((P.TELLING,), On.STALLED, (), (wait_longest,), P.UNSURE),
    Row((P.UNSURE,), On.STALLED, (), (wait_longest, ask_status)),
)

ROWS = (
    *START,
    *TOLD_FAIL,
    *TOLD_RESUME,
    *HEARD_AFTER_ALL,
    *RESUMING,
    *SILENCE,
    *HANDOVER,
    *UNTIL_IT_KNOWS,
    *SCRIPTS,
    *REJOIN,
    *HEALING,
    *STANDSTILL,
)


def by_phase_and_event(rows: tuple[Row, ...]) -> dict[tuple[Phase, On], tuple[Row, ...]]:
    table: dict[tuple[Phase, On], list[Row]] = {}
    for row in rows:
        for phase in row.phases:
            table.setdefault((phase, row.on), []).append(row)
    return {key: tuple(found) for key, found in table.items()}


TABLE = by_phase_and_event(ROWS)
