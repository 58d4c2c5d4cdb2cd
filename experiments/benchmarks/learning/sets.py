"""Classification sets as bandits: the context is the row, an action a class, the reward 1 for the right one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

SETS = {"digits": load_digits, "breast_cancer": load_breast_cancer}
ROUNDS = 4_000


def bandit(name: str, seed: int, rounds: int = ROUNDS) -> tuple[np.ndarray, np.ndarray]:
    """Contexts (n, d) with a constant first and standardised columns, and right classes (n,), in a random order.

    The rows come in passes over the whole set, each in an order of its own.
    """
    x, y = SETS[name](return_X_y=True)
    rng = np.random.default_rng([seed, len(name)])
    order = np.concatenate([rng.permutation(len(x)) for _ in range(-(-rounds // len(x)))])[:rounds]
    deviation = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return np.hstack([np.ones((rounds, 1)), scaled[order]]).astype(np.float32), y[order].astype(np.int64)


def updates(rounds: int) -> Iterator[slice]:
    """Rounds between two updates of a policy: ten at first, then 3 % of those there are."""
    start = 0
    while start < rounds:
        stop = min(rounds, start + max(10, start * 3 // 100))
        yield slice(start, stop)
        start = stop
