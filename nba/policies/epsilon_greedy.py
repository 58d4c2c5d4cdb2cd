"""The best-looking action most of the time, any eligible one for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from nba.moment_plan import MomentPlan
from nba.policies.linear import LinearModel
from nba.rounds import LoggedRounds
from nba.types import ActionMask, Contexts, Distribution


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """pi(a | x) = (1 - epsilon) [a is best] + epsilon / number of eligible actions. Ties are shared."""

    model: LinearModel
    epsilon: float = 0.1

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        values = np.where(mask, self.model.values(contexts), -np.inf)
        best = values == values.max(axis=1, keepdims=True)
        greedy = best / best.sum(axis=1, keepdims=True)
        mixed: Distribution = (1.0 - self.epsilon) * greedy + self.epsilon * mask / mask.sum(axis=1, keepdims=True)
        return mixed

    @classmethod
    def fit(cls, plan: MomentPlan, rounds: LoggedRounds, previous: Self | None = None, *, epsilon: float = 0.1) -> Self:
        """Learned from these rounds on top of what `previous` knows."""
        return cls(LinearModel.fit(rounds, plan.action_features, previous.model if previous else None), epsilon)
