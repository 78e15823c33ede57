"""What others have said, as frozen dataclasses: every field is checked by its annotation.

    @dataclass(frozen=True)
    class Counted:
        packets: Whole
        reason: Annotated[str, shown(200)] = ""

    decode(Counted, {"packets": 3, "more": "is left out"})

An annotation is a form of this kind itself, one of these or None, or Annotated with the check: what
takes the value as it came, and returns it as it is to be used or raises ValueError. A field without
a default may not be missing. Whatever is wrong, a ValueError names the field and says why.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

Form = TypeVar("Form")
Check = Callable[[object], Any]

MOST = 1 << 53  # a whole number that every reader of JSON understands


def decode(form: type[Form], told: object) -> Form:
    """Raises ValueError."""
    tree = mapping(told)
    values = {}
    for name, check, required in _fields(form):  # type: ignore[arg-type]
        if name in tree:
            try:
                values[name] = check(tree[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        elif required:
            raise ValueError(f"{name}: missing")
    return form(**values)


def encode(form: Any) -> dict[str, Any]:
    """What `decode` understands, but for tables, which are pairs still. A field that has its
    default is left out."""
    told = [(field.name, getattr(form, field.name), field.default) for field in fields(form)]
    return {name: _plain(value) for name, value, default in told if value != default}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return encode(value) if is_dataclass(value) else value


@cache
def _fields(form: Any) -> list[tuple[str, Check, bool]]:
    hints = get_type_hints(form, include_extras=True)
    return [
        (field.name, _check(hints[field.name]), field.default is field.default_factory is MISSING)
        for field in fields(form)
    ]


def _check(hint: Any) -> Check:
    if get_origin(hint) is Annotated:
        check: Check = hint.__metadata__[0]
        return check
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (_check(each) for each in get_args(hint) if each is not types.NoneType)
        return lambda value: None if value is None else inner(value)
    if hint is bool:
        return truth
    assert is_dataclass(hint), hint
    form: Any = hint
    return partial(decode, form)


def exactly(kind: type, fits: Callable[[Any], object], why: str) -> Check:
    """One of exactly this type, so that true is no number."""

    def check(value: object) -> Any:
        if type(value) is not kind or not fits(value):
            raise ValueError(why)
        return value

    return check


mapping = exactly(dict, lambda _: True, "not an object")
string = exactly(str, lambda _: True, "not a text")
truth = exactly(bool, lambda _: True, "neither true nor false")


def is_interface(name: str) -> bool:
    """Whether it is a name that the kernel takes (dev_valid_name in net/core/dev.c) and a terminal
    can show."""
    fits = re.fullmatch(r"[^\s/:]+", name) and name.isprintable() and len(name.encode()) <= 15
    return bool(fits) and name not in (".", "..")


def one_of(*known: str) -> Check:
    return exactly(str, known.__contains__, "not a known word")


def like(pattern: str) -> Check:
    return exactly(str, re.compile(pattern).fullmatch, "not of the right form")


def line(most: int) -> Check:
    """A text that a terminal can show on one line, more or less."""
    return exactly(str, lambda t: t.isprintable() and len(t) <= most, "not a short text")


def whole(least: int = 0, most: int = MOST - 1) -> Check:
    return exactly(int, lambda n: least <= n <= most, "not a whole number in bounds")


def number(most: float = 1e12) -> Check:
    """From 0 to that, as a float; NaN is in no bounds."""

    def check(value: object) -> float:
        if type(value) not in (int, float) or not 0 <= value <= most:  # type: ignore[operator]
            raise ValueError("not a number in bounds")
        return float(value)  # type: ignore[arg-type]

    return check


def several(check: Check, most: int, kind: Callable[[Any], Any] = tuple) -> Check:
    """A list of these; kind: what it becomes."""

    def check_all(value: object) -> Any:
        listed = exactly(list, lambda found: len(found) <= most, "not a short list")(value)
        return kind(map(check, listed))

    return check_all


def table(name: Check, check: Check, most: int, kind: Callable[[Any], Any] = tuple) -> Check:
    """An object; kind: what its pairs become, a tuple can be hashed."""

    def check_all(value: object) -> Any:
        entries = exactly(dict, lambda found: len(found) <= most, "not a small object")(value)
        return kind((name(key), check(entry)) for key, entry in entries.items())

    return check_all


Whole = Annotated[int, whole()]
Number = Annotated[float, number()]
