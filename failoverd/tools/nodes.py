"""Both nodes of the pair, asked for their status at the same time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from failoverd import links, statefile
from failoverd.conf import Conf, Problem, alike, survey
from failoverd.second_path import SecondPath, find
from failoverd.tools import verdict
from failoverd.tools.client import STATUS_SECONDS, Client, ExchangeError
from failoverd.tools.observe import look_around
from failoverd.tools.verdict import CRITICAL, MEND_LINK, SEE_PEER, Verdict
from failoverd.tools.words import exact_span
from failoverd.wire.protocol import (
    FILTER,
    FILTERED,
    LOOK_THERE,
    MAX_HELD,
    NOT_THERE,
    Status,
    status_tree,
)

SCHEMA = 1  # of the JSON: another number if a field is removed, or means something else
EVERY = 1.0  # seconds between two queries of --watch
LOOKS = 1.0  # seconds in which a node with short windows has looked for its addresses again
CLOCKS_DIFFER = 3.0  # seconds from which on that is said


@dataclass(frozen=True)
class Answer:
    """The status of a node; or why there is none, and what to do about it, or about the heartbeat
    link.

    ahead: by how many seconds its clock is ahead of this node's, at the least: the way there and
    back proves no more. Negative if it is behind, None if unknown.
    """

    status: Status | None = None
    trouble: str = ""
    advice: str = ""
    ahead: float | None = None

    @property
    def why(self) -> str:
        return "; ".join(filter(None, (self.trouble, self.advice)))


@dataclass(frozen=True)
class Look:
    """What is known of both at a moment. amiss: what is wrong with this node's network."""

    conf: Conf
    here: Answer
    there: Answer
    amiss: tuple[Problem, ...] = ()
    ages: tuple[float, float] = (0.0, 0.0)  # seconds since each was asked for its answer

    @property
    def us(self) -> Status | None:
        return self.here.status

    @property
    def peer(self) -> Status | None:
        return self.there.status

    @property
    def names(self) -> tuple[str, str]:
        return verdict.names(self.us, self.peer, self.conf.secondary)

    @property
    def verdict(self) -> Verdict:
        return verdict.judge(
            self.us,
            self.peer,
            names=self.names,
            switch_timeout=self.conf.switch_timeout,
            differences=self.differences,
            amiss=[problem.message for problem in self.amiss],
            unplaced=self.unplaced,
            unread=self.unread,
        )

    @property
    def clocks(self) -> str:
        """A sentence if the clocks differ by more than a little."""
        ahead = self.there.ahead
        if ahead is None or abs(ahead) < CLOCKS_DIFFER:
            return ""
        where = "ahead of" if ahead > 0 else "behind"
        by = exact_span(round(abs(ahead)))
        return f"the peer's clock is {by} {where} this node's: set both by NTP"

    @property
    def remarks(self) -> list[str]:
        """What is odd, beside missing answers, whatever the verdict makes of it."""
        found = [*map(str, self.amiss), self.clocks]
        if self.us and self.peer and self.peer.speechless:
            found.append(f"the peer's queries to this node are not answered: {FILTER}")
        if self.us and self.peer and self.us.boot == self.peer.boot:
            found.append(alike.same_boot(self.us.boot))
        found += self.clones
        if self.differences:
            found.append(f"not the same on both nodes: {'; '.join(self.differences)}")
        return [remark for remark in found if remark]

    @property
    def advice(self) -> str:
        """What to do first, "" if all is well."""
        advice = self.verdict.advice
        there = self.there.advice
        if advice == SEE_PEER or (advice == MEND_LINK and there != LOOK_THERE):
            advice = there or advice
        return self.here.advice or advice

    @property
    def active(self) -> Status | None:
        """The status of the active node, of the first if both are."""
        known = filter(None, (self.us, self.peer))
        return next((status for status in known if status.role == "active"), None)

    @property
    def unplaced(self) -> list[str]:
        """Those of @addresses that a node does not have which has been active for long enough to
        have looked; a status tells only the first ones that are there."""
        wanted = () if "addresses" in self.conf.origin.unusable else self.conf.addresses
        active = self.active
        if active is None or active.held is None or len(active.held) >= MAX_HELD:
            return []
        if (verdict.age(active) or 0.0) <= self.conf.plip_timer + LOOKS:
            return []
        there = {address.partition("/")[0] for address, _ in active.held}
        return [each.address for each in wanted if each.address not in there]

    @property
    def unread(self) -> bool:
        """Whether the active node runs with other addresses than the file: no switch adds these."""
        named = dict(alike.settings(self.conf)).get("@addresses")
        running = dict(self.active.settings if self.active else ()).get("@addresses")
        return running not in (None, named)

    @property
    def clones(self) -> list[str]:
        """The interfaces that have one hardware address on both nodes, each as a sentence."""
        if self.us is None or self.peer is None:
            return []
        own = {name: told.hwaddr for name, told in self.us.interfaces}
        return list(alike.one_hwaddr(self.conf, own, self.peer).values())

    @property
    def differences(self) -> list[str]:
        """In what must be alike, each as a sentence."""
        if self.us is None or self.peer is None:
            return []
        told = alike.of_status(self.us), alike.of_status(self.peer)
        return list(alike.differences(*told).values())

    def json(self) -> str:
        """Section 6, and what it means. "differences" is there only if there are some. Scripts read
        the role with sed: it comes first."""
        us, peer, found = self.us, self.peer, self.verdict
        tree: dict[str, object] = {
            "us": us and status_tree(us),
            "peer": peer and status_tree(peer),
            "schema": SCHEMA,
            "verdict": str(found),
            "exit": found.status,
            "reasons": found.reasons,
            "hosts": dict(zip(("us", "peer"), self.names, strict=True)),
        }
        if self.differences:
            tree["differences"] = self.differences
        if self.there.ahead is not None:
            tree["clock_difference"] = round(self.there.ahead, 3)
        return json.dumps(tree)


