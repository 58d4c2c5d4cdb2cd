from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba.explore.inverse_gap import inverse_gap
from nba.models.linear import LinearModel
from nba.moment_plan import MomentPlan
from nba.policies.square_cb import SquareCB
from nba.rounds import LoggedRounds
from nba.testing import check_policy, random_mask


def model_of(weights: np.ndarray, rounds: int = 100) -> LinearModel:
    k, d = weights.shape
    return LinearModel(np.zeros((k, d, d)), np.zeros((k, d)), weights, rounds)


def test_inverse_gap_weighting_by_hand() -> None:
    """v = (0.5, 0.3, 0.1), gamma = 10, K = 3: 1 / (3 + 2) = 0.2, 1 / (3 + 4) = 1/7, and the best takes the rest."""
    found = inverse_gap(np.array([[0.5, 0.3, 0.1]]), np.ones((1, 3), dtype=np.bool_), 10.0)
    assert found[0] == pytest.approx([1 - 0.2 - 1 / 7, 0.2, 1 / 7])


def test_an_action_that_is_not_eligible_counts_for_nothing() -> None:
    """Without the second action K = 2 and 1 / (2 + 4) = 1/6, although it looks best of all."""
    found = inverse_gap(np.array([[0.5, 9.0, 0.1]]), np.array([[True, False, True]]), 10.0)
    assert found[0] == pytest.approx([5 / 6, 0.0, 1 / 6])
    assert found[0, 1] == 0.0


def test_an_action_that_is_not_eligible_cannot_divide_by_nought() -> None:
    """It looks better by 1/4, so that 2 + 8 * (1/2 - 3/4) would be 0. The last has 1 / (2 + 8 * 1/4)."""
    found = inverse_gap(np.array([[0.5, 0.75, 0.25]]), np.array([[True, False, True]]), 8.0)
    assert found[0].tolist() == [0.75, 0.0, 0.25]


def test_equal_values_are_explored_evenly() -> None:
    found = inverse_gap(np.zeros((1, 4)), np.array([[True, True, False, True]]), 50.0)
    assert found[0] == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3])


@given(gap=st.floats(0.0, 1.0), gamma=st.floats(0.0, 1e6), k=st.integers(2, 6))
def test_the_best_has_at_least_an_even_part(gap: float, gamma: float, k: int) -> None:
    values = np.linspace(0.0, gap, k)[None]
    found = inverse_gap(values, np.ones((1, k), dtype=np.bool_), gamma)[0]
    assert found[-1] >= 1 / k - 1e-12
    assert (np.diff(found) >= -1e-12).all()
    assert found.sum() == pytest.approx(1.0)


def test_a_distribution_by_hand() -> None:
    """x = 1, values (0, 0.2) of a span of 2: a gap of 0.1. 25 rounds, scale 4: gamma = 4 * 5 = 20, K = 2:

    1 / (2 + 20 * 0.1) = 0.25. With a floor of 0.2: 0.8 * (0.25, 0.75) + 0.1 = (0.3, 0.7).
    """
    policy = SquareCB(model_of(np.array([[0.0], [0.2]]), rounds=25), reward_span=2.0, scale=4.0, floor=0.2)
    found = policy.distribution(np.ones((1, 1), dtype=np.float32), np.ones((1, 2), dtype=np.bool_))
    assert found[0] == pytest.approx([0.3, 0.7])


def test_without_rounds_it_is_uniform(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan = support_plans["tone_tuner"]
    policy = SquareCB.fit(plan, make_rounds(plan, 0))
    found = policy.distribution(make_rounds(plan, 5).contexts, np.ones((5, 7), dtype=np.bool_))
    np.testing.assert_allclose(found, 1 / 7)


def test_exploration_fades_as_rounds_come(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    """The last action pays best everywhere: its probability grows, first slowly."""
    plan = support_plans["tone_tuner"]
    contexts, mask = make_rounds(plan, 200, seed=9).contexts, np.ones((200, 7), dtype=np.bool_)
    shares = [
        SquareCB.fit(plan, make_rounds(plan, n)).distribution(contexts, mask)[:, -1].mean()
        for n in (0, 100, 1_000, 5_000)
    ]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / 7)
    assert shares[-1] > 0.8


def test_rewards_in_cents_lead_to_the_same_policy_as_rewards_in_euros(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    """Everything by 100: the span too, so that gaps and probabilities stay."""
    plan, rounds = support_plans["tone_tuner"], make_rounds(support_plans["tone_tuner"], 300)
    euros = SquareCB(LinearModel.fit(rounds, plan.action_features), reward_span=2.0)
    in_cents = LoggedRounds(
        rounds.contexts, rounds.mask, rounds.actions, rounds.propensities, 100 * rounds.rewards, rounds.subjects
    )
    cents = SquareCB(LinearModel.fit(in_cents, plan.action_features), reward_span=200.0)
    mask = np.ones((300, 7), dtype=np.bool_)
    np.testing.assert_allclose(
        euros.distribution(rounds.contexts, mask), cents.distribution(rounds.contexts, mask), atol=1e-9
    )


def test_the_span_is_that_of_the_moment(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan = support_plans["tone_tuner"]
    low, high = plan.reward_range
    assert SquareCB.fit(plan, make_rounds(plan, 3)).reward_span == high - low


def test_fitting_on_top_of_a_previous_policy_adds_to_it(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan, rounds = support_plans["tone_tuner"], make_rounds(support_plans["tone_tuner"], 200)
    first = SquareCB.fit(plan, rounds.take(np.arange(80)))
    second = SquareCB.fit(plan, rounds.take(np.arange(80, 200)), first)
    np.testing.assert_allclose(second.model.weights, SquareCB.fit(plan, rounds).model.weights, atol=1e-10)
    assert second.model.rounds == 200


@pytest.mark.parametrize("k", [1, 2, 7, 1000])
def test_it_keeps_the_contract_of_a_policy(k: int) -> None:
    rng = np.random.default_rng(k)
    weights = rng.normal(size=(k, 6))
    check_policy(
        SquareCB(model_of(weights), reward_span=2.0),
        rng.uniform(-1.0, 1.0, (40, 6)).astype(np.float32),
        random_mask(40, k, rng),
        floor=0.02,
        permuted=lambda order: SquareCB(model_of(weights[order]), reward_span=2.0),
    )
