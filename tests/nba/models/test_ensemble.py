from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nba.models.ensemble import Ensemble, resampled
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds

Make = Callable[..., LoggedRounds]


def test_a_customer_counts_poisson_often() -> None:
    """Mean 1, variance 1, P(0) = 1 / e = 0.368, over 100,000 customers."""
    counts = resampled(np.arange(100_000, dtype=np.uint64), 0, 0)
    assert counts.mean() == pytest.approx(1.0, abs=0.015)
    assert counts.var() == pytest.approx(1.0, abs=0.03)
    assert (counts == 0).mean() == pytest.approx(0.368, abs=0.008)


def test_resamples_differ_by_member_and_seed_and_repeat() -> None:
    subjects = np.arange(10_000, dtype=np.uint64)
    base = resampled(subjects, 0, 0)
    assert np.array_equal(base, resampled(subjects, 0, 0))
    for other in (resampled(subjects, 1, 0), resampled(subjects, 0, 1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.05


def test_in_parts_as_at_once(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    plan, rounds = support_plans["tone_tuner"], make_rounds(support_plans["tone_tuner"], 300)
    at_once = Ensemble.fit(rounds, plan.action_features)
    first = Ensemble.fit(rounds.take(np.arange(100)), plan.action_features)
    both = Ensemble.fit(rounds.take(np.arange(100, 300)), plan.action_features, first)
    np.testing.assert_allclose(both.members, at_once.members, atol=1e-9)


def test_values_are_the_mean_of_the_members(support_plans: dict[str, MomentPlan], make_rounds: Make) -> None:
    plan = support_plans["tone_tuner"]
    model = Ensemble.fit(make_rounds(plan, 300), plan.action_features, members=4)
    contexts = make_rounds(plan, 5, seed=1).contexts
    each = np.einsum("nd,mkd->nkm", contexts.astype(np.float64), model.members)
    assert each.shape == (5, 7, 4)
    np.testing.assert_allclose(model.values(contexts), each.mean(axis=2), atol=1e-12)
