"""What the pair decides: one table of phases and events, with the time as an argument.

How it works (contract, section 5). An event comes in (`events`). First every fact it tells is
brought up to date (`facts`); that turns it into one or more names of `On`. Then the first row of
`table` whose phase and name match and whose `guards` all hold says what to do (`acts`) and which
phase comes next; `stepping` does this. Nothing here does anything: the `actions` that come out are
performed by the master, and the explorer of the tests performs them on a simulated network.

Phases are finer than roles: `ROLE` maps them. A *standby* machine is in STANDBY, or on its way:
INQUIRING (asks the peer's status), SEEKING (got none, asks on the ethernet side), CONFIRMING (the
private link is silent, asks whether the service still answers), FENCING. An *active* one is ACTIVE,
REJOINING (it may have been overtaken: asks before it announces), or ASKING (wants to hand over). A
*switching* one is CALLING (told the peer `resume`) or DOUBTING (lost its answer) before it takes
the role; PROMOTING, DEMOTING or CLEANING while the script runs; TELLING (told the peer `fail`) or
UNSURE (lost its answer) when it has stood down and the peer is taking over.
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
from failoverd.pair.acts import NO_ANSWER
from failoverd.pair.events import (
    Answers,
    Bare,
    Carrier,
    Counted,
    Ended,
    Event,
    LinkWatched,
    On,
    PeerView,
    Purpose,
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
from failoverd.pair.settings import ROUNDS, Rules, rules
from failoverd.pair.state import (
    ROLE,
    Cause,
    Interface,
    Phase,
    State,
    Timer,
    adapt,
    announceable,
    initial,
    is_served,
    next_deadline,
    role,
)
from failoverd.pair.stepping import step
from failoverd.pair.table import ROWS, Row
from failoverd.protocol import is_bad
