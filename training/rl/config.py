"""Our settings as RLlib's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from training.rl.algorithms import SessionDQN, SessionPPO, SessionPPOLearner
from training.rl.module import SessionModule
from training.rl.runner import SessionRunner
from training.rl.settings import DQN, PPO, SessionTraining


def configured(
    told: SessionTraining, env_id: str, env: Mapping[str, Any], length: int, standard: Mapping[str, list[float]]
) -> AlgorithmConfig:
    """A configuration that learns sessions of `length` steps; `standard` has the contexts' `mean` and `scale`."""
    algorithm = told.algorithm
    schedule = [[0, algorithm.learning_rate[0]], [told.steps, algorithm.learning_rate[1]]]
    model: dict[str, Any] = {"hidden": list(algorithm.hidden), "epsilon": None, **standard}
    config: AlgorithmConfig
    if isinstance(algorithm, PPO):
        config, model["critic"] = _ppo(algorithm, told.steps, max(1, told.runners) * algorithm.sessions * length), True
    else:
        config, model["critic"] = _dqn(algorithm), False
        until = max(1, int(algorithm.explored * told.steps / max(1, told.runners)))
        model["epsilon"] = [[0, algorithm.epsilon[0]], [until, algorithm.epsilon[1]]]
    return (
        config.environment(env_id, env_config=dict(env), disable_env_checking=True)
        .env_runners(
            env_runner_cls=SessionRunner,
            num_env_runners=told.runners,
            num_envs_per_env_runner=algorithm.sessions,
            rollout_fragment_length=length,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .training(lr=schedule, gamma=algorithm.discount, grad_clip_by="global_norm")
        .rl_module(rl_module_spec=RLModuleSpec(module_class=SessionModule, model_config=model))
        .debugging(seed=told.seed, log_level="ERROR")
    )


def _ppo(algorithm: PPO, steps: int, batch: int) -> AlgorithmConfig:
    config = PPOConfig(algo_class=SessionPPO).learners(learner_class=SessionPPOLearner)
    return config.training(
        train_batch_size_per_learner=batch,
        minibatch_size=min(algorithm.minibatch, batch),
        num_epochs=algorithm.epochs,
        entropy_coeff=[[0, algorithm.entropy[0]], [steps, algorithm.entropy[1]]],
        lambda_=algorithm.trace,
        clip_param=algorithm.clip,
        vf_loss_coeff=0.5,
        vf_clip_param=float("inf"),
        use_kl_loss=True,  # with no weight: so that the divergence is reported
        kl_coeff=0.0,
        grad_clip=0.5,
    )


def _dqn(algorithm: DQN) -> AlgorithmConfig:
    return DQNConfig(algo_class=SessionDQN).training(
        train_batch_size_per_learner=algorithm.minibatch,
        training_intensity=algorithm.updates,
        num_steps_sampled_before_learning_starts=algorithm.minibatch,
        n_step=algorithm.ahead,
        double_q=True,
        dueling=False,
        tau=algorithm.follow,
        target_network_update_freq=0,
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": algorithm.remembered},
        grad_clip=10.0,
    )
