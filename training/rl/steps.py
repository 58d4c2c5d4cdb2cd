"""Steps of many sessions side by side as arrays, and what PPO and DQN learn from: no loop over sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba.types import ActionMask, Contexts

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Steps:
    """t steps of n sessions; the row after the last is what was seen then.

    A session that has ended starts anew in its row. The step at which it does so is no step of anybody's: not `live`.
    """

    contexts: Contexts  # (t + 1, n, d)
    mask: ActionMask  # (t + 1, n, k)
    actions: NDArray[np.int64]  # (t, n)
    rewards: Array  # (t, n)
    over: NDArray[np.bool_]  # (t, n) the session ended with this step, by itself or at its last
    live: NDArray[np.bool_]  # (t, n)
    logits: Array  # (t, n, k) that the action was drawn by
    values: Array  # (t + 1, n) what the critic expected; 0 where there is none


def advantages(steps: Steps, gamma: float, lambda_: float) -> tuple[Array, Array]:
    """Generalised advantage estimates (t, n), and what the critic should have said (t, n).

        delta_t = r_t + gamma V_{t+1} - V_t,     A_t = delta_t + gamma lambda A_{t+1}

    Nothing comes after the end of a session, also where it was cut off at its last step: the context shows the step,
    and a session is worth what it earned until then.
    Source: Schulman et al. (2016), https://arxiv.org/abs/1506.02438, equations 11 and 16
    """
    goes_on = gamma * ~steps.over
    delta = steps.rewards + goes_on * steps.values[1:] - steps.values[:-1]
    found = np.empty_like(delta)
    after = np.zeros(delta.shape[1])
    for t in reversed(range(len(delta))):
        found[t] = after = delta[t] + lambda_ * goes_on[t] * after
    return found.astype(np.float32), (found + steps.values[:-1]).astype(np.float32)


def ahead(steps: Steps, gamma: float, n: int) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Each step's discounted reward over the next n steps, how many there were, and whether the session ended in them.

    All (t, n). Fewer than n where the session or the record ends.
    """
    t = len(steps.actions)
    rewards, counted = np.zeros_like(steps.rewards), np.zeros(steps.rewards.shape, dtype=np.int64)
    ended = np.zeros_like(steps.over)
    for i in range(n):
        on = ~ended
        on[t - i :] = False
        later, among = np.roll(steps.rewards, -i, axis=0), np.roll(steps.over, -i, axis=0)
        rewards += np.where(on, gamma**i * later, 0.0).astype(np.float32)
        counted += on
        ended |= on & among
    return rewards, counted, ended
