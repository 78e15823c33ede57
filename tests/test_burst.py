"""Many frames with one call: what really arrives, in which order, and what cannot be sent."""

from __future__ import annotations

import os
import resource
import socket

import pytest
from inside import inside, sender, two_ends

from failoverd import links
from failoverd.burst import Burst
from failoverd.wire import frames

US = "02:00:00:00:00:01"
FRAMES = [
    frames.probe(US, f"fd00::{n:x}" if n % 3 == 1 else f"10.7.{n // 250}.{n % 250 + 1}")
    for n in range(120)
]


def test_every_frame_arrives_in_its_order_whatever_is_sent_at_once() -> None:
    with two_ends() as ends:

        def work() -> None:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            burst = Burst(FRAMES)
            received: list[bytes] = []
            with (
                sender(ends[1], "far") as far,
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock,
            ):
                far.bind(("far", 3))  # ETH_P_ALL
                far.settimeout(30.0)
                assert [burst.send(sock, "eth0", at, 50) for at in (0, 50, 100)] == [50, 50, 20]
                burst.send_all(sock, "eth0")
                while len(received) < 2 * len(FRAMES):
                    received += [frame for frame in [far.recv(2048)] if frame in FRAMES]
            assert received == 2 * FRAMES

        inside(ends[0], work)


def test_what_cannot_be_sent_is_an_error() -> None:
    with two_ends() as ends:
        ends[0].ip("link set eth0 down")

        def work() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
                missing = "no interface with this name"
                for name, why in (("eth0", "Network is down"), ("eth9", missing)):
                    with pytest.raises(OSError, match=why):
                        Burst(FRAMES).send_all(sock, name)
                Burst([]).send_all(sock, "eth0")

        inside(ends[0], work)


def test_no_descriptor_is_wanted_for_it() -> None:
    """What has used up all of them must not keep a takeover from being checked and announced."""
    with two_ends() as ends:

        def work() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
                burst = Burst(FRAMES)
                links.index("eth0")  # as every worker has asked before
                free = os.dup(0)
                os.close(free)
                _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
                burst.send_all(sock, "eth0")

        inside(ends[0], work)
