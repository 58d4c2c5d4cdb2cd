from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba.encoder import joint_features
from nba.errors import ShapeError
from nba.models.linear import RIDGES, LinearModel
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds


def rounds_of(contexts: list[list[float]], actions: list[int], rewards: list[float], k: int = 2) -> LoggedRounds:
    n = len(contexts)
    return LoggedRounds(
        contexts=np.array(contexts, dtype=np.float32).reshape(n, -1),
        mask=np.ones((n, k), dtype=np.bool_),
        actions=np.array(actions, dtype=np.int64),
        propensities=np.full(n, 1.0 / k),
        rewards=np.array(rewards, dtype=np.float64),
        subjects=np.arange(n, dtype=np.uint64),
    )


def test_one_action_by_hand() -> None:
    """Features z = (own,) and no shared ones. x = 1, r = 3 and x = 1, r = 1: (2 + 1) w = 4, so w = 4/3."""
    model = LinearModel.fit(rounds_of([[1.0], [1.0]], [0, 0], [3.0, 1.0], k=1), np.eye(1), ridge=1.0)
    assert model.weights.tolist() == [[pytest.approx(4 / 3)]]
    assert model.values(np.array([[2.0]], dtype=np.float32)).tolist() == [[pytest.approx(8 / 3)]]


def test_what_is_shared_warms_an_action_that_was_never_taken() -> None:
    """z = (1, own): one round of action 0 with x = 1, r = 1. theta solves [[2, 1], [1, 2]] (b, w) = (1, 1):

    b = w = 1/3, so action 0 is worth 2/3 and action 1, never tried, 1/3.
    """
    features = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    model = LinearModel.fit(rounds_of([[1.0]], [0], [1.0]), features, ridge=1.0)
    assert model.weights.ravel() == pytest.approx([2 / 3, 1 / 3])


def test_no_rounds_know_nothing(support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]) -> None:
    plan = support_plans["tone_tuner"]
    model = LinearModel.fit(make_rounds(plan, 0), plan.action_features)
    assert not model.weights.any()
    assert model.rounds == 0


SIZES = st.tuples(st.integers(1, 60), st.integers(1, 6), st.integers(1, 5), st.integers(0, 4))


@given(sizes=SIZES, seed=st.integers(0, 10**6))
def test_weights_are_those_of_a_ridge_regression_on_joint_features(sizes: tuple[int, ...], seed: int) -> None:
    """The same by brute force: solve (I + phi' phi) theta = phi' r with all q * d columns at once."""
    (n, k, d, shared), rng = sizes, np.random.default_rng(seed)
    features = np.hstack([rng.integers(0, 2, (k, shared)).astype(np.float64), np.eye(k)])
    contexts = rng.normal(size=(n, d)).tolist()
    rounds = rounds_of(contexts, rng.integers(0, k, n).tolist(), rng.normal(size=n).tolist(), k)
    phi = joint_features(rounds.contexts, features[rounds.actions])
    theta = np.linalg.solve(phi.T @ phi + np.eye(phi.shape[1]), phi.T @ rounds.rewards)
    model = LinearModel.fit(rounds, features, ridge=1.0)
    np.testing.assert_allclose(model.weights, features @ theta.reshape(-1, d), atol=1e-9)


def test_a_larger_ridge_trusts_the_rounds_less() -> None:
    """x = 1, r = 1, ridge 3: w = 1 / (1 + 3)."""
    assert LinearModel.fit(rounds_of([[1.0]], [0], [1.0], k=1), np.eye(1), ridge=3.0).weights[0, 0] == 0.25


def test_the_ridge_is_the_one_under_which_the_rounds_are_likeliest() -> None:
    """By brute force: r ~ N(0, v (I + phi phi' / ridge)), v at its best, over all the ridges there are."""
    rng = np.random.default_rng(0)
    features = np.hstack([rng.integers(0, 2, (3, 2)).astype(np.float64), np.eye(3)])
    contexts, actions = rng.normal(size=(80, 4)), rng.integers(0, 3, 80)
    rewards = np.einsum("nd,nd->n", contexts, rng.normal(0.0, 0.3, (3, 4))[actions]) + rng.normal(size=80)
    rounds = rounds_of(contexts.tolist(), actions.tolist(), rewards.tolist(), 3)
    phi = joint_features(rounds.contexts, features[rounds.actions])

    def log_likelihood(ridge: float) -> float:
        covariance = np.eye(80) + phi @ phi.T / ridge
        noise = rewards @ np.linalg.solve(covariance, rewards) / 80
        return float(-80 * np.log(noise) - np.linalg.slogdet(covariance)[1])

    likeliest = max(RIDGES, key=log_likelihood)
    assert RIDGES[0] < likeliest < RIDGES[-1]
    assert LinearModel.fit(rounds, features).ridge == likeliest


