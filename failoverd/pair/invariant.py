"""What is true of one node after every step, whatever has happened to it.

`check` is pure and cheap: the tests and the explorer call it after each step, and the master, too.
"""

from __future__ import annotations

from collections.abc import Callable

from failoverd.pair.knowledge import Phase, Posture, Purpose, State, Timer
from failoverd.pair.policy import POLICY
from failoverd.pair.resolver import MOVES
from failoverd.pair.settings import ROUNDS

RESTING = (Phase.STANDBY, Phase.ACTIVE)
REQUESTED = (Purpose.OPERATOR, Purpose.RELEASE)  # purposes that only a request has


def is_stuck(state: State) -> bool:
    """What it lacks has been asked for in vain, and nothing will have it asked for again."""
    pending = state.asking or state.program or state.runs_out(Timer.RETRY)
    return state.phase is Phase.RESOLVING and state.unanswered and not pending


def is_carried_out(state: State) -> bool:
    """A request is carried out for nobody: whoever made it has had an answer."""
    gives = state.failed  # the role that could not be taken goes to the peer
    return state.purpose in REQUESTED and not state.waiting and not gives


def forgets_to_retry(state: State) -> bool:
    tries = state.resuming or state.unclean
    return state.phase is Phase.STANDBY and tries and not state.runs_out(Timer.RETRY)


def keeps_claim(state: State) -> bool:
    """A standby that still believes what it knew of the role that it had."""
    stale = state.claimed or state.from_peer or state.stalled
    held = bool(stale) or state.runs_out(Timer.HOLD) or state.runs_out(Timer.OWN)
    return state.phase is Phase.STANDBY and held


def wants_what_it_has(state: State) -> bool:
    wants = state.stalled or state.resuming or state.told is not None
    return state.phase is Phase.ACTIVE and wants


NEVER: dict[str, Callable[[State], bool]] = {  # what must never be true of a node
    "a role changes without a purpose": lambda s: (
        (s.purpose is Purpose.NONE) is not (s.phase in RESTING)
    ),
    "a request that waits is not answered": lambda s: s.phase in RESTING and bool(s.waiting),
    "the patience timer runs, but no request waits": lambda s: (
        s.runs_out(Timer.PATIENCE) and not s.waiting
    ),
    "a request that was answered is still carried out": is_carried_out,
    "the policy has no row for what is resolved": lambda s: (
        s.phase is Phase.RESOLVING and (s.told or s.purpose) not in POLICY
    ),
    "it waits, and nothing will come": is_stuck,
    "what the peer was told outlives its end": lambda s: (
        s.told is not None and s.phase not in (Phase.TOLD, Phase.RESOLVING)
    ),
    "the peer was told nothing": lambda s: s.phase is Phase.TOLD and s.told is None,
    "the peer's answer is waited for without end": lambda s: (
        s.phase is Phase.TOLD and not s.runs_out(Timer.GIVE_UP)
    ),
    "what was told for another purpose is waited for": lambda s: (
        s.runs_out(Timer.UNDER_WAY) and s.told is None
    ),
    "what is over is tried again": lambda s: (
        s.runs_out(Timer.RETRY) and s.phase not in (Phase.RESOLVING, Phase.STANDBY)
    ),
    "a standby that wants its role, or is not clean, has no next try": forgets_to_retry,
    "something else than a lost heartbeat asks for fencing": lambda s: (
        s.phase is Phase.FENCING and s.purpose is not Purpose.SILENCE
    ),
    "nothing fences": lambda s: s.phase is Phase.FENCING and not s.program,
    "a program's word is awaited for nothing": lambda s: (
        bool(s.program) and s.phase not in (Phase.FENCING, Phase.RESOLVING)
    ),
    "the addresses are both taken and free": lambda s: s.taken and s.quiet > 0,
    "more rounds are counted than make sure": lambda s: (
        not (0 <= s.quiet <= ROUNDS and 0 <= s.claimed <= ROUNDS)
    ),
    "a standby remembers the role that it had": keeps_claim,
    "an active node is called failed": lambda s: s.posture is Posture.SERVING and s.broken,
    "an active node wants what it has": wants_what_it_has,
    "an active node has lost its addresses": lambda s: s.phase is Phase.ACTIVE and s.bare,
    "a role that did not come from the peer is guarded": lambda s: (
        s.guarded is not None and not s.from_peer
    ),
    "a standby knows that a check passed for the role that it had": lambda s: (
        s.phase is Phase.STANDBY and bool(s.passed)
    ),
    "a role is sought on hold": lambda s: (
        s.held and s.phase is Phase.RESOLVING and s.told is None and s.purpose in MOVES
    ),
    "a peer is heard, and its port is closed": lambda s: s.heard and not s.runs_out(Timer.UNHEARD),
}


def check(state: State) -> str:
    """What is wrong with a node that has begun; "" if all is well."""
    if not state.begun:
        return ""
    return next((text for text, is_wrong in NEVER.items() if is_wrong(state)), "")
