"""Where RLlib's time goes when PPO learns a service conversation: environment, sampling, learning, as JSON.

    python rllib.py --vectorise vector_entry_point

128 sessions in the driver, RLlib's own masking module, 4,096 steps a round of learning.
"""

from __future__ import annotations

import os

os.environ.update({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 32, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import envs  # noqa: F401  # registers the ids

ID, SESSIONS, BATCH = "nba/ServiceConversation-v0", 128, 4_096


class Spent:
    """CPU and wall seconds within the calls of a method of an object."""

    def __init__(self, of: Any, method: str) -> None:
        self.cpu = self.wall = 0.0
        self._call: Callable[..., Any] = getattr(of, method)
        setattr(of, method, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The method itself."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return self._call(*args, **kwargs)
        finally:
            self.cpu += time.process_time() - cpu
            self.wall += time.perf_counter() - wall


def learn(vectorise: str, rounds: int, sessions: int) -> dict[str, float]:
    """CPU seconds by part over some rounds of learning; the first, which warms up, is not counted."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule

    algorithm = (
        PPOConfig()
        .environment(ID)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=sessions, gym_env_vectorize_mode=vectorise)
        .training(train_batch_size_per_learner=BATCH, minibatch_size=512, num_epochs=4, lr=1e-3)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
        .debugging(seed=0, log_level="ERROR")
    ).build_algo()
    returns = [algorithm.train()["env_runners"]["episode_return_mean"]]
    runner = algorithm.env_runner
    sampling, environment = Spent(runner, "sample"), Spent(runner.env, "step")
    learning = Spent(algorithm.learner_group, "update")
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        result = algorithm.train()
        returns.append(result["env_runners"]["episode_return_mean"])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    algorithm.stop()
    steps = rounds * BATCH
    return {
        "steps": steps,
        "first_return": round(float(returns[0]), 3),
        "last_return": round(float(returns[-1]), 3),
        "cpu_s": round(cpu, 3),
        "wall_s": round(wall, 3),
        "sampling_cpu_s": round(sampling.cpu, 3),
        "environment_cpu_s": round(environment.cpu, 3),
        "learning_cpu_s": round(learning.cpu, 3),
        "environment_share_of_sampling": round(environment.cpu / sampling.cpu, 4),
        "sampling_to_learning": round(sampling.cpu / learning.cpu, 3),
        "steps_a_cpu_second_sampled": round(steps / sampling.cpu, 1),
        "steps_a_cpu_second_in_all": round(steps / cpu, 1),
    }


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectorise", choices=("vector_entry_point", "sync"), default="vector_entry_point")
    parser.add_argument("--rounds", type=int, default=6, help=f"of {BATCH:,} steps each, after one to warm up")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help=f"side by side (default: {SESSIONS})")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    said, sys.stdout = sys.stdout, sys.stderr
    import ray
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="nba-rl-") as folder:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            told = learn(asked.vectorise, asked.rounds, asked.sessions)
        finally:
            ray.shutdown()
    json.dump(told, said)


if __name__ == "__main__":
    main()
