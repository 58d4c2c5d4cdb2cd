from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nba.errors import ShapeError
from nba.models.linear import LinearModel
from nba.models.rff import FourierModel, bandwidth, waves
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds

Make = Callable[..., LoggedRounds]


def test_the_cosines_approximate_a_gaussian_kernel(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    """Their products lie within 5 standard errors of it, 5 / sqrt(4,000) = 0.08."""
    contexts = make_rounds(support_plans["tone_tuner"], 60).contexts
    model = FourierModel(
        *waves(contexts, 4_000, seed=3), LinearModel(np.zeros((1, 1, 1)), np.zeros((1, 1)), np.zeros((1, 4_030)), 0)
    )
    x = contexts.astype(np.float64)
    cosines = model.features(contexts)[:, 30:]
    kernel = np.exp(-((x[:, None] - x) ** 2).sum(axis=2) / (2.0 * bandwidth(contexts) ** 2))
    assert np.abs(cosines @ cosines.T - kernel).max() < 0.08
    assert kernel.min() < 0.5


def test_the_bandwidth_is_the_median_distance() -> None:
    """0, 1 and 3 on a line lie 1, 2 and 3 apart; rows that are the same do not count."""
    assert bandwidth(np.array([[0.0], [1.0], [3.0], [3.0]], dtype=np.float32)[:3]) == pytest.approx(2.0)
    assert bandwidth(np.zeros((4, 2), dtype=np.float32)) == 1.0
    assert bandwidth(np.zeros((0, 2), dtype=np.float32)) == 1.0


def test_it_learns_what_no_line_can_say() -> None:
    """r = 1 where x1 and x2 have the same sign, else 0: a line explains nothing of it."""
    rng = np.random.default_rng(0)
    contexts = np.hstack([np.ones((3_000, 1)), rng.uniform(-1.0, 1.0, (3_000, 2))]).astype(np.float32)
    rewards = (contexts[:, 1] * contexts[:, 2] > 0).astype(np.float64)
    rounds = LoggedRounds(
        contexts,
        np.ones((3_000, 1), dtype=np.bool_),
        np.zeros(3_000, dtype=np.int64),
        np.ones(3_000),
        rewards,
        np.arange(3_000, dtype=np.uint64),
    )
    model = FourierModel.fit(rounds, np.eye(1))
    unexplained = np.mean((model.values(contexts)[:, 0] - rewards) ** 2) / rewards.var()
    assert unexplained < 0.35


def test_the_waves_of_the_first_rounds_stay(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    plan = support_plans["tone_tuner"]
    nothing = FourierModel.fit(make_rounds(plan, 0), plan.action_features)
    first = FourierModel.fit(make_rounds(plan, 50), plan.action_features, nothing)
    second = FourierModel.fit(make_rounds(plan, 50, seed=1), plan.action_features, first, seed=9)
    assert not np.allclose(nothing.frequencies, first.frequencies)
    assert np.array_equal(first.frequencies, second.frequencies)


def test_the_same_seed_gives_the_same_waves(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    rounds, features = make_rounds(support_plans["tone_tuner"], 50), support_plans["tone_tuner"].action_features
    one, same, other = (FourierModel.fit(rounds, features, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.phases, same.phases)
    assert not np.array_equal(one.phases, other.phases)


def test_sums_that_would_not_fit_are_refused_before_they_are_made() -> None:
    rounds = LoggedRounds(
        np.zeros((1, 4), dtype=np.float32),
        np.ones((1, 10), dtype=np.bool_),
        np.zeros(1, dtype=np.int64),
        np.ones(1),
        np.zeros(1),
        np.zeros(1, dtype=np.uint64),
    )
    with pytest.raises(ShapeError, match="10 actions by 5004 features squared are more than"):
        FourierModel.fit(rounds, np.eye(10), features=5_000)


def test_contexts_of_another_width_are_refused(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    tone, path = support_plans["tone_tuner"], support_plans["personalized_path"]
    previous = FourierModel.fit(make_rounds(tone, 10), tone.action_features)
    with pytest.raises(ShapeError, match="32 columns for frequencies of 30"):
        FourierModel.fit(make_rounds(path, 10), path.action_features, previous)
