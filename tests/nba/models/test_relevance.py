"""Whether columns that matter are told from those that do not, and the posterior is the one of a brute force."""

from __future__ import annotations

import numpy as np
import pytest

from nba.models.relevance import MOST, START, Relevance


def sums(x: np.ndarray, actions: np.ndarray, rewards: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Gram (k, c, c) and target (k, c)."""
    rows = [x[actions == a] for a in range(k)]
    return np.array([r.T @ r for r in rows]), np.array([r.T @ rewards[actions == a] for a, r in enumerate(rows)])


def drawn(n: int = 600, k: int = 3, c: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Only column 1 matters, differently for each action; noise of variance 1."""
    rng = np.random.default_rng(0)
    x, actions = rng.normal(size=(n, c)), rng.integers(0, k, n)
    return x, actions, x[:, 1] * np.array([-1.0, 1.0, 2.0])[actions] + rng.normal(size=n)


def test_a_column_that_matters_gets_a_low_precision_and_others_a_high_one() -> None:
    """The coefficients of column 1 are of the order of 1, as the noise is: a precision of about 1. Others: over 20."""
    x, actions, rewards = drawn()
    found = Relevance.of(*sums(x, actions, rewards, 3), float(rewards @ rewards), 600).precision
    assert found[1] < 3.0
    assert (np.delete(found, 1) > 20.0).all()
    assert found.max() <= MOST


def test_weights_are_those_of_a_ridge_regression_on_common_and_own_columns() -> None:
    """By brute force: phi = (x, [a = 0] x, [a = 1] x, ...), each column with its precision in all of its places."""
    x, actions, rewards = drawn()
    model = Relevance.of(*sums(x, actions, rewards, 3), float(rewards @ rewards), 600)
    phi = np.hstack([x, *(x * (actions == a)[:, None] for a in range(3))])
    theta = np.linalg.solve(phi.T @ phi + np.diag(np.tile(model.precision, 4)), phi.T @ rewards).reshape(4, 5)
    np.testing.assert_allclose(model.weights, theta[0] + theta[1:], atol=1e-9)
    unexplained = rewards @ (rewards - phi @ theta.ravel())
    assert model.noise == pytest.approx(unexplained / 600)


def test_draws_have_the_posterior_s_mean_and_covariance() -> None:
    """noise (phi' phi + precisions)^-1, mapped to the weights of actions."""
    x, actions, rewards = drawn(n=60, k=2, c=2)
    model = Relevance.of(*sums(x, actions, rewards, 2), float(rewards @ rewards), 60)
    phi = np.hstack([x, *(x * (actions == a)[:, None] for a in range(2))])
    covariance = model.noise * np.linalg.inv(phi.T @ phi + np.diag(np.tile(model.precision, 3)))
    to_weights = np.kron(np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), np.eye(2))
    expected = to_weights @ covariance @ to_weights.T
    found = model.draws(100_000, np.random.default_rng(1)).transpose(1, 0, 2).reshape(100_000, -1)
    np.testing.assert_allclose(found.mean(axis=0), model.weights.ravel(), atol=0.005)
    np.testing.assert_allclose(np.cov(found.T), expected, atol=0.02 * expected.max())


def test_a_column_that_dropped_out_comes_back_when_it_matters() -> None:
    """Started from the highest precision there is, the column that matters ends where it ends from the usual start."""
    x, actions, rewards = drawn()
    told = *sums(x, actions, rewards, 3), float(rewards @ rewards), 600
    afresh, again = Relevance.of(*told), Relevance.of(*told, start=np.full(5, MOST))
    assert again.precision[1] == pytest.approx(afresh.precision[1], rel=1e-6)


def test_nothing_seen_leaves_the_first_guess() -> None:
    nothing = Relevance.of(np.zeros((2, 3, 3)), np.zeros((2, 3)), 0.0, 0)
    assert nothing.precision.tolist() == [START] * 3
    assert not nothing.weights.any()
    assert nothing.noise == 0.0
