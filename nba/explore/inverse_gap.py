"""Inverse-gap weighting: how much an action is explored falls with how much worse it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nba.explore.explorer import floored, span
from nba.models.model import Model
from nba.moment_plan import MomentPlan
from nba.types import ActionMask, ActionValues, Contexts, Distribution


@dataclass(frozen=True, slots=True)
class InverseGap:
    """Inverse-gap weighting of a model's values, mixed with a uniform floor: SquareCB.

        pi(a | x) = 1 / (K + gamma (v* - v(x, a)))   for a not best;   the best takes the rest

    K is the number of eligible actions, v the value scaled so that the moment's reward range has length 1, and
    gamma = scale sqrt(n) grows with the rounds n learned from, so exploration fades as knowledge comes. (Theorem 1
    has gamma of the order sqrt(K n / regret of the regression); the constant is a matter of practice.)
    Source: Foster and Rakhlin (2020), https://arxiv.org/abs/2002.04926, algorithm 1.
    """

    reward_span: float  # length of the moment's reward range
    scale: float = 10.0
    floor: float = 0.02  # probability shared evenly by the eligible actions

    @classmethod
    def fit(cls, plan: MomentPlan, model: Model, *, scale: float = 10.0, floor: float = 0.02) -> Self:
        """With the moment's reward span."""
        return cls(span(plan), scale, floor)

    def distribution(self, model: Model, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        gamma = self.scale * model.rounds**0.5
        return floored(inverse_gap(model.values(contexts) / self.reward_span, mask, gamma), mask, self.floor)


def inverse_gap(values: ActionValues, mask: ActionMask, gamma: float | NDArray[np.float64]) -> Distribution:
    """Inverse-gap weighting (n, k) of values (n, k); gamma one number, or one a row (n, 1)."""
    shown = np.where(mask, values, -np.inf)
    best = shown.argmax(axis=1)[:, None] == np.arange(shown.shape[1])  # (n, k) one True a row
    gap = np.abs(shown.max(axis=1, keepdims=True) - values)  # an ineligible action may look better than the best
    weighted: Distribution = mask / (mask.sum(axis=1, keepdims=True) + gamma * gap)
    weighted += best * (1.0 - weighted.sum(axis=1, keepdims=True))
    return weighted
