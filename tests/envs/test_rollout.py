"""Rounds as a log would have them, and exact values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from envs.rollout import CHUNK, rollout, sample_actions, value
from nba.pack_file import load_pack
from nba.policies.uniform import Uniform
from nba.types import ActionMask, Contexts, Distribution

PACK = load_pack("support")
ENV = BatchMomentEnv(PACK, "tone_tuner")


@dataclass(frozen=True, slots=True)
class Leaning:
    """Half silence, the rest even: a policy whose propensities differ from row to row."""

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        even = mask / mask.sum(axis=1, keepdims=True)
        even *= 0.5
        even[:, 0] += 0.5
        return np.asarray(even)


def test_propensities_are_the_policy_s_own() -> None:
    rounds = rollout(Leaning(), ENV, episodes=3_000, rng=np.random.default_rng(0))
    again = Leaning().distribution(rounds.contexts, rounds.mask)
    np.testing.assert_array_equal(rounds.propensities, again[np.arange(3_000), rounds.actions])
    assert rounds.mask[np.arange(3_000), rounds.actions].all()


def test_the_mean_importance_weight_of_another_policy_is_one() -> None:
    rounds = rollout(Leaning(), ENV, episodes=40_000, rng=np.random.default_rng(1))
    target = Uniform().distribution(rounds.contexts, rounds.mask)[np.arange(40_000), rounds.actions]
    weights = target / rounds.propensities
    assert abs(weights.mean() - 1.0) < 4.0 * weights.std() / 200.0


def test_the_mean_reward_of_a_rollout_is_the_policy_s_value() -> None:
    rounds = rollout(Leaning(), ENV, episodes=40_000, rng=np.random.default_rng(2))
    exact = value(Leaning(), ENV, rounds.contexts, rounds.mask)
    assert abs(rounds.rewards.mean() - exact.value) < 4.0 * rounds.rewards.std() / 200.0


def test_any_number_of_episodes_is_played() -> None:
    for episodes in (0, 1, CHUNK + 1):
        assert len(rollout(Uniform(), ENV, episodes=episodes, rng=np.random.default_rng(0))) == episodes


def test_one_customer_is_one_subject() -> None:
    env = BatchMomentEnv(PACK, "tone_tuner", customers=50)
    rounds = rollout(Uniform(), env, episodes=2_000, rng=np.random.default_rng(0))
    assert np.unique(rounds.subjects).size == 50


def test_an_action_without_probability_is_never_sampled() -> None:
    distribution = np.tile([0.0, 0.25, 0.0, 0.75, 0.0], (100_000, 1))
    counts = np.bincount(sample_actions(distribution, np.random.default_rng(0)), minlength=5)
    assert counts[[0, 2, 4]].tolist() == [0, 0, 0]
    assert counts[1] / 100_000 == pytest.approx(0.25, abs=4 * 0.00137)


def test_a_value_by_hand_comes_with_its_standard_error() -> None:
    """Silence on two contexts: the mean of two expected rewards a, b; error |a - b| / 2."""

    @dataclass(frozen=True, slots=True)
    class Silence:
        def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
            return np.eye(mask.shape[1])[np.zeros(len(mask), dtype=np.int64)]

    batch = ENV.sample(2, np.random.default_rng(4))
    a, b = ENV.expected_rewards(batch.contexts)[:, 0]
    found = value(Silence(), ENV, batch.contexts, batch.mask)
    assert (found.value, found.standard_error, found.n) == (
        pytest.approx((a + b) / 2),
        pytest.approx(abs(a - b) / 2),
        2,
    )
