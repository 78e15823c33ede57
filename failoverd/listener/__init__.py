"""The listener: this node's port and the queries to the peer's (section 6); the secret's only
reader.

It parses what comes from the network and can do nothing else: it has given up root, and a request
goes to failoverd as a message, whose answer comes back as one.

`worker` is what is forked: `ports` has the listening sockets, `server` the sessions of those who
connect, `client` the queries, and one `loop` calls all of them.
"""

from failoverd.listener.worker import check, run

__all__ = ["check", "run"]
