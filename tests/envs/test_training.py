"""Other people's trainers take the session environments as they are; RLlib is in `tests/training/test_rl.py`."""

from __future__ import annotations

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
