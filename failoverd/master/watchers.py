"""What watches each interface. What is not reported is not known: nothing is well there."""

from __future__ import annotations

from collections.abc import Callable

from failoverd.master.context import Context
from failoverd.master.supervisor import START_PATIENCE, Supervisor

WINDOWS = 2.5  # after so many without a report there should have been one


class Watchers:
    """Minds when each watcher told of a window last, and which are another's program.

    Such a program is no longer used where it has run, or had its first window, and told of none:
    failoverd's own then watches there, until it is started again. Without any watcher there would
    be no takeover, and a program that has never said a word gives no reason to wait for its first.
    """

    def __init__(
        self,
        context: Context,
        supervisor: Supervisor,
        program: str | None,
        unwatched: Callable[[str], None],
    ) -> None:
        """program: another's in place of failoverd's watchd. unwatched(interface): nothing tells of
        it."""
        self._context = context
        self._supervisor = supervisor
        self._program = program
        self._unwatched = unwatched
        self.unproved: set[str] = set()  # where another's program has been started and said nothing
        self._refused: dict[str, str] = {}  # by interface: why it is failoverd's own that watches
        self._late: dict[str, str] = {}  # by interface: that no report has come for too long
        self._due: dict[str, float] = {}  # by interface: when there should be the next report

    def expect(self, interface: str, now: float) -> None:
        """A watcher begins there, which takes it a while. It tells at the end of its window."""
        self._due[interface] = now + self._context.conf.window_of(interface) + START_PATIENCE

    def begin_again(self, now: float) -> None:
        """This node has switched: those of the service begin their first window, one that cannot be
        told so as another process."""
        for interface in self._context.conf.interfaces:
            name = f"watchd {interface}"
            if not self._supervisor.send(name, {"do": "restart"}):
                self._supervisor.restart(name)
            self.expect(interface, now)

    def expect_again(self, now: float) -> None:
        """The loop stalled: what was reported meanwhile is lost."""
        for interface in self._due:
            self.expect(interface, now)

    def forget(self) -> None:
        self._due.clear()
        self._late.clear()

    def program(self, interface: str) -> str | None:
        """What is to be executed to watch there, None if failoverd's own does it."""
        return None if interface in self._refused else self._program

    def started(self, interface: str) -> None:
        """Another's program runs, and has to show that it is a watcher."""
        self.unproved.add(interface)

    def told(self, interface: str, now: float) -> None:
        self.unproved.discard(interface)
        window = self._context.conf.window_of(interface)
        self._due[interface] = now + max(START_PATIENCE, WINDOWS * window)
        self._late.pop(interface, "")
        self._context.say_over("IFACE-WATCHED", f"interface {interface}", "watched again")

    def refuses(self, interface: str, why: str) -> bool:
        """Whether another's program that has ended there, for a reason, is not to be used again."""
        if interface not in self.unproved:
            return False
        self.unproved.discard(interface)
        self._refused[interface] = (
            f"$watchd {self._program} is refused and failoverd's own runs instead: it "
            f"does not report windows as `watchd --json` does: {why}"
        )
        text = "$watchd is refused, failoverd's own watcher runs instead"
        subject, program = f"interface {interface}", self._program
        self._context.say("WATCHD-REFUSED", subject, text, program=program, error=why)
        return True

    @property
    def troubles(self) -> dict[str, str]:
        """By interface: what is wrong with how it is watched."""
        known = (self._late, self._refused)
        found = {name: [why[name] for why in known if name in why] for name in self._due}
        return {name: "; ".join(texts) for name, texts in found.items() if texts}

    def tend(self, now: float) -> None:
        """Say where reports are missing, and try another watcher there. To be called now and then:
        to miss one a little later does no harm."""
        for interface in [name for name, due in self._due.items() if now >= due]:
            self.expect(interface, now)
            self._late[interface] = "is not watched: its watcher reports no windows"
            text = "not watched, its watcher reports no windows"
            self._context.say("IFACE-UNWATCHED", f"interface {interface}", text)
            self._unwatched(interface)
            self._supervisor.give_up(f"watchd {interface}", "no report in time")
