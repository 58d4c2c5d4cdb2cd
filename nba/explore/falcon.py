"""FALCON: inverse-gap weighting that sharpens epoch by epoch, as fast as regression allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nba.explore.explorer import floored, span
from nba.explore.inverse_gap import inverse_gap
from nba.models.model import Model
from nba.moment_plan import MomentPlan
from nba.types import ActionMask, Contexts, Distribution

DELTA = 0.05  # chance that the bound on regret does not hold


@dataclass(frozen=True, slots=True)
class Falcon:
    """Inverse-gap weighting whose gamma stays as it is for an epoch, and epochs double.

        gamma = scale sqrt(K tau / log(tau / delta)),    tau = the largest power of two of rounds learned from

    K is the number of eligible actions. The theorem's constant, 1/30, is for the worst case; its log |F|, the size of
    the class of models, is left to the scale. Source: Simchi-Levi and Xu (2022), Bypassing the Monster, Mathematics of
    Operations Research 47(3), https://arxiv.org/abs/2003.12699, algorithm 1 and section 3.2.
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
        gamma = self.scale * sharpness(model.rounds, mask.sum(axis=1, keepdims=True))
        return floored(inverse_gap(model.values(contexts) / self.reward_span, mask, gamma), mask, self.floor)


def sharpness(rounds: int, eligible: NDArray[np.int64]) -> NDArray[np.float64]:
    """gamma (n, 1) at scale 1 for numbers of eligible actions (n, 1); 0 before the first round."""
    if rounds < 1:
        return np.zeros(eligible.shape)
    tau = 2.0 ** math.floor(math.log2(rounds))
    gamma: NDArray[np.float64] = np.sqrt(eligible * (tau / math.log(tau / DELTA)))
    return gamma
