"""What is true of one machine after every step, whatever has happened to it.

`check` is pure and cheap: tests and the explorer call it after each step, and so may the master.
"""

from __future__ import annotations

from collections.abc import Callable

from failoverd.pair.knowledge import Phase, Posture, Purpose, State, Timer
from failoverd.pair.policy import POLICY
from failoverd.pair.settings import ROUNDS

RESTING = (Phase.STANDBY, Phase.ACTIVE)
REQUESTED = (Purpose.OPERATOR, Purpose.RELEASE)  # purposes that only somebody's request has


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
    return bool(stale) or state.runs_out(Timer.HOLD) or state.runs_out(Timer.OWN)


# Each: what must never be true of a machine, and how that is said.
NEVER: tuple[tuple[Callable[[State], bool], str], ...] = (
    (
        lambda s: (s.purpose is Purpose.NONE) is not (s.phase in RESTING),
        "a role changes if, and only if, there is a purpose",
    ),
    (lambda s: s.phase in RESTING and bool(s.waiting), "whoever waits for an end is not answered"),
    (
        lambda s: s.runs_out(Timer.PATIENCE) and not s.waiting,
        "the patience of nobody runs out",
    ),
    (is_carried_out, "a request that was answered is still carried out"),
    (
        lambda s: s.phase is Phase.RESOLVING and (s.told or s.purpose) not in POLICY,
        "the policy has no row for what is resolved",
    ),
    (is_stuck, "it waits, and nothing will come"),
    (
        lambda s: s.told is not None and s.phase not in (Phase.TOLD, Phase.RESOLVING),
        "what the peer was told outlives its end",
    ),
    (lambda s: s.phase is Phase.TOLD and s.told is None, "the peer was told nothing"),
    (
        lambda s: s.phase is Phase.TOLD and not s.runs_out(Timer.GIVE_UP),
        "the peer's answer is waited for without end",
    ),
    (
        lambda s: s.runs_out(Timer.UNDER_WAY) and s.told is None,
        "what was told for another purpose is waited for",
    ),
    (
        lambda s: s.runs_out(Timer.RETRY) and s.phase not in (Phase.RESOLVING, Phase.STANDBY),
        "what is over is tried again",
    ),
    (forgets_to_retry, "a standby that wants its role, or is not clean, has no next try"),
    (
        lambda s: s.phase is Phase.FENCING and s.purpose is not Purpose.SILENCE,
        "only a lost heartbeat asks for fencing",
    ),
    (lambda s: s.phase is Phase.FENCING and not s.program, "nothing fences"),
    (
        lambda s: bool(s.program) and s.phase not in (Phase.FENCING, Phase.RESOLVING),
        "a program's word is awaited for nothing",
    ),
    (lambda s: s.taken and s.quiet > 0, "somebody answers for the addresses, and nobody"),
    (
        lambda s: not (0 <= s.quiet <= ROUNDS and 0 <= s.claimed <= ROUNDS),
        "more rounds are counted than make sure",
    ),
    (
        lambda s: s.phase is Phase.STANDBY and keeps_claim(s),
        "a standby remembers the role that it had",
    ),
    (
        lambda s: s.posture is Posture.SERVING and s.broken,
        "an active machine is called failed",
    ),
    (
        lambda s: s.phase is Phase.ACTIVE and (s.stalled or s.resuming or bool(s.told)),
        "an active machine wants what it has",
    ),
    (lambda s: s.phase is Phase.ACTIVE and s.bare, "an active machine has lost its addresses"),
    (
        lambda s: s.guarded is not None and not s.from_peer,
        "interfaces are guarded of a role that did not come from the peer",
    ),
    (
        lambda s: s.heard and not (s.runs_out(Timer.UNHEARD) and s.runs_out(Timer.WORDLESS)),
        "a peer is heard, and is not",
    ),
    (
        lambda s: len({timer for timer, _ in s.timers}) < len(s.timers),
        "a timer has two deadlines",
    ),
)


def check(state: State) -> str:
    """What is wrong with a machine that has begun; "" if all is well."""
    if not state.begun:
        return ""
    return next((text for is_wrong, text in NEVER if is_wrong(state)), "")
