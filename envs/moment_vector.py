"""A moment of many customers at once as a Gymnasium vector environment: NumPy, no loop over customers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.batch import Batch
from envs.moment_core import MomentCore
from envs.reset import checked_seed
from nba.errors import ShapeError
from nba.pack import Pack
from nba.types import Actions, Contexts

Step = tuple[Contexts, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]  # rewards, ended, cut (n,)


class MomentVectorEnv(VectorEnv[Contexts, Actions, NDArray[Any]]):
    """`num_envs` moments of `envs.moment.MomentEnv` side by side; the same arguments, spaces batched.

    Every step ends every episode and starts the next (Gymnasium's same-step mode): the observation that comes back is
    the next customer's. `info` is of that observation: `action_mask` (n, k) int8 and, where `expected_rewards` is
    asked for, the exact expected reward of each action (n, k). Of the step just taken it has `final_obs` (n, d), the
    contexts that were decided in, and `final_info`: `outcomes` (n, o) in the order of `outcome_names`, `ineligible`
    (n,) where an action was not possible and counted as no_action, and `expected_rewards` where asked for.

    With one environment the same seed and actions give the scalar form's trajectory. Drift goes by the calls of `step`,
    as each of the environments would count them.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  # Gymnasium declares it so

    def __init__(
        self,
        pack: Pack | str | Path,
        moment: str,
        *,
        num_envs: int = 1,
        expected_rewards: bool = False,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ShapeError(f"{num_envs} environments", help="ask for at least one")
        self.core = MomentCore(pack, moment, **settings)
        self.action_ids, self.columns = self.core.action_ids, self.core.columns
        self.outcome_names = self.core.batched.outcome_names
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space, self.single_action_space = self.core.observation_space, self.core.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._tells_truth = expected_rewards
        self._batch: Batch | None = None
        self._info: dict[str, Any] = {}
        self._first_of_row = np.arange(num_envs) * len(self.action_ids)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Contexts, dict[str, Any]]:
        """The first customers' contexts (n, d). Raises ShapeError for a seed or an option that it does not know."""
        super().reset(seed=checked_seed(seed))
        self.core.take_options(options)
        batch = self._next()
        return batch.contexts.copy(), dict(self._info)

    def step(self, actions: Actions) -> Step:
        """Takes the actions; an ineligible one counts as no_action. Raises ResetNeeded, InvalidAction."""
        batch, told = self._batch, self._info
        if batch is None:
            raise ResetNeeded("no customers have come: call reset()")
        actions = self._checked(actions)
        eligible = batch.mask.take(self._first_of_row + actions)
        taken = actions * eligible
        now = self.core.now()
        outcomes = now.outcomes(batch, taken, self.np_random)
        rewards = now.rewards(outcomes, taken)
        self.core.steps += 1
        final = {"outcomes": outcomes, "ineligible": ~eligible}
        if self._tells_truth:
            final["expected_rewards"] = told["expected_rewards"]
        following, all_of_them = self._next(), np.ones(self.num_envs, dtype=np.bool_)
        info = self._info | {
            "final_obs": batch.contexts,
            "_final_obs": all_of_them,
            "final_info": final,
            "_final_info": all_of_them,
        }
        ended, cut = np.ones(self.num_envs, dtype=np.bool_), np.zeros(self.num_envs, dtype=np.bool_)
        return following.contexts.copy(), rewards, ended, cut, info

    def _next(self) -> Batch:
        """The next customers, noted with what is told of them."""
        now = self.core.now()
        self._batch = batch = now.sample(self.num_envs, self.np_random)
        self._info = {"action_mask": batch.mask.astype(np.int8)}
        if self._tells_truth:
            self._info["expected_rewards"] = now.expected_rewards(batch.contexts)
        return batch

    def _checked(self, actions: Actions) -> Actions:
        actions, k = np.asarray(actions), len(self.action_ids)
        if (
            actions.shape != (self.num_envs,)
            or actions.dtype.kind not in "iu"
            or not 0 <= actions.min() <= actions.max() < k
        ):
            raise InvalidAction(f"actions of shape {actions.shape}: give {self.num_envs} columns, each 0 to {k - 1}")
        return actions.astype(np.int64, copy=False)
