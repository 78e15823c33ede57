"""What the table has although no statement and no case needs it: what, and what it is for."""

from __future__ import annotations

REFINEMENTS: dict[str, str] = {}
