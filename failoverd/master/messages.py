"""The fields of a child's message: each is what it should be, or the message is none."""

from __future__ import annotations

from failoverd.log import printable
from failoverd.process import Message


def whole(message: Message, key: str) -> int:
    """A whole number that is not negative, or ValueError."""
    value = message[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise ValueError(key)
    return value


def number(message: Message, key: str, most: float = float("inf")) -> float | None:
    """A number from 0 to `most`, None if there is none, else ValueError or OverflowError."""
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(key)
    return float(value)


def words(message: Message, key: str, most: int) -> str:
    """The beginning of a text for people, "" if there is none."""
    return printable(str(message.get(key, ""))[:most])
