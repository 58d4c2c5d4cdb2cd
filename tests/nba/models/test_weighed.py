"""What was learned before as a prior of a stated weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from nba.models import MODELS
from nba.models.linear import LinearModel
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds

Make = Callable[..., LoggedRounds]
each_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def plan(support_plans: dict[str, MomentPlan]) -> MomentPlan:
    return support_plans["tone_tuner"]


@each_model
def test_it_counts_as_so_many_rounds(name: str, plan: MomentPlan, make_rounds: Make) -> None:
    model = MODELS[name].fit(make_rounds(plan, 600), plan.action_features).weighed(150, plan.action_features)
    assert model.rounds == 150
    assert MODELS[name].fit(make_rounds(plan, 50, seed=1), plan.action_features, model).rounds == 200


@each_model
def test_one_that_knows_nothing_stays_so(name: str, plan: MomentPlan, make_rounds: Make) -> None:
    model = MODELS[name].fit(make_rounds(plan, 0), plan.action_features).weighed(150, plan.action_features)
    assert model.rounds == 0
    assert not model.values(make_rounds(plan, 5).contexts).any()


def test_a_linear_prior_is_exact(plan: MomentPlan, make_rounds: Make) -> None:
    """600 rounds that count as 150 are 600 rounds of weight 1/4 each."""
    rounds = make_rounds(plan, 600)
    whole = LinearModel.fit(rounds, plan.action_features, ridge=10.0)
    quarter = LinearModel.fit(rounds, plan.action_features, weights=np.full(600, 0.25), ridge=10.0)
    weighed = whole.weighed(150, plan.action_features)
    np.testing.assert_allclose(weighed.gram, quarter.gram, atol=1e-9)
    np.testing.assert_allclose(weighed.weights, quarter.weights, atol=1e-9)
    assert (weighed.rounds, weighed.squares) == (quarter.rounds, pytest.approx(quarter.squares))


@pytest.mark.parametrize("name", ["linear", "quadratic", "ensemble"])
def test_a_light_wrong_prior_is_overcome_sooner_than_a_heavy_one(
    name: str, plan: MomentPlan, make_rounds: Make
) -> None:
    """The prior has every reward upside down; 600 rounds then say how it is."""
    rounds, features = make_rounds(plan, 600), plan.action_features
    wrong = MODELS[name].fit(dataclasses.replace(rounds, rewards=-rounds.rewards), features)
    right, new = MODELS[name].fit(rounds, features).values(rounds.contexts), make_rounds(plan, 600, seed=1)
    off = []
    for weight in (60, 600):
        found = MODELS[name].fit(new, features, wrong.weighed(weight, features)).values(rounds.contexts)
        off.append(float(np.mean(np.square(found - right))))
    assert off[0] < 0.5 * off[1]
