"""Says what would go unnoticed: that no node is active for longer than that may take, that the peer
sends heartbeats and no more, and that what the pair knows of itself cannot be."""

from __future__ import annotations

from failoverd import pair
from failoverd.master.context import Context
from failoverd.pair import bounds, invariant

LEAST_GAP = 1.0  # seconds between two of its lines, however short $hold_down is


class Alerts:
    """Counts the time in which no node is known to be active (contract, section 5, Evidence), and
    notices a peer of which heartbeats come, and nothing else.

    `deadline` is when `tend` has something to say, in monotonic seconds, None while one is active.
    """

    def __init__(self, us: Context) -> None:
        self._us = us
        self._since = 0.0
        self._said = False
        self._speechless = False
        self._faults: set[str] = set()  # that were said
        self.deadline: float | None = None

    def listen(self) -> None:
        """Say once that heartbeats come in, but no query is answered, and once that it is over.

        One that neither serves nor receives any stops its heartbeats: that is no end of it.
        """
        us = self._us
        if pair.is_speechless(us.state) is self._speechless:
            return
        if not self._speechless:
            us.tell(
                "the peer sends heartbeats, but its port does not answer: if no line above says "
                "why, look for a packet filter on either machine, see to the MTU of the private "
                "link, and that $tcp_port is the same",
                True,
            )
            self._speechless = True
        elif us.state.runs_out(pair.Timer.UNHEARD):
            us.tell("the peer's port answers again", False)
            self._speechless = False

    def tend(self, now: float) -> None:
        """Say so when the longest time that `failoverd -t` prints is over, and again every
        $hold_down; and once that it has ended."""
        us = self._us
        if us.dry or not us.started or us.is_served:
            if self._said:
                us.tell(f"a machine is active again, after {now - self._since:.1f} s", True)
            self.deadline, self._said = None, False
        elif self.deadline is None:
            self._since = now
            self.deadline = now + bounds.longest_without_active(us.rules)
        elif now >= self.deadline:
            us.tell(
                f"no machine has been active for {now - self._since:.1f} s, as far as this one can "
                f"know: it is {us.role}; ha-status on both machines and the lines above say why",
                True,
            )
            self._said = True
            self.deadline = now + max(LEAST_GAP, us.conf.hold_down)

    def check(self) -> None:
        """Say once what is wrong with what the pair knows after a step. Nothing is done about it:
        the role is where it was decided to be."""
        state = self._us.state
        fault = invariant.check(state)
        if fault and fault not in self._faults:
            self._faults.add(fault)
            what = f"{fault} (phase {state.phase.value}, purpose {state.purpose.value})"
            self._us.tell(f"this is a fault of failoverd, report it with this log: {what}", True)
