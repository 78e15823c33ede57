"""Filters that are too long for the kernel, or for the time that there is, in real nodes."""

from __future__ import annotations

from dev.lab.network import Lab

REFUSED = " or ".join(f"ether proto {number}" for number in range(2000, 4300))
WHY = "the kernel refuses its "


def test_a_filter_that_the_kernel_refuses_is_refused_wherever_it_is_read(lab: Lab) -> None:
    """Else libpcap would filter in user space, and every packet would count, our own too."""
    a = lab.a
    for variables in ({"filter": REFUSED}, {"plip_filter": REFUSED}):
        a.write_conf(**variables)
        (name,) = variables
        interface = "eth0" if name == "filter" else "plip0"
        line = next(
            number
            for number, line in enumerate(a.read("failoverd.conf").splitlines(), 1)
            if line.startswith(f"${name} ")
        )
        for option in ("-t", "-f", "-n"):
            done = a.command("failoverd", option)
            assert done.returncode == 1
            assert f"{a.conf}:{line}: ${name}: {WHY}" in done.stderr
            assert "4096 are the most; shorten it, for example with networks" in done.stderr
        done = a.command("failoverd")
        assert done.returncode == 1 and WHY in done.stderr
        for option in ("--json", "--tune") if name == "filter" else ("--json",):
            done = a.command("watchd", option, interface)
            assert done.returncode in (1, 3) and f"${name} is invalid: {WHY}" in done.stderr


def test_a_filter_with_a_vlan_would_count_nothing_and_is_refused(lab: Lab) -> None:
    """The tag is not in what the kernel filters, although a capture shows it."""
    why = "it names a vlan, whose tag the kernel removes before it filters: watch the interface"
    for expression in ("vlan 5 and ip", "tcp or (vlan and udp)"):
        lab.a.write_conf(filter=expression)
        done = lab.a.command("failoverd", "-t")
        assert done.returncode == 1 and f"$filter: {why}" in done.stderr
        done = lab.a.command("watchd", "--json", "eth0")
        assert done.returncode == 1 and f"$filter is invalid: {why}" in done.stderr


def test_addresses_that_make_it_too_long_are_named(lab: Lab) -> None:
    addresses = [f"eth0 10.{n // 250}.{n % 250}.1/8" for n in range(2500)]
    lab.a.write_conf(addresses=addresses)
    done = lab.a.command("failoverd", "-t")
    assert done.returncode == 1 and f"@addresses: {WHY}" in done.stderr
    assert "4096 are the most; use fewer addresses, or consecutive ones" in done.stderr
