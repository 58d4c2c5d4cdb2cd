"""What the scalar and the batched Gymnasium form of a moment share, so that both follow one law."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.batch import BatchMomentEnv
from envs.reset import steps_behind
from nba.pack import Pack
from nba.pack_file import load_pack


class MomentCore:
    """A moment with its spaces and the count of the steps that were taken in it, by which it drifts."""

    def __init__(self, pack: Pack | str | Path, moment: str, **settings: Any) -> None:
        loaded = pack if isinstance(pack, Pack) else load_pack(pack)
        self.batched = BatchMomentEnv(loaded, moment, **settings)
        self.action_ids, self.columns = self.batched.plan.action_ids, self.batched.plan.encoder.columns
        self.observation_space = spaces.Box(-1.0, 1.0, (self.batched.plan.width,), np.float32)
        self.action_space: spaces.Space[np.int64] = spaces.Discrete(len(self.action_ids))
        self.steps = 0

    def now(self) -> BatchMomentEnv:
        """The moment with the truth as it is by now."""
        return self.batched.at(self.steps)

    def take_options(self, options: dict[str, Any] | None) -> None:
        """Obeys the options of a reset: `step` sets the count of steps. Raises ShapeError for anything else."""
        self.steps = steps_behind(options, self.steps)
