"""What the pair decides, with the time as an argument.

Read `policy` first: why a change of role is considered, what is found out, and what follows. What
comes in and goes out stands in `messages`; what is known, and until when, in `knowledge`.
`resolver` finds out what a purpose has to know; `requests` says who may interrupt whom, `watching`
what is seen, `step` what ends, `turn` how a role changes, `compare` who is better off. The actions
are performed by the master, and by the explorer of the tests on a simulated network.
"""

# ruff: noqa: F401, F403 - these names are what the room offers (mypy: implicit_reexport)

from failoverd.pair.compare import receives_nothing, wants_relief
from failoverd.pair.knowledge import *
from failoverd.pair.messages import *
from failoverd.pair.policy import NO_ANSWER
from failoverd.pair.settings import ROUNDS, Rules, rules
from failoverd.pair.step import step
