"""The main loop and its hands: collects events, steps the pair, performs its actions. Runs as root.

It never reads a byte from the network: its workers do, and what they say is checked here as if it
came from an enemy. Every decision is in `pair`; this room only knows how to carry it out.

`loop` is what runs. What it knows of this node stands in `context`. Each of the others does one
kind of work for it: `workers` says which workers there are, `supervisor` forks them and starts them
again, `watchers` minds which interface is watched, `reports` takes in what the watchers and the
heartbeat say, `requests` answers, with `status`, and `queries` asks, `programs` runs the switch
script and its like, `interfaces` looks at the service interfaces, `alerts` sees whether any node is
active, `gratuitous_arp` tells the neighbours, `errands` does what may wait for a disk, such as
`reload`, which reads the configuration again, `dry_run` only says what would be done, and
`messages` decodes what the workers say.
"""

from failoverd.master.loop import Master

__all__ = ["Master"]
