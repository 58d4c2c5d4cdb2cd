"""Closed rounds with every outcome by name: what a calibration is fitted to."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from envs.people import Array
from nba.errors import ShapeError
from nba.rounds import in_first_part
from nba.types import Actions, Contexts, Facts

Z95 = 1.959964  # half width of a 95 % interval, in standard errors


@dataclass(frozen=True, slots=True)
class OutcomeRounds:
    """n closed rounds of one moment: what was known, what was done, and which outcomes came."""

    facts: Facts  # (n, f) coded; NaN is missing
    contexts: Contexts  # (n, d) the same, encoded
    actions: Actions  # (n,) column of the action taken
    outcomes: Array  # (n, o) in the order of the reward formula; 0 where none was reported
    subjects: NDArray[np.uint64]  # (n,) hash of the customer

    def __post_init__(self) -> None:
        n = len(self.contexts)
        for field in fields(self):
            array = getattr(self, field.name)
            if len(array) != n:
                raise ShapeError(
                    f"{field.name} has shape {array.shape} beside {n} contexts",
                    help="every column of OutcomeRounds has one row a round",
                )

    def __len__(self) -> int:
        return len(self.contexts)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> OutcomeRounds:
        """The rounds at these places, or where the mask is True."""
        return OutcomeRounds(*(getattr(self, field.name)[index] for field in fields(self)))

    def split(self, share: float, *, salt: int = 0) -> tuple[OutcomeRounds, OutcomeRounds]:
        """Two parts by customer, cut as `LoggedRounds.split` cuts."""
        first = in_first_part(self.subjects, share, salt=salt)
        return self.take(first), self.take(~first)


def clustered_variance(residuals: Array, subjects: NDArray[np.uint64]) -> float:
    """Variance of the mean of residuals (n,) whose customers are independent, their rounds not.

        S / (S - 1) sum_s (sum_{i of s} (r_i - mean))^2 / n^2,    S customers

    Infinite where there are fewer than two customers.
    Source: Liang and Zeger (1986), https://doi.org/10.1093/biomet/73.1.13
    """
    _, whose = np.unique(subjects, return_inverse=True)
    n, customers = len(residuals), int(whose.max(initial=-1)) + 1
    if customers < 2:
        return float("inf")
    sums = np.bincount(whose, weights=residuals - residuals.mean())
    return float(customers / (customers - 1) * (sums @ sums) / n**2)
