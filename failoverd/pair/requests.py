"""What a request meets: `fail` or `resume`, from the peer or from a person, and what that leads to.

Sections 5 and 6: a request for the same result joins the one under way, any other is answered
`busy`. What the peer tells, it has prepared; for an operator the peer is asked first.
"""

from __future__ import annotations

from collections.abc import Callable

from failoverd.pair import compare, resolver
from failoverd.pair.knowledge import Phase, Posture, Purpose, Timer
from failoverd.pair.messages import Announce, Request
from failoverd.pair.turn import Turn


def requested(turn: Turn, event: Request) -> None:
    REQUESTS[event.command, event.from_peer][turn.state.posture](turn, event)


def busy(turn: Turn, event: Request) -> None:
    turn.reply(event, False, "busy")


def is_so(turn: Turn, event: Request) -> None:
    """It is active, and the peer may not know."""
    turn.reply(event, True, "active")
    if event.from_peer:
        turn.act(Announce())


def be_sure(turn: Turn, event: Request) -> None:
    """The peer stood down before it said so: that ends the doubt."""
    resolver.restore(turn)
    if turn.state.phase is Phase.ACTIVE:
        turn.reply(event, True, "active")
    else:
        turn.join(event)


def take_over(turn: Turn, event: Request) -> None:
    """The peer stood down before it said so."""
    if turn.state.posture is Posture.GIVING:
        turn.settle(False, "the peer handed the role back")
    turn.join(event)
    turn.set(from_peer=True, guarded=None)  # it tells why when this node has it
    turn.take_role(Purpose.PEER)


def seek(turn: Turn, event: Request) -> None:
    """An operator wants this node to be active: the peer is asked first."""
    turn.join(event)
    if not (turn.state.purpose is Purpose.OPERATOR or turn.state.phase is Phase.FENCING):
        resolver.begin(turn, Purpose.OPERATOR)


def release(turn: Turn, event: Request) -> None:
    """An operator wants the peer to be active."""
    turn.join(event)
    if turn.state.purpose is not Purpose.RELEASE:
        resolver.begin(turn, Purpose.RELEASE)


def rest(turn: Turn, event: Request) -> None:
    """It stands by already, and shall want nothing more."""
    if turn.state.posture is Posture.IDLE or turn.state.is_silence:
        turn.reply(event, True, "standby")
        turn.set(resuming=False)
    else:
        busy(turn, event)


def step_aside(turn: Turn, event: Request) -> None:
    turn.join(event)
    turn.stand_down(Purpose.PEER)


def join_end(turn: Turn, event: Request) -> None:
    """A request that waits already for a role that could not be taken, waits for that."""
    could_not_start = turn.state.failed and turn.state.purpose is not Purpose.CLEAN
    (busy if could_not_start else Turn.join)(turn, event)


def make_way(turn: Turn, event: Request) -> None:
    """The peer takes the role itself."""
    posture = turn.state.posture
    if posture is Posture.CALLING and not compare.peer_outranks(turn.state, turn.rules):
        busy(turn, event)
        return
    turn.reply(event, True, "standby")
    turn.stop(Timer.NOBODY)
    if posture is not Posture.IDLE:
        turn.enter_standby("" if posture is Posture.GIVING else "the peer takes the role")
    if posture is not Posture.GIVING:  # its silence is no reason while it switches
        turn.start(Timer.EXPECTED, turn.rules.window)


# fmt: off
MEETS: dict[tuple[str, bool], tuple[Callable[[Turn, Request], None], ...]] = {
    # command, from the peer
    #   IDLE       SEEKING    CALLING    PROMOTING  SERVING     DOUBTING    DEMOTING   GIVING
    ("fail", True):
        (take_over, take_over, take_over, Turn.join, is_so,      be_sure,    busy,      take_over),
    ("fail", False):
        (seek,      seek,      Turn.join, Turn.join, is_so,      is_so,      busy,      busy),
    ("resume", True):
        (make_way,  make_way,  make_way,  busy,      step_aside, step_aside, join_end,  make_way),
    ("resume", False):
        (rest,      rest,      busy,      busy,      release,    Turn.join,  join_end,  Turn.join),
}
# fmt: on
REQUESTS = {who: dict(zip(Posture, does, strict=True)) for who, does in MEETS.items()}
