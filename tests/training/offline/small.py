"""A process small enough to solve by hand, and its sessions by a policy that acts evenly.

    A   stop: 0.6, over     go on: 0, to B     forbidden here
    B   stop: 0, over       go on: 1, over     forbidden here
    C   stop: 0, over       go on: 0, over     third: 5, over

Over evenly chosen actions Q(A, go on) = 0.5, so that A stops; at the best Q(A, go on) = 1, so that A goes on.
"""

from __future__ import annotations

import numpy as np

from nba.rounds import LoggedRounds
from training.offline.episodes import LoggedEpisodes
from training.offline.fitting import Fitting

A, B, C = np.eye(3, dtype=np.float32)
STATES = np.stack([A, B, C])
MASK = np.array([[True, True, False], [True, True, False], [True, True, True]])
REWARDS = np.array([[0.6, 0.0, -9.0], [0.0, 1.0, -9.0], [0.0, 0.0, 5.0]])

SMALL = Fitting(members=2, hidden=24, epochs=30, batch=64, rate=5e-3, decay=0.0, patience=30, seed=3)


def sessions(n: int = 400, *, seed: int = 0, cut_at_b: float = 0.0) -> LoggedEpisodes:
    """That many sessions that start in A or C, each step chosen evenly; of those that reach B some are cut there."""
    rng = np.random.default_rng(seed)
    steps: list[tuple[int, int, float]] = []
    lengths, ended = [], []
    for _ in range(n):
        start = int(rng.choice([0, 2]))
        action = int(rng.choice(np.flatnonzero(MASK[start])))
        steps.append((start, action, REWARDS[start, action]))
        went_on = start == 0 and action == 1
        cut = went_on and rng.random() < cut_at_b
        if went_on:
            second = 0 if cut else int(rng.integers(2))
            steps.append((1, second, REWARDS[1, second]))
        lengths.append(1 + went_on)
        ended.append(not cut)
    states, actions, rewards = (np.array(column) for column in zip(*steps, strict=True))
    rounds = LoggedRounds(
        contexts=STATES[states],
        mask=MASK[states],
        actions=actions,
        propensities=1.0 / MASK[states].sum(axis=1),
        rewards=rewards,
        subjects=np.repeat(np.arange(n, dtype=np.uint64) * np.uint64(7_919), lengths),
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return LoggedEpisodes(rounds, offsets, np.array(ended), np.ones(len(rewards), dtype=np.bool_))
