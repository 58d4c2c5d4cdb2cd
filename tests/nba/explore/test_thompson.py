"""Whether frozen draws say what the posterior says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtr

from nba.explore.thompson import Thompson, shares
from nba.models.linear import LinearModel
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds

ERROR = 0.002  # four standard errors of a share among a million draws


def best_by_quadrature(mean: np.ndarray, deviation: np.ndarray, nodes: int = 64) -> np.ndarray:
    """P(each of k independent Gaussians is the largest): integral of phi(z) prod_b Phi((m + s z - m_b) / s_b) dz."""
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    value = mean[:, None] + deviation[:, None] * z
    below = ndtr((value[:, None, :] - mean[None, :, None]) / deviation[None, :, None])
    k = np.arange(len(mean))
    below[k, k] = 1.0
    return below.prod(axis=1) @ weight / weight.sum()


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        ([0.1, 0.3, 0.2, 0.0], [0.2, 0.1, 0.3, 0.4]),
        ([0.0, 0.5], [1.0, 1.0]),
    ],
)
def test_a_million_draws_agree_with_the_exact_probability(mean: list[float], deviation: list[float]) -> None:
    centre, width = np.array(mean), np.array(deviation)
    exact = best_by_quadrature(centre, width)
    draws = centre[:, None] + width[:, None] * np.random.default_rng(0).standard_normal((len(mean), 1_000_000))
    found = shares(draws[None], np.ones((1, len(mean)), dtype=np.bool_))[0]
    assert exact.sum() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(found, exact, atol=ERROR)


def test_two_actions_by_hand() -> None:
    """P(N(0, 1) > N(0.5, 1)) = Phi(-0.5 / sqrt 2) = 0.3618."""
    assert best_by_quadrature(np.array([0.0, 0.5]), np.ones(2)) == pytest.approx([0.3618, 0.6382], abs=1e-4)


def test_draws_have_the_posterior_s_mean_and_covariance() -> None:
    """Against the joint posterior by brute force, noise (phi' phi + ridge I)^-1, mapped to the weights of actions."""
    rng = np.random.default_rng(1)
    features = np.hstack([np.ones((3, 1)), np.eye(3)])
    n, d = 200, 2
    contexts, actions = rng.normal(size=(n, d)).astype(np.float32), rng.integers(0, 3, n)
    rewards = contexts[:, 0] + rng.normal(size=n)
    rounds = LoggedRounds(
        contexts, np.ones((n, 3), dtype=np.bool_), actions, np.full(n, 1 / 3), rewards, np.arange(n, dtype=np.uint64)
    )
    model = LinearModel.fit(rounds, features, ridge=5.0)
    phi = (features[actions][:, :, None] * contexts[:, None, :].astype(float)).reshape(n, -1)
    covariance = model.noise * np.linalg.inv(phi.T @ phi + 5.0 * np.eye(phi.shape[1]))
    to_weights = np.kron(features, np.eye(d))
    drawn = model.draws(features, 200_000, np.random.default_rng(2)).transpose(1, 0, 2).reshape(200_000, -1)
    expected = to_weights @ covariance @ to_weights.T
    np.testing.assert_allclose(drawn.mean(axis=0), model.weights.ravel(), atol=0.002)
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.02 * expected.max())


def test_the_spread_shrinks_draws_towards_their_mean(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan = support_plans["tone_tuner"]
    model = LinearModel.fit(make_rounds(plan, 300), plan.action_features)
    whole, tenth = (Thompson.fit(plan, model, spread=s).draws for s in (1.0, 0.1))
    mean = whole.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(tenth - mean, 0.1 * (whole - mean), atol=1e-12)


def test_the_same_rounds_give_the_same_draws_and_more_rounds_others(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan = support_plans["tone_tuner"]
    one, same = (LinearModel.fit(make_rounds(plan, 300), plan.action_features) for _ in range(2))
    more = LinearModel.fit(make_rounds(plan, 301), plan.action_features)
    assert np.array_equal(Thompson.fit(plan, one).draws, Thompson.fit(plan, same).draws)
    assert not np.allclose(
        Thompson.fit(plan, one).draws - one.weights[:, None], Thompson.fit(plan, more).draws - more.weights[:, None]
    )


def test_without_rounds_it_is_uniform(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan = support_plans["tone_tuner"]
    model = LinearModel.fit(make_rounds(plan, 0), plan.action_features)
    found = Thompson.fit(plan, model).distribution(
        model, make_rounds(plan, 5).contexts, np.ones((5, 7), dtype=np.bool_)
    )
    np.testing.assert_allclose(found, 1 / 7)
