"""Whether the plain environments have the content of the simulator: the same means under the same policy.

The policy is the pack's own list of rules, read off the context: the first rule whose condition holds acts, and where
its action is not eligible, no_action does. Compared are the mean reward and, of what is seen, the mean of every context
column and of every action's eligibility. A difference is told in its standard errors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from nba.encoder import Encoder
from nba.moment_plan import MomentPlan

Rows = NDArray[np.float64]
REWARD_BOUND, COLUMN_BOUND = 4.0, 5.0  # standard errors; of one figure, and of the largest of some fifty


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two environments are apart."""

    decisions: tuple[int, int]
    mean_reward: tuple[float, float]
    reward_apart: float  # standard errors
    worst_column: str
    worst_column_apart: float  # standard errors

    @property
    def same(self) -> bool:
        """Whether nothing tells them apart."""
        return self.reward_apart <= REWARD_BOUND and self.worst_column_apart <= COLUMN_BOUND

    def told(self) -> dict[str, Any]:
        """For the result."""
        return asdict(self) | {"same": self.same}


def compare(ours: str, plain: gym.Env[Any, Any], plan: MomentPlan, episodes: int) -> Agreement:
    """The registered environment in its batched form, ten times as many episodes, against the plain one."""
    wide = min(1_000, 10 * episodes)
    batched = gym.make_vec(ours, num_envs=wide, vectorization_mode="vector_entry_point")
    first, second = _of_batched(batched, plan, 10 * episodes), _of_scalar(plain, plan, episodes)
    apart = _apart(first[0], second[0])
    columns = _apart(first[1], second[1])
    worst = int(columns.argmax())
    names = (*plan.encoder.columns, *(f"eligible: {a}" for a in plan.action_ids))
    return Agreement(
        (len(first[1]), len(second[1])),
        (float(first[0].mean()), float(second[0].mean())),
        float(apart),
        names[worst],
        float(columns[worst]),
    )


def _apart(one: Rows, other: Rows) -> Any:
    """|difference of means| in standard errors; 0 where both are constant and equal."""
    gap = np.abs(one.mean(axis=0) - other.mean(axis=0))
    error = np.sqrt(one.var(axis=0) / len(one) + other.var(axis=0) / len(other))
    return np.where(gap < 1e-6, 0.0, gap / np.maximum(error, 1e-12))


def _acts(encoder: Encoder, actions: NDArray[np.int64], contexts: Any) -> Any:
    """The action (n,) of the first rule that holds in each context (n, d); 0 where none does."""
    held = contexts[..., encoder.first_rule :] > 0.5
    return np.where(held.any(axis=-1), actions[held.argmax(axis=-1)], 0)


def _of_batched(env: Any, plan: MomentPlan, episodes: int) -> tuple[Rows, Rows]:
    """Return of each episode (e,), and what was seen first in each (e, d + k).

    As many episodes of each environment, so that short ones do not count more often than long ones.
    """
    rounds = -(-episodes // env.num_envs)
    returns, begun = np.zeros((rounds, env.num_envs)), []
    observation, info = env.reset(seed=1)
    one_step = "action_mask" in info
    for i in range(rounds):
        if i and not one_step:
            observation, info = env.reset()
        live = np.ones(env.num_envs, dtype=np.bool_)
        begun.append(_seen(observation, info))
        while live.any():
            observation, reward, ended, cut, info = env.step(
                _acts(plan.encoder, plan.rule_actions, _context(observation))
            )
            returns[i] += np.where(live, reward, 0.0)
            live &= ~(ended | cut)
    return returns.ravel(), np.concatenate(begun)


def _of_scalar(env: Any, plan: MomentPlan, episodes: int) -> tuple[Rows, Rows]:
    returns, begun = np.zeros(episodes), []
    for i in range(episodes):
        observation, info = env.reset(seed=1 if i == 0 else None)
        begun.append(_seen(observation, info))
        over = False
        while not over:
            action = np.int64(_acts(plan.encoder, plan.rule_actions, _context(observation)))
            observation, reward, ended, cut, info = env.step(action)
            returns[i] += reward
            over = ended or cut
    return returns, np.stack(begun)


def _context(observation: Any) -> Any:
    return observation["observations"] if isinstance(observation, dict) else observation


def _seen(observation: Any, info: dict[str, Any]) -> Rows:
    mask = observation["action_mask"] if isinstance(observation, dict) else info["action_mask"]
    return np.concatenate([_context(observation), mask], axis=-1).astype(np.float64)
