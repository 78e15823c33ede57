"""The worker: opens the port, gives up root, and serves until failoverd is gone."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - socket may import it later, when it cannot be read any more
import os
import socket
import time

from failoverd import process
from failoverd.conf import Conf, files
from failoverd.listener.client import Queries
from failoverd.listener.loop import READ, Loop
from failoverd.listener.ports import LinkPort, Ports
from failoverd.listener.server import Server
from failoverd.process import Channel, Message
from failoverd.second_path import SecondPath
from failoverd.wire.protocol import heartbeat_tags


def run(
    channel: Channel,
    conf: Conf,
    patient: bool = False,
    own: socket.socket | None = None,
    path: SecondPath = SecondPath(),  # noqa: B008 - it is frozen
) -> None:
    """The listener: open the port, give up root, serve until failoverd is gone.

    own: the listening Unix socket of this node's own commands, if there is one. path: the second
    one; that it cannot be opened is only told.

    A patient one, which follows another, waits for an interface or address that is missing.
    Raises OSError with a sentence for people if the port cannot be opened, and whatever
    files.read_secret raises.
    """
    process.keep_secret()
    secret = files.read_secret(conf.secret)
    tags = heartbeat_tags(secret, conf.primary, conf.secondary)
    channel.send({"event": "tags", **tags.message()})
    listener = Listener(channel, conf, secret, own)
    listener.ports.link.open_first(patient)
    listener.follow(path)
    if conf.realtime:
        process.try_realtime("listener", conf.user, channel.send)
    process.give_up_root(conf.user)
    listener.ports.gave_up_root()
    channel.send({"event": "ready"})
    listener.serve()


def check(channel: Channel, conf: Conf, running: Conf) -> None:
    """Raise what would keep a listener with this configuration from its work.

    `running` is the configuration of the one that has the port now.
    """
    process.keep_secret()
    files.read_secret(conf.secret)
    if (conf.primary, conf.tcp_port) != (running.primary, running.tcp_port):
        LinkPort(Loop(), channel, conf, lambda *_: None).open_first(patient=False)


class Listener:
    """Everything that is open, and the one loop that serves it."""

    def __init__(
        self, channel: Channel, conf: Conf, secret: bytes, own: socket.socket | None
    ) -> None:
        self.channel = channel
        self.interval = process.report_interval(conf.plip_timer)
        self.loop = Loop()
        self.server = Server(self.loop, channel, conf, secret)
        self.ports = Ports(self.loop, channel, conf, self.server.welcome, own)
        self.queries = Queries(self.loop, channel, conf, secret, self.server.nonces)
        self.next_tick = 0.0
        self.loop.watch(channel, READ, self.receive)

    def serve(self) -> None:
        while True:
            now = time.monotonic()
            if now >= self.next_tick:
                self.next_tick = now + self.interval
                self.channel.send({"event": "alive"})
                self.ports.check()
            deadlines = (self.next_tick, self.server.deadline(), self.queries.deadline())
            self.loop.turn(min(deadlines) - now)
            os.sched_yield()  # or a flood would keep other $realtime workers waiting: sched(7)
            # After the turn: what arrived in time counts, also if this process was stalled.
            now = time.monotonic()
            self.server.expire(now)
            self.queries.expire(now)

    def follow(self, path: SecondPath) -> None:
        self.queries.second = path
        self.ports.second.follow(path)

    def receive(self, _events: int) -> None:
        for message in self.channel.receive():
            self.obey(message)

    def obey(self, message: Message) -> None:
        match message:
            case {"do": "answer", "id": int(number), "ok": bool(ok), "text": str(text)}:
                self.server.pass_on(number, ok, text)
            case {
                "do": "query",
                "id": int(number),
                "command": str(command),
                "timeout": int() | float() as seconds,
                "direct": bool(direct),
            }:
                self.queries.begin(number, command, float(seconds), direct=direct)
            case {
                "do": "second",
                "interface": str(interface),
                "own": list(own),
                "peer": list(peer),
            }:
                self.follow(SecondPath(interface, tuple(own), tuple(peer)))
