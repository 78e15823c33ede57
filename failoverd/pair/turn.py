"""One step under way: what is known as it becomes, the actions so far, and how a role changes."""

from __future__ import annotations

from dataclasses import replace

from failoverd.pair import messages as out
from failoverd.pair.knowledge import (
    STANDING_BY,
    TELLS,
    Phase,
    Posture,
    Purpose,
    State,
    Timer,
)
from failoverd.pair.messages import Action, Query, Request
from failoverd.pair.settings import ROUNDS, Rules

OPERATORS = (Purpose.OPERATOR, Purpose.RELEASE)
MAX_WAITING = 16  # requests that one transition may have waiting for its end


def changed(state: State, changes: dict[str, object]) -> State:
    """As dataclasses.replace, which takes ten times as long, and half of the time of a step."""
    new = object.__new__(State)
    new.__dict__.update(state.__dict__, **changes)
    return new


class Turn:
    """One step under way."""

    def __init__(self, state: State, rules: Rules, now: float) -> None:
        self.state = state
        self.rules = rules
        self.now = now
        self.actions: list[Action] = []

    def set(self, **changes: object) -> None:
        self.state = changed(self.state, changes)

    def act(self, action: Action) -> None:
        self.actions.append(action)

    def start(self, timer: Timer, seconds: float) -> None:
        timers = {**dict(self.state.timers), timer: self.now + seconds}
        self.set(timers=tuple(sorted(timers.items(), key=lambda item: item[0].name)))

    def stop(self, *stopped: Timer) -> None:
        self.set(timers=tuple(item for item in self.state.timers if item[0] not in stopped))

    def change(self, name: str, **changes: object) -> None:
        """Note something about an interface."""
        self.set(
            interfaces=tuple(
                replace(i, **changes) if name == i.name else i  # type: ignore[arg-type]
                for i in self.state.interfaces
            )
        )

    # ------------------------------------------------------------------ words

    def say(self, event: str, subject: str, sentence: str, **values: str) -> None:
        self.act(out.Log(event, subject, sentence, tuple((k, v) for k, v in values.items() if v)))

    def say_once(
        self, event: str, subject: str, sentence: str, blocked: str = "", **values: str
    ) -> None:
        """What is in the way of what should be done: not again while it stays so, however often
        met. blocked: the same without the values, if the sentence does not stand alone."""
        blocked = blocked or (sentence if subject == "role" else f"the {subject} {sentence}")
        if self.state.blocked != blocked:
            self.set(blocked=blocked)
            self.say(event, subject, sentence, **values)

    def reply(self, request: Request, ok: bool, text: str) -> None:
        self.act(out.Answer(request.id, ok, text))

    def join(self, request: Request) -> None:
        """The request wants what is under way: it is answered at the end."""
        if len(self.state.waiting) >= MAX_WAITING and not request.from_peer:
            self.reply(request, False, "busy")
            return
        self.set(waiting=(*self.state.waiting, (request.id, request.from_peer)))
        if not request.from_peer and not self.state.runs_out(Timer.PATIENCE):
            self.start(Timer.PATIENCE, self.rules.patience)

    def settle(self, ok: bool, text: str, who: tuple[bool, ...] = (True, False)) -> None:
        """Answer those who wait. who: chosen by whether a request came from the peer."""
        for request, from_peer in self.state.waiting:
            if from_peer in who:
                self.act(out.Answer(request, ok, text))
        self.set(waiting=tuple(item for item in self.state.waiting if item[1] not in who))
        if not self.state.waiting:
            self.stop(Timer.PATIENCE)

    # ------------------------------------------------------------------ queries and probes

    def ask(self, query: Query) -> None:
        long = query in (Query.FAIL, Query.RESUME)
        script = self.rules.switch_timeout + self.rules.request_time
        seconds = script if long else self.rules.status_timeout
        self.act(out.Ask(query, seconds, self.is_direct(query)))

    def is_direct(self, query: Query) -> bool:
        """Where heartbeats arrive at both nodes, and no answer does, something blocks the port. An
        operator is there to be told: what he asks for goes round no such thing. How the peer is,
        any path may tell; but no role is given away that could not be told to it."""
        state = self.state
        works = state.beats and state.peer is not None and state.peer.beats
        tells = query in TELLS or (query is Query.STATUS and state.resolves(Purpose.RELEASE))
        return works and state.purpose in OPERATORS and tells

    def tell(self, query: Query) -> None:
        """Tell the peer `fail` or `resume`, which may have its effect late."""
        self.go(Phase.TOLD, told=query)
        self.ask(query)
        self.start(Timer.UNDER_WAY, self.rules.arrival)
        self.start(Timer.GIVE_UP, self.rules.switch_time)

    def compare(self) -> None:
        """The next comparison waits for the end of this one, or a slow link would never see one."""
        self.stop(Timer.COMPARE)
        self.ask(Query.COMPARE)

    def put_off_comparison(self) -> None:
        """It means nothing in the middle of a switch, and takes a busy node's time from that."""
        if self.state.runs_out(Timer.COMPARE):
            self.start(Timer.COMPARE, self.rules.heartbeat)

    def ask_network(self, rounds: int = ROUNDS) -> None:
        """Ask so many times, now, whether any host answers for the addresses."""
        gap = self.rules.round / ROUNDS
        until = self.rules.round if rounds in (1, ROUNDS) else gap * rounds
        self.set(asking=True)
        at = tuple(self.now + gap * i for i in range(rounds))
        self.act(out.Probe(False, at, self.now + until))

    def ask_ahead(self) -> None:
        """Ask while the link falls silent, so that asking costs the takeover no time.

        A window of a second or less is used from its begin on, so that a busy node has time.
        """
        self.set(quiet=0, taken=False)
        if self.rules.confirm == "arp":
            verdict, unit = self.now + self.rules.window, self.rules.round
            self.set(asking=True)
            at = tuple(verdict - unit * fraction for fraction in (1.0, 0.7, 0.4))
            self.act(out.Probe(False, at, verdict - unit * 0.1))

    def ask_own(self) -> None:
        """An active node asks who else answers for its addresses."""
        if self.state.posture is not Posture.SERVING:
            return
        self.start(Timer.OWN, self.rules.window)
        if self.rules.addressed:
            until = self.now + self.rules.round / ROUNDS
            self.act(out.Probe(True, (self.now,), until))

    # ------------------------------------------------------------------ roles

    def go(self, phase: Phase, purpose: Purpose | None = None, told: Query | None = None) -> None:
        """What was asked for another purpose is dropped, unless it means the same for this one."""
        was, before = self.state, self.state.posture
        if phase in (Phase.STANDBY, Phase.ACTIVE):
            purpose = Purpose.NONE
        self.set(phase=phase, purpose=purpose or was.purpose, told=told, unanswered=False)
        now, after = self.state, self.state.posture
        if (now.phase, now.purpose, told) == (was.phase, was.purpose, was.told):
            return
        self.stop(Timer.RETRY)
        if told is None or told is not was.told:
            self.stop(Timer.GIVE_UP, Timer.UNDER_WAY)
        ahead = before in STANDING_BY and not was.unanswered and was.purpose is not Purpose.SILENCE
        keep = (ahead and after in STANDING_BY) or before is after is Posture.SERVING
        self.act(out.Forget(not keep))
        self.set(program=0, asking=was.asking and keep)

    def take_role(self, purpose: Purpose | None = None) -> None:
        self.go(Phase.PROMOTING, purpose)
        self.set(stalled=False, bare=False)
        self.put_off_comparison()
        self.act(out.RunScript("master", self.state.purpose.value))

    def stand_down(self, purpose: Purpose) -> None:
        self.go(Phase.DEMOTING, purpose)
        self.put_off_comparison()
        self.act(out.RunScript("slave", purpose.value))

    def enter_standby(self, refused: str = "") -> None:
        """refused: why those who still wait have waited in vain."""
        self.settle(not refused, refused or "standby")
        gave = self.state.posture is Posture.GIVING
        self.go(Phase.STANDBY)
        if not self.state.asking:  # else what is asked ahead still counts
            self.set(quiet=0, taken=False)
        self.leave_role()
        if gave:
            self.restart_watchers()
        if self.state.resuming or self.state.unclean:
            self.start(Timer.RETRY, self.rules.window)
        self.compare()

    def leave_role(self) -> None:
        """What was known of the role that was here, or was not taken, means nothing any more."""
        self.set(claimed=0, from_peer=False, guarded=None, stalled=False, bare=False)
        self.set(passed=frozenset())
        self.stop(Timer.HOLD, Timer.OWN)

    def become_active(self) -> None:
        """Active, and nobody else is."""
        purpose = self.state.purpose
        self.go(Phase.ACTIVE)
        self.set(failed=False, resuming=False, stalled=False, unclean=False)
        self.set(claimed=0, quiet=0, taken=False)
        if purpose not in (Purpose.TAKE_BACK, Purpose.DOUBT):
            self.set(blocked="")
        for interface in self.state.interfaces:
            self.change(interface.name, unasked=not interface.up or interface.failed)
        self.stop(Timer.NOBODY)
        self.compare()
        self.act(out.Announce())
        if not self.state.heard:
            self.ask_own()  # another node may have come to the same at the same moment

    def restart_watchers(self, promoted: bool = False) -> None:
        """They begin again with boot true. A failure is known until there is another verdict; but
        a standby's, which may be that it receives little, is none on an active node."""
        self.act(out.RestartWatchers())
        if promoted:
            self.set(checks=frozenset(), passed=frozenset())
        for interface in self.state.interfaces:
            # The role has not come because of one that was bad here, too.
            self.change(interface.name, proved=promoted and interface.useless)
            if promoted or not interface.failed:
                self.change(interface.name, verdict="boot", packets=0, last=0)
