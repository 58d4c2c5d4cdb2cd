"""Fatigue and recovery: today's message lowers tomorrow's response, and rest brings it back.

    after a message   F -> F + 1   with chance  weight(action) exp(0.35 annoyance)
    after silence     F -> F - 1   with chance  recovery exp(0.35 recovery trait)
    response          logit of every welcome event  - slope F

The default slope 0.45 a level and recovery 0.4 a quiet step give a customer on the top level of five about a sixth of
the odds of a rested one, and 10 quiet steps from there to rest: the shape that contact-pressure studies report
(response halves after two or three messages in a row, and a fortnight of rest restores it). Chosen, not fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from envs.people import Array
from envs.session_law import Moves, Space, Variable
from nba.types import NO_ACTION


@dataclass(frozen=True, slots=True)
class Fatigue:
    """How messages tire a customer, and how rest helps."""

    field: str  # the pack's field that shows it, a number
    shown: tuple[float, ...]  # what it shows on each level, rested first
    weights: Mapping[str, float]  # action -> chance of one level more; actions that are not here do not tire
    recovery: float = 0.4  # chance of one level less after a step of silence
    slope: float = 0.45  # logits a level
    start: tuple[float, ...] = (0.6, 0.4)  # chances of the first levels

    def variable(self, space: Space) -> Variable:
        """The variable of a session's state."""
        moves = Moves(space, len(self.shown))
        for action, weight in self.weights.items():
            moves.when(actions=[action], by=1, chance=weight * np.exp(0.35 * _trait(space, "annoyance")))
        moves.when(actions=[NO_ACTION], by=-1, chance=self.recovery * np.exp(0.35 * _trait(space, "recovery")))
        return Variable(self.field, self.shown, even_start(space, len(self.shown), self.start), moves)

    def effect(self, level: Array) -> Array:
        """What a level adds to the logit of a welcome event."""
        return -self.slope * level


def even_start(space: Space, levels: int, chances: tuple[float, ...]) -> Array:
    """The same chances (c, l) of the first levels for every type; the rest 0."""
    return np.tile(np.pad(np.array(chances), (0, levels - len(chances))), (space.types, 1))


def _trait(space: Space, name: str) -> Array:
    """The types' value of a trait (c,); 0 where the session does not tell it apart."""
    return space.traits.get(name, np.zeros(space.types))
