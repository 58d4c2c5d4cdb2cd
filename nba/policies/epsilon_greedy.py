"""The best-looking action most of the time, any eligible one for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from nba.explore.epsilon import Epsilon
from nba.models.linear import LinearModel
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds
from nba.types import ActionMask, Contexts, Distribution, Weights


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """`linear+epsilon` under its older name: pi(a | x) = (1 - epsilon) [a is best] + epsilon / eligible actions."""

    model: LinearModel
    epsilon: float = 0.1

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        return Epsilon(self.epsilon).distribution(self.model, contexts, mask)

    @classmethod
    def fit(
        cls,
        plan: MomentPlan,
        rounds: LoggedRounds,
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        epsilon: float = 0.1,
    ) -> Self:
        """Learned from these rounds on top of what `previous` knows."""
        model = LinearModel.fit(rounds, plan.action_features, previous.model if previous else None, weights=weights)
        return cls(model, epsilon)
