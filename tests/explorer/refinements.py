"""What no statement and no case needs: what the table has, and what a change makes of the code."""

from __future__ import annotations

WATCHING = "STANDBY, INQUIRING on LINK_SILENT if"

REFINEMENTS: dict[str, str] = {
    f"{WATCHING} nothing_to_serve_on: without the act question_ahead": (
        "speed: a card that comes up within the window may be served on at its end"
    ),
    f"{WATCHING} hears_peer: after {WATCHING} nothing_to_serve_on": (
        "only which of the two reasons the log names, when both hold"
    ),
    "no row REJOINING on BARE if ever": "a line of the log: what was seen",
}

# Changes of the code, by their names in `changes`, and why nothing can notice them.
NOT_SHOWN = "what never comes has no best case to show"
NEVER_EQUAL = "two machines' private addresses differ, and so does the last of what is compared"
WHOLE_BLOCKS = "the file is whole blocks: the next one is longer still"
ANY_BOUND = "a bound is needed, and any will do"
ORDER = "neither reads what the other does"
PROMOTED = "promoted = turn.state.phase is Phase.PROMOTING or turn.came_from is Phase.PROMOTING"
NO_ROW_STAYS = "no row leads to where it begins, and nothing but a row changes the phase"
LEAVES = "row.go is not None and row.go is not before"
PADDING = "data += b'\\x00' * (len(data) % 2)"
STEPPING, FRAMES = "failoverd/pair/stepping.py", "failoverd/frames.py"
GUARDS, ACTS = "failoverd/pair/guards.py", "failoverd/pair/acts.py"
STATEFILE = "failoverd/statefile.py"
NEVER = {
    "deaf": "return Bound(what, {}, None, '$low_water is 0')",
    "resume": "Bound(what, {}, None, '$mresume is no: it takes the role without asking')",
    "ethernet_healing": "return Bound(what, {}, None, '@addresses is empty')",
}

EQUIVALENT: dict[str, str] = {
    **{
        f"failoverd/bounds.py {name}: {code.format('0.0')} -> {code.format('1.0')}": NOT_SHOWN
        for name, code in NEVER.items()
    },
    f"{ACTS} restart_watchers: turn.act(RestartWatchers()) after {PROMOTED}": ORDER,
    f"{ACTS} compare_now: turn.stop(Timer.COMPARE) after ask(Purpose.COMPARE)(turn)": ORDER,
    f"{ACTS} become_active: compare_now(turn) after announce(turn)": ORDER,
    f"{ACTS} restart_watchers: {PROMOTED.partition(' = ')[2]} -> "
    "turn.came_from is Phase.PROMOTING": "no row has them begin again before the script has ended",
    f"{ACTS} become_active: came_from_peer = turn.state.cause is Cause.PEER after "
    "turn.set(failed=False, resuming=False, stalled=False, unclean=False)": ORDER,
    f"{STEPPING} step: notice_speechless(turn) after mute(turn)": ORDER,
    f"{STEPPING} take: {LEAVES} -> row.go is not None": NO_ROW_STAYS,
    **{
        f"{STEPPING} take: {LEAVES} and (turn.state.phase is row.go) -> {new}": NO_ROW_STAYS
        for new in (
            "row.go is not None or row.go is not before or turn.state.phase is row.go",
            "row.go is not before and turn.state.phase is row.go",
            "row.go is not None and turn.state.phase is row.go",
            "row.go is not None and row.go is not before",
        )
    },
    "failoverd/pair/settings.py rules: int(ip_address(conf.primary)) < "
    "int(ip_address(conf.secondary)) -> int(ip_address(conf.primary)) <= "
    "int(ip_address(conf.secondary))": NEVER_EQUAL,
    **{
        f"{FRAMES} parse: return _parse_advertisement(frame[6:12], frame[14:]) -> "
        f"return _parse_advertisement(frame[6:{n}], frame[14:])": "it is cut to six bytes later"
        for n in (13, 24)
    },
    f"{FRAMES} parse: ethertype = int.from_bytes(frame[12:14], 'big') -> "
    "ethertype = int.from_bytes(frame[12:14])": "big is what Python takes",
    f"{FRAMES} _options: size = data[1] * 8 if len(data) > 1 else 0 -> "
    "size = data[1] * 8 if len(data) > 2 else 0": "two bytes are no option either",
    **{
        f"{FRAMES} _checksum: {new}": "an odd body has no sound options, and is not summed"
        for new in (f"without {PADDING}", f"{PADDING} -> {PADDING.replace('2', '4')}")
    },
    f"{GUARDS} we_yield: return theirs < ours -> return theirs <= ours": NEVER_EQUAL,
    f"{GUARDS} peer_outranks: return (boot != 'master', turn.rules.precedes) < ours -> "
    "return (boot != 'master', turn.rules.precedes) <= ours": NEVER_EQUAL,
    f"{GUARDS} peer_is_able: return bool(ours - theirs) and len(theirs) < len(ours) -> "
    "return len(theirs) < len(ours)": "fewer than ours cannot be all of ours",
    f"{GUARDS} peer_can_serve: peer_is_idle(turn) and peer is not None and "
    "(not (names and names <= peer.down)) -> peer_is_idle(turn) and "
    "(not (names and names <= peer.down))": "who is idle is known; the types want it said",
    **{f"{ACTS}: MAX_WAITING = 16 -> MAX_WAITING = {n}": ANY_BOUND for n in (17, 32)},
    f"{STATEFILE} boot_id: open(_BOOT_ID, encoding='ascii') -> open(_BOOT_ID)": "it is ASCII",
    f"{STATEFILE} read: os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK) "
    "-> os.open(path, os.O_RDONLY & os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)": (
        "no program is started before it is closed"
    ),
    f"{STATEFILE} decode: (str(found.get('since', '')), found.get('script'), found.get('left')) -> "
    "(str(found.get('since')), found.get('script'), found.get('left'))": "None is no time either",
    f"{STATEFILE}: _MAX_BYTES = 64 * 1024 -> _MAX_BYTES = 65 * 1024": WHOLE_BLOCKS,
    f"{STATEFILE}: _MAX_BYTES = 64 * 1024 -> _MAX_BYTES = 64 * 1025": WHOLE_BLOCKS,
}
