"""What is counted, from which events of the log, and how the series are named."""

from __future__ import annotations

import pytest

from failoverd.counters import BY_EVENT, COUNTERS, FIRST, Counters, series
from failoverd.events import EVENTS
from failoverd.wire import protocol, typed


def test_every_event_that_counts_exists_and_fits_its_counter() -> None:
    for event, (name, *labels) in BY_EVENT.items():
        assert event in EVENTS and len(labels) == len(COUNTERS[name].labels)
    for name, metric in COUNTERS.items():
        assert name.endswith("_total") and not metric.meaning.endswith(".")


@pytest.mark.parametrize(
    ("event", "sentence", "values", "counted"),
    [
        ("ROLE", "active", {"from": "standby", "cause": "heartbeat-lost"},
         'role_changes_total{from="standby",to="active",cause="heartbeat-lost"}'),
        ("ROLE", "active", {"from": "active", "cause": "interface-failed;-the-switchover-failed"},
         'role_changes_total{from="active",to="active",cause="interface-failed"}'),
        ("TAKEOVER-BLOCKED", "no takeover", {"found": "the peer is standby"},
         'takeovers_blocked_total{reason="the peer is standby"}'),
        ("TAKEOVER-BLOCKED", "fencing failed, no takeover", {},
         'takeovers_blocked_total{reason="fencing failed"}'),
        ("FENCE-FAILED", "ended", {}, 'fence_attempts_total{result="failure"}'),
        ("CONFIG-RELOADED", "read", {}, 'config_reloads_total{result="success"}'),
        ("REQUEST-REFUSED", "refused", {}, "authentication_failures_total"),
    ],
)  # fmt: skip
def test_an_event_counts(
    event: str, sentence: str, values: dict[str, object], counted: str
) -> None:
    known = Counters()
    known.note(event, sentence, values)
    assert {name: n for name, n in known.counts.items() if n} == {counted: 1} and known.news


def test_a_role_after_a_restart_and_other_events_do_not_count() -> None:
    known = Counters()
    known.note("ROLE", "active", {})
    known.note("STARTED", "started", {"from": "here"})
    assert not any(known.counts.values()) and not known.news


@pytest.mark.parametrize(("more", "counted"), [("7", 8), ("", 1), ("-7", 1), ("9" * 99, 1)])
def test_what_the_log_left_out_counts_too(more: str, counted: int) -> None:
    known = Counters()
    known.note("REQUEST-REFUSED", "refused", {"suppressed": more})
    assert known.counts["authentication_failures_total"] == counted


def test_a_monitor_sees_the_zero_before_the_first_event() -> None:
    assert 'fence_attempts_total{result="failure"}' in FIRST
    assert "authentication_failures_total" in FIRST
    assert not [name for name in FIRST if "role_changes" in name]  # the causes are not known
    assert set(Counters().counts) == set(FIRST)


def test_whatever_is_counted_a_status_can_tell() -> None:
    known = Counters()
    odd = 'a"b\\c\x1b\n' + "é" * 300
    for number in range(2 * protocol.MAX_COUNTERS):
        known.add("takeovers_blocked_total", f"{number}{odd}")
    known.add("heartbeats_sent_total", amount=typed.MOST)
    known.add("heartbeats_sent_total", amount=typed.MOST)
    assert len(known.counts) == protocol.MAX_COUNTERS
    assert dict(protocol.counts(known.counts)) == known.counts
    assert series("takeovers_blocked_total", 'a"b\\') == r'takeovers_blocked_total{reason="a\"b\\"}'


def test_what_was_kept_goes_on() -> None:
    known = Counters()
    known.take_up({"heartbeats_sent_total": 7, 'windows_total{interface="x",verdict="ok"}': 1})
    known.add("heartbeats_sent_total")
    assert known.counts["heartbeats_sent_total"] == 8
    assert dict(known.told)["heartbeats_sent_total"] == 7 and set(FIRST) <= {*dict(known.told)}
