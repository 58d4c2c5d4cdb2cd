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
    gamma = scale sqrt(n) grows with the rounds n learned from, so exploration fades as knowledge comes. (Theorem 1
    has gamma of the order sqrt(K n / regret of the regression); the constant is a matter of practice.)
    Source: Foster and Rakhlin (2020), https://arxiv.org/abs/2002.04926, algorithm 1.
    """

    model: LinearModel
    reward_span: float  # length of the moment's reward range
    scale: float = 10.0
    floor: float = 0.02  # probability shared evenly by the eligible actions

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        eligible = mask.sum(axis=1, keepdims=True)
        gamma = self.scale * self.model.rounds**0.5
        weighted = inverse_gap(self.model.values(contexts) / self.reward_span, mask, gamma)
        mixed: Distribution = (1.0 - self.floor) * weighted + self.floor * mask / eligible
        return mixed

    @classmethod
    def fit(cls, plan: MomentPlan, rounds: LoggedRounds, previous: Self | None = None, *, scale: float = 10.0) -> Self:
        """Learned from these rounds on top of what `previous` knows."""
        low, high = plan.reward_range
        model = LinearModel.fit(rounds, plan.action_features, previous.model if previous else None)
        return cls(model, max(high - low, 1e-9), scale)


def inverse_gap(values: ActionValues, mask: ActionMask, gamma: float) -> Distribution:
    """Inverse-gap weighting (n, k) of values (n, k)."""
    shown = np.where(mask, values, -np.inf)
    best = shown.argmax(axis=1)[:, None] == np.arange(shown.shape[1])  # (n, k) one True a row
    gap = np.abs(shown.max(axis=1, keepdims=True) - values)  # an ineligible action may look better than the best
    weighted: Distribution = mask / (mask.sum(axis=1, keepdims=True) + gamma * gap)
    weighted += best * (1.0 - weighted.sum(axis=1, keepdims=True))
    return weighted
