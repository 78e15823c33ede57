"""The lab: two nodes, a switch and a client in network namespaces of their own.

            client                       192.0.2.100
               |
     eth0 --- net0 --- eth0              192.0.2.1   192.0.2.2   (net0 itself: 192.0.2.254)
     a                    b
     plip0 --- link --- plip0            1.0.0.1     1.0.0.2

With two interfaces there is a second switch, net1, with 198.51.100.x. The addresses are those of
RFC 5737 and the original's manual. `link` stands for a cable: it learns nothing and has no address.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Self

from dev.lab.client import Client
from dev.lab.node import PLIP, Interface, Node, Value
from dev.lab.spaces import Spaces

SERVICE = "192.0.2.10"
SERVICE6 = "2001:db8::10"
ROUTER = "192.0.2.254"
NETWORKS = ("192.0.2", "198.51.100")
NETWORKS6 = ("2001:db8:", "2001:db8:1:")

# Shorter, and the router is the witness that the wire still works.
WATCHFUL: Mapping[str, Value] = {
    "timer_seconds": 0.5,
    "low_water": 1,
    "witness": [f"eth0 {ROUTER}"],
    "plip_timer": 0.5,
    "plip_hbeat": 0.1,
    "switch_timeout": 5.0,
    "hold_down": 2.0,
}

# Short, but long enough that a busy host's scheduling is no alarm.
FAST: Mapping[str, Value] = {
    "timer_seconds": 1.0,
    "plip_timer": 0.5,
    "plip_hbeat": 0.1,
    "switch_timeout": 5.0,
    "hold_down": 2.0,
}

# An interface that comes up must not make traffic of its own that a test would take for life.
_QUIET = """
for name in all default; do
  here=/proc/sys/net/ipv6/conf/$name
  [ -d $here ] || continue
  echo DISABLE > $here/disable_ipv6
  echo 0 > $here/accept_dad
  echo 0 > $here/router_solicitations
done
ip link set dev lo up
"""


class Lab:
    """A context manager: everything in it ends with it, or with this process.

    `timers` are variables for both nodes' failoverd.conf. `interfaces` is the number of interfaces
    on the service network. Without `ipv6` the nodes have none, and an idle network is really
    silent. Raises NoNamespaces where none can be made.
    """

    service = SERVICE
    service6 = SERVICE6
    router = ROUTER

    def __init__(
        self, timers: Mapping[str, Value] = FAST, *, interfaces: int = 1, ipv6: bool = False
    ) -> None:
        self.timers = dict(timers)
        self._ipv6 = ipv6
        self.spaces = Spaces()
        try:
            self.user = "root" if self.spaces.rootless else "nobody"
            numbers = range(interfaces)
            self.a = Node(self, "a", [*self._interfaces("a", 1, numbers), link_end(1)])
            self.b = Node(self, "b", [*self._interfaces("b", 2, numbers), link_end(2)])
            self.client = Client(self, "client", self._interfaces("client", 100, numbers))
            self.switch = Node(self, "switch", [])
            self._build(interfaces)
        except BaseException:
            self.spaces.close()
            raise

    def _interfaces(self, name: str, host: int, numbers: range) -> list[Interface]:
        interfaces = []
        for number in numbers:
            addresses = [f"{NETWORKS[number]}.{host}/24"]
            if self._ipv6:
                addresses.append(f"{NETWORKS6[number]}:{host}/64")
            hwaddr = f"02:00:00:00:{number:02x}:{host:02x}"
            interfaces.append(Interface(f"eth{number}", f"net{number}", hwaddr, tuple(addresses)))
        return interfaces

    def _build(self, interfaces: int) -> None:
        for node in (self.a, self.b, self.client, self.switch):
            disable = "0" if self._ipv6 and node is not self.switch else "1"
            node.check("sh", "-c", _QUIET.replace("DISABLE", disable))
        lines = [
            f"link add name net{n} address 02:00:00:00:{n:02x}:fe type bridge"
            for n in range(interfaces)
        ]
        lines += [f"address add {NETWORKS[n]}.254/24 dev net{n}" for n in range(interfaces)]
        lines.append("link add name link type bridge")
        names = [*(f"net{number}" for number in range(interfaces)), "link"]
        lines += [f"link set dev {name} type bridge mcast_snooping 0" for name in names]
        lines += [f"link set dev {name} up" for name in names]
        nodes = (self.a, self.b, self.client)
        lines += [line for node in nodes for line in node.plugging()]
        self.switch.ip(*lines)
        for node in nodes:
            node.ip(*node.configuring())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything inside, and wait until it is gone."""
        self.client.close()
        self.spaces.close()

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.a, self.b

    def cut_link(self, toward: Node | None = None) -> None:
        """Drop what goes over the heartbeat link, or only what goes toward one node.

        The carrier stays up; `unplug("plip0")` is the cable that is pulled.
        """
        for node in self.nodes if toward is None else (toward,):
            self._flood(node, "off")

    def mend_link(self, toward: Node | None = None) -> None:
        for node in self.nodes if toward is None else (toward,):
            self._flood(node, "on")

    def _flood(self, node: Node, word: str) -> None:
        """The link's bridge learns nothing, so that all it forwards to a port is flooded."""
        kinds = [part for kind in ("flood", "mcast_flood", "bcast_flood") for part in (kind, word)]
        self.switch.check("bridge", "link", "set", "dev", node.port(PLIP), *kinds)

    def holders(self, address: str = SERVICE) -> list[str]:
        """The names of the nodes whose kernel has the address on an interface."""
        return [
            node.name
            for node in self.nodes
            if any(held.split("/")[0] == address for held in node.addresses())
        ]

    def wait_until(
        self, condition: Callable[[], object], what: str, limit: float = 60.0, every: float = 0.02
    ) -> None:
        """Wait until the condition holds. Raises TimeoutError with what both nodes logged."""
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {limit:g} s: {what}\n{self.tails()}")
            time.sleep(every)

    def tails(self, lines: int = 25) -> str:
        """The ends of what both nodes logged, and of what else they printed."""
        parts = []
        for node in self.nodes:
            log = node.log().splitlines()
            known = set(log)
            printed = [line for line in node.read("terminal").splitlines() if line not in known]
            for name, tail in (("log", log), ("terminal", printed)):
                parts += [f"--- {node.name}: {name}", *tail[-lines:]]
        return "\n".join(parts)


def link_end(host: int) -> Interface:
    """A node's end of the heartbeat link."""
    return Interface(PLIP, "link", f"02:00:00:00:ff:{host:02x}", (f"1.0.0.{host}/24",))
