"""Capacity and sleep: what is there to be taken comes and goes, whatever the customer does.

    N -> N + 1  with chance  arrival                             an agent is free again, a premiere opens
    N -> N - 1  with chance  taken                               somebody else takes one, a premiere closes
    N -> N - 1                                                   after an action of ours that takes one

Both cannot happen in one step: going up is tried on level 0, going down on the top level, on the levels between the
likelier of the two. An action sleeps where its trigger asks for a level that is not there. The defaults keep an agent
free about two thirds of the time, for five turns on average: an ordinary afternoon of a service centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.session_law import Moves, Space, Variable
from nba.types import Value


@dataclass(frozen=True, slots=True)
class Capacity:
    """A stock of something that actions need."""

    field: str  # shows how much is there: a number, or a boolean for one
    shown: tuple[Value, ...]  # what it shows on each level, none first
    arrival: float = 0.35  # chance a step of one more, where none is there
    taken: float = 0.18  # chance a step of one less, where all are there
    taken_by: tuple[str, ...] = ()  # actions of ours that use one up

    def variable(self, space: Space) -> Variable:
        """The variable of a session's state."""
        levels = len(self.shown)
        moves = Moves(space, levels)
        up = self.arrival >= self.taken
        for level in range(levels):
            rises = level == 0 or (up and level < levels - 1)
            moves.target[level] = level + 1 if rises else level - 1
            moves.chance[:, level] = self.arrival if rises else self.taken
        for action in self.taken_by:
            moves.when(actions=[action], by=-1)
        free = self.arrival / (self.arrival + self.taken)
        start = np.zeros((space.types, levels))
        start[:, 0], start[:, -1] = 1.0 - free, free
        return Variable(self.field, self.shown, start, moves)
