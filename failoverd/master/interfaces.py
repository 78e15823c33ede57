"""What is on the interfaces: a carrier, hardware addresses, and the addresses of the service."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from failoverd import links, pair
from failoverd.conf import is_of_link
from failoverd.log import told_shortly
from failoverd.master.context import Context

ASK_SCRIPT = ": the script has to add it, see ha-switch(8)"
TAKEN_AGAIN = ": something has removed it again, perhaps the script"


class ServiceInterfaces:
    """Looks at the interfaces of the service network, and tells the pair what has changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.against = ""  # what the kernel showed against the last switch
        self.held: list[links.Held] = []  # every address of this node at the last look
        self._adopting = False  # what is there at the next look is no news
        self._missed: set[Place] = set()  # those that the pair knows to be gone
        served = {address for _, address in self._wanted()}
        seen = {place for place in context.saved.seen if place[1] in served}
        self._note_placed(seen | self._left())

    def _wanted(self) -> set[Place]:
        """Each of @addresses on its interface."""
        return places(map(str, self._context.conf.addresses))

    def _left(self) -> set[Place]:
        """Those of them that failoverd had put there before it was restarted."""
        saved = self._context.saved
        if saved.role != "active" or saved.left is None:
            return set()
        return self._wanted() & places(saved.left[0])

    def _note_placed(self, places: set[Place]) -> None:
        """These were seen."""
        self._placed = places
        self._context.saved.seen = sorted(places)

    def switched(self, role: str, told: list[str], *, ok: bool) -> bool:
        """The switch script has ended. told: its FAILOVER_ADDRESSES; ok: exit status 0.

        Whether the switch has worked: for that the kernel has to show what the script says.
        """
        self.against = ""
        look = ok or role == "slave"  # what a stand-down leaves here is said in any case
        worked = look and self._is_shown(role, told) and ok
        self._note_placed(places(told) if worked and role == "master" else set())
        self._adopting = not worked
        self._missed.clear()
        return worked

    def _is_shown(self, role: str, told: list[str]) -> bool:
        """Whether nothing is there against it that a script has worked; what is, is said."""
        wanted = places(told)
        try:
            against = left_behind(wanted) if role == "slave" else self._missing(wanted)
        except OSError as error:
            text = "believed, the addresses cannot be read"
            self._context.say("SCRIPT-UNVERIFIED", "script", text, error=error.strerror)
            return True
        if against:
            self.against = told_shortly(against)
            text = "the addresses are not as they should be"
            self._context.say("SWITCH-UNDONE", "script", text, role=role, found=self.against)
        return not against

    def _missing(self, wanted: set[Place]) -> list[str]:
        by_script = self._context.conf.addresses_by == "script"
        return missing(wanted, ASK_SCRIPT if by_script else TAKEN_AGAIN)

    def role_at_start(self) -> str | None:
        """What this node was: $state's word, unless the kernel shows that the file is old.

        It may have been impossible to write it, and whoever serves must not stand down for that.
        """
        context, wanted = self._context, self._wanted()
        role = context.saved.role
        if role not in ("standby", "failed") or context.saved.unclean or not wanted:
            return role
        try:
            if missing(wanted):
                return role
        except OSError:
            return role
        text = "all of @addresses are here, so this node was active"
        context.say("STATE-CORRECTED", "role", text, state=role)
        context.saved.placed(context.conf)
        context.saved.since = ""
        return "active"

    def adopt(self) -> None:
        self.note_hwaddrs()
        serves = self._context.role == "active"  # what has just gone is still to be missed
        self._note_placed(self._placed & self._wanted() if serves else set())

    def note_hwaddrs(self) -> None:
        """Each interface's own hardware address, before a switch changes it (section 7)."""
        for name in self._context.conf.interfaces:
            now = self._note_hwaddr(name)
            if now is not None and name not in self._context.saved.hwaddrs:
                text = "has the pair's hardware address, its own is not known"
                self._context.say("HWADDR-UNKNOWN", f"interface {name}", text, hwaddr=now)

    def _note_hwaddr(self, name: str) -> str | None:
        """The one that it has now, noted if it is its own: the interface may be another by now, or
        a bond use another port."""
        now, saved = links.hwaddr(name), self._context.saved
        if now is not None and saved.hwaddrs.get(name) != now and self._is_own(name, now):
            saved.hwaddrs[name] = now
            self._context.unsaved = True
        return now

    def _is_own(self, name: str, hwaddr: str) -> bool:
        """Whether no switch has given the interface this hardware address, as far as is known: of
        one that is not told of, a script may have."""
        left = self._context.saved.left
        entries = [*map(str, self._context.conf.ethernet_addresses), *(left[1] if left else ())]
        given = {entry.partition(" ")[2] for entry in entries if entry.startswith(f"{name} ")}
        is_told = left is None or name not in self._context.saved.hwaddrs or bool(given)
        return is_told and hwaddr not in given

    def look(self) -> None:
        for name in self._context.conf.interfaces:
            self.look_at(name)

    def look_at(self, name: str) -> None:
        self._note_hwaddr(name)
        up = links.works(name)
        known = self._context.state.interface(name)
        if known is not None and known.up is not up:
            if self._context.started:
                event, text = ("IFACE-UP", "up") if up else ("IFACE-DOWN", "down, or no carrier")
                self._context.say(event, f"interface {name}", text)
            self._context.feed(pair.Carrier(name, up))

    def look_for_addresses(self) -> None:
        """An interface that is deleted and made again takes the service's addresses with it.

        Told once for each that was there. On a standby node none may be anywhere.
        """
        wanted = self._wanted()
        try:
            self.held = links.held()
        except OSError:
            return  # not to be told is not to be without
        found = among(self.held, wanted)
        self._context.held = [(str(one), one.interface) for one in found]
        self._look_for_new(found)
        here = {place(one) for one in found if not one.duplicate}
        gone = {one for one in self._placed & wanted - here if links.index(one[0]) is not None}
        if self._context.role == "active":
            new, self._missed = gone - self._missed, gone
            if new:
                self._context.feed(pair.Bare())

    def _look_for_new(self, found: list[links.Held]) -> None:
        context = self._context
        under_way = pair.is_switching(context.state) or pair.seeks(context.state)
        if not context.started or (under_way and not self._adopting):
            return  # what is there now may be gone at its end, or right
        new = [one for one in found if place(one) not in self._placed]
        if new and context.role != "active" and not self._adopting:
            for one in new:
                text = "found on this node, which is standby"
                where = {"prefix": one.prefix, "interface": one.interface}
                context.say("ADDRESS-FOUND", f"address {one.address}", text, **where)
            context.feed(pair.Stray())
        self._adopting = False
        if new:
            self._note_placed(self._placed | set(map(place, new)))
            context.save()


