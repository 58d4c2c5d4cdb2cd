"""Samples sessions for RLlib as whole arrays: RLlib's own runner keeps a list for each session and waits for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    WEIGHTS_SEQ_NO,
)

import envs  # noqa: F401  # registers the ids
from training.rl.module import SessionModule
from training.rl.steps import Steps


class SessionRunner(EnvRunner, Checkpointable):
    """Plays `rollout_fragment_length` steps of `num_envs_per_env_runner` sessions, from their start, for each sample.

    What is drawn depends on the seed, the runner and how often the network has been updated: a run that goes on from
    a checkpoint draws what it would have drawn.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        torch.set_num_threads(1)
        self._weights_seq_no = 0
        self.num_env_steps_sampled_lifetime: int = 0
        self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """The batched form of the environment."""
        self.env = gymnasium.make_vec(
            self.config.env,
            num_envs=self.config.num_envs_per_env_runner,
            vectorization_mode="vector_entry_point",
            **self.config.env_config,
        )

    def make_module(self) -> None:
        """The network, without what only learning needs."""
        spec = self.config.get_rl_module_spec(env=self.env, spaces=self.get_spaces(), inference_only=True)
        self.module: SessionModule = spec.build()

    def get_spaces(self) -> dict[str, tuple[Any, Any]]:
        """The spaces of one session and of all."""
        env = self.env
        single = env.single_observation_space, env.single_action_space
        batched = env.observation_space, env.action_space
        return {INPUT_ENV_SPACES: batched, INPUT_ENV_SINGLE_SPACES: single, DEFAULT_MODULE_ID: single}

    def sample(self, **kwargs: Any) -> Steps:
        """Steps of new sessions, actions drawn by the network as it is now."""
        seed = [self.config.seed or 0, self.worker_index or 0, self._weights_seq_no]
        rng = np.random.default_rng(seed)
        steps = play(self.env, self.module, self.config.rollout_fragment_length, self._epsilon(), rng)
        self._log(steps)
        return steps

    def _epsilon(self) -> float | None:
        """The share of even draws now, where the network says action values; None where it says log odds."""
        schedule = self.module.model_config["epsilon"]
        if schedule is None:
            return None
        (_, first), (until, last) = schedule
        return float(np.interp(self.num_env_steps_sampled_lifetime, [0, until], [first, last]))

    def _log(self, steps: Steps) -> None:
        n, over = int(steps.live.sum()), int(steps.over.sum())
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED, n, reduce="sum", with_throughput=True)
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, n, reduce="lifetime_sum", with_throughput=True)
        returns, lengths = _whole(steps)
        if over:
            self.metrics.log_value(EPISODE_RETURN_MEAN, float(returns.mean()), window=1)
            self.metrics.log_value(EPISODE_LEN_MEAN, float(lengths.mean()), window=1)
        self.num_env_steps_sampled_lifetime += n

    def get_metrics(self) -> Any:
        """What was logged since the last call."""
        return self.metrics.reduce()

    def assert_healthy(self) -> None:
        """Raises AssertionError where the environment or the network is missing."""
        if self.env is None or self.module is None:
            raise AssertionError("the runner was not set up")

    def stop(self) -> None:
        """Closes the environment."""
        self.env.close()

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """How far it is, and the network where asked for."""
        state: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state |= {COMPONENT_RL_MODULE: self.module.get_state(), WEIGHTS_SEQ_NO: self._weights_seq_no}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over how far another is, and its network."""
        known = state.get(COMPONENT_RL_MODULE)
        if known is not None:
            weights = ray.get(known) if isinstance(known, ray.ObjectRef) else known
            self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))
            self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, self._weights_seq_no)
        self.num_env_steps_sampled_lifetime = state.get(
            NUM_ENV_STEPS_SAMPLED_LIFETIME, self.num_env_steps_sampled_lifetime
        )

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a copy is made with."""
        return (), {"config": self.config}


def play(
    env: gymnasium.vector.VectorEnv[Any, Any, Any],
    module: SessionModule,
    t: int,
    epsilon: float | None,
    rng: np.random.Generator,
) -> Steps:
    """t steps of new sessions; without `epsilon` by the odds that the network says, else by its values."""
    n, d = env.num_envs, env.single_observation_space["observations"].shape[0]  # type: ignore[index]
    k = int(env.single_action_space.n)  # type: ignore[attr-defined]
    contexts, mask = np.empty((t + 1, n, d), np.float32), np.empty((t + 1, n, k), np.float32)
    logits, values = np.empty((t, n, k), np.float32), np.zeros((t + 1, n), np.float32)
    actions, rewards = np.empty((t, n), np.int64), np.empty((t, n), np.float32)
    over, live = np.empty((t, n), np.bool_), np.ones((t, n), np.bool_)
    seen, _ = env.reset(seed=int(rng.integers(2**31)))
    for i in range(t + 1):
        contexts[i], mask[i] = seen["observations"], seen["action_mask"]
        with torch.inference_mode():
            observed = {"observations": torch.from_numpy(contexts[i]), "action_mask": torch.from_numpy(mask[i])}
            if module.critic is not None:
                values[i] = module.values(observed).numpy()
            if i == t:
                break
            logits[i] = module.logits(observed).numpy()
        actions[i] = drawn(logits[i], epsilon, rng)
        seen, rewards[i], ended, cut, _ = env.step(actions[i])
        over[i] = ended | cut
        if i:
            live[i] = ~over[i - 1]
    return Steps(contexts, mask > 0.5, actions, rewards, over, live, logits, values)


def drawn(logits: np.ndarray[Any, Any], epsilon: float | None, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Actions (n,): by the odds that the logits (n, k) say, or the highest but for a share `epsilon` of even draws.

    The highest of logits with independent Gumbel noise is a draw from their softmax; minus infinity never is.
    """
    noise = rng.gumbel(size=logits.shape)
    if epsilon is None:
        return np.asarray((logits + noise).argmax(axis=1))
    evenly = np.where(np.isneginf(logits), -np.inf, noise).argmax(axis=1)
    return np.asarray(np.where(rng.random(len(logits)) < epsilon, evenly, logits.argmax(axis=1)))


def _whole(steps: Steps) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns and lengths of the first session of each row that came to its end."""
    first = steps.over.cumsum(axis=0) - steps.over == 0
    ended = steps.over.any(axis=0)
    return (steps.rewards * first).sum(axis=0)[ended], first.sum(axis=0)[ended]
