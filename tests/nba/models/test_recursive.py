from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nba.errors import ShapeError
from nba.models.recursive import Known, RecursiveModel
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds

Make = Callable[..., LoggedRounds]
SMALL = {"features": 20, "members": 400}


def test_one_round_moves_mean_variance_and_members() -> None:
    """P = 1, x = 1, r = 1: K = 1/2, P = 1/2, mean 1/2; 0.8 with noise 0.2 moves by K (0.2 - 0.8) to 0.5."""
    before = Known(np.eye(1), np.zeros(1), np.array([[0.8]]))
    after, surprise = before.after(np.ones((1, 1)), np.ones(1), np.array([[0.2]]))
    assert after.covariance == pytest.approx(0.5)
    assert after.weights == pytest.approx(0.5)
    assert after.deviations == pytest.approx(0.5)
    assert surprise == pytest.approx(0.5)  # 1^2 over its variance 1 + 1


def test_round_by_round_is_as_good_as_solving_at_once(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    plan, rounds = support_plans["tone_tuner"], make_rounds(support_plans["tone_tuner"], 300)
    model = RecursiveModel.fit(rounds.take(np.arange(200)), plan.action_features, **SMALL)
    for i in range(200, 300):
        model = RecursiveModel.fit(rounds.take(np.array([i])), plan.action_features, model)
    taken = rounds.actions == 2
    x, r = model.features(rounds.contexts[taken]), rounds.rewards[taken]
    precision = x.T @ x + model.ridge * np.eye(x.shape[1])
    np.testing.assert_allclose(model.actions[2].weights, np.linalg.solve(precision, x.T @ r), atol=1e-9)
    np.testing.assert_allclose(model.actions[2].covariance, np.linalg.inv(precision), atol=1e-9)


def test_the_members_stay_draws_of_the_posterior(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    """Their mean is the weights; over 400 of them a variance is known to 7 %, three errors are 21 %."""
    plan = support_plans["tone_tuner"]
    model = RecursiveModel.fit(make_rounds(plan, 300), plan.action_features, **SMALL)
    known = model.actions[1]
    assert np.abs(known.deviations.mean(axis=0)).max() < 1e-9
    assert np.trace(known.deviations.T @ known.deviations) / 400 == pytest.approx(np.trace(known.covariance), rel=0.1)


def test_a_weight_of_two_counts_as_two_rounds(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    plan, rounds = support_plans["tone_tuner"], make_rounds(support_plans["tone_tuner"], 60)
    weighted = RecursiveModel.fit(rounds, plan.action_features, weights=np.full(60, 2.0), **SMALL)
    twice = RecursiveModel.fit(LoggedRounds.concatenate([rounds, rounds]), plan.action_features, **SMALL)
    np.testing.assert_allclose(weighted.values(rounds.contexts), twice.values(rounds.contexts), atol=1e-9)
    assert weighted.rounds == twice.rounds == 120


def test_a_context_of_another_width_is_refused(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    plan = support_plans["tone_tuner"]
    model = RecursiveModel.fit(make_rounds(plan, 60), plan.action_features, **SMALL)
    with pytest.raises(ShapeError, match="contexts of 3 columns for frequencies of"):
        model.features(np.zeros((1, 3), dtype=np.float32))


def test_more_covariances_than_fit_are_refused(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    with pytest.raises(ShapeError, match="features squared are more than"):
        RecursiveModel.fit(make_rounds(support_plans["tone_tuner"], 60), np.eye(7), features=5_000)
