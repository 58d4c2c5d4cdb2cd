"""One moment of a pack as a Gymnasium environment: one customer, one decision, one reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from numpy.typing import NDArray

from envs.batch import Batch
from envs.moment_core import MomentCore
from envs.people import subject_id
from envs.reset import checked_seed
from nba.facts import name_facts
from nba.pack import Pack

Observation = NDArray[np.float32]  # (d,)


class MomentEnv(gym.Env[Observation, np.int64]):
    """A customer comes into a micro-moment and the app asks what to do next.

    ## Description

    Each episode is one decision for one simulated customer, as a server would make it: `reset` draws a customer and
    a situation, `step` takes the action and returns the reward of what came of it. The truth is known:
    `expected_rewards` in `info` is the exact expected reward of every action.

    ## Action Space

    `Discrete(k)`: the columns of the moment's actions, `0` is `no_action`. The names are in `action_ids`.

    An action that the pack's guardrails or triggers take away is not shown to the customer, as on a server: it
    counts as `no_action`, in outcome and in cost, and `info["ineligible"]` says so. `info["action_mask"]` (int8, 1
    where eligible) fits `action_space.sample(mask)`.

    ## Observation Space

    `Box(-1, 1, (d,), float32)`: the encoded context, exactly what a policy gets on the server. Its columns are named
    in `columns`: a constant 1, the fields of the moment, and whether each of the pack's rules holds.

    ## Rewards

    The pack's formula: the sum of weight times outcome, less the cost of the action. Outcomes are 0 or 1, drawn with
    the probabilities of `envs.response`. They are in `info["outcomes"]`.

    ## Starting State

    A customer drawn evenly from the population, in a situation drawn about that customer's traits. `info["facts"]`
    has the facts by name, `info["subject_id"]` the customer.

    ## Episode End

    Every step terminates; the observation stays the context that was decided in. Nothing is truncated.

    ## Arguments

    ```python
    >>> import gymnasium as gym
    >>> import envs
    >>> env = gym.make("nba/ToneTuner-v0", customers=500)

    ```

    `pack`: name of a built-in pack, a pack file, or a `Pack`. `moment`: one of its moments. `population_seed`:
    another seed is another population. `customers`: how many there are. `drift`: a `Drift` of the response.
    `sleeping`: the chance that an action is away whatever the context. `disposition`: how much the rounds of one
    customer resemble each other beyond what the context says. `adjustments`, `trait_means`: what a calibration found.
    `render_mode`: `"ansi"` tells the moment and what came of it as text.

    Drift goes by the steps that the environment has taken in its lifetime, over all episodes and seeds;
    `reset(options={"step": 20_000})` sets their number.

    ## Version History

    * v0: first version
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  # Gymnasium declares it so

    def __init__(
        self,
        pack: Pack | str | Path,
        moment: str,
        *,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        self.core = MomentCore(pack, moment, **settings)
        self.batched = self.core.batched
        self.action_ids, self.columns = self.core.action_ids, self.core.columns
        self.observation_space, self.action_space = self.core.observation_space, self.core.action_space
        self.render_mode = render_mode
        self._batch: Batch | None = None
        self._open = False
        self._told: list[str] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The next customer's context (d,). Raises ShapeError for a seed or an option that it does not know."""
        super().reset(seed=checked_seed(seed))
        self.core.take_options(options)
        self._batch, self._open = self.batched.sample(1, self.np_random), True
        info = self._about(self._batch)
        self._told = [f"{self.batched.plan.name}: {info['subject_id']}"]
        self._told += [f"  {name} = {value}" for name, value in info["facts"].items()]
        self._told += [f"  can: {', '.join(np.array(self.action_ids)[self._batch.mask[0]])}"]
        return self._batch.contexts[0].copy(), info

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes the action; an ineligible one counts as no_action. Raises ResetNeeded, InvalidAction."""
        if self._batch is None or not self._open:
            raise ResetNeeded("a moment is one decision: call reset() before each step()")
        if not self.action_space.contains(action):
            raise InvalidAction(f"action {action!r}: give a column, 0 to {len(self.action_ids) - 1}")
        batch, self._open = self._batch, False
        eligible = bool(batch.mask[0, action])
        taken = np.array([action if eligible else 0], dtype=np.int64)
        now = self.core.now()
        outcomes = now.outcomes(batch, taken, self.np_random)
        reward = float(now.rewards(outcomes, taken)[0])
        self.core.steps += 1
        info = self._about(batch) | {
            "ineligible": not eligible,
            "action_id": self.action_ids[int(taken[0])],
            "outcomes": dict(zip(self.batched.outcome_names, outcomes[0].tolist(), strict=True)),
            "expected_rewards": now.expected_rewards(batch.contexts)[0],
        }
        self._told += [f"  did: {info['action_id']}, {info['outcomes']}, reward {reward:+.2f}"]
        return batch.contexts[0].copy(), reward, True, False, info

    def render(self) -> str | None:  # type: ignore[override]  # gymnasium types it for frames
        """The moment so far as text, where render_mode is "ansi"."""
        return "\n".join(self._told) if self.render_mode == "ansi" else None

    def _about(self, batch: Batch) -> dict[str, Any]:
        return {
            "action_mask": batch.mask[0].astype(np.int8),
            "facts": name_facts(self.batched.plan.encoder.fields, batch.facts)[0],
            "subject_id": subject_id(int(batch.customers[0])),
        }
