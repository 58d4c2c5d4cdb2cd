"""SquareCB: how much an action is explored falls with how much worse it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from nba.explore.explorer import span
from nba.explore.inverse_gap import InverseGap
from nba.models.linear import LinearModel
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds
from nba.types import ActionMask, Contexts, Distribution, Weights


@dataclass(frozen=True, slots=True)
class SquareCB:
    """`linear+square_cb` under its older name: inverse-gap weighting (`nba.explore.inverse_gap`) of linear values."""

    model: LinearModel
    reward_span: float  # length of the moment's reward range
    scale: float = 10.0
    floor: float = 0.02  # probability shared evenly by the eligible actions

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        explore = InverseGap(self.reward_span, self.scale, self.floor)
        return explore.distribution(self.model, contexts, mask)

    @classmethod
    def fit(
        cls,
        plan: MomentPlan,
        rounds: LoggedRounds,
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        scale: float = 10.0,
    ) -> Self:
        """Learned from these rounds on top of what `previous` knows."""
        model = LinearModel.fit(rounds, plan.action_features, previous.model if previous else None, weights=weights)
        return cls(model, span(plan), scale)
