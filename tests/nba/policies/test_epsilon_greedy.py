from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nba.models.linear import LinearModel
from nba.moment_plan import MomentPlan
from nba.policies.epsilon_greedy import EpsilonGreedy
from nba.rounds import LoggedRounds
from nba.testing import check_policy, random_mask


def model_of(weights: np.ndarray) -> LinearModel:
    k, d = weights.shape
    return LinearModel(np.zeros((k, d, d)), np.zeros((k, d)), weights, 1)


ONE = np.ones((1, 1), dtype=np.float32)


def test_a_distribution_by_hand() -> None:
    """epsilon 0.1, three eligible: 0.1 / 3 each, and 0.9 more for the best."""
    policy = EpsilonGreedy(model_of(np.array([[0.1], [0.5], [0.3]])), epsilon=0.1)
    found = policy.distribution(ONE, np.ones((1, 3), dtype=np.bool_))
    assert found[0] == pytest.approx([0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3])


def test_the_best_is_the_best_of_the_eligible() -> None:
    policy = EpsilonGreedy(model_of(np.array([[0.1], [0.5], [0.3]])), epsilon=0.1)
    found = policy.distribution(ONE, np.array([[True, False, True]]))
    assert found[0] == pytest.approx([0.05, 0.0, 0.95])


def test_a_tie_is_shared() -> None:
    policy = EpsilonGreedy(model_of(np.array([[0.5], [0.1], [0.5]])), epsilon=0.3)
    assert policy.distribution(ONE, np.ones((1, 3), dtype=np.bool_))[0] == pytest.approx([0.45, 0.1, 0.45])


def test_it_learns_and_goes_on_learning(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    """The last action pays best; in two parts it is known as well as at once."""
    plan, rounds = support_plans["tone_tuner"], make_rounds(support_plans["tone_tuner"], 2_000)
    first = EpsilonGreedy.fit(plan, rounds.take(np.arange(500)), epsilon=0.2)
    second = EpsilonGreedy.fit(plan, rounds.take(np.arange(500, 2_000)), first, epsilon=0.2)
    np.testing.assert_allclose(second.model.weights, EpsilonGreedy.fit(plan, rounds).model.weights, atol=1e-10)
    found = second.distribution(rounds.contexts, rounds.mask)
    assert (found.argmax(axis=1) == 6).mean() > 0.8
    assert found.max() == pytest.approx(0.8 + 0.2 / 7)


@pytest.mark.parametrize("k", [1, 2, 7, 1000])
def test_it_keeps_the_contract_of_a_policy(k: int) -> None:
    rng = np.random.default_rng(k)
    weights = rng.normal(size=(k, 6))
    check_policy(
        EpsilonGreedy(model_of(weights), epsilon=0.25),
        rng.uniform(-1.0, 1.0, (40, 6)).astype(np.float32),
        random_mask(40, k, rng),
        floor=0.25,
        permuted=lambda order: EpsilonGreedy(model_of(weights[order]), epsilon=0.25),
    )
