"""What the table has although no statement and no case needs it: what, and what it is for."""

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

EQUIVALENT: dict[str, str] = {}
