"""Softmax: odds fall exponentially with how much worse an action looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from nba.explore.explorer import floored, span
from nba.models.model import Model
from nba.moment_plan import MomentPlan
from nba.types import ActionMask, ActionValues, Contexts, Distribution


@dataclass(frozen=True, slots=True)
class Softmax:
    """pi(a | x) in proportion to exp(v(x, a) / (temperature * reward span)), mixed with a uniform floor.

    Also Boltzmann exploration: Sutton and Barto (2018), Reinforcement Learning, section 2.8.
    """

    reward_span: float  # length of the moment's reward range
    temperature: float = 0.02  # parts of the span: an action worse by this has 1 / e of the odds
    floor: float = 0.02  # probability shared evenly by the eligible actions

    @classmethod
    def fit(cls, plan: MomentPlan, model: Model, *, temperature: float = 0.02, floor: float = 0.02) -> Self:
        """With the moment's reward span."""
        return cls(span(plan), temperature, floor)

    def distribution(self, model: Model, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        return floored(softmax(model.values(contexts), mask, self.temperature * self.reward_span), mask, self.floor)


def softmax(values: ActionValues, mask: ActionMask, temperature: float) -> Distribution:
    """exp(v / temperature) (n, k) over the eligible actions, made to sum to 1."""
    shown = np.where(mask, values, -np.inf)
    odds = np.exp((shown - shown.max(axis=1, keepdims=True)) / temperature)
    shares: Distribution = odds / odds.sum(axis=1, keepdims=True)
    return shares
