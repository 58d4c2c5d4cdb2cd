"""Timed replays: the same steps of an environment again and again, nothing else in the timed part.

A first pass draws the actions, evenly among those that are eligible, and keeps them. From the same seed the same
actions give the same trajectory, so that every timed pass steps through it without drawing anything itself.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

SEED = 7


@dataclass(frozen=True, slots=True)
class Replay:
    """A trajectory that can be stepped through at any time."""

    env: Any
    actions: list[Any]
    decisions: int  # steps that took an action; a step that only resets is none
    batched: bool

    def __call__(self) -> tuple[float, float]:
        """CPU and wall seconds of one pass."""
        self.env.reset(seed=SEED)
        step, reset, actions = self.env.step, self.env.reset, self.actions
        wall, cpu = time.perf_counter(), time.process_time()
        if self.batched:
            for action in actions:
                step(action)
        else:
            for action in actions:
                _, _, ended, cut, _ = step(action)
                if ended or cut:
                    reset()
        return time.process_time() - cpu, time.perf_counter() - wall


def replay(env: Any, *, seconds: float) -> Replay:
    """A trajectory of that environment that takes about so many CPU seconds."""
    record = _record_batched if isinstance(env, VectorEnv) else _record_scalar
    probe, spent = record(env, 3), 0.0
    while spent < min(0.02, seconds / 4.0):  # so short a time tells nothing yet
        probe = record(env, 3 * len(probe.actions))
        spent = probe()[0]
    return record(env, max(3, round(len(probe.actions) * seconds / spent)))


def _record_scalar(env: gym.Env[Any, Any], steps: int) -> Replay:
    rng, actions = np.random.default_rng(SEED), []
    observation, info = env.reset(seed=SEED)
    for _ in range(steps):
        actions.append(_drawn(_mask(observation, info), int(env.action_space.n), None, rng))  # type: ignore[attr-defined]
        observation, _, ended, cut, info = env.step(actions[-1])
        if ended or cut:
            observation, info = env.reset()
    return Replay(env, actions, steps, batched=False)


def _record_batched(env: VectorEnv[Any, Any, Any], steps: int) -> Replay:
    rng, actions, idle = np.random.default_rng(SEED), [], 0
    observation, info = env.reset(seed=SEED)
    next_step = env.metadata.get("autoreset_mode") == AutoresetMode.NEXT_STEP
    over = np.zeros(env.num_envs, dtype=np.bool_)
    for _ in range(steps):
        k = int(env.single_action_space.n)  # type: ignore[attr-defined]
        actions.append(_drawn(_mask(observation, info), k, env.num_envs, rng))
        idle += int(over.sum()) if next_step else 0
        observation, _, ended, cut, info = env.step(actions[-1])
        over = ended | cut
    return Replay(env, actions, steps * env.num_envs - idle, batched=True)


def _mask(observation: Any, info: dict[str, Any]) -> Any:
    """Where an environment says what is eligible; None where everything is."""
    return observation["action_mask"] if isinstance(observation, dict) else info.get("action_mask")


def _drawn(mask: Any, k: int, n: int | None, rng: np.random.Generator) -> Any:
    """An eligible action of each of n environments (n,), or of the only one."""
    if mask is None:
        return rng.integers(0, k, n)
    u = rng.random(mask.shape) * (np.asarray(mask) > 0)
    return u.argmax(axis=-1)


@dataclass(frozen=True, slots=True)
class Rates:
    """Decisions a second over several passes."""

    cpu: list[float]  # of CPU time
    wall: list[float]  # of the clock

    def told(self) -> dict[str, float]:
        """The median with the lowest and the highest, a CPU second; and the median by the clock."""
        return {**spread(self.cpu), "wall": round(statistics.median(self.wall), 1)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest, to four digits."""
    of = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value:.4g}") for name, value in of.items()}


def interleaved(replays: dict[str, Replay], repetitions: int, progress: Callable[[int, int], None]) -> dict[str, Rates]:
    """Each in turn, that many times over, so that a busy minute of the machine slows all of them alike."""
    gc.collect()
    gc.freeze()  # what the environments are made of is not walked through in a timed pass
    rates = {name: Rates([], []) for name in replays}
    for i in range(repetitions):
        for j, (name, one) in enumerate(replays.items()):
            progress(i * len(replays) + j, repetitions * len(replays))
            cpu, wall = one()
            rates[name].cpu.append(one.decisions / cpu)
            rates[name].wall.append(one.decisions / wall)
    gc.unfreeze()
    return rates


def ratio(of: Rates, to: Rates) -> dict[str, float]:
    """How many times as fast, repetition by repetition, in CPU time."""
    return spread([a / b for a, b in zip(of.cpu, to.cpu, strict=True)])
