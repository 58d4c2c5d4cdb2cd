"""Frustration and repair: a misunderstanding opens an episode that a fitting clarification closes.

    episode      misunderstood: R -> R + 1;  clarified: R -> 0;  moved on: R -> R - 1 with chance 0.5
    frustration  misunderstood: F -> F + 1 with chance 0.75 - 0.15 patience;  soothed: F -> F - 1
                 clarified or moved on: F -> F - 1 with chance 0.35
                 nothing came of it: F -> F + 1 with chance 0.2 - 0.08 patience

The chances are set so that the share of episodes that a customer-service rule list repairs is 35-40 %, as quoted for
typical services, and what planning can reach lies above 65 %, the target quoted beside it (`envs.targets`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.people import Array, logistic
from envs.session_law import NOTHING, Moves, Space, Variable

# Events by what they do here; a session's events carry these names.
MISUNDERSTOOD, CLARIFIED, SOOTHED = "misunderstood", "clarified", "soothed"


@dataclass(frozen=True, slots=True)
class Frustration:
    """A customer's temper in a conversation, and the misunderstandings that are open."""

    mood_field: str  # shows the temper, a number
    mood: tuple[float, ...]  # what it shows on each level, calm first
    episode_field: str  # shows how often the question was put anew
    episodes: tuple[float, ...]
    moved_on: tuple[str, ...]  # events after which the conversation gets on

    def temper(self, space: Space) -> Variable:
        """The frustration."""
        patience = space.traits["patience"]
        moves = (
            Moves(space, len(self.mood))
            .when(events=[MISUNDERSTOOD], by=1, chance=0.75 - 0.15 * patience)
            .when(events=[SOOTHED], by=-1)
            .when(events=[CLARIFIED, *self.moved_on], by=-1, chance=0.35)
            .when(events=[NOTHING], by=1, chance=0.2 - 0.08 * patience)
        )
        return Variable(self.mood_field, self.mood, ordered_start(0.5 - 0.7 * patience, len(self.mood)), moves)

    def episode(self, space: Space) -> Variable:
        """The open misunderstandings."""
        moves = (
            Moves(space, len(self.episodes))
            .when(events=[MISUNDERSTOOD], by=1)
            .when(events=[CLARIFIED], to=0)
            .when(events=self.moved_on, by=-1, chance=0.5)
        )
        start = np.tile(np.eye(len(self.episodes))[0], (space.types, 1))
        return Variable(self.episode_field, self.episodes, start, moves)


def ordered_start(middle: Array, levels: int) -> Array:
    """Chances (c, l) of levels 0 to l - 1 around a middle (c,): an ordered logit with cuts one level apart."""
    cuts = np.arange(levels - 1) + 0.5
    below = logistic(2.0 * (cuts - middle[:, None]))
    ends = np.zeros((len(middle), 1))
    return np.diff(np.concatenate([ends, below, ends + 1.0], axis=1), axis=1)
