"""Sessions of many customers at once as a Gymnasium vector environment: NumPy, no loop over customers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.batch_session import Happened, Sessions
from envs.reset import checked_seed
from envs.session_core import Observation, SessionCore
from nba.errors import ShapeError
from nba.pack import Pack
from nba.types import Actions


class SessionVectorEnv(VectorEnv[Observation, Actions, NDArray[np.float64]]):
    """`num_envs` sessions of `envs.session.SessionEnv` side by side; the same arguments, spaces batched.

    Autoreset is Gymnasium's next-step mode: the step after a session's end ignores its action, starts a new session and
    pays nothing. With one environment the same seed and actions give the scalar form's trajectory.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012  # as Gymnasium has it

    def __init__(
        self,
        pack: Pack | str | Path,
        moment: str,
        *,
        num_envs: int = 1,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ShapeError(f"{num_envs} environments", help="ask for at least one")
        self.core = SessionCore(pack, moment, **settings)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space = self.core.observation_space
        self.single_action_space = self.core.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._sessions: Sessions | None = None
        self._mask = np.empty((0, 0), dtype=np.bool_)
        self._over = np.zeros(num_envs, dtype=np.bool_)
        self._owed = self.core.no_debts(num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first observations of new sessions. Raises ShapeError for a seed or an option that it does not know."""
        super().reset(seed=checked_seed(seed))
        self.core.take_options(options)
        self._sessions = self.core.env.start(self.num_envs, self.np_random)
        self._over[:] = False
        self._owed = self.core.no_debts(self.num_envs)
        return self._observe(self._sessions), {}

    def step(  # type: ignore[override]  # gymnasium types rewards and endings alike
        self, actions: Actions
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One step of every session; an ineligible action counts as no_action. Raises ResetNeeded, InvalidAction."""
        sessions = self._sessions
        if sessions is None:
            raise ResetNeeded("no sessions were started: call reset()")
        actions = np.asarray(actions)
        k = len(self.core.action_ids)
        if (
            actions.shape != (self.num_envs,)
            or actions.dtype.kind not in "iu"
            or ((actions < 0) | (actions >= k)).any()
        ):
            raise InvalidAction(f"actions of shape {actions.shape}: give {self.num_envs} columns, each 0 to {k - 1}")
        eligible = self._mask[np.arange(self.num_envs), actions]
        taken = np.where(eligible, actions, 0).astype(np.int64)
        fresh = np.flatnonzero(self._over)
        if fresh.size < self.num_envs:
            happened = self.core.advance(sessions, taken, self.np_random)
        else:
            happened = Happened.none(self.num_envs)
        if fresh.size:  # they had ended: this step only starts them anew
            self.core.env.restart(sessions, fresh, self.np_random)
            happened.clear(fresh)
        rewards = self.core.pay(self._owed, happened)
        self._over = happened.terminated | happened.truncated
        return self._observe(sessions), rewards, happened.terminated, happened.truncated, {}

    def _observe(self, sessions: Sessions) -> Observation:
        contexts, self._mask = self.core.env.observe(sessions)
        return {"observations": contexts, "action_mask": self._mask.astype(np.float32)}
