"""Announces the service's addresses while we are active, by the schedule of section 7."""

from __future__ import annotations

from failoverd import neighbours, pair
from failoverd.master.context import Context


class GratuitousArp:
    """`deadline` is when the next one is due, None while there is none."""

    def __init__(self, us: Context) -> None:
        self._us = us
        self._announcer = neighbours.Announcer(us.conf)
        self._began = 0.0
        self._unsent: set[object] = set()  # of @addresses
        self.deadline: float | None = None

    def close(self) -> None:
        self._announcer.close()

    def adopt(self) -> None:
        """The configuration is another."""
        self._announcer.close()
        self._announcer = neighbours.Announcer(self._us.conf)

    def begin(self, now: float) -> None:
        """One that began just now will do."""
        if self.deadline is None or now - self._began >= 1.0:
            self._began = now
            self._announce(now)

    def stop(self) -> None:
        self.deadline = None

    def go_on(self, now: float) -> None:
        """Announce if it is due."""
        if self.deadline is not None and now >= self.deadline:
            self._announce(now)

    def _announce(self, now: float) -> None:
        """Only the first after a change of role is logged, and what could not be sent."""
        begins = self.deadline is None
        self.deadline = neighbours.next_announcement(self._began, now)
        us = self._us
        names = [n for n in pair.announceable(us.state) if n in us.rules.addressed]
        left = us.remembered.left  # a new address comes with the next switch, not before
        for entry, error in self._announcer.announce(names, left and left[0]):
            subject, values = f"address {entry.address}", {"interface": entry.interface}
            what = "unsolicited NA" if ":" in entry.address else "gratuitous ARP"
            if error:
                us.say("GARP-FAILED", subject, f"{what} cannot be sent", **values, error=error)
            elif begins or entry in self._unsent:
                us.say("GARP", subject, f"{what} sent", **values)
            (self._unsent.add if error else self._unsent.discard)(entry)
