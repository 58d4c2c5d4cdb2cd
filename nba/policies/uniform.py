"""Every eligible action alike: the policy to compare with, and the one whose log teaches most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds
from nba.types import ActionMask, Contexts, Distribution


@dataclass(frozen=True, slots=True)
class Uniform:
    """pi(a | x) = 1 / number of eligible actions."""

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        even: Distribution = mask / mask.sum(axis=1, keepdims=True)
        return even

    @classmethod
    def fit(cls, plan: MomentPlan, rounds: LoggedRounds, previous: object = None) -> Self:
        """Nothing to learn."""
        return cls()
