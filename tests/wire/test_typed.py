"""The decoder of what others have said: every field is what it should be, or is named."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import pytest

from failoverd.wire import typed
from failoverd.wire.typed import Whole, decode


@dataclass(frozen=True)
class Inner:
    word: Annotated[str, typed.one_of("a", "b")]


@dataclass(frozen=True)
class Outer:
    packets: Whole
    good: bool = False
    age: Annotated[float, typed.number(10)] | None = None
    name: Annotated[str, typed.like("[a-z]{2}")] = ""
    text: Annotated[str, typed.line(3)] = ""
    inner: Inner | None = None
    many: Annotated[tuple[Inner, ...], typed.several(partial(decode, Inner), 2)] = ()
    table: Annotated[tuple[tuple[str, int], ...], typed.table(typed.line(2), typed.whole(), 1)] = ()


def test_what_is_sound_is_taken_and_what_is_unknown_left_out() -> None:
    assert decode(Outer, {"packets": 3, "more": [1]}) == Outer(3)
    tree = {
        "packets": 0,
        "good": True,
        "age": 1,
        "name": "ab",
        "text": "ö c",
        "inner": {"word": "a", "more": None},
        "many": [{"word": "b"}],
        "table": {"x": 1},
    }
    found = decode(Outer, tree)
    assert found == Outer(0, True, 1.0, "ab", "ö c", Inner("a"), (Inner("b"),), (("x", 1),))
    assert isinstance(found.age, float) and isinstance(hash(found), int)


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        ("packets", [None, True, 1.0, -1, 1 << 53, 10**400, "1", [1], {}]),
        ("good", [None, 0, 1, "true", [], {}]),
        ("age", [True, -0.1, 10.1, float("nan"), float("inf"), 10**400, "1", []]),
        ("name", [None, 1, "", "a", "abc", "ab\n", "AB"]),
        ("text", [None, 1, "abcd", "a\n", "\x1b", "\ud800"]),
        ("inner", [1, "a", [], {}, {"word": "c"}, {"word": ["a"]}]),
        ("many", [None, {}, "", [1], [{}], [{"word": "a"}] * 3, {"word": "a"}]),
        ("table", [None, [], {"x": -1}, {"abc": 1}, {"x": 1, "y": 1}]),
    ],
)
def test_what_is_odd_is_refused_by_name(field: str, odd: list[Any]) -> None:
    for value in odd:
        with pytest.raises(ValueError, match=f"^{field}: ") as caught:
            decode(Outer, {"packets": 1, field: value})
        assert str(caught.value).isprintable()


def test_what_is_missing_is_named_and_where() -> None:
    with pytest.raises(ValueError, match=r"^packets: missing"):
        decode(Outer, {})
    with pytest.raises(ValueError, match=r"^inner: word: missing"):
        decode(Outer, {"packets": 1, "inner": {}})
    wrong: list[object] = [None, [], "x", 1, [[]]]
    for odd in wrong:
        with pytest.raises(ValueError, match="not an object"):
            decode(Outer, odd)
