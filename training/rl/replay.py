"""The last steps that were sampled, as arrays, for learning from more than once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from training.rl.steps import Steps, ahead


class Replay:
    """At most `capacity` steps, each with what came of it and of the few after it; the oldest give way."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.added = capacity, 0
        self._columns: dict[str, np.ndarray[Any, Any]] = {}

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, steps: Steps, gamma: float, n: int) -> None:
        """Remembers the live steps, each with its reward over n steps and what was seen after those."""
        rewards, counted, ended = ahead(steps, gamma, n)
        live, (t, sessions) = steps.live, steps.live.shape
        after = (
            np.minimum(np.arange(t)[:, None] + counted, t)[live],
            np.broadcast_to(np.arange(sessions), (t, sessions))[live],
        )
        self._keep(
            {
                "observations": steps.contexts[:-1][live],
                "action_mask": steps.mask[:-1][live],
                "next_observations": steps.contexts[after],
                "next_action_mask": steps.mask[after],
                "actions": steps.actions[live],
                "rewards": rewards[live],
                "n_step": counted[live].astype(np.float32),
                "terminateds": ended[live],
            }
        )

    def _keep(self, columns: dict[str, np.ndarray[Any, Any]]) -> None:
        n = len(columns["actions"])
        places = (self.added + np.arange(n)) % self.capacity
        for name, column in columns.items():
            kept = self._columns.setdefault(name, np.empty((self.capacity, *column.shape[1:]), column.dtype))
            kept[places[-self.capacity :]] = column[-self.capacity :]
        self.added += n

    def draw(self, size: int, rng: Generator) -> dict[str, Any]:
        """`size` steps drawn evenly with repetition, as RLlib's DQN learner takes them."""
        rows = rng.integers(0, len(self), size)
        found = {name: column[rows] for name, column in self._columns.items()}
        masks = {name: found.pop(name).astype(np.float32) for name in ("action_mask", "next_action_mask")}
        seen = {"observations": found.pop("observations"), "action_mask": masks["action_mask"]}
        then = {"observations": found.pop("next_observations"), "action_mask": masks["next_action_mask"]}
        return {"obs": seen, "new_obs": then, **found, "weights": np.ones(size, np.float32)}

    def get_state(self) -> dict[str, Any]:
        """All that is remembered."""
        return {"added": self.added, "columns": {name: c[: len(self)] for name, c in self._columns.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Remembers what `get_state` gave, and nothing else."""
        self.added, self._columns = 0, {}
        if state["columns"]:
            self._keep(state["columns"])
        self.added = state["added"]
