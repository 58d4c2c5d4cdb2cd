"""Many moments side by side as a Gymnasium vector environment."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode

from envs import IDS
from envs.batch import BatchMomentEnv
from envs.dynamics.drift import Drift
from envs.moment import MomentEnv
from envs.moment_vector import MomentVectorEnv
from nba.errors import ShapeError
from tests.envs.played import PACKS, PLAYED

SETTINGS = {"drift": Drift("gradual", at=5, over=20, size=2.0), "sleeping": 0.2, "disposition": 0.3, "customers": 300}


def within_mask(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An eligible action a row, evenly."""
    return (rng.random(mask.shape) * mask).argmax(axis=1)


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_makes_it_without_a_warning_and_everything_lies_in_its_space(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make_vec(env_id, num_envs=16, vectorization_mode="vector_entry_point")
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observations, _ = env.reset(seed=0)
    assert observations in env.observation_space
    env.action_space.seed(0)
    for _ in range(5):
        actions = env.action_space.sample()
        observations, rewards, terminated, truncated, _ = env.step(actions)
        assert observations in env.observation_space
        assert (rewards.shape, rewards.dtype) == ((16,), np.float64)
        assert terminated.tolist() == [True] * 16
        assert truncated.tolist() == [False] * 16
    env.close()


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_one_of_them_is_the_scalar_form(pack: str, moment: str) -> None:
    """Forty steps under drift, sleep and disposition: the same seed and actions, the same trajectory bit for bit."""
    scalar = MomentEnv(pack, moment, **SETTINGS)
    vector = MomentVectorEnv(pack, moment, num_envs=1, expected_rewards=True, **SETTINGS)
    (one, info), (many, infos), rng = scalar.reset(seed=7), vector.reset(seed=7), np.random.default_rng(0)
    for _ in range(40):
        np.testing.assert_array_equal(one, many[0])
        np.testing.assert_array_equal(info["action_mask"], infos["action_mask"][0])
        action, before = np.int64(rng.integers(len(scalar.action_ids))), infos["expected_rewards"][0]
        _, reward, _, _, told = scalar.step(action)
        many, rewards, _, _, infos = vector.step(np.array([action]))
        final = infos["final_info"]
        assert reward == rewards[0]
        assert told["ineligible"] == final["ineligible"][0]
        assert list(told["outcomes"].values()) == final["outcomes"][0].tolist()
        np.testing.assert_array_equal(told["expected_rewards"], before)
        np.testing.assert_array_equal(infos["final_obs"][0], one)
        one, info = scalar.reset()


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_masks_are_respected_and_rewards_lie_in_the_range_the_pack_declares(pack: str, moment: str) -> None:
    """Even actions, eligible or not: an ineligible one earns what silence may earn, no_action is always possible."""
    env, rng = MomentVectorEnv(pack, moment, num_envs=500, sleeping=0.1), np.random.default_rng(1)
    silence = np.unique(env.core.batched.rewards(_every_outcome(env), np.zeros(2 ** len(env.outcome_names), dtype=int)))
    low, high = env.core.batched.plan.reward_range
    _, info = env.reset(seed=1)
    for _ in range(10):
        mask = info["action_mask"]
        assert (mask.dtype, mask.shape) == (np.int8, (500, len(env.action_ids)))
        assert mask[:, 0].all()
        actions = rng.integers(0, len(env.action_ids), 500)
        _, rewards, _, _, info = env.step(actions)
        ineligible = info["final_info"]["ineligible"]
        np.testing.assert_array_equal(ineligible, mask[np.arange(500), actions] == 0)
        assert (np.abs(rewards[ineligible][:, None] - silence).min(axis=1) < 1e-9).all()
        assert low <= rewards.min() <= rewards.max() <= high


def _every_outcome(env: MomentVectorEnv) -> np.ndarray:
    return np.array(list(np.ndindex((2,) * len(env.outcome_names))), dtype=np.float64)


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_many_have_the_law_of_the_batched_form(pack: str, moment: str) -> None:
    """20 steps of 4,000, eligible actions evenly: mean residual within 4 standard errors of 0, customers apart."""
    env = MomentVectorEnv(pack, moment, num_envs=4_000, expected_rewards=True, customers=100_000)
    rng = np.random.default_rng(2)
    _, info = env.reset(seed=2)
    residuals = []
    for _ in range(20):
        actions, expected = within_mask(info["action_mask"], rng), info["expected_rewards"]
        _, rewards, _, _, info = env.step(actions)
        residuals.append(rewards - expected[np.arange(4_000), actions])
    each = np.concatenate(residuals)
    assert abs(each.mean()) < 4.0 * each.std() / np.sqrt(len(each))


def test_customers_are_those_of_the_batched_form() -> None:
    vector = MomentVectorEnv("support", "tone_tuner", num_envs=50)
    observations, info = vector.reset(seed=3)
    batch = BatchMomentEnv(PACKS["support"], "tone_tuner").sample(50, gym.utils.seeding.np_random(3)[0])
    np.testing.assert_array_equal(observations, batch.contexts)
    np.testing.assert_array_equal(info["action_mask"], batch.mask)


def test_a_seed_repeats_everything() -> None:
    runs = []
    for env in (MomentVectorEnv("support", "tone_tuner", num_envs=20) for _ in range(2)):
        env.reset(seed=4)
        observations, rewards, *_ = env.step(np.zeros(20, dtype=np.int64))
        runs.append((observations.tolist(), rewards.tolist()))
    assert runs[0] == runs[1]


def test_what_the_caller_does_to_an_observation_changes_nothing() -> None:
    rewards = []
    for spoil in (False, True):
        env = MomentVectorEnv("support", "tone_tuner", num_envs=200)
        observations, info = env.reset(seed=5)
        if spoil:
            observations[:], info["action_mask"][:] = 0.0, 0
        rewards.append(env.step(np.full(200, 2))[1].tolist())
    assert rewards[0] == rewards[1]


def test_drift_goes_by_the_steps_of_a_lifetime() -> None:
    """Sudden from step 3: three steps bring it on, a reset does not undo it, the option `step` does."""
    env = MomentVectorEnv(
        "support", "tone_tuner", num_envs=4, expected_rewards=True, drift=Drift("sudden", at=3, size=1.0)
    )
    silence = np.zeros(4, dtype=np.int64)
    truths = [env.reset(seed=6)[1]["expected_rewards"]]
    for _ in range(3):
        env.step(silence)
    truths += [env.reset(seed=6, options=options)[1]["expected_rewards"] for options in (None, {"step": 2})]
    assert np.abs(truths[0] - truths[1]).max() > 0.01
    np.testing.assert_array_equal(truths[0], truths[2])


def test_the_truth_is_told_only_if_asked_for() -> None:
    env = MomentVectorEnv("support", "tone_tuner", num_envs=2)
    _, at_reset = env.reset(seed=0)
    *_, at_step = env.step(np.zeros(2, dtype=np.int64))
    assert "expected_rewards" not in at_reset | at_step | at_step["final_info"]


def test_a_step_before_a_reset_is_refused() -> None:
    with pytest.raises(ResetNeeded, match="call reset"):
        MomentVectorEnv("support", "tone_tuner", num_envs=2).step(np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize("actions", [[0], [0, 7], [0, -1], [0.0, 1.0], [[0, 1]]])
def test_actions_that_are_no_columns_are_refused(actions: list[object]) -> None:
    env = MomentVectorEnv("support", "tone_tuner", num_envs=2)
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match="2 columns, each 0 to 6"):
        env.step(np.array(actions))  # type: ignore[arg-type]  # that is the point


def test_no_environment_at_all_is_refused() -> None:
    with pytest.raises(ShapeError, match="0 environments"):
        MomentVectorEnv("support", "tone_tuner", num_envs=0)
