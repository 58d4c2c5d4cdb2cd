"""Logged rounds as columns."""

from __future__ import annotations

import numpy as np
import pytest

from nba.errors import ShapeError
from nba.rounds import LoggedRounds


def make(n: int, *, subjects: int | None = None) -> LoggedRounds:
    """n rounds of two columns and three actions, told apart by their rewards."""
    return LoggedRounds(
        contexts=np.ones((n, 2), dtype=np.float32),
        mask=np.ones((n, 3), dtype=np.bool_),
        actions=np.arange(n, dtype=np.int64) % 3,
        propensities=np.full(n, 1 / 3),
        rewards=np.arange(n, dtype=np.float64),
        subjects=(np.arange(n) % (subjects or max(n, 1))).astype(np.uint64) * np.uint64(2**40),
    )


def columns(rounds: LoggedRounds) -> dict[str, np.ndarray]:
    return {
        name: getattr(rounds, name) for name in ("contexts", "mask", "actions", "propensities", "rewards", "subjects")
    }


@pytest.mark.parametrize("name", ["mask", "actions", "propensities", "rewards", "subjects"])
def test_a_column_of_another_length_is_refused(name: str) -> None:
    four = columns(make(4))
    with pytest.raises(ShapeError, match=name):
        LoggedRounds(**{**four, name: four[name][:3]})


def test_a_vector_where_a_matrix_belongs_is_refused() -> None:
    four = columns(make(4))
    with pytest.raises(ShapeError, match="mask"):
        LoggedRounds(**{**four, "mask": four["mask"][:, 0]})


@pytest.mark.parametrize("propensity", [0.0, -0.1, np.nan])
def test_a_propensity_that_is_not_positive_is_refused(propensity: float) -> None:
    four = columns(make(4))
    with pytest.raises(ShapeError, match="propensity"):
        LoggedRounds(**{**four, "propensities": np.array([0.5, 0.5, propensity, 0.5])})


def test_take_keeps_columns_together() -> None:
    """Round 5 took action 5 % 3 = 2 and earned 5."""
    taken = make(9).take(np.array([5, 0]))
    assert taken.rewards.tolist() == [5.0, 0.0]
    assert taken.actions.tolist() == [2, 0]
    assert taken.contexts.shape == (2, 2)


def test_a_split_cuts_through_no_customer_and_loses_no_round() -> None:
    rounds = make(3_000, subjects=500)
    first, second = rounds.split(0.7)
    assert not set(first.subjects.tolist()) & set(second.subjects.tolist())
    assert sorted([*first.rewards.tolist(), *second.rewards.tolist()]) == rounds.rewards.tolist()


def test_a_split_has_about_its_share() -> None:
    """20,000 customers at 0.7: the standard deviation is 65; five of them."""
    first, _ = make(20_000).split(0.7)
    assert abs(len(first) - 14_000) < 325


def test_another_salt_splits_otherwise_and_the_same_one_alike() -> None:
    rounds = make(1_000)
    again, other = rounds.split(0.5)[0], rounds.split(0.5, salt=12_345)[0]
    assert np.array_equal(again.rewards, rounds.split(0.5)[0].rewards)
    assert not np.array_equal(again.rewards, other.rewards)


def test_concatenate_keeps_every_round_in_order() -> None:
    whole = make(7)
    parts = [whole.take(np.arange(3)), whole.take(np.arange(3, 7))]
    joined = LoggedRounds.concatenate(parts)
    assert all(np.array_equal(value, columns(whole)[name]) for name, value in columns(joined).items())
