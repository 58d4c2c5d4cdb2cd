"""Many customers in one moment at once."""

from __future__ import annotations

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from nba.errors import ShapeError
from nba.guardrails import action_mask
from nba.pack_file import load_pack

PACK = load_pack("support")


@pytest.mark.parametrize("moment", list(PACK.moments))
def test_the_same_seed_brings_the_same_customers_and_outcomes(moment: str) -> None:
    env, again = BatchMomentEnv(PACK, moment), BatchMomentEnv(PACK, moment)
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    batch, same = env.sample(200, one), again.sample(200, two)
    np.testing.assert_array_equal(batch.facts, same.facts)
    actions = np.zeros(200, dtype=np.int64)
    np.testing.assert_array_equal(env.outcomes(batch, actions, one), again.outcomes(same, actions, two))
    assert not np.array_equal(batch.customers, env.sample(200, np.random.default_rng(6)).customers)


@pytest.mark.parametrize("moment", list(PACK.moments))
def test_mask_and_contexts_are_those_a_server_would_make_of_the_facts(moment: str) -> None:
    env = BatchMomentEnv(PACK, moment)
    batch = env.sample(500, np.random.default_rng(0))
    np.testing.assert_array_equal(batch.contexts, env.plan.encoder.encode(batch.facts))
    np.testing.assert_array_equal(batch.mask, action_mask(env.plan.stages, batch.facts, len(env.plan.action_ids)))
    assert batch.mask[:, 0].all()
    assert (batch.mask.sum(axis=0) > 0).all()  # every action is eligible for somebody
    assert np.abs(batch.contexts).max() <= 1.0


def test_a_reward_is_the_formula_less_the_cost() -> None:
    """Clarified (cost 0.03), resolved and back again: 1.0 - 0.6 - 0.03 = 0.37; silence, nothing came: 0."""
    env = BatchMomentEnv(PACK, "instant_clarifier")
    assert env.outcome_names == ("resolved", "repeat_contact")
    actions = np.array([env.plan.action_ids.index("clarify_two_way"), 0])
    assert env.rewards(np.array([[1.0, 1.0], [0.0, 0.0]]), actions).tolist() == pytest.approx([0.37, 0.0])


@pytest.mark.parametrize("moment", list(PACK.moments))
def test_mean_rewards_are_the_expected_rewards(moment: str) -> None:
    """50,000 rounds of every action: the mean residual lies within 4 standard errors of 0."""
    env, rng = BatchMomentEnv(PACK, moment), np.random.default_rng(2)
    batch = env.sample(50_000, rng)
    expected = env.expected_rewards(batch.contexts)
    for column in range(len(env.plan.action_ids)):
        actions = np.full(50_000, column)
        residual = env.rewards(env.outcomes(batch, actions, rng), actions) - expected[:, column]
        assert abs(residual.mean()) < 4.0 * residual.std() / np.sqrt(50_000), env.plan.action_ids[column]


@pytest.mark.parametrize("moment", list(PACK.moments))
def test_rewards_stay_in_the_range_the_pack_declares(moment: str) -> None:
    env, rng = BatchMomentEnv(PACK, moment), np.random.default_rng(3)
    batch = env.sample(5_000, rng)
    actions = rng.integers(0, len(env.plan.action_ids), 5_000)
    low, high = env.plan.reward_range
    rewards = env.rewards(env.outcomes(batch, actions, rng), actions)
    assert low <= rewards.min() < rewards.max() <= high


def test_a_batch_of_none_is_fine_and_a_negative_one_is_refused() -> None:
    env = BatchMomentEnv(PACK, "tone_tuner")
    assert len(env.sample(0, np.random.default_rng(0))) == 0
    with pytest.raises(ShapeError, match="batch of -1"):
        env.sample(-1, np.random.default_rng(0))
