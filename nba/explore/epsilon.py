"""The best-looking action most of the time, any eligible one for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from nba.explore.explorer import floored, greedy
from nba.models.model import Model
from nba.moment_plan import MomentPlan
from nba.types import ActionMask, Contexts, Distribution


@dataclass(frozen=True, slots=True)
class Epsilon:
    """pi(a | x) = (1 - epsilon) [a is best] + epsilon / number of eligible actions. Ties are shared."""

    epsilon: float = 0.1

    @classmethod
    def fit(cls, plan: MomentPlan, model: Model, *, epsilon: float = 0.1) -> Self:
        """The same whatever the model knows."""
        return cls(epsilon)

    def distribution(self, model: Model, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        return floored(greedy(model.values(contexts), mask), mask, self.epsilon)
