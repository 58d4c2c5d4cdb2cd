"""Other people's trainers take the session environments as they are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401  # registers the ids

ID = "nba/ServiceConversation-v0"


@pytest.mark.filterwarnings("ignore")
def test_stable_baselines_trains_on_a_session() -> None:
    """4,096 steps of PPO: it ends up earning more than it began with."""
    from stable_baselines3 import PPO

    env = gym.make(ID)
    model = PPO("MultiInputPolicy", env, n_steps=1_024, batch_size=128, learning_rate=1e-3, seed=0, device="cpu")
    before = _earned(env, model)
    model.learn(4_096)
    assert _earned(env, model) > before


def _earned(env: gym.Env, model: object, sessions: int = 60) -> float:
    """Mean return of sampled sessions."""
    observation, _ = env.reset(seed=11)
    total, over = 0.0, 0
    while over < sessions:
        action, _ = model.predict(observation)  # type: ignore[attr-defined]
        observation, reward, ended, cut, _ = env.step(np.int64(action))
        total += float(reward)
        if ended or cut:
            over += 1
            observation, _ = env.reset()
    return total / sessions


@pytest.fixture
def runtime_folder() -> Iterator[Path]:
    """A folder with a short path: Ray's sockets allow no long one."""
    with tempfile.TemporaryDirectory(prefix="nba-rl-") as folder:
        yield Path(folder)


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")
def test_rllib_trains_on_the_batched_session_with_masks_and_the_environment_is_not_what_it_waits_for(
    runtime_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PPO with RLlib's own masking module on the vector form: returns rise; stepping is a fifth of sampling at most."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 32)
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule

    config = (
        PPOConfig()
        .environment(ID)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=128, gym_env_vectorize_mode="vector_entry_point")
        .training(train_batch_size_per_learner=4_096, minibatch_size=512, num_epochs=4, lr=1e-3)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
        .debugging(seed=0, log_level="ERROR")
    )
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(runtime_folder),
    )
    try:
        algorithm = config.build_algo()
        told = [algorithm.train()["env_runners"] for _ in range(6)]
        algorithm.stop()
    finally:
        ray.shutdown()
    assert told[-1]["episode_return_mean"] > told[0]["episode_return_mean"] + 0.1
    # `env_step_timer` is of one call for all 128 sessions.
    calls = told[-1]["num_env_steps_sampled"] / 128
    assert told[-1]["env_step_timer"] * calls < 0.2 * told[-1]["sample"]
