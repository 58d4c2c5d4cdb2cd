"""PPO and DQN of RLlib on arrays: sampling and batches are ours; losses, optimisers and checkpoints are RLlib's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.dqn import DQN
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from training.rl.replay import Replay
from training.rl.steps import Steps, advantages


class SessionPPO(PPO):
    """RLlib's PPO; advantages come from the arrays that `SessionRunner` sampled."""

    def training_step(self) -> None:
        """Sample, learn for some epochs, hand the network to the runners."""
        parts = sample(self)
        if not parts:
            return
        batch = ppo_batch(parts, self.config.gamma, self.config.lambda_)
        learn(
            self,
            batch,
            num_epochs=self.config.num_epochs,
            minibatch_size=self.config.minibatch_size,
            shuffle_batch_per_epoch=True,
        )
        hand_over(self)


class SessionPPOLearner(PPOTorchLearner):
    """RLlib's learner, which knows the entropy coefficient of now also in the first update after a restart."""

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Sets the coefficient before it is used; RLlib sets it afterwards, for the next time."""
        super().before_gradient_based_update(timesteps=timesteps)
        for name in self.module.keys():  # noqa: SIM118  # RLlib's modules are no mapping
            self.entropy_coeff_schedulers_per_module[name].update(timestep=timesteps[NUM_ENV_STEPS_SAMPLED_LIFETIME])


class SessionDQN(DQN):
    """RLlib's DQN on a replay of arrays, which its checkpoints hold."""

    def setup(self, config: Any) -> None:
        """As RLlib does, with a replay of ours."""
        super().setup(config)
        self._replay = Replay(self.config.replay_buffer_config["capacity"])

    def training_step(self) -> None:
        """Sample, remember, learn from some of what is remembered, hand the network to the runners."""
        parts = sample(self)
        for steps in parts:
            self._replay.add(steps, self.config.gamma, self.config.n_step)
        if not parts or len(self._replay) < self.config.num_steps_sampled_before_learning_starts:
            return
        size, updates = self.config.train_batch_size_per_learner, self.config.training_intensity
        rng = np.random.default_rng([self.config.seed or 0, self._replay.added])
        batch = as_batch(self._replay.draw(int(updates) * size, rng), int(updates) * size)
        learn(self, batch, num_epochs=1, minibatch_size=size, num_total_minibatches=int(updates))
        hand_over(self)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's, and what is remembered."""
        return {**super().get_state(*args, **kwargs), "replay": self._replay.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` gave."""
        super().set_state(state)
        self._replay.set_state(state["replay"])


def sample(algorithm: Algorithm) -> list[Steps]:
    """What every runner has sampled, once round."""
    with algorithm.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
        parts, results = synchronous_parallel_sample(
            worker_set=algorithm.env_runner_group,
            concat=False,
            sample_timeout_s=algorithm.config.sample_timeout_s,
            _uses_new_env_runners=True,
            _return_metrics=True,
        )
        algorithm.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
    return list(parts)


def learn(algorithm: Algorithm, batch: MultiAgentBatch, **how: Any) -> None:
    """One update of the learners. Batches are shuffled by the steps sampled so far: a run that resumes learns alike."""
    steps = int(algorithm.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)))
    np.random.seed((algorithm.config.seed + steps) % 2**32)  # RLlib's minibatches draw from it
    torch.manual_seed(algorithm.config.seed + steps)
    with algorithm.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: steps}
        results = algorithm.learner_group.update(batch=batch, timesteps=timesteps, **how)
        algorithm.metrics.aggregate(results, key=LEARNER_RESULTS)


def hand_over(algorithm: Algorithm) -> None:
    """Gives the learned network to every runner."""
    with algorithm.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
        algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=algorithm.learner_group, policies={DEFAULT_MODULE_ID}, inference_only=True
        )


def ppo_batch(parts: list[Steps], gamma: float, lambda_: float) -> MultiAgentBatch:
    """The live steps with their advantages, which average 0 and have variance 1."""
    columns: dict[str, list[Any]] = {}
    for steps in parts:
        live = steps.live
        advantage, target = advantages(steps, gamma, lambda_)
        logits = steps.logits[live]
        found = {
            "observations": steps.contexts[:-1][live],
            "action_mask": steps.mask[:-1][live].astype(np.float32),
            Columns.ACTIONS: steps.actions[live],
            Columns.ACTION_DIST_INPUTS: logits,
            Columns.ACTION_LOGP: log_chances(logits, steps.actions[live]),
            Postprocessing.ADVANTAGES: advantage[live],
            Postprocessing.VALUE_TARGETS: target[live],
        }
        for name, column in found.items():
            columns.setdefault(name, []).append(column)
    told = {name: np.concatenate(column) for name, column in columns.items()}
    advantage = told[Postprocessing.ADVANTAGES]
    told[Postprocessing.ADVANTAGES] = (advantage - advantage.mean()) / max(1e-4, float(advantage.std()))
    observed = {name: told.pop(name) for name in ("observations", "action_mask")}
    return as_batch({Columns.OBS: observed, **told}, len(advantage))


def as_batch(columns: dict[str, Any], n: int) -> MultiAgentBatch:
    """Columns of n steps as RLlib's learners take them."""
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=n)


def log_chances(logits: np.ndarray[Any, Any], actions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Log of the probability of each action taken (n,)."""
    top = logits.max(axis=1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return np.asarray(logits[np.arange(len(actions)), actions] - total)
