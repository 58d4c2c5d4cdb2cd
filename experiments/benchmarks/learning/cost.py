"""Microseconds of a decision and of an update: how they grow with the actions and with the columns of a context."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from nba.policies import KINDS
from nba.rounds import LoggedRounds

ACTIONS, COLUMNS = 10, 30  # of the one that does not grow
BATCH = 100  # rounds of an update
SECONDS = 0.2  # that a figure is timed for, at the least; three calls in any case


def costs(kind: str, actions: int, columns: int) -> dict[str, float]:
    """CPU microseconds of one decision by itself, and of learning from BATCH rounds on top of 1,000."""
    rng = np.random.default_rng(0)
    features = np.hstack([np.ones((actions, 1)), np.eye(actions)])
    plan: Any = SimpleNamespace(action_features=features, reward_range=(0.0, 1.0))
    policy: Any = KINDS[kind].fit(plan, some_rounds(1_000, actions, columns, rng))
    more, one = some_rounds(BATCH, actions, columns, rng), some_rounds(1, actions, columns, rng)
    return {
        "decision": median_us(lambda: policy.distribution(one.contexts, one.mask)),
        "update": median_us(lambda: KINDS[kind].fit(plan, more, policy)),
    }


def some_rounds(n: int, actions: int, columns: int, rng: np.random.Generator) -> LoggedRounds:
    """Rounds of a uniform policy; each action's reward is linear in the context, plus noise."""
    contexts = rng.standard_normal((n, columns)).astype(np.float32)
    contexts[:, 0] = 1.0
    weights = np.random.default_rng(1).standard_normal((actions, columns)) / columns**0.5
    taken = rng.integers(0, actions, n)
    rewards = (contexts * weights[taken]).sum(axis=1) + rng.standard_normal(n)
    mask, propensities = np.ones((n, actions), dtype=np.bool_), np.full(n, 1.0 / actions)
    return LoggedRounds(contexts, mask, taken, propensities, rewards, np.arange(n, dtype=np.uint64))


def median_us(call: Callable[[], Any]) -> float:
    """Median CPU microseconds of a call, after one that is not counted."""
    call()
    spent: list[float] = []
    while len(spent) < 3 or sum(spent) < SECONDS:
        started = time.process_time()
        call()
        spent.append(time.process_time() - started)
    return float(f"{1e6 * statistics.median(spent):.3g}")


def exponent(of: dict[str, float]) -> float:
    """Growth from the middle size to the largest on log-log axes: 0 flat, 1 linear, 2 quadratic."""
    sizes, times = [float(size) for size in of], list(of.values())
    middle = (len(sizes) - 1) // 2
    return float(np.log(times[-1] / times[middle]) / np.log(sizes[-1] / sizes[middle]))
