"""Frozen windows of the log, and the customers that are held out of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from envs.sessions import SESSIONS
from nba.errors import EmptyLogError
from nba.pack import Pack
from tests.training.conftest import NOW, played, uniform, window
from training.truth import SimulatedMoment
from training.window import QuarterError, Split, freeze, last_quarter, quarter_bounds


@pytest.mark.parametrize(
    ("quarter", "first", "after"),
    [("2026Q1", (2026, 1), (2026, 4)), ("2026Q3", (2026, 7), (2026, 10)), ("2026Q4", (2026, 10), (2027, 1))],
)
def test_a_quarter_is_three_months_in_utc(quarter: str, first: tuple[int, int], after: tuple[int, int]) -> None:
    assert quarter_bounds(quarter) == (datetime(*first, 1, tzinfo=UTC), datetime(*after, 1, tzinfo=UTC))


@pytest.mark.parametrize("quarter", ["", "2026", "2026Q0", "2026Q5", "26Q4", "2026q4", "Q4 2026", "2026Q4 ", "0026Q4"])
def test_another_spelling_is_refused_with_the_right_one(quarter: str) -> None:
    with pytest.raises(QuarterError, match="as in 2026Q4"):
        quarter_bounds(quarter)


@pytest.mark.parametrize(
    ("now", "quarter"),
    [((2026, 11, 22), "2026Q3"), ((2027, 1, 1), "2026Q4"), ((2026, 3, 31), "2025Q4"), ((2026, 4, 1), "2026Q1")],
)
def test_the_last_quarter_is_the_one_that_has_ended(now: tuple[int, int, int], quarter: str) -> None:
    assert last_quarter(datetime(*now, tzinfo=UTC)) == quarter


def test_a_window_holds_what_was_decided_in_it_and_has_closed(support_log: Path, pack: Pack) -> None:
    """All decisions were made ten days ago and closed a minute later."""
    whole = freeze(support_log, pack, as_of=NOW)
    logged = sorted(moment for moment in pack.moments if moment not in SESSIONS)
    assert {moment: len(rounds) for moment, rounds in whole.rounds.items()} == dict.fromkeys(logged, 1_600)
    assert (len(whole), whole.waiting, whole.until) == (8_000, 0.0, NOW)
    start = NOW - timedelta(days=10)
    assert len(freeze(support_log, pack, as_of=NOW, since=start, until=start + timedelta(seconds=1))) == 8_000
    for bounds in ({"until": start}, {"since": start + timedelta(seconds=1)}):
        with pytest.raises(EmptyLogError):
            freeze(support_log, pack, as_of=NOW, **bounds)


def test_nothing_closed_is_an_empty_log_that_says_what_is_there(support_log: Path, pack: Pack, tmp_path: Path) -> None:
    """Half a minute after the decisions no outcome has come and no window has closed."""
    with pytest.raises(EmptyLogError, match="8000 immature"):
        freeze(support_log, pack, as_of=NOW - timedelta(days=10) + timedelta(seconds=30))
    with pytest.raises(EmptyLogError, match="no closed, learnable round"):
        freeze(tmp_path / "none", pack, as_of=NOW)


def test_a_window_ends_no_later_than_what_is_known(support_log: Path, pack: Pack) -> None:
    assert freeze(support_log, pack, as_of=NOW, until=NOW + timedelta(days=40)).until == NOW


def test_the_digest_names_the_rounds_and_the_pack(
    support_log: Path, pack: Pack, simulated: dict[str, SimulatedMoment]
) -> None:
    first = freeze(support_log, pack, as_of=NOW)
    assert freeze(support_log, pack, as_of=NOW + timedelta(days=1)).digest == first.digest
    from msgspec.structs import replace as changed

    action = changed(pack.actions["warm_reply"], cost=0.5)
    dearer = changed(pack, actions={**pack.actions, "warm_reply": action})
    assert freeze(support_log, dearer, as_of=NOW).digest != first.digest


def test_no_customer_is_on_both_sides(pack: Pack, simulated: dict[str, SimulatedMoment]) -> None:
    frozen = window(played(simulated, uniform(pack), each=1_000, seed=1))
    learned, held_out = frozen.split(Split())
    seen = np.concatenate([rounds.subjects for rounds in learned.values()])
    judges = np.concatenate([rounds.subjects for rounds in held_out.values()])
    assert not np.isin(judges, seen).any()
    assert 0.6 < len(seen) / len(frozen) < 0.8
    assert len(seen) + len(judges) == len(frozen)


def test_a_split_is_found_again_in_the_tags() -> None:
    assert Split.of(Split(0.55, 7).tags()) == Split(0.55, 7)
    assert Split.of({}) == Split()


def test_waiting_is_the_share_of_open_windows(pack: Pack, simulated: dict[str, SimulatedMoment]) -> None:
    """25 wait beside 5 moments of 15 rounds: 25 / 100."""
    frozen = window(played(simulated, uniform(pack), each=15, seed=1))
    assert replace(frozen, counts={"immature": 25, "joined": 75}).waiting == 0.25