def test_noise_alone_teaches_nothing_much() -> None:
    """Rewards that no context explains: the weights are shrunk to a small part of what they would be."""
    rng = np.random.default_rng(1)
    rounds = rounds_of(rng.normal(size=(400, 8)).tolist(), [0] * 400, rng.normal(size=400).tolist(), 1)
    shrunk, trusted = LinearModel.fit(rounds, np.eye(1)), LinearModel.fit(rounds, np.eye(1), ridge=1.0)
    assert np.linalg.norm(shrunk.weights) < 0.5 * np.linalg.norm(trusted.weights)


@pytest.mark.parametrize("reward", [0.0, 1.0, -3.5])
def test_a_constant_reward_is_learned(reward: float) -> None:
    rounds = rounds_of([[1.0]] * 200, [0, 1] * 100, [reward] * 200)
    assert LinearModel.fit(rounds, np.eye(2)).weights.ravel() == pytest.approx([reward] * 2, rel=0.02)


def test_learning_in_parts_equals_learning_at_once(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan = support_plans["tone_tuner"]
    rounds = make_rounds(plan, 700)
    at_once = LinearModel.fit(rounds, plan.action_features)
    in_parts: LinearModel | None = None
    for start in range(0, 700, 130):
        part = rounds.take(np.arange(start, min(start + 130, 700)))
        in_parts = LinearModel.fit(part, plan.action_features, in_parts)
    assert in_parts is not None
    assert in_parts.rounds == at_once.rounds == 700
    np.testing.assert_allclose(in_parts.gram, at_once.gram, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(in_parts.weights, at_once.weights, rtol=1e-9, atol=1e-12)


def test_learning_more_does_not_change_what_was_learned_from(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan = support_plans["tone_tuner"]
    first = LinearModel.fit(make_rounds(plan, 50), plan.action_features)
    kept = first.gram.copy(), first.target.copy(), first.weights.copy()
    LinearModel.fit(make_rounds(plan, 50, seed=1), plan.action_features, first)
    assert all(np.array_equal(a, b) for a, b in zip(kept, (first.gram, first.target, first.weights), strict=True))


def test_a_model_for_other_actions_is_no_previous_one(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    tone, path = support_plans["tone_tuner"], support_plans["personalized_path"]
    previous = LinearModel.fit(make_rounds(tone, 10), tone.action_features)
    with pytest.raises(ShapeError, match=r"\(7, 30\) actions and columns, not \(6, 32\)"):
        LinearModel.fit(make_rounds(path, 10), path.action_features, previous)


@pytest.mark.parametrize(("n", "d", "k"), [(300, 30, 7), (64, 128, 50), (9, 64, 1000), (40, 1, 2), (33, 5, 1)])
def test_values_of_a_row_alone_are_those_among_others_to_the_bit(n: int, d: int, k: int) -> None:
    """A matrix product fails this: most of its values differ in the last bit between one row and many."""
    rng = np.random.default_rng(0)
    model = LinearModel(np.zeros((k, d, d)), np.zeros((k, d)), rng.normal(size=(k, d)), 1)
    contexts = rng.normal(size=(n, d)).astype(np.float32)
    together = model.values(contexts)
    alone = np.concatenate([model.values(contexts[i : i + 1]) for i in range(n)])
    turned = model.values(np.asfortranarray(contexts))
    assert together.tobytes() == alone.tobytes() == np.ascontiguousarray(turned).tobytes()
    np.testing.assert_allclose(together, contexts.astype(np.float64) @ model.weights.T, rtol=0, atol=1e-9)


def test_a_weight_of_two_is_a_round_twice() -> None:
    once, twice = [[1.0], [2.0]], [[1.0], [2.0], [2.0]]
    weighted = LinearModel.fit(
        rounds_of(once, [0, 0], [3.0, 1.0], k=1), np.eye(1), weights=np.array([1.0, 2.0]), ridge=1.0
    )
    repeated = LinearModel.fit(rounds_of(twice, [0, 0, 0], [3.0, 1.0, 1.0], k=1), np.eye(1), ridge=1.0)
    assert weighted.weights == pytest.approx(repeated.weights)
    assert weighted.squares == repeated.squares == 11.0


def test_a_half_life_halves_the_sums() -> None:
    """One round x = 1, r = 2, then one x = 1, r = 0 at a half-life of one: gram 0.5 + 1, target 1; w = 1 / 2.5."""
    first = LinearModel.fit(rounds_of([[1.0]], [0], [2.0], k=1), np.eye(1), ridge=1.0)
    second = LinearModel.fit(rounds_of([[1.0]], [0], [0.0], k=1), np.eye(1), first, half_life=1.0, ridge=1.0)
    assert (second.gram.item(), second.target.item(), second.squares) == (1.5, 1.0, 2.0)
    assert second.weights.item() == pytest.approx(0.4)


def test_the_noise_is_what_the_model_leaves_unexplained() -> None:
    """r = 2 x + N(0, 0.5^2): a variance of 0.25."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4_000, 1))
    model = LinearModel.fit(
        rounds_of(x.tolist(), [0] * 4_000, (2.0 * x[:, 0] + rng.normal(0.0, 0.5, 4_000)).tolist(), k=1), np.eye(1)
    )
    assert model.noise == pytest.approx(0.25, rel=0.05)
