"""What the kernel says of routes; of addresses, see test_evidence, too."""

from __future__ import annotations

import socket
import subprocess
import time

from netns import cable, namespaces

from failoverd import links


def test_a_route_is_the_kernels() -> None:
    with namespaces(2) as (here, there):
        cable(here, "eth0", there, "eth0")
        here.ip("address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0 nodad")

        def without_default() -> None:
            assert links.route("eth0", "192.0.2.7") == links.Route(24, "")
            assert links.route("eth0", "2001:db8::7") == links.Route(64, "")
            for address in ("198.51.100.1", "fd00::1", "0.0.0.1", "100::1"):
                assert links.route("eth0", address) is None
            assert links.route("eth7", "192.0.2.7") is None
            assert links.route("lo", "192.0.2.7") is None

        here.call(without_default)
        here.ip("route add default via 192.0.2.254", "route add default via fe80::1 dev eth0")
        here.ip("route add 198.51.100.0/25 via 192.0.2.253")

        def with_default() -> None:
            assert links.route("eth0", "0.0.0.1") == links.Route(0, "192.0.2.254")
            assert links.route("eth0", "100::1") == links.Route(0, "fe80::1")
            assert links.route("eth0", "198.51.100.1") == links.Route(25, "192.0.2.253")

        here.call(with_default)


def test_nothing_is_kept_of_an_address_that_is_gone() -> None:
    """The kernel tells when each came: one that comes and goes is another every time."""
    with namespaces(1) as (here,):

        def look() -> None:
            for _ in range(3):
                subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", "lo"], check=True)
                there = links.entries()
                assert "192.0.2.1" in [one.address for one in there]
                assert len(links._read) == len(there)
                subprocess.run(["ip", "address", "del", "192.0.2.1/24", "dev", "lo"], check=True)
                time.sleep(0.02)  # the kernel counts hundredths of a second
            assert "192.0.2.1" not in [one.address for one in links.entries()]

        here.call(look)


def test_that_no_host_has_an_address_is_known_while_the_kernel_asks() -> None:
    with namespaces(2) as (here, there):
        cable(here, "eth0", there, "eth0")
        here.ip("address add 192.0.2.1/24 dev eth0", "address add 2001:db8::1/64 dev eth0 nodad")
        there.ip("address add 192.0.2.2/24 dev eth0", "address add 2001:db8::2/64 dev eth0 nodad")

        def look() -> None:
            for taken, free in (("192.0.2.2", "192.0.2.7"), ("2001:db8::2", "2001:db8::7")):
                assert not links.is_unanswered("eth0", free), "it was not asked for"
                family = socket.AF_INET6 if ":" in taken else socket.AF_INET
                with socket.socket(family, socket.SOCK_DGRAM) as sock:
                    for address in (free, taken):
                        sock.sendto(b"", (address, 9))
                    end = time.monotonic() + 20
                    while links.is_unanswered("eth0", taken) and time.monotonic() < end:
                        time.sleep(0.01)
                assert not links.is_unanswered("eth0", taken)
                assert links.is_unanswered("eth0", free)
                assert not links.is_unanswered("eth7", free)

        here.call(look)
