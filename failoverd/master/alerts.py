"""Says what would go unnoticed: that no node is active for longer than that may take, that the peer
sends heartbeats and no more, and that what the pair knows of itself cannot be."""

from __future__ import annotations

from failoverd import pair
from failoverd.log import lasting
from failoverd.master.context import Context
from failoverd.pair import bounds, invariant

LEAST_GAP = 1.0  # seconds between two of its lines, however short $hold_down is
UNRESOLVED = (pair.Posture.DOUBTING, pair.Posture.SEEKING, pair.Posture.CALLING)


class Alerts:
    """Counts the time in which no node is known to be active (contract, section 5, Evidence), and
    notices a peer of which heartbeats come, and nothing else."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._since = 0.0
        self._blocked = ""  # what is in the way of a change of role
        self._faults: set[str] = set()  # that were said
        self.deadline: float | None = None

    def listen(self) -> None:
        """Say once that heartbeats come in, but no query is answered, and once that it is over.

        One that neither serves nor receives any stops its heartbeats: that is no end of it.
        """
        context = self._context
        if pair.is_speechless(context.state):
            text = "heartbeats are received, but its port does not answer"
            values = {"port": context.conf.tcp_port, "link": context.conf.plip_interface}
            context.say_once("PEER-BLOCKED", "peer", text, **values)
        elif context.state.runs_out(pair.Timer.UNHEARD):
            context.say_over("PEER-UNBLOCKED", "peer", "its port answers again")

    def tend(self, now: float) -> None:
        """Say so when the longest time that `failoverd -t` prints is over, and again every
        $hold_down; and once that it has ended."""
        self.listen()
        context = self._context
        if context.dry or not context.started or context.is_served:
            if self.deadline is not None:
                after = lasting(now - self._since)
                context.say_over("SERVICE-UP", "role", "a node is active again", after=after)
            self.deadline = None
        elif self.deadline is None:
            self._since = now
            self.deadline = now + bounds.longest_without_active(context.rules)
        elif now >= self.deadline:
            text = "no node is active as far as is known, ha-status on both nodes says why"
            age = lasting(now - self._since)
            context.say(
                "SERVICE-DOWN", "role", text, age=age, role=context.role, blocked=context.blocked
            )
            self.deadline = now + max(LEAST_GAP, context.conf.hold_down)

    def check(self) -> None:
        """Say once what is wrong with what the pair knows after a step. Nothing is done about it:
        the role is where it was decided to be."""
        state, role = self._context.state, self._context.role
        alone = role == "active" and state.heard and not state.peer_serves
        if role == "standby" or alone:
            known = role == "active" or state.peer_serves
            text = (
                "one node is active again" if known else "not active beside another host any more"
            )
            self._context.say_over("UNITED", "role", text)
        if self._blocked and not state.blocked:
            self._context.say("UNBLOCKED", "role", "nothing blocks a change of role any more")
        self._blocked = state.blocked
        if role != "switching" and state.posture not in UNRESOLVED:
            self._context.say_over("DOUBT-OVER", "role", "confirmed", role=role)
        fault = invariant.check(state)
        if fault and fault not in self._faults:
            self._faults.add(fault)
            phase, purpose = state.phase.value, state.purpose.value
            text = "a fault of failoverd, report this log"
            self._context.say(
                "BUG", "worker failoverd", text, error=fault, phase=phase, purpose=purpose
            )
