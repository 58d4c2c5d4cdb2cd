"""Many customers in one moment at once."""

from __future__ import annotations

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from envs.calibration.parameters import ResponseParameters
from envs.dynamics.drift import Drift, pattern
from nba.errors import ShapeError
from nba.guardrails import action_mask
from tests.envs.played import PACKS, PLAYED

PACK = PACKS["support"]


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_the_same_seed_brings_the_same_customers_and_outcomes(pack: str, moment: str) -> None:
    env, again = BatchMomentEnv(PACKS[pack], moment), BatchMomentEnv(PACKS[pack], moment)
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    batch, same = env.sample(200, one), again.sample(200, two)
    np.testing.assert_array_equal(batch.facts, same.facts)
    actions = np.zeros(200, dtype=np.int64)
    np.testing.assert_array_equal(env.outcomes(batch, actions, one), again.outcomes(same, actions, two))
    assert not np.array_equal(batch.customers, env.sample(200, np.random.default_rng(6)).customers)


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_mask_and_contexts_are_those_a_server_would_make_of_the_facts(pack: str, moment: str) -> None:
    env = BatchMomentEnv(PACKS[pack], moment)
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


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_mean_rewards_are_the_expected_rewards(pack: str, moment: str) -> None:
    """50,000 rounds of every action, of as many customers: mean residual within 4 standard errors of 0."""
    env, rng = BatchMomentEnv(PACKS[pack], moment, customers=50_000), np.random.default_rng(2)
    batch = env.sample(50_000, rng)
    expected = env.expected_rewards(batch.contexts)
    for column in range(len(env.plan.action_ids)):
        actions = np.full(50_000, column)
        residual = env.rewards(env.outcomes(batch, actions, rng), actions) - expected[:, column]
        assert abs(residual.mean()) < 4.0 * residual.std() / np.sqrt(50_000), env.plan.action_ids[column]


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_rewards_stay_in_the_range_the_pack_declares(pack: str, moment: str) -> None:
    env, rng = BatchMomentEnv(PACKS[pack], moment), np.random.default_rng(3)
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


def test_a_population_of_nobody_is_refused() -> None:
    with pytest.raises(ShapeError, match="population of 0"):
        BatchMomentEnv(PACK, "tone_tuner", customers=0)


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_the_chances_of_the_action_taken_are_those_of_the_whole_table(pack: str, moment: str) -> None:
    env, rng = BatchMomentEnv(PACKS[pack], moment), np.random.default_rng(4)
    batch = env.sample(300, rng)
    actions = rng.integers(0, len(env.plan.action_ids), 300)
    whole = env.probabilities(batch.contexts)[np.arange(300), actions]
    np.testing.assert_allclose(env.response.taken(batch.contexts, actions), whole, rtol=1e-12)


def test_trait_means_move_the_population() -> None:
    plain, moved = (BatchMomentEnv(PACK, "tone_tuner", trait_means=means) for means in (None, {"patience": -1.0}))
    moods = [
        np.nanmean(
            env.sample(5_000, np.random.default_rng(0)).facts[:, list(env.plan.encoder.fields).index("sentiment")]
        )
        for env in (plain, moved)
    ]
    assert moods[1] < moods[0] - 0.1


def test_adjustments_come_before_drift_and_both_are_in_the_truth() -> None:
    """Offset 0.7 on one logit of a calibration, then a drift by 1.0 times its pattern."""
    offsets = ResponseParameters(offsets={"resolved": {"no_action": 0.7}})
    drift = Drift("sudden", at=0, size=1.0)
    plain, both = (
        BatchMomentEnv(PACK, "tone_tuner"),
        BatchMomentEnv(PACK, "tone_tuner", adjustments=(offsets,), drift=drift),
    )
    contexts = plain.sample(20, np.random.default_rng(0)).contexts
    moved = both.at(0).response.logits(contexts)[0, 0] - plain.response.logits(contexts)[0, 0]
    shift = pattern(0, both.outcome_names, both.plan.action_ids)[0, 0]
    np.testing.assert_allclose(moved, 0.7 + shift)
