"""What is on our interfaces: a carrier, hardware addresses, and the addresses of the service."""

from __future__ import annotations

from ipaddress import ip_address

from failoverd import links, pair
from failoverd.conf import Conf
from failoverd.master.situation import Situation


class Cards:
    """Looks at the interfaces of the ethernet side, and tells the pair what has changed."""

    def __init__(self, us: Situation) -> None:
        self._us = us
        self._looked = us.remembered.role is not None  # since the switch script ran last
        self._missed: set[tuple[str, str]] = set()  # those that the pair knows to be gone
        self._note_placed(wanted(us.conf) & set(us.remembered.seen))

    def _note_placed(self, addresses: set[tuple[str, str]]) -> None:
        """These were seen on their cards."""
        self._placed = addresses
        self._us.remembered.seen = sorted(addresses)

    def begin_anew(self) -> None:
        """The switch script ran: what a site's own script leaves there is its own affair."""
        self._note_placed(set())
        self._looked = False
        self._missed.clear()

    def adopt(self) -> None:
        """The configuration is another."""
        self.note_hwaddrs()
        self._note_placed(set())
        self._looked = False

    def note_hwaddrs(self) -> None:
        """Each card's own hardware address, before a switch changes it (section 7)."""
        shared = {entry.interface: entry.hwaddr for entry in self._us.conf.ethernet_addresses}
        known = self._us.remembered.hwaddrs
        for name in self._us.conf.interfaces:
            now = links.hwaddr(name)
            if now is None or (name in known and self._us.remembered.left is not None):
                continue  # there is none, or a switch may have changed it
            if now != shared.get(name):
                known[name] = now
            elif name not in known:
                words = "has the pair's hardware address, its own is not known"
                self._us.say(words, name, alarm=True)

    def look(self) -> None:
        for name in self._us.conf.interfaces:
            self.look_at(name)

    def look_at(self, name: str) -> None:
        up = links.works(name)
        known = self._us.state.interface(name)
        if known is not None and known.up is not up:
            if self._us.started:
                self._us.say("is up" if up else "is down", name, anew=True)
            self._us.feed(pair.Carrier(name, up))

    def look_for_addresses(self) -> None:
        """A card that is deleted and made again takes the service's addresses with it.

        Told once for each that was there: a site's own script may put them elsewhere.
        """
        try:
            here = addresses_here(self._us.conf)
        except OSError:
            return  # not to be told is not to be without
        gone = {one for one in self._placed - here if links.index(one[0]) is not None}
        role = self._us.role
        waiting = self._looked and role == "switching"  # what is there now may be gone at its end
        if not here <= self._placed and self._us.started and not waiting:
            if self._looked and role != "active":
                self._us.feed(pair.Stray())  # on a card that was renamed or away, say
            self._note_placed(self._placed | here)
            self._us.save()
        self._looked = True
        if role == "active":
            new, self._missed = gone - self._missed, gone
            if new:
                self._us.feed(pair.Bare())


def wanted(conf: Conf) -> set[tuple[str, str]]:
    """Card and address of each of @addresses."""
    return {(a.interface, str(ip_address(a.address))) for a in conf.addresses}


def addresses_here(conf: Conf) -> set[tuple[str, str]]:
    """Those of them that are on their card. Raises OSError."""
    held = {name: links.addresses(name) for name in {a.interface for a in conf.addresses}}
    return {(name, address) for name, address in wanted(conf) if address in held[name]}
