"""The listener: our port and our questions to the peer's (section 6); the secret's only reader.

It parses what comes from the network and can do nothing else: it has given up root, and a request
goes to failoverd as a message, whose answer comes back as one.

`child` is what is forked. It listens at the `doors`, those who come are `visitors`, what we ask of
the peer are `questions`, and one `loop` serves them all.
"""

from failoverd.listener.worker import check, run

__all__ = ["check", "run"]
