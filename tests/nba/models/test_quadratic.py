from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nba.errors import ShapeError
from nba.models.quadratic import MAX_SUMS, QuadraticModel, pairs
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds

Make = Callable[..., LoggedRounds]


def crossed(n: int, seed: int) -> LoggedRounds:
    """r = 1 where x1 and x2 have the same sign, else 0: a line explains nothing of it. Columns 3 to 7 say nothing."""
    rng = np.random.default_rng(seed)
    contexts = np.hstack([np.ones((n, 1)), rng.uniform(-1.0, 1.0, (n, 7))]).astype(np.float32)
    return LoggedRounds(
        contexts,
        np.ones((n, 1), dtype=np.bool_),
        np.zeros(n, dtype=np.int64),
        np.ones(n),
        (contexts[:, 1] * contexts[:, 2] > 0).astype(np.float64),
        np.arange(n, dtype=np.uint64),
    )


def test_it_learns_what_no_line_can_say() -> None:
    """The best multiple of x1 x2 leaves 1 - (3/4)^2 = 44 % of the variance of sign(x1 x2)."""
    model, new = QuadraticModel.fit(crossed(3_000, 0), np.eye(1)), crossed(2_000, 9)
    unexplained = np.mean((model.values(new.contexts)[:, 0] - new.rewards) ** 2) / new.rewards.var()
    assert unexplained == pytest.approx(0.4375, abs=0.04)


def test_the_columns_that_vary_are_multiplied_and_two_values_are_not_squared() -> None:
    """A constant, three values, two values: the products are 1 x 1 and 1 x 2."""
    contexts = np.array([[1.0, 0.0, 0.0], [1.0, 2.0, 1.0], [1.0, 4.0, 0.0]], dtype=np.float32)
    first, second = pairs(contexts, 1, 24)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(1, 1), (1, 2)]


def test_only_as_many_columns_are_multiplied_as_were_asked_for_and_fit() -> None:
    """1,000 actions leave sqrt(4,000) = 63 columns: beside 40 of the context 23 products, of 6 columns."""
    contexts = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    assert len(pairs(contexts, 1, 3)[0]) == 6
    first, _ = pairs(contexts, 1_000, 24)
    assert len(first) == 21
    assert 1_000 * (40 + len(first)) ** 2 <= MAX_SUMS
    assert len(pairs(contexts, 100_000, 24)[0]) == 0


def test_contexts_without_variation_have_no_products() -> None:
    for n in (0, 5):
        assert len(pairs(np.ones((n, 3), dtype=np.float32), 2, 24)[0]) == 0


def test_products_come_and_go_with_what_matters() -> None:
    """Of the products of eight columns only those of the two best are in the model, whichever those are."""
    model = QuadraticModel.fit(crossed(500, 0), np.eye(1), top=2)
    assert len(model.first) == 28
    assert len(model.active) == 3
    assert model.weights.shape == (1, 11)


def test_sums_do_not_depend_on_parts(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    plan, rounds = support_plans["tone_tuner"], make_rounds(support_plans["tone_tuner"], 500)
    start = QuadraticModel.fit(rounds.take(np.arange(200)), plan.action_features)
    both = QuadraticModel.fit(rounds.take(np.arange(200, 500)), plan.action_features, start)
    rest = QuadraticModel.fit(rounds.take(np.arange(200, 350)), plan.action_features, start)
    three = QuadraticModel.fit(rounds.take(np.arange(350, 500)), plan.action_features, rest)
    assert both.rounds == three.rounds == 500
    np.testing.assert_allclose(both.gram, three.gram, atol=1e-9)
    np.testing.assert_allclose(both.target, three.target, atol=1e-9)


def test_the_first_rounds_say_what_is_multiplied(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    plan = support_plans["tone_tuner"]
    nothing = QuadraticModel.fit(make_rounds(plan, 0), plan.action_features)
    first = QuadraticModel.fit(make_rounds(plan, 50), plan.action_features, nothing)
    second = QuadraticModel.fit(make_rounds(plan, 50, seed=1), plan.action_features, first, columns=3)
    assert len(nothing.first) == 0 < len(first.first)
    assert np.array_equal(first.first, second.first)


def test_contexts_of_another_width_are_refused(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    tone, path = support_plans["tone_tuner"], support_plans["personalized_path"]
    previous = QuadraticModel.fit(make_rounds(tone, 10), tone.action_features)
    with pytest.raises(ShapeError, match="previous model is for"):
        QuadraticModel.fit(make_rounds(path, 10), path.action_features, previous)
