"""Consent withdrawal: who has had enough of us says so once, and stays unreachable.

    may be contacted: 1 -> 0 after the event `withdrew`, never back

    logit(withdrew) = base + 0.8 F + 0.5 annoyance      F the fatigue level, for actions that contact; else it cannot

The base -6.0 makes one in four hundred rested customers withdraw on a message and one in seventeen tired ones: opt-out
rates of a few per mille a mailing, and the many times higher ones of those who were mailed daily. Chosen, not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.people import Array
from envs.session_law import Moves, Space, Variable

WITHDREW = "withdrew"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The consent to be contacted."""

    field: str  # a boolean
    base: float = -6.0  # logit of withdrawing, rested, of average temper

    def variable(self, space: Space) -> Variable:
        """The variable of a session's state; it starts as given."""
        moves = Moves(space, 2).when(events=[WITHDREW], to=0)
        return Variable(self.field, (False, True), np.tile([0.0, 1.0], (space.types, 1)), moves)

    def logit(self, fatigue: Array, annoyance: Array) -> Array:
        """Of withdrawing after a contact."""
        return self.base + 0.8 * fatigue + 0.5 * annoyance
