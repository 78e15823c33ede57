"""What is watched: the service network, its interfaces, the heartbeat link."""

from __future__ import annotations

from failoverd.pair import compare, resolver
from failoverd.pair import messages as msg
from failoverd.pair.knowledge import HOLDING, STANDING_BY, Phase, Posture, Purpose, State, Timer
from failoverd.pair.settings import ROUNDS, Rules
from failoverd.pair.turn import Turn

# ---------------------------------------------------------------------------- the service network


def answered(turn: Turn, event: msg.Answers) -> None:
    if event.own:
        if turn.state.posture is Posture.SERVING:
            (claimed if event.anybody else unclaimed)(turn, event)
        return
    turn.set(asking=False)
    if event.anybody:
        turn.set(taken=True, quiet=0, who=event.who)
        turn.start(Timer.SERVED, turn.rules.served_time)
    elif event.asked:
        turn.set(taken=False, quiet=min(ROUNDS, turn.state.quiet + event.asked))
    resolver.network_asked(turn, blind=not event.anybody and event.asked == 0)


def unclaimed(turn: Turn, event: msg.Answers) -> None:
    """No other host answers for the addresses that are here."""
    state = turn.state
    if state.claimed:
        turn.say("DUPLICATE-OVER", "role", "no other host answers for the addresses any more")
    turn.set(claimed=0)
    trust_interfaces(turn, announce=bool(state.claimed) or not state.heard)


def claimed(turn: Turn, event: msg.Answers) -> None:
    """Another host answers for the addresses that are here."""
    address, _, by = event.who.partition(" ")
    if not turn.state.claimed:
        subject = f"address {address}" if by else "role"
        six = "another host answers neighbour solicitation too"
        text = six if ":" in address else "another host answers ARP too"
        turn.say("DUPLICATE", subject, text, by=by)
    turn.set(claimed=1 if event.stranger else min(ROUNDS, turn.state.claimed + 1))
    if turn.rules.boot != "slave" or event.stranger:
        trust_interfaces(turn, announce=True)
        turn.start(Timer.OWN, turn.rules.round / ROUNDS)  # clients want to know when it has ended
    elif turn.state.claimed < ROUNDS:
        turn.ask_own()
    else:
        text = "another host answers for the addresses, standing down"
        turn.say("SPLIT-BRAIN", "role", text, by=by)  # the peer, as far as can be told
        turn.stand_down(Purpose.BOTH)


def trust_interfaces(turn: Turn, announce: bool) -> None:
    """Gratuitous ARP may be sent on good interfaces again."""
    good = [i for i in turn.state.interfaces if i.up and not i.failed]
    for interface in good:
        turn.change(interface.name, unasked=False)
    if announce or any(i.unasked for i in good):
        turn.act(msg.Announce())


def addresses_gone(turn: Turn, event: msg.Bare) -> None:
    turn.set(bare=True)
    if turn.state.posture in HOLDING:
        turn.say("ADDRESS-LOST", "role", "the addresses are gone from their interface")
    if turn.state.posture is Posture.SERVING:
        turn.settle(False, Purpose.RESTORE.value)
        resolver.begin(turn, Purpose.DOUBT)


def addresses_stray(turn: Turn, event: msg.Stray) -> None:
    if turn.state.posture in STANDING_BY:
        text = "the addresses have come to their interface while standing by: taking them away"
        turn.say("ADDRESS-STRAY", "role", "standby, but an address is here, removing")
        turn.settle(False, text)
        turn.stand_down(Purpose.CLEAN)


# ---------------------------------------------------------------------------- interfaces


def carrier(turn: Turn, event: msg.Carrier) -> None:
    """Gratuitous ARP on an interface without a carrier has reached no host."""
    known = turn.state.interface(event.interface)
    if known is None:
        return
    lost = known.unasked or (not event.up and turn.state.posture in HOLDING)
    note(turn, known.name, up=event.up, unasked=lost)
    if event.up and lost:
        turn.ask_own()


def note(turn: Turn, interface: str, **changes: object) -> None:
    """A preferred node that waits for its role asks as soon as it could do the work."""
    before = compare.missing(turn.state)
    turn.change(interface, **changes)
    ready = before and not compare.missing(turn.state)
    if ready and turn.state.phase is Phase.STANDBY and turn.state.resuming:
        resolver.begin(turn, Purpose.BOOT)


def watched(turn: Turn, event: msg.Watched) -> None:
    """A window of a service interface has ended."""
    before = turn.state.interface(event.interface)
    if before is None or event.verdict == "late":
        return
    if before.failed and turn.state.posture is Posture.GIVING:
        return  # because of it the peer is given the role, and has to be told that when it has it
    good, fails = event.verdict == "ok" and event.packets > 0, event.verdict == "fail"
    note(
        turn,
        event.interface,
        verdict=event.verdict,
        packets=event.packets,
        last=event.last,
        heard=before.heard or event.packets > 0,
        proved=before.proved or good,
        unasked=before.unasked or (fails and turn.state.posture in HOLDING),
    )
    if fails:
        consider_switchover(turn, Purpose.INTERFACE)
    elif good:
        note_well(turn)
        if before.unasked:
            turn.ask_own()


