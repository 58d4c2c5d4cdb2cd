"""The reward window and what counts in it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from msgspec import structs

from nba.pack import Moment, Outcome
from nba.records import RewardRecord
from nba.settle import Window, aggregate, close_window, first_reports

SHOWN = datetime(2026, 11, 1, 12, tzinfo=UTC)
KNOWN = {
    "sale": Outcome(),
    "complaint": Outcome(),
    "spend": Outcome(range=(0.0, 100.0), aggregate="sum"),
    "done": Outcome(closes_window=True),
    "seen": Outcome(),
}
MOMENT = Moment(
    fields=(), actions=(), reward={"sale": 1.0, "complaint": -0.5, "spend": 0.01}, window="2h", default_reward=0.25
)


def report(outcome: str = "sale", value: float = 1.0, *, after_s: float = 60.0, key: str = "") -> RewardRecord:
    """An outcome observed some seconds after the action was shown, and received a second later."""
    observed_at = SHOWN + timedelta(seconds=after_s)
    return RewardRecord(
        decision_id="d1",
        outcome=outcome,
        value=value,
        observed_at=observed_at,
        idempotency_key=key or f"{outcome}-{after_s}",
        received_at=observed_at + timedelta(seconds=1),
    )


def window(*reports: RewardRecord) -> Window:
    """The window of MOMENT with these reports."""
    return close_window(MOMENT, KNOWN, SHOWN, reports)


def test_the_reward_is_the_weighted_sum_of_outcomes() -> None:
    """1 * 1 - 0.5 * 1 + 0.01 * (20 + 30) = 1."""
    reports = report("sale"), report("complaint"), report("spend", 20.0, after_s=5), report("spend", 30.0, after_s=6)
    assert window(*reports).gross == 1.0
    assert window(*reports).outcomes == {"sale": 1.0, "complaint": 1.0, "spend": 50.0}


def test_an_outcome_that_the_formula_does_not_count_is_told_but_earns_nothing() -> None:
    seen = window(report("seen"))
    assert seen.outcomes == {"seen": 1.0}
    assert seen.gross is None


@pytest.mark.parametrize(
    ("after_s", "fate"),
    [(0.0, "in_window"), (7_200.0, "in_window"), (7_200.000001, "late"), (-0.000001, "early")],
)
def test_both_ends_belong_to_the_window(after_s: float, fate: str) -> None:
    """The window is 2 h = 7,200 s."""
    fates = window(report(after_s=after_s)).reports
    assert {name: count for name, count in fates.items() if count} == {fate: 1}


def test_a_closing_outcome_closes_the_window_when_it_is_observed() -> None:
    closed = window(report("done", after_s=600.0), report("sale", after_s=600.0), report("complaint", after_s=601.0))
    assert closed.closes_at == SHOWN + timedelta(seconds=600)
    assert closed.outcomes == {"done": 1.0, "sale": 1.0}
    assert closed.reports["late"] == 1


def test_the_first_of_two_closing_outcomes_closes() -> None:
    closed = window(report("done", after_s=900.0), report("done", 0.0, after_s=300.0))
    assert closed.closes_at == SHOWN + timedelta(seconds=300)
    assert closed.outcomes == {"done": 0.0}


def test_a_closing_outcome_outside_the_window_does_not_move_its_end() -> None:
    for after_s in (-5.0, 8_000.0):
        assert window(report("done", after_s=after_s)).closes_at == SHOWN + timedelta(hours=2)


def test_an_outcome_unknown_to_the_pack_is_counted_apart() -> None:
    assert window(report("gone")).reports == {"in_window": 0, "late": 0, "early": 0, "unknown_outcome": 1}


def test_order_does_not_change_a_window() -> None:
    """Two sales at the same second: the one received first, by key where that is equal too, is the first."""
    reports = (
        report("sale", 0.0, key="b"),
        report("sale", 1.0, key="a"),
        report("spend", 0.1, after_s=7),
        report("done"),
    )
    windows = [window(*order) for order in itertools.permutations(reports)]
    assert all(w == windows[0] for w in windows)
    assert windows[0].outcomes["sale"] == 1.0


@pytest.mark.parametrize(("rule", "expected"), [("first", 3.0), ("last", 2.0), ("max", 7.0), ("sum", 10.0)])
def test_several_reports_become_one_value_by_the_rule(
    rule: Literal["first", "last", "max", "sum"], expected: float
) -> None:
    """3, 7, 2: their sum, 12, is clipped to the range's end, 10."""
    assert aggregate(Outcome(range=(0.0, 10.0), aggregate=rule), [3.0, 7.0, 2.0]) == expected


def test_a_value_below_the_range_is_clipped_too() -> None:
    assert aggregate(Outcome(range=(-1.0, 1.0)), [-4.0]) == -1.0


def test_the_first_report_under_a_key_counts_and_a_retry_of_it_does_not() -> None:
    first, retried = report(key="k"), report(key="k", after_s=61.0)
    assert first_reports([retried, first]) == ([first], [])


def test_a_report_that_contradicts_an_earlier_one_is_kept_aside() -> None:
    first, other = report(key="k"), report(value=0.0, key="k", after_s=61.0)
    assert first_reports([other, first, other]) == ([first], [other])


def test_of_two_reports_received_at_once_the_one_observed_first_counts() -> None:
    """Eight keys, so that no order of a set can be right by luck."""
    received_at = SHOWN + timedelta(hours=1)
    pairs = [(report(key=key), report(value=0.0, key=key, after_s=30.0)) for key in "abcdefgh"]
    reports, conflicts = first_reports(structs.replace(r, received_at=received_at) for pair in pairs for r in pair)
    assert {r.value for r in reports} == {0.0}
    assert {r.value for r in conflicts} == {1.0}


def test_the_same_value_under_two_keys_is_two_reports() -> None:
    reports, _ = first_reports([report(key="a"), report(key="b")])
    assert len(reports) == 2
