"""Moments as Gymnasium environments."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

import envs
from envs.dynamics.drift import Drift
from envs.moment import MomentEnv
from nba.errors import ShapeError, UnknownMomentError
from tests.envs.played import PLAYED


@pytest.mark.parametrize("env_id", list(envs.IDS))
@pytest.mark.parametrize("render_mode", [None, "ansi"])
def test_gymnasium_s_own_check_passes_without_a_warning(env_id: str, render_mode: str | None) -> None:
    check_env(gym.make(env_id, render_mode=render_mode).unwrapped)


def test_every_moment_that_is_played_in_one_step_has_an_id() -> None:
    assert sorted(envs.IDS.values()) == sorted(PLAYED)


def test_registering_imports_no_environment() -> None:
    code = "import sys, envs; sys.exit('envs.moment' in sys.modules or 'envs.people' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_an_episode_is_one_step(pack: str, moment: str) -> None:
    env = MomentEnv(pack, moment)
    with pytest.raises(ResetNeeded):
        env.step(np.int64(0))
    observation, info = env.reset(seed=1)
    after, reward, terminated, truncated, told = env.step(np.int64(0))
    assert (terminated, truncated) == (True, False)
    np.testing.assert_array_equal(observation, after)
    assert told["facts"] == info["facts"]
    assert info["subject_id"].startswith("sim-")
    with pytest.raises(ResetNeeded):
        env.step(np.int64(0))
    assert reward == pytest.approx(
        sum(env.batched.plan.pack.moment(moment).reward[o] * v for o, v in told["outcomes"].items())
    )


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_an_ineligible_action_counts_as_silence_in_outcome_and_cost(pack: str, moment: str) -> None:
    env, twin = (MomentEnv(pack, moment) for _ in range(2))
    seen = 0
    for seed in range(40):
        _, info = env.reset(seed=seed)
        twin.reset(seed=seed)
        barred = np.flatnonzero(info["action_mask"] == 0)
        if barred.size:
            seen += 1
            *_, reward, _, _, told = env.step(barred[0])
            *_, silent, _, _, of_silence = twin.step(np.int64(0))
            assert (told["ineligible"], told["action_id"], reward) == (True, "no_action", silent)
            assert of_silence["ineligible"] is False
        else:
            env.step(np.int64(0))
            twin.step(np.int64(0))
    assert seen > 5


def test_a_seed_repeats_the_customer_and_what_comes_of_it() -> None:
    env = gym.make("nba/ProactiveNudge-v0")
    runs = []
    for _ in range(2):
        observation, info = env.reset(seed=11)
        env.action_space.seed(11)
        runs.append((observation.tolist(), info["facts"], env.step(env.action_space.sample(info["action_mask"]))[1]))
    assert runs[0] == runs[1]
    assert env.reset(seed=12)[0].tolist() != runs[0][0]


def test_the_scalar_form_has_the_law_of_the_batched_one() -> None:
    """2,000 episodes of silence: mean reward within 4 standard errors of the batched mean of 50,000."""
    env = MomentEnv("support", "personalized_path")
    env.reset(seed=0)
    rewards = []
    for _ in range(2_000):
        env.reset()
        rewards.append(env.step(np.int64(0))[1])
    batch = env.batched.sample(50_000, np.random.default_rng(0))
    mean = env.batched.expected_rewards(batch.contexts)[:, 0].mean()
    assert abs(np.mean(rewards) - mean) < 4.0 * np.std(rewards) / np.sqrt(2_000)


def test_rendering_tells_the_moment_and_what_came_of_it() -> None:
    env = MomentEnv("support", "tone_tuner", render_mode="ansi")
    _, info = env.reset(seed=3)
    env.step(np.int64(0))
    told = env.render()
    assert told is not None
    assert info["subject_id"] in told
    assert "did: no_action" in told
    assert MomentEnv("support", "tone_tuner").render() is None


def test_a_column_that_is_no_action_is_refused() -> None:
    env = MomentEnv("support", "tone_tuner")
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match="0 to 6"):
        env.step(np.int64(7))


def test_an_unknown_moment_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownMomentError, match="instant_clarifier"):
        MomentEnv("support", "tea_time")


def test_drift_goes_by_the_steps_of_a_lifetime() -> None:
    """Sudden from step 2: two episodes bring it on, a seed does not undo it, the option `step` does."""
    env = MomentEnv("support", "tone_tuner", drift=Drift("sudden", at=2, size=1.0))
    truths = []
    for options in (None, None, None, {"step": 1}, {"step": 20_000}):
        env.reset(seed=1, options=options)
        truths.append(env.step(np.int64(0))[4]["expected_rewards"].tolist())
    assert truths[0] == truths[1] == truths[3]
    assert truths[2] == truths[4] != truths[0]


@pytest.mark.parametrize("options", [{"stp": 1}, {"step": -1}, {"step": 1.5}, {"step": True}])
def test_an_option_that_is_none_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ShapeError, match="option"):
        MomentEnv("support", "tone_tuner").reset(options=options)


@pytest.mark.parametrize("seed", [-1, 1.0, "one", True])
def test_a_seed_that_is_none_is_refused_with_what_to_give(seed: object) -> None:
    with pytest.raises(ShapeError, match=r"seed .*\n.*whole number of 0 or more"):
        MomentEnv("support", "tone_tuner").reset(seed=seed)  # type: ignore[arg-type]  # that is the point


def test_it_takes_what_the_batched_form_takes() -> None:
    env = MomentEnv("support", "tone_tuner", sleeping=1.0, disposition=0.0, customers=10, population_seed=3)
    assert env.reset(seed=0)[1]["action_mask"].sum() == 1
    with pytest.raises(TypeError, match="sleepy"):
        MomentEnv("support", "tone_tuner", sleepy=1.0)
