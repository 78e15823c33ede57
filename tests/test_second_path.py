"""Where the second path leads, by what is known of both nodes."""

from __future__ import annotations

from failoverd.conf import Conf
from failoverd.second_path import SecondPath, find


def test_where_it_leads() -> None:
    conf = Conf(interfaces=("eth0", "eth1"))
    ours = {"eth0": ("fe80::1/64", "169.254.1.1/16"), "eth1": ("198.51.100.1/24",)}
    theirs = {"eth1": ["198.51.100.2/24"], "eth2": ["192.0.2.2/24"]}
    found = find(conf, ours, theirs)
    assert (found.interface, found.ends) == ("eth1", ("198.51.100.1", "198.51.100.2"))
    assert found.hosts == ("198.51.100.1",)
    assert found.has_peer("198.51.100.2") and not found.has_peer("198.51.100.1")
    assert find(conf, ours, {}).ends is None and find(conf, ours, {}).hosts
    assert find(Conf(second_path=False), ours, theirs) == SecondPath()
    assert find(Conf(confirm="none"), ours, theirs) == SecondPath()
    assert find(conf, {"eth2": ("192.0.2.1/24",)}, theirs).interface == ""
    assert find(conf, ours, {"eth1": ["203.0.113.2/24"]}).ends is None, "not a neighbour"
