"""SquareCB: how much an action is explored falls with how much worse it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from nba.moment_plan import MomentPlan
from nba.policies.linear import LinearModel
from nba.rounds import LoggedRounds
from nba.types import ActionMask, ActionValues, Contexts, Distribution


@dataclass(frozen=True, slots=True)
class SquareCB:
    """Inverse-gap weighting of a linear model's values, mixed with a uniform floor.

        pi(a | x) = 1 / (K + gamma (v* - v(x, a)))   for a not best;   the best takes the rest

    K is the number of eligible actions, v the value scaled so that the moment's reward range has length 1, and
    gamma = scale sqrt(K n / d): it grows with the rounds learned from, so exploration fades as knowledge comes.
    Source: Foster and Rakhlin (2020), https://arxiv.org/abs/2002.04926, algorithm 1 and theorem 1.
    """

    model: LinearModel
    reward_span: float  # length of the moment's reward range
    scale: float = 1.0
    floor: float = 0.02  # probability shared evenly by the eligible actions

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        d = self.model.weights.shape[1]
        eligible = mask.sum(axis=1, keepdims=True)
        gamma = self.scale * np.sqrt(eligible * self.model.rounds / d)
        weighted = inverse_gap(self.model.values(contexts) / self.reward_span, mask, gamma)
        return (1.0 - self.floor) * weighted + self.floor * mask / eligible

    @classmethod
    def fit(cls, plan: MomentPlan, rounds: LoggedRounds, previous: Self | None = None, *, scale: float = 1.0) -> Self:
        """Learned from these rounds on top of what `previous` knows."""
        low, high = plan.reward_range
        model = LinearModel.fit(rounds, plan.action_features, previous.model if previous else None)
        return cls(model, max(high - low, 1e-9), scale)


def inverse_gap(values: ActionValues, mask: ActionMask, gamma: Distribution) -> Distribution:
    """Inverse-gap weighting (n, k) of values (n, k) with gamma (n, 1)."""
    shown = np.where(mask, values, -np.inf)
    best = shown.argmax(axis=1)
    rows = np.arange(len(values))
    gap = np.where(mask, shown[rows, best][:, None] - np.where(mask, values, 0.0), 0.0)
    weighted = np.where(mask, 1.0 / (mask.sum(axis=1, keepdims=True) + gamma * gap), 0.0)
    weighted[rows, best] = 0.0
    weighted[rows, best] = 1.0 - weighted.sum(axis=1)
    return weighted
