"""What the kernel says of routes; of addresses, see test_evidence."""

from __future__ import annotations

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
