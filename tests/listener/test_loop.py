"""Who is called in one turn of the listener's loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial

import pytest

from failoverd.listener.loop import READ, WRITE, Loop


@pytest.fixture
def ready() -> Iterator[list[socket.socket]]:
    """Two sockets at which something waits."""
    pairs = [socket.socketpair() for _ in range(2)]
    for near, far in pairs:
        far.send(b"x")
        near.setblocking(False)
    yield [near for near, _ in pairs]
    for pair in pairs:
        for end in pair:
            end.close()


def test_each_that_is_ready_is_called_with_what_is_there(ready: list[socket.socket]) -> None:
    called: list[tuple[int, int]] = []

    def note(number: int, events: int) -> None:
        called.append((number, events))

    with Loop() as loop:
        for number, sock in enumerate(ready):
            loop.watch(sock, READ, partial(note, number))
        loop.turn(0)
        assert sorted(called) == [(0, READ), (1, READ)]
        loop.watch(ready[0], READ | WRITE, partial(note, 2))
        loop.watch(ready[1], 0, lambda _: None)
        called.clear()
        loop.turn(0)
        assert called == [(2, READ | WRITE)]
        loop.forget(ready[1])


def test_what_is_closed_in_the_same_turn_is_not_called(ready: list[socket.socket]) -> None:
    called: list[socket.socket] = []
    with Loop() as loop:

        def close_other(sock: socket.socket, _events: int) -> None:
            called.append(sock)
            (other,) = {*ready} - {sock}
            loop.forget(other)
            other.close()

        for sock in ready:
            loop.watch(sock, READ, partial(close_other, sock))
        loop.turn(0)
    assert len(called) == 1