def consider_switchover(turn: Turn, purpose: Purpose) -> None:
    if turn.state.phase is Phase.ACTIVE and compare.free_here(turn.state):
        resolver.begin(turn, purpose)


def note_well(turn: Turn) -> None:
    """What was in the way of a switchover may come again, and is then said again."""
    if turn.state.posture in HOLDING and not compare.bad_here(turn.state):
        turn.set(blocked="")


def counted(turn: Turn, event: msg.Counted) -> None:
    known = turn.state.interface(event.interface)
    if known is not None and known.failed:
        resolver.looked(turn, receives=event.packets >= max(1, turn.rules.low_water))


# ---------------------------------------------------------------------------- checks and failback


def checked(turn: Turn, event: msg.Checked) -> None:
    state, name = turn.state, frozenset((event.name,))
    turn.set(tried=state.tried - name if event.ok is None else state.tried | name)
    if event.ok is False:
        turn.set(checks=state.checks | name)
        consider_switchover(turn, Purpose.CHECK)
        return
    proves = event.ok and state.posture in HOLDING
    turn.set(
        checks=state.checks - name, passed=state.passed | name if proves else state.passed - name
    )
    note_well(turn)


def give_to_better(turn: Turn) -> None:
    """The peer may have become better off while a check is bad here."""
    if turn.state.checks and compare.peer_is_better(turn.state, turn.rules):
        consider_switchover(turn, Purpose.CHECK)


def wait_until_well(turn: Turn) -> None:
    """The time of $failback begins with the last thing that was bad."""
    state = turn.state
    lacks = compare.unready(state, turn.rules) or compare.bad_here(state)
    if state.resuming and turn.rules.failback and (lacks or not state.heard):
        turn.start(Timer.UNWELL, turn.rules.failback)


# ---------------------------------------------------------------------------- relief of the peer


def note_relief(turn: Turn) -> None:
    """A switch that died for both shows here in the end, too."""
    if not compare.is_better(turn.state, turn.rules):
        turn.stop(Timer.RELIEF)
    elif not turn.state.runs_out(Timer.RELIEF):
        turn.start(Timer.RELIEF, turn.rules.proof_time)


def can_relieve(state: State, rules: Rules) -> bool:
    asks = state.phase is Phase.STANDBY and state.heard and not state.held
    return asks and compare.is_better(state, rules)


def relieve(turn: Turn) -> None:
    if can_relieve(turn.state, turn.rules):
        resolver.begin(turn, Purpose.RELIEF)


# ---------------------------------------------------------------------------- the heartbeat link


def link_watched(turn: Turn, event: msg.LinkWatched) -> None:
    if event.verdict == "late":
        return
    was_silent, fails = turn.state.silent, event.verdict == "fail"
    turn.set(beats=event.packets > 0, silent=fails)
    if fails:
        link_silent(turn)
    elif event.packets == 0:
        if watches(turn.state):
            turn.ask_ahead()
    elif was_silent:
        link_alive(turn)
    if event.packets and not fails and turn.state.posture is not Posture.DOUBTING:
        turn.set(taken=False)  # there, that a node has the addresses is no guess


def watches(state: State) -> bool:
    """Standing by, and not busy with the network already."""
    asks = state.phase is not Phase.STANDBY and (state.is_silence or state.asking)
    return state.posture in STANDING_BY and state.phase is not Phase.FENCING and not asks


def link_alive(turn: Turn) -> None:
    if turn.state.posture in STANDING_BY:
        turn.set(blocked="")
    if turn.state.believes_dead:
        turn.say("UNBLOCKED", "role", "heartbeats are received again, no takeover")
        turn.enter_standby("the heartbeat is back")


def link_silent(turn: Turn) -> None:
    """Silent twice."""
    state, rules = turn.state, turn.rules
    turn.ask_own()
    if not watches(state) or state.purpose is Purpose.OPERATOR:
        return
    if state.runs_out(Timer.EXPECTED) or can_relieve(state, rules):  # the latter has its own time
        turn.ask_ahead()
    elif state.heard or not compare.is_up(state, rules):
        text = "heartbeat lost, but no interface is up here, no takeover"
        if state.heard:
            text = "no heartbeats, but the peer's port answers, no takeover"
        turn.say_once("TAKEOVER-BLOCKED", "role", text)
        turn.ask_ahead()
    else:
        resolver.begin(turn, Purpose.SILENCE)


def mute(turn: Turn) -> None:
    """A node that neither serves nor can be asked stops its heartbeats (section 5).

    They would only keep the peer from taking over. So would those of a standby that cannot take
    over itself, when the link is cut in one direction; but not while it finds the service answered.
    """
    state = turn.state
    serves = state.posture in HOLDING or state.runs_out(Timer.SERVED)
    useless = (compare.none_works(state) or not serves) and not state.runs_out(Timer.UNHEARD)
    if useless is state.mute:
        return
    turn.set(mute=useless)
    turn.act(msg.Heartbeats(not useless))
    if useless:
        text = "this node does not serve and cannot reach the peer, no more heartbeats"
        turn.say("HEARTBEAT-OFF", "role", text)
    else:
        turn.say("HEARTBEAT-ON", "role", "heartbeats go on")
