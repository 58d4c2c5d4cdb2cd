"""What holds for every model of action values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from nba.errors import RewardError, ShapeError
from nba.models import MODELS
from nba.models.model import samples
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds

Make = Callable[..., LoggedRounds]
each_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def plan(support_plans: dict[str, MomentPlan]) -> MomentPlan:
    return support_plans["tone_tuner"]


@each_model
def test_it_learns_which_action_pays(name: str, plan: MomentPlan, make_rounds: Make) -> None:
    """Action a pays a / 10 wherever it is taken."""
    model = MODELS[name].fit(make_rounds(plan, 3_000), plan.action_features)
    found = model.values(make_rounds(plan, 200, seed=1).contexts).mean(axis=0)
    np.testing.assert_allclose(found, 0.1 * np.arange(7), atol=0.03)
    assert model.rounds == 3_000


@each_model
def test_learning_in_two_parts_adds_up(name: str, plan: MomentPlan, make_rounds: Make) -> None:
    rounds = make_rounds(plan, 1_200)
    first = MODELS[name].fit(rounds.take(np.arange(900)), plan.action_features)
    both = MODELS[name].fit(rounds.take(np.arange(900, 1_200)), plan.action_features, first)
    assert (first.rounds, both.rounds) == (900, 1_200)


@each_model
def test_no_rounds_know_nothing(name: str, plan: MomentPlan, make_rounds: Make) -> None:
    model = MODELS[name].fit(make_rounds(plan, 0), plan.action_features)
    assert not model.values(make_rounds(plan, 5).contexts).any()
    assert model.rounds == 0


@each_model
def test_a_row_alone_has_the_bits_it_has_among_others(name: str, plan: MomentPlan, make_rounds: Make) -> None:
    model = MODELS[name].fit(make_rounds(plan, 300), plan.action_features)
    draws = model.draws(plan.action_features, 8, np.random.default_rng(0))
    contexts = make_rounds(plan, 50, seed=2).contexts
    for ask in (model.values, lambda c: samples(model, c, draws)):
        together = ask(contexts)
        alone = np.concatenate([ask(contexts[i : i + 1]) for i in range(50)])
        assert together.tobytes() == alone.tobytes()


@each_model
def test_draws_lie_around_the_values_and_closer_with_more_rounds(
    name: str, plan: MomentPlan, make_rounds: Make
) -> None:
    contexts, spread = make_rounds(plan, 50, seed=2).contexts, []
    for n in (300, 3_000):
        model = MODELS[name].fit(make_rounds(plan, n), plan.action_features)
        drawn = samples(model, contexts, model.draws(plan.action_features, 64, np.random.default_rng(0)))
        assert drawn.shape[:2] == (50, 7)
        assert np.abs(drawn.mean(axis=2) - model.values(contexts)).max() < 0.1
        spread.append(drawn.std(axis=2).mean())
    assert spread[1] < 0.7 * spread[0]


@each_model
def test_half_of_what_was_known_is_forgotten_after_a_half_life(name: str, plan: MomentPlan, make_rounds: Make) -> None:
    """800 rounds, then 200 at a half-life of 200: they count as 400 + 200."""
    first = MODELS[name].fit(make_rounds(plan, 800), plan.action_features)
    later = MODELS[name].fit(make_rounds(plan, 200, seed=1), plan.action_features, first, half_life=200.0)
    assert later.rounds == 600


@each_model
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["rewards", "contexts"])
def test_what_is_not_finite_is_refused_with_its_round(
    name: str, column: str, bad: float, plan: MomentPlan, make_rounds: Make
) -> None:
    rounds = make_rounds(plan, 20)
    numbers = getattr(rounds, column).copy()
    numbers[7] = bad
    with pytest.raises(RewardError, match=f"round 7 has a {column[:-1]} that is not finite"):
        MODELS[name].fit(dataclasses.replace(rounds, **{column: numbers}), plan.action_features)


@each_model
@pytest.mark.parametrize("weights", [np.ones(3), np.full(20, -1.0), np.full(20, np.nan)])
def test_weights_without_sense_are_refused(name: str, weights: np.ndarray, plan: MomentPlan, make_rounds: Make) -> None:
    with pytest.raises(ShapeError, match="weights of shape"):
        MODELS[name].fit(make_rounds(plan, 20), plan.action_features, weights=weights)


@each_model
@pytest.mark.parametrize("half_life", [0.0, -1.0, float("nan")])
def test_a_half_life_without_sense_is_refused(name: str, half_life: float, plan: MomentPlan, make_rounds: Make) -> None:
    with pytest.raises(ShapeError, match="half-life"):
        MODELS[name].fit(make_rounds(plan, 20), plan.action_features, half_life=half_life)


@each_model
@pytest.mark.parametrize("reward", [0.0, 1.0, -3.5])
def test_a_constant_reward_is_learned(name: str, reward: float, plan: MomentPlan, make_rounds: Make) -> None:
    rounds = dataclasses.replace(make_rounds(plan, 400), rewards=np.full(400, reward))
    model = MODELS[name].fit(rounds, plan.action_features)
    tolerance = 0.35 if name == "recursive" else 0.15  # it bends most, and each action learns from its 57 rounds alone
    np.testing.assert_allclose(model.values(rounds.contexts[:20]), reward, atol=tolerance * abs(reward))


@each_model
def test_columns_that_say_the_same_do_no_harm(name: str, plan: MomentPlan, make_rounds: Make) -> None:
    rounds = make_rounds(plan, 400)
    twice = rounds.contexts.copy()
    twice[:, 5:10] = twice[:, 10:11]
    twice[:, 12] = 0.0
    model = MODELS[name].fit(dataclasses.replace(rounds, contexts=twice), plan.action_features)
    assert np.abs(model.values(twice)).max() < 2.0


@each_model
@pytest.mark.parametrize("k", [1, 1000])
def test_one_action_and_a_thousand(name: str, k: int) -> None:
    rng, n = np.random.default_rng(0), 500
    rounds = LoggedRounds(
        contexts=rng.uniform(-1.0, 1.0, (n, 4)).astype(np.float32),
        mask=np.ones((n, k), dtype=np.bool_),
        actions=rng.integers(0, k, n),
        propensities=np.full(n, 1.0 / k),
        rewards=rng.normal(size=n),
        subjects=np.arange(n, dtype=np.uint64),
    )
    features = np.hstack([np.ones((k, 1)), np.eye(k)])
    model = MODELS[name].fit(rounds, features)
    assert model.values(rounds.contexts[:3]).shape == (3, k)
    assert np.isfinite(samples(model, rounds.contexts[:3], model.draws(features, 4, rng))).all()
