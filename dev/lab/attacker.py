"""One who attacks failoverd's port: attacker.py HOW ADDRESS PORT FROM COUNT, until it is ended.

It keeps COUNT connections busy, makes a new one for each that ends, and prints now and then how
many it has made. It never has the secret. Standard library only: it is run by path.

  silent    says nothing                    slow      a byte now and then, for ever
  garbage   random bytes                    long      ten megabytes without a newline
  reset     connects and resets             halves    a first line, then nothing
  guess     words, and signatures           replay    what was recorded: see RECORDED
"""

from __future__ import annotations

import errno
import os
import resource
import selectors
import socket
import struct
import sys
import time

RECORDED = "ATTACK_RECORDED"  # in the environment: an authentic request line of another connection
RESET = struct.pack("ii", 1, 0)
BLOCK = os.urandom(64 * 1024).replace(b"\n", b"x")
LONG = 10_000_000
BURST = 32  # new connections between two looks at the old ones


class Connection:
    """One connection, and how much it has said."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.said = 0
        self.received = b""


class Attacker:
    def __init__(self, how: str, target: tuple[str, int], source: str, count: int) -> None:
        self.how = how
        self.target = target
        self.source = source
        self.count = count
        self.family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self.selector = selectors.DefaultSelector()
        self.open: dict[int, Connection] = {}
        self.made = 0
        self.recorded = os.environ.get(RECORDED, "").encode()

    def run(self) -> None:
        told = time.monotonic()
        while True:
            fresh = [self.connect() for _ in range(min(BURST, self.count - len(self.open)))]
            for key, mask in self.selector.select(0.02 if not any(fresh) else 0):
                self.attend(key.data, mask)
            if self.how in ("slow", "halves", "silent"):
                time.sleep(0.001)
            if time.monotonic() - told > 0.1:
                told = time.monotonic()
                print(self.made, flush=True)

    def connect(self) -> bool:
        sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind((self.source, 0))
            code = sock.connect_ex(self.target)
        except OSError:
            code = errno.EADDRINUSE  # no port is left
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            return False
        self.made += 1
        connection = Connection(sock)
        self.open[sock.fileno()] = connection
        self.selector.register(sock, self.wish(), connection)
        return True

    def wish(self) -> int:
        if self.how in ("silent",):
            return selectors.EVENT_READ
        return selectors.EVENT_READ | selectors.EVENT_WRITE

    def attend(self, connection: Connection, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                data = connection.socket.recv(65536)
                connection.received = (connection.received + data)[-4096:]
                if not data:
                    self.drop(connection)
                    return
            if mask & selectors.EVENT_WRITE:
                self.talk(connection)
        except BlockingIOError:
            pass
        except OSError:
            self.drop(connection)

    def talk(self, connection: Connection) -> None:
        line = self.next_words(connection)
        if line is None:
            self.drop(connection, reset=True)
        elif line:
            connection.said += connection.socket.send(line)
        if self.how in ("halves",) and connection.said:
            self.selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def next_words(self, connection: Connection) -> bytes | None:
        """What to say now; None to reset the connection."""
        match self.how:
            case "reset":
                return None
            case "slow":
                return b"x" if connection.said < 200 else None
            case "garbage":
                return os.urandom(300) if connection.said < 3000 else None
            case "long":
                return BLOCK if connection.said < LONG else None
            case "halves":
                return b"a first line\n"
            case "replay":
                return self.recorded if not connection.said else b""
            case "guess":
                return self.guess(connection)
        return b""

    def guess(self, connection: Connection) -> bytes:
        if connection.said:
            return b""
        if self.made % 2:
            return os.urandom(8).hex().encode() + b"\nfail\n"
        return b"hmac " + os.urandom(32).hex().encode() + b" fail\n"

    def drop(self, connection: Connection, reset: bool = False) -> None:
        number = connection.socket.fileno()
        self.selector.unregister(connection.socket)
        if reset:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.socket.close()
        del self.open[number]


def main() -> None:
    how, address, port, source, count = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, int(count) + 100), hard))
    Attacker(how, (address, int(port)), source, int(count)).run()


if __name__ == "__main__":
    main()
