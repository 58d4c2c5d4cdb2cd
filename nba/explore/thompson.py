"""Thompson sampling whose propensities are exact: an action is tried as often as it is best in frozen draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nba.explore.explorer import floored
from nba.models.model import Model, samples
from nba.moment_plan import MomentPlan
from nba.types import ActionMask, Contexts, Distribution

BLOCK = 1_024  # rounds weighed at once: m values an action take room


@dataclass(frozen=True, slots=True)
class Thompson:
    """pi(a | x) = share of m drawn models under which a is the best eligible action, mixed with a uniform floor.

    The draws are made when the model is learned and kept with the policy until the next time, so that the
    distribution is known to the last bit before an action is sampled, and again at replay: draws thrown afresh at
    each decision and counted would be no propensity. A tie within a draw is shared.
    Source: Thompson (1933); Agrawal and Goyal (2013), https://arxiv.org/abs/1209.3352 (there drawn at each round).
    """

    draws: NDArray[np.float64]  # (k, m, c) weights over the model's features
    floor: float = 0.02  # probability shared evenly by the eligible actions

    @classmethod
    def fit(
        cls, plan: MomentPlan, model: Model, *, spread: float = 0.5, draws: int = 32, floor: float = 0.02, seed: int = 0
    ) -> Self:
        """Draws of the model, their deviations from its mean multiplied by `spread` (1: the posterior as it is).

        The seed is mixed with the rounds learned from: new draws when more is known, the same for the same rounds.
        """
        rng = np.random.default_rng([int(seed), model.rounds])
        drawn = model.draws(plan.action_features, int(draws), rng)
        mean = drawn.mean(axis=1, keepdims=True)
        return cls(mean + spread * (drawn - mean), floor)

    def distribution(self, model: Model, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        shared = np.empty(mask.shape)
        for start in range(0, len(contexts), BLOCK):
            rows = slice(start, start + BLOCK)
            shared[rows] = shares(samples(model, contexts[rows], self.draws), mask[rows])
        return floored(shared, mask, self.floor)


def shares(drawn: NDArray[np.float64], mask: ActionMask) -> Distribution:
    """Share (n, k) of the draws (n, k, m) in which each action is the best of the eligible; a tie is shared."""
    shown = np.where(mask[:, :, None], drawn, -np.inf)
    best = shown == shown.max(axis=1, keepdims=True)
    shared: Distribution = (best / best.sum(axis=1, keepdims=True)).mean(axis=2)
    return shared