Place = tuple[str, str]  # an interface and an address


def place(held: links.Held) -> Place:
    return held.interface, held.address


def places(lines: Iterable[str]) -> set[Place]:
    """Where the entries of FAILOVER_ADDRESSES belong; those that are none are left out."""
    return set(_places(tuple(lines)))


@lru_cache(maxsize=4)  # they are looked for all the time, and there may be thousands
def _places(lines: tuple[str, ...]) -> tuple[Place, ...]:
    found = []
    for line in lines:
        interface, _, address = line.partition(" ")
        try:
            found.append((interface, str(ip_address(address.partition("/")[0]))))
        except ValueError:
            continue
    return tuple(found)


def held_of(wanted: set[Place]) -> list[links.Held]:
    """Those of the addresses that are here, on whatever interface; a link-local one is another one
    there. Raises OSError."""
    return among(links.held(), wanted) if wanted else []


def among(held: list[links.Held], wanted: set[Place]) -> list[links.Held]:
    addresses = {address for _, address in wanted}
    return [
        one
        for one in held
        if one.address in addresses and (place(one) in wanted or not is_of_link(one.address))
    ]


def left_behind(wanted: set[Place]) -> list[str]:
    """What is against it that this node has stood down, and the way out. Raises OSError."""
    return [
        f"{one} is still on {one.interface}: ip address del {one} dev {one.interface}"
        for one in held_of(wanted)
    ]


def missing(wanted: set[Place], else_why: str = "") -> list[str]:
    """What is against it that each address is on its interface, and the way out. Raises OSError."""
    found = {place(one): one.duplicate for one in held_of(wanted)}
    return [
        f"{address} is not on {interface}{_why_missing(interface, found.get(there), else_why)}"
        for there in sorted(wanted)
        if found.get(there, True)
        for interface, address in (there,)
    ]


def _why_missing(interface: str, duplicate: bool | None, else_why: str) -> str:
    if duplicate:
        return ", as another host was found to have it: add it with nodad"
    if links.index(interface) is None:
        return ": there is no such interface"
    return else_why
