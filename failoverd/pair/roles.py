"""The role changes: what a machine does on the way into a role."""

from __future__ import annotations

from failoverd.pair.actions import RestartWatchers, RunScript
from failoverd.pair.knowledge import Phase, Posture, Purpose, Timer
from failoverd.pair.turn import Turn


def take_role(turn: Turn, purpose: Purpose | None = None) -> None:
    turn.go(Phase.PROMOTING, purpose)
    turn.set(stalled=False, bare=False)
    turn.act(RunScript("master", turn.state.purpose.value))


def stand_down(turn: Turn, purpose: Purpose) -> None:
    turn.go(Phase.DEMOTING, purpose)
    turn.act(RunScript("slave", purpose.value))


def enter_standby(turn: Turn) -> None:
    gave = turn.state.posture is Posture.GIVING
    turn.go(Phase.STANDBY)
    if not turn.state.asking:  # else what is asked ahead still counts
        turn.set(quiet=0, taken=False)
    leave_role(turn)
    if gave:
        restart_watchers(turn)
    if turn.state.resuming or turn.state.unclean:
        turn.start(Timer.RETRY, turn.rules.window)
    turn.compare()


def leave_role(turn: Turn) -> None:
    """What was known of the role that was here, or was not taken, means nothing any more."""
    turn.set(claimed=0, from_peer=False, guarded=None, stalled=False, bare=False, deferred=False)
    turn.stop(Timer.HOLD, Timer.NOBODY, Timer.OWN)


def become_active(turn: Turn) -> None:
    """Active, and nobody else is."""
    state = turn.state
    purpose = state.purpose
    turn.go(Phase.ACTIVE)
    turn.set(failed=False, resuming=False, stalled=False, unclean=False, deferred=False)
    turn.set(claimed=0, quiet=0, taken=False)
    if purpose is not Purpose.TAKE_BACK:
        turn.set(blocked="")
    for interface in state.interfaces:
        turn.change(interface.name, unasked=not interface.up)
    turn.stop(Timer.NOBODY)
    if purpose is Purpose.PEER:
        turn.start(Timer.HOLD, turn.rules.hold_down)
    turn.compare()
    turn.announce()
    if not turn.state.heard:
        turn.ask_own()  # another node may have come to the same at the same moment


def restart_watchers(turn: Turn, promoted: bool = False) -> None:
    """They begin again with boot true. What a verdict was before is known until there is another.

    But a standby's verdict, which may be that it receives little, is none on an active machine.
    """
    turn.act(RestartWatchers())
    turn.change("", proved=False)
    for interface in turn.state.interfaces:
        if promoted or not interface.failed:
            turn.change(interface.name, verdict="boot", packets=0, last=0)
