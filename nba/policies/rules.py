"""The moment's own priority list, deterministic: what the product team would do without learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds
from nba.types import ActionMask, Contexts, Distribution


@dataclass(frozen=True, slots=True)
class Rules:
    """The action of the first rule that holds and whose action is eligible; no_action where none does."""

    first_rule: int  # context column of the first rule's indicator
    actions: NDArray[np.int64]  # (r,) action column of each rule

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k), each row a single 1."""
        n = len(contexts)
        chosen = np.zeros(n, dtype=np.int64)
        for i in reversed(range(len(self.actions))):
            acts = (contexts[:, self.first_rule + i] > 0.5) & mask[:, self.actions[i]]
            chosen[acts] = self.actions[i]
        distribution: Distribution = np.zeros(mask.shape)
        distribution[np.arange(n), chosen] = 1.0
        return distribution

    @classmethod
    def fit(cls, plan: MomentPlan, rounds: LoggedRounds, previous: object = None) -> Self:
        """The list of the pack; nothing is learned."""
        return cls(plan.encoder.first_rule, plan.rule_actions)
