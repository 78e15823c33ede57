"""The main loop and its hands: collects events, steps the pair, performs its actions. Runs as root.

It never reads a byte from the network: its children do, and what they say is checked here as if it
came from an enemy. Every decision is in `pair`; this room only knows how to carry it out.

`loop` is what runs. What it knows of this machine stands in `situation`. Each of the others does
one kind of work for it: `crew` forks the children, `reports` hears the watchers and the heartbeat,
`requests` answers and `questions` asks, `programs` runs the switch script and its like, `cards`
looks at our interfaces, `vigil` sees whether any machine is active, `announcements` tells the
neighbours, `rehearsal` is a dry run, and `messages` checks what children say.
"""

from failoverd.master.loop import Master

__all__ = ["Master"]
