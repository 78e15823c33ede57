"""What no statement and no case needs: of the policy, and of what a change makes of the code."""

from __future__ import annotations

REFINEMENTS: dict[str, str] = {}

# Changes of the code, by their names in `changes`, and why nothing can notice them.
NEVER_EQUAL = "two nodes' addresses on the link differ, and so does the last of what is compared"
ANY_BOUND = "a bound is needed, and any will do"
ORDER = "neither reads what the other does"
PADDING = "data += b'\\x00' * (len(data) % 2)"
COMPARE, FRAMES = "failoverd/pair/compare.py", "failoverd/wire/frames.py"
THEIRS = "(peer.role == 'failed', count_there(peer), peer.boot != 'master', rules.precedes)"
BOOT = "(boot != 'master', rules.precedes)"
OUR_BOOT = "(rules.boot != 'master', not rules.precedes)"
TURN = "failoverd/pair/turn.py"
STATEFILE = "failoverd/statefile.py"

EQUIVALENT: dict[str, str] = {
    "failoverd/pair/settings.py rules: int(ip_address(conf.primary)) < "
    "int(ip_address(conf.secondary)) -> int(ip_address(conf.primary)) <= "
    "int(ip_address(conf.secondary))": NEVER_EQUAL,
    f"{FRAMES} parse: ethertype = int.from_bytes(frame[12:14], 'big') -> "
    "ethertype = int.from_bytes(frame[12:14])": "big is what Python takes",
    f"{FRAMES} _options: size = data[1] * 8 if len(data) > 1 else 0 -> "
    "size = data[1] * 8 if len(data) > 2 else 0": "two bytes are no option either",
    **{
        f"{FRAMES} _checksum: {new}": "an odd body has no sound options, and is not summed"
        for new in (f"without {PADDING}", f"{PADDING} -> {PADDING.replace('2', '4')}")
    },
    f"{COMPARE} yields: {THEIRS} < ours -> {THEIRS} <= ours": NEVER_EQUAL,
    f"{COMPARE} peer_outranks: {BOOT} < {OUR_BOOT} -> {BOOT} <= {OUR_BOOT}": NEVER_EQUAL,
    **{f"{TURN}: MAX_WAITING = 16 -> MAX_WAITING = {n}": ANY_BOUND for n in (17, 32)},
    f"{STATEFILE} boot_id: open(_BOOT_ID, encoding='ascii') -> open(_BOOT_ID)": "it is ASCII",
}
