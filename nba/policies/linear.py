"""A linear model of action values, learned in closed form: what the value-based policies stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nba.encoder import joint_features
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts

CHUNK = 4_096  # rounds whose joint features are held at once


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Ridge regression of the reward on joint features phi(x, a) = z(a) (x) x.

        (ridge I + sum phi phi') theta = sum phi r,      value(x, a) = theta' phi(x, a)

    Updating is adding to the two sums, so learning in parts equals learning at once. Shared columns of z make
    it a hybrid of one model for all actions and one for each (Li et al. 2010, https://arxiv.org/abs/1003.0146).
    """

    gram: NDArray[np.float64]  # (p, p) sum of phi phi', without the ridge
    target: NDArray[np.float64]  # (p,) sum of phi r
    action_features: NDArray[np.float64]  # (k, q)
    weights: NDArray[np.float64]  # (k, d) value(x, a) = weights[a] @ x
    rounds: int

    @classmethod
    def fit(
        cls,
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        ridge: float = 1.0,
    ) -> Self:
        """The model after these rounds and, where given, all that `previous` has seen."""
        d, q = rounds.contexts.shape[1], action_features.shape[1]
        gram = np.zeros((q * d, q * d)) if previous is None else previous.gram.copy()
        target = np.zeros(q * d) if previous is None else previous.target.copy()
        for start in range(0, len(rounds), CHUNK):
            part = slice(start, start + CHUNK)
            phi = joint_features(rounds.contexts[part], action_features[rounds.actions[part]])
            gram += phi.T @ phi
            target += phi.T @ rounds.rewards[part]
        theta = np.linalg.solve(gram + ridge * np.eye(q * d), target)
        weights = action_features @ theta.reshape(q, d)
        return cls(gram, target, action_features, weights, len(rounds) + (previous.rounds if previous else 0))

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward of each action, (n, k)."""
        return contexts.astype(np.float64) @ self.weights.T
