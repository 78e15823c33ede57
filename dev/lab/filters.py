"""A packet filter on one node of the lab: what an admin's firewall, or a bad link, does."""

from __future__ import annotations

from dev.lab.node import PLIP, Node

CLOSED = f"input iifname {PLIP} tcp dport 2000 drop"  # to the peer; our own come in by lo
SMALL = f"output oifname {PLIP} ip length > 300 drop"  # as where the path's MTU is a lie
CUT = f"output oifname {PLIP} drop"

_TABLE = "lab"
_CHAINS = "".join(
    f" chain {hook} {{ type filter hook {hook} priority 0; }};" for hook in ("input", "output")
)


def why_no_filters(node: Node) -> str:
    """Why packets cannot be filtered here, "" if they can."""
    try:
        result = node.run("nft", f"add table inet {_TABLE}")
    except OSError as error:
        return f"nft cannot be run: {error}"
    return (
        "" if result.returncode == 0 else f"nft does not work here: {result.stderr.splitlines()[0]}"
    )


def drop(node: Node, *rules: str) -> None:
    """Add rules, each with its chain before it. Raises LabError."""
    node.check("nft", f"table inet {_TABLE} {{{_CHAINS} }}")
    for rule in rules:
        node.check("nft", f"add rule inet {_TABLE} {rule}")


def pass_all(node: Node) -> None:
    """Take the rules away."""
    node.run("nft", f"delete table inet {_TABLE}")


def stop_receiving(switch: Node, port: str) -> None:
    """Nothing goes from a switch's port to its interface, which can still send. Raises LabError.

    At the interface itself it would be counted before any filter there sees it.
    """
    chain = f"chain toward {{ type filter hook egress device {port} priority 0; policy drop; }};"
    switch.check("nft", f"table netdev {_TABLE}-{port} {{ {chain} }}")


def receive_again(switch: Node, port: str) -> None:
    switch.run("nft", f"delete table netdev {_TABLE}-{port}")
