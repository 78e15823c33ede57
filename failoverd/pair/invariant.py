"""What is true of one node after every step, whatever has happened to it.

`check` is pure and cheap: the tests and the explorer call it after each step, and the master, too.
"""

from __future__ import annotations

from failoverd.pair.knowledge import Phase, Posture, Purpose, State, Timer
from failoverd.pair.policy import POLICY
from failoverd.pair.resolver import MOVES
from failoverd.pair.settings import ROUNDS
from failoverd.pair.turn import OPERATORS


def check(state: State) -> str:
    """What is wrong with a node that has begun; "" if all is well."""
    if not state.begun:
        return ""
    for wrong in (wrong_with_requests, wrong_with_phase, wrong_with_knowledge):
        for text, is_so in wrong(state).items():
            if is_so:
                return text
    return ""


def wrong_with_requests(s: State) -> dict[str, object]:
    rests = s.phase in (Phase.STANDBY, Phase.ACTIVE)
    gives = s.failed  # the role that could not be taken goes to the peer
    serves_nobody = s.purpose in OPERATORS and not s.waiting and not gives
    return {
        "a role changes without a purpose": (s.purpose is Purpose.NONE) is not rests,
        "a request that waits is not answered": rests and s.waiting,
        "the patience timer runs, but no request waits": (
            s.runs_out(Timer.PATIENCE) and not s.waiting
        ),
        "a request that was answered is still carried out": serves_nobody,
    }


def wrong_with_phase(s: State) -> dict[str, object]:
    resolves, tells = s.phase is Phase.RESOLVING, s.phase is Phase.TOLD
    retries = s.runs_out(Timer.RETRY)
    pending = s.asking or s.program or retries
    tries = s.phase is Phase.STANDBY and (s.resuming or s.unclean)
    return {
        "the policy has no row for what is resolved": (
            resolves and (s.told or s.purpose) not in POLICY
        ),
        "it waits, and nothing will come": resolves and s.unanswered and not pending,
        "what the peer was told outlives its end": s.told and not (tells or resolves),
        "the peer was told nothing": tells and not s.told,
        "the peer's answer is waited for without end": tells and not s.runs_out(Timer.GIVE_UP),
        "what was told for another purpose is waited for": (
            s.runs_out(Timer.UNDER_WAY) and not s.told
        ),
        "what is over is tried again": retries and not resolves and s.phase is not Phase.STANDBY,
        "a standby that wants its role, or is not clean, has no next try": tries and not retries,
        "something else than a lost heartbeat asks for fencing": (
            s.phase is Phase.FENCING and s.purpose is not Purpose.SILENCE
        ),
        "nothing fences": s.phase is Phase.FENCING and not s.program,
        "a program's word is awaited for nothing": (
            s.program and s.phase is not Phase.FENCING and not resolves
        ),
        "a role is sought on hold": s.held and resolves and not s.told and s.purpose in MOVES,
    }


def wrong_with_knowledge(s: State) -> dict[str, object]:
    stands_by, serves = s.phase is Phase.STANDBY, s.phase is Phase.ACTIVE
    remembers = s.claimed or s.from_peer or s.stalled or s.passed
    remembers = remembers or s.runs_out(Timer.HOLD) or s.runs_out(Timer.OWN)
    return {
        "the addresses are both taken and free": s.taken and s.quiet,
        "more rounds are counted than make sure": (
            not (0 <= s.quiet <= ROUNDS and 0 <= s.claimed <= ROUNDS)
        ),
        "a standby remembers the role that it had": stands_by and remembers,
        "an active node is called failed": s.posture is Posture.SERVING and s.broken,
        "an active node wants what it has": serves and (s.stalled or s.resuming or s.told),
        "an active node has lost its addresses": serves and s.bare,
        "a role that did not come from the peer is guarded": (
            s.guarded is not None and not s.from_peer
        ),
        "a peer is heard, and its port is closed": s.heard and not s.runs_out(Timer.UNHEARD),
    }
