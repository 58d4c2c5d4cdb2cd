"""What explores: a distribution over the eligible actions from what a model says of them."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np

from nba.models.model import Model
from nba.moment_plan import MomentPlan
from nba.types import ActionMask, ActionValues, Contexts, Distribution


class Explorer(Protocol):
    """How often each action is tried, given a model of its value."""

    @classmethod
    def fit(cls, plan: MomentPlan, model: Model) -> Self:
        """What explores by this model of the moment; its settings are further keyword arguments."""
        ...

    def distribution(self, model: Model, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k), by the contract of `nba.types.Policy`."""
        ...


def greedy(values: ActionValues, mask: ActionMask) -> Distribution:
    """All probability (n, k) on the eligible action of the highest value (n, k); a tie is shared."""
    shown = np.where(mask, values, -np.inf)
    best = shown == shown.max(axis=1, keepdims=True)
    shared: Distribution = best / best.sum(axis=1, keepdims=True)
    return shared


def floored(distribution: Distribution, mask: ActionMask, floor: float) -> Distribution:
    """The distribution (n, k) with `floor` of all probability shared evenly by the eligible actions."""
    mixed: Distribution = (1.0 - floor) * distribution + floor * mask / mask.sum(axis=1, keepdims=True)
    return mixed


def span(plan: MomentPlan) -> float:
    """Length of the moment's reward range, reward units; never 0."""
    low, high = plan.reward_range
    return max(high - low, 1e-9)
