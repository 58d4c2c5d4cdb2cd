"""Built-in sessions, solved: what is best in a state, for a type of customer, at a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.batch_session import BatchSessionEnv
from envs.people import Array
from envs.planning import action_values
from envs.session_law import SessionLaw
from nba.pack_file import load_pack


@dataclass(frozen=True)
class Solved:
    """A session's law and its values under optimal play, and under play that looks one step ahead."""

    law: SessionLaw
    planned: Array  # (t, c, s, k)
    myopic: Array  # (1, c, s, k)

    @classmethod
    def of(cls, pack: str, moment: str) -> Solved:
        law = BatchSessionEnv(load_pack(pack), moment).law
        return cls(law, action_values(law), action_values(law, horizon=1))

    def best(
        self, *, step: int = 5, traits: tuple[float, float] = (0.0, 0.0), ahead: bool = True, **levels: int
    ) -> str:
        """The best action; `traits` are -1, 0 or 1 for the thirds of each; variables not named are on level 0."""
        third = [int(trait) + 1 for trait in traits]
        values = self.planned[step] if ahead else self.myopic[0]
        return self.law.space.actions[int(values[3 * third[0] + third[1], self.state(**levels)].argmax())]

    def chance(self, event: str, action: str, *, traits: tuple[float, float] = (0.0, 0.0), **levels: int) -> float:
        """The probability of an event after an action."""
        third = [int(trait) + 1 for trait in traits]
        a, e = self.law.space.actions.index(action), self.law.space.events.index(event)
        return float(self.law.chances[3 * third[0] + third[1], self.state(**levels), a, e])

    def state(self, **levels: int) -> int:
        """The state with these levels."""
        names = [variable.name for variable in self.law.variables]
        assert set(levels) <= set(names)
        return int(np.ravel_multi_index([levels.get(name, 0) for name in names], self.law.levels))
