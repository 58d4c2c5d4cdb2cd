"""What the scalar and the batched Gymnasium form of a session share, so that both follow one law."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.random import Generator
from numpy.typing import NDArray

from envs.batch_session import BatchSessionEnv, Happened, Sessions
from envs.dynamics.drift import Drift
from envs.people import Array
from envs.reset import steps_behind
from nba.errors import ShapeError
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.types import Actions

Observation: TypeAlias = dict[str, NDArray[np.float32]]  # observations (d,), action_mask (k,)


class SessionCore:
    """A session moment with its spaces, its drift and its delayed rewards."""

    def __init__(
        self,
        pack: Pack | str | Path,
        moment: str,
        *,
        population_seed: int = 0,
        customers: int = 2_000,
        drift: Drift | None = None,
        reward_delay: int = 0,
    ) -> None:
        if reward_delay < 0:
            raise ShapeError(f"a reward delay of {reward_delay} steps", help="give 0 or more")
        loaded = pack if isinstance(pack, Pack) else load_pack(pack)
        self.env = BatchSessionEnv(loaded, moment, population_seed=population_seed, customers=customers, drift=drift)
        self._steps, self._delay = 0, reward_delay
        self.action_ids, self.columns = self.env.plan.action_ids, self.env.plan.encoder.columns
        k, d = len(self.action_ids), self.env.plan.width
        self.action_space: spaces.Discrete[np.int64] = spaces.Discrete(k)
        self.observation_space = spaces.Dict(
            {
                "observations": spaces.Box(-1.0, 1.0, (d,), np.float32),
                "action_mask": spaces.Box(0.0, 1.0, (k,), np.float32),
            }
        )

    def take_options(self, options: dict[str, Any] | None) -> None:
        """Obeys the options of a reset: `step` sets the steps that drift goes by. Raises ShapeError for others."""
        self._steps = steps_behind(options, self._steps)

    def advance(self, sessions: Sessions, actions: Actions, rng: Generator) -> Happened:
        """One step of the sessions under the law as it is by now; drift counts these steps."""
        happened = self.env.at(self._steps).advance(sessions, actions, rng)
        self._steps += 1
        return happened

    def no_debts(self, n: int) -> Array:
        """Rewards owed to n sessions that have just started (n, delay), the next to be paid first."""
        return np.zeros((n, self._delay))

    def pay(self, owed: Array, happened: Happened) -> Array:
        """The rewards (n,) that are paid now; what is owed moves up. A session that is over is paid in full."""
        if not self._delay:
            return happened.rewards
        paid = owed[:, 0].copy()
        owed[:, :-1] = owed[:, 1:]
        owed[:, -1] = happened.rewards
        over = happened.terminated | happened.truncated
        paid[over] += owed[over].sum(axis=1)
        owed[over] = 0.0
        return paid