class Node:
    """One of the two, and its last answer. It is asked in a thread: a dead one takes its time."""

    def __init__(self, client: Client, address: str) -> None:
        self._query = client, address
        self._thread = threading.Thread()  # none yet
        self._next = 0.0, Answer()
        self.asked, self.answer = self._next

    def ask(self) -> None:
        """Ask, unless that is still being done."""
        if not self._thread.is_alive():
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()

    def _ask(self) -> None:
        self._next = time.monotonic(), ask(*self._query)

    def collect(self, end: float | None) -> None:
        """Take the answer, waiting for it until then at the latest."""
        self._thread.join(None if end is None else max(0.0, end - time.monotonic()))
        self.asked, self.answer = self._next


class Pair:
    def __init__(self, client: Client) -> None:
        self._conf = client.conf
        self._here = Node(client, self._conf.primary)
        self._there = Node(client, self._conf.secondary)

    def look(self) -> Look:
        """Ask both, and wait for both. Their answers are of two moments: between them the role may
        have moved, so what is grave is asked again, but not of a node that is silent."""
        self._ask(self._here, self._there)
        look = self._seen()
        if look.verdict.status != CRITICAL:
            return look
        self._ask(*(each for each in (self._here, self._there) if each.answer.status is not None))
        return self._seen()

    def _ask(self, *nodes: Node, end: float | None = None) -> None:
        for node in nodes:
            node.ask()
        for node in nodes:
            node.collect(end)

    def looks(self) -> Iterator[Look]:
        """What is known, every second. The first waits for both, the others for neither."""
        yield self.look()
        while True:
            end = time.monotonic() + EVERY
            self._ask(self._here, self._there, end=end)
            yield self._seen()
            time.sleep(max(0.0, end - time.monotonic()))

    def _seen(self) -> Look:
        here, there = self._here, self._there
        answer = there.answer
        unsure = answer.advice in (LOOK_THERE, NOT_THERE)
        if unsure and here.answer.status and here.answer.status.speechless:
            answer = Answer(trouble=answer.trouble, advice=FILTERED)
        now = time.monotonic()
        ages = now - here.asked, now - there.asked
        return Look(self._conf, here.answer, answer, _amiss(self._conf), ages)


def _amiss(conf: Conf) -> tuple[Problem, ...]:
    """What `failoverd -t` takes for an error in this node's network, or a takeover fails for."""
    found = survey.findings(conf, look_around(conf, port=False))
    return tuple(
        conf.problem(each.variable, each.text) for each in found if each.is_error or each.bars
    )


def ask(client: Client, address: str) -> Answer:
    """The status of a node, or why there is none. The peer is asked over the second path, too, and
    then, with the rest of the time, over the heartbeat link once more."""
    second = way_round(client.conf) if address == client.conf.secondary else None
    advice = ""
    for path, part in ((None, 0.25), (second, 0.25), (None, 0.5)) if second else ((None, 1.0),):
        before = datetime.now(UTC)
        try:
            status = client.status(address, part * STATUS_SECONDS, path)
        except ExchangeError as error:
            answer = Answer(trouble=error.why, advice=error.advice)
            advice = advice or error.advice
        else:
            return Answer(status, advice=advice, ahead=ahead(status, before, datetime.now(UTC)))
    return answer


def way_round(conf: Conf) -> SecondPath | None:
    """The second path, if it is known."""
    if {"state", "interfaces", "addresses"} & conf.origin.unusable:
        return None
    try:
        held = links.held()
    except OSError:
        return None
    ours = links.fixed((one for one in held if one.interface in conf.interfaces), conf.served)
    found = find(conf, ours, statefile.read_peer(statefile.place(conf.state, "peer")))
    return found if found.ends else None


def ahead(status: Status, before: datetime, after: datetime) -> float | None:
    """By how many seconds its clock is ahead, which it told between these two moments."""
    told = verdict.moment(status.now)
    if told is None:
        return None
    least, most = ((told - end).total_seconds() for end in (after, before))
    return min(max(0.0, least), most)
