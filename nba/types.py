"""Shapes that the whole project speaks in, and the protocol every policy keeps.

n rounds, k actions, d context columns, f fields.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Value: TypeAlias = float | int | bool | str | None
Facts: TypeAlias = NDArray[np.float64]  # (n, f) one column a field of the moment; NaN is missing
Contexts: TypeAlias = NDArray[np.float32]  # (n, d) what the encoder makes of facts
ActionMask: TypeAlias = NDArray[np.bool_]  # (n, k) True where eligible; column 0 is no_action, always True
Distribution: TypeAlias = NDArray[np.float64]  # (n, k) rows sum to 1, zero where the mask is False
ActionValues: TypeAlias = NDArray[np.float64]  # (n, k) expected reward a round
Actions: TypeAlias = NDArray[np.int64]  # (n,) column of the action taken
Rewards: TypeAlias = NDArray[np.float64]  # (n,) reward units, the action's cost taken off
Weights: TypeAlias = NDArray[np.float64]  # (n,) importance weights

NO_ACTION = "no_action"


class Policy(Protocol):
    """A conditional distribution over the eligible actions: pi(a | x). Nothing else is asked of it."""

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k): rows sum to 1, zero where the mask is False.

        A row depends on its own context and mask alone, to the last bit: a decision made in a batch is replayed
        alone (law 4). A matrix product breaks this, see `nba.models.linear`.
        """
        ...


class Context(Struct, frozen=True, kw_only=True):
    """The facts a decision is made from, by name, before encoding."""

    subject: str  # keyed hash of the subject id; the id itself is never kept
    moment: str
    session_id: str | None = None
    values: dict[str, Value]
    observed_at: datetime
