"""One session of a pack as a Gymnasium environment: one customer, many decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded

from envs.batch_session import Sessions
from envs.people import subject_id
from envs.reset import checked_seed
from envs.session_core import Observation, SessionCore
from nba.facts import name_facts
from nba.pack import Pack


class SessionEnv(gym.Env[Observation, np.int64]):
    """A session with one customer, step by step, until it ends or is cut off.

    ## Description

    Each episode is one session with one simulated customer, as a server would see it: a decision at every step, whose
    outcomes change what the next ones are worth. What pays now and what pays later differ: the best policy that looks
    one step ahead earns clearly less than one that plans. The law is in `envs/sessions/`, its exact optimum comes from
    `envs.planning`.

    ## Action Space

    `Discrete(k)`: the columns of the moment's actions, `0` is `no_action`. The names are in `action_ids`. An action
    that the pack's guardrails or triggers take away counts as `no_action`, in outcome and in cost, and
    `info["ineligible"]` says so.

    ## Observation Space

    `Dict`: `observations`, `Box(-1, 1, (d,), float32)`, the encoded context, exactly what a policy gets on the server
    (columns named in `columns`); `action_mask`, `Box(0, 1, (k,), float32)`, 1 where eligible. The form that RLlib's
    `ActionMaskingRLModule` expects.

    ## Rewards

    The pack's formula: the sum of weight times outcome, less the cost of the action. With `reward_delay` each reward is
    paid so many steps after its action, and all that is outstanding when the session ends.

    ## Starting State

    A customer drawn evenly from the population; how the session starts depends on who it is. `info["facts"]` has the
    facts by name, `info["subject_id"]` the customer.

    ## Episode End

    Terminates where an event ends it (resolved, left, cancelled …): what was done decides when. Truncated after the
    session's number of steps.

    ## Arguments

    ```python
    >>> import gymnasium as gym
    >>> import envs
    >>> env = gym.make("nba/ServiceConversation-v0", customers=500)

    ```

    `pack`: name of a built-in pack, a pack file, or a `Pack`. `moment`: one of its session moments. `population_seed`:
    another seed is another population. `customers`: how many there are. `drift`: a `Drift` of the response, by the
    environment's own steps (`options={"step": 20_000}` at a reset sets them). `reward_delay`: in steps.
    `render_mode`: `"ansi"` tells the session as text.

    ## Version History

    * v0: first version
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  # Gymnasium declares it so

    def __init__(
        self, pack: Pack | str | Path, moment: str, *, render_mode: str | None = None, **settings: Any
    ) -> None:
        self.core = SessionCore(pack, moment, **settings)
        self.action_ids, self.columns = self.core.action_ids, self.core.columns
        self.observation_space = self.core.observation_space
        self.action_space = self.core.action_space
        self.render_mode = render_mode
        self._sessions: Sessions | None = None
        self._mask = np.zeros(0, dtype=np.bool_)  # of the last observation
        self._owed = self.core.no_debts(1)
        self._told: list[str] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The next customer's first observation. Raises ShapeError for a seed or an option that it does not know."""
        super().reset(seed=checked_seed(seed))
        self.core.take_options(options)
        self._sessions = self.core.env.start(1, self.np_random)
        self._owed = self.core.no_debts(1)
        info = self._about(self._sessions)
        self._told = [f"{self.core.env.plan.name}: {info['subject_id']}"]
        return self._observe(self._sessions), info

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Takes the action; an ineligible one counts as no_action. Raises ResetNeeded, InvalidAction."""
        sessions = self._sessions
        if sessions is None:
            raise ResetNeeded("the session is over, or none was started: call reset()")
        if not self.action_space.contains(action):
            raise InvalidAction(f"action {action!r}: give a column, 0 to {len(self.action_ids) - 1}")
        eligible = bool(self._mask[action])
        taken = np.array([action if eligible else 0], dtype=np.int64)
        happened = self.core.advance(sessions, taken, self.np_random)
        reward = float(self.core.pay(self._owed, happened)[0])
        event = self.core.env.law.events[int(happened.events[0])]
        info = self._about(sessions) | {
            "ineligible": not eligible,
            "action_id": self.action_ids[int(taken[0])],
            "event": event.name,
            "outcomes": dict(event.outcomes),
        }
        self._told.append(f"  {info['action_id']}: {event.name}, reward {reward:+.2f}")
        terminated, truncated = bool(happened.terminated[0]), bool(happened.truncated[0])
        if terminated or truncated:
            self._sessions = None
        return self._observe(sessions), reward, terminated, truncated, info

    def render(self) -> str | None:  # type: ignore[override]  # gymnasium types it for frames
        """The session so far as text, where render_mode is "ansi"."""
        return "\n".join(self._told) if self.render_mode == "ansi" else None

    def _observe(self, sessions: Sessions) -> Observation:
        contexts, mask = self.core.env.observe(sessions)
        self._mask = mask[0]
        return {"observations": contexts[0], "action_mask": mask[0].astype(np.float32)}

    def _about(self, sessions: Sessions) -> dict[str, Any]:
        return {
            "facts": name_facts(self.core.env.plan.encoder.fields, sessions.facts)[0],
            "subject_id": subject_id(int(sessions.customers[0])),
        }
