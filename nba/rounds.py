"""Logged rounds as columns: what learning and evaluation take."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.types import ActionMask, Actions, Contexts, Rewards

_WIDE = ("contexts", "mask", "treatment_mask")


@dataclass(frozen=True, slots=True)
class LoggedRounds:
    """n closed, learnable rounds of one moment: what was known, allowed, done, how likely, and what came of it."""

    contexts: Contexts  # (n, d)
    mask: ActionMask  # (n, k)
    actions: Actions  # (n,) column of the action taken
    propensities: NDArray[np.float64]  # (n,) probability it was sampled with
    rewards: Rewards  # (n,)
    subjects: NDArray[np.uint64]  # (n,) hash of the customer: what splits must not cut through
    # The second level, p columns of `nba.treatments`. Without the three, no action had a phrasing.
    treatments: Actions = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # (n,) column; -1: had none
    treatment_propensities: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # (n,) given the action
    treatment_mask: ActionMask = field(default_factory=lambda: np.zeros((0, 0), dtype=np.bool_))  # (n, p)

    def __post_init__(self) -> None:
        n = len(self.contexts)
        if n and not (len(self.treatments) or len(self.treatment_propensities) or len(self.treatment_mask)):
            object.__setattr__(self, "treatments", np.full(n, -1, dtype=np.int64))
            object.__setattr__(self, "treatment_propensities", np.ones(n))
            object.__setattr__(self, "treatment_mask", np.zeros((n, 0), dtype=np.bool_))
        for column in fields(self):
            array = getattr(self, column.name)
            if len(array) != n or array.ndim != (2 if column.name in _WIDE else 1):
                raise ShapeError(
                    f"{column.name} has shape {array.shape} beside {n} contexts",
                    help="every column of LoggedRounds has one row a round",
                )
        if n and not ((self.propensities > 0).all() and (self.treatment_propensities > 0).all()):
            raise ShapeError("a propensity is not positive", help="a logged action always had a chance: check the log")

    def __len__(self) -> int:
        return len(self.contexts)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> LoggedRounds:
        """The rounds at these places, or where the mask is True."""
        return LoggedRounds(*(getattr(self, column.name)[index] for column in fields(self)))

    def treated(self) -> LoggedRounds:
        """Those whose action had a phrasing, as rounds of the second level: the phrasing is the action."""
        had = self.treatments >= 0
        return LoggedRounds(
            contexts=self.contexts[had],
            mask=self.treatment_mask[had],
            actions=self.treatments[had],
            propensities=self.treatment_propensities[had],
            rewards=self.rewards[had],
            subjects=self.subjects[had],
        )

    def split(self, share: float, *, salt: int = 0) -> tuple[LoggedRounds, LoggedRounds]:
        """Two parts by customer, the first with about `share` of them; the same customer is always on one side."""
        first = in_first_part(self.subjects, share, salt=salt)
        return self.take(first), self.take(~first)

    @staticmethod
    def concatenate(parts: list[LoggedRounds]) -> LoggedRounds:
        """All rounds of the parts, in order."""
        return LoggedRounds(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(LoggedRounds)))


def in_first_part(subjects: NDArray[np.uint64], share: float, *, salt: int = 0) -> NDArray[np.bool_]:
    """Which customers (n,) by their hash belong to the first part of a split, about `share` of them."""
    mixed = (subjects ^ np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(40)).astype(np.float64) / 2.0**24 < share
