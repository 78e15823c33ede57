"""What the pair decides, with the time as an argument.

Read `policy` first: why a change of role is considered, what is found out, and what follows. An
event comes in (`events`); what is known, and until when, stands in `knowledge`. `resolver` finds
out what a purpose has to know; `step` says who may interrupt whom, `scripts` and `watching` what
ends and what is seen, `roles` how a role is begun, `compare` who is better off. The `actions` that
come out are performed by the master, and by the explorer of the tests on a simulated network.
"""

# ruff: noqa: F401 - these names are what the room offers (mypy: implicit_reexport)

from failoverd.pair.actions import (
    Action,
    Announce,
    Answer,
    Ask,
    Forget,
    Heartbeats,
    Log,
    Look,
    Question,
    RestartWatchers,
    RunProgram,
    RunScript,
)
from failoverd.pair.events import (
    Answers,
    Bare,
    Carrier,
    Counted,
    Ended,
    Event,
    LinkWatched,
    PeerView,
    Query,
    Replied,
    Request,
    Reread,
    Stalled,
    Started,
    Stray,
    Tick,
    Unreplied,
    Watched,
)
from failoverd.pair.knowledge import (
    Interface,
    Phase,
    Posture,
    Purpose,
    State,
    Timer,
    adapt,
    announceable,
    initial,
    is_rejoining,
    is_served,
    is_switching,
    next_deadline,
    role,
    seeks,
)
from failoverd.pair.policy import NO_ANSWER
from failoverd.pair.settings import ROUNDS, Rules, rules
from failoverd.pair.step import step
from failoverd.protocol import is_bad
