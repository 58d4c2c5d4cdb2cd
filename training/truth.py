"""What the simulator knows of a pack: the value of any policy, and of those it is measured against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from envs.batch import BatchMomentEnv
from envs.batch_session import BatchSessionEnv
from envs.calibration.parameters import Settings, load_calibration
from envs.oracle import FixedOrder, Oracle, best_context_free
from envs.rollout import rollout, value
from envs.session_play import SessionOracle, play, session_oracle, session_value
from envs.sessions import SESSIONS as SESSIONS_BY_MOMENT
from nba.errors import PackError, UnknownMomentError
from nba.moment_plan import MomentPlan
from nba.pack import Pack
from nba.policies import KINDS
from nba.rounds import LoggedRounds
from nba.types import Policy

CONTEXTS = 20_000  # rounds over which a true value is averaged
SESSIONS = 1_000  # the same for sessions


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """True values: of a moment reward units a round, on the same contexts; of a session moment units a session."""

    uniform: float
    rules: float  # the pack's own priority list
    context_free: float  # the best that never looks at the customer
    oracle: float  # the best there is


class SimulatedMoment:
    """One moment of a pack that simulated customers play, and a fixed sample of its contexts to measure on."""

    def __init__(self, env: BatchMomentEnv, rng: Generator, contexts: int = CONTEXTS) -> None:
        self.env = env
        batch = env.sample(contexts, rng)
        self._contexts, self._mask = batch.contexts, batch.mask

    @property
    def plan(self) -> MomentPlan:
        """The moment as a policy sees it."""
        return self.env.plan

    def play(self, policy: Policy, rounds: int, rng: Generator) -> LoggedRounds:
        """That many rounds of the policy, to learn from."""
        return rollout(policy, self.env, episodes=rounds, rng=rng)

    def value(self, policy: Policy) -> float:
        """The policy's exact expected reward a round on the sample."""
        return value(policy, self.env, self._contexts, self._mask).value

    @cached_property
    def yardsticks(self) -> Yardsticks:
        """What a policy of this moment is measured against."""
        plan, nothing = self.env.plan, no_rounds(self.env.plan.width, len(self.env.plan.action_ids))
        expected = self.env.expected_rewards(self._contexts)
        return Yardsticks(
            uniform=self.value(KINDS["uniform"].fit(plan, nothing)),
            rules=self.value(KINDS["rules"].fit(plan, nothing)),
            context_free=self.value(best_context_free(expected, self._mask)),
            oracle=self.value(Oracle(self.env.response)),
        )


class SimulatedSession:
    """One session moment of a pack that simulated customers play, and a seed for sessions to measure on."""

    def __init__(self, env: BatchSessionEnv, seed: int, sessions: int = SESSIONS) -> None:
        self.env, self._seed, self._sessions = env, seed, sessions

    @property
    def plan(self) -> MomentPlan:
        """The moment as a policy sees it."""
        return self.env.plan

    def play(self, policy: Policy, rounds: int, rng: Generator) -> LoggedRounds:
        """About that many steps of whole sessions of the policy, each with the reward to go: what a step led to."""
        played = play(policy, self.env, sessions=max(1, 2 * rounds // self.env.law.steps), rng=rng)
        return replace(played.rounds, rewards=played.to_go())

    def value(self, policy: Policy) -> float:
        """The policy's mean reward a session, always over sessions of the same seed."""
        rng = np.random.default_rng(self._seed)
        return session_value(policy, self.env, sessions=self._sessions, rng=rng).value

    @cached_property
    def yardsticks(self) -> Yardsticks:
        """What a policy of this session is measured against; the oracle is the planner."""
        plan, nothing = self.plan, no_rounds(self.plan.width, len(self.plan.action_ids))
        always = [FixedOrder((a, 0)) for a in range(1, len(plan.action_ids))]
        return Yardsticks(
            uniform=self.value(KINDS["uniform"].fit(plan, nothing)),
            rules=self.value(KINDS["rules"].fit(plan, nothing)),
            context_free=max(self.value(policy) for policy in (FixedOrder((0,)), *always)),
            oracle=self.value(self.oracle.planner),
        )

    @cached_property
    def oracle(self) -> SessionOracle:
        """The plan for this session, and what nobody can beat."""
        return session_oracle(self.env)


Playground: TypeAlias = SimulatedMoment | SimulatedSession


def simulate(
    pack: Pack, *, seed: int = 0, contexts: int = CONTEXTS, calibration: Path | None = None
) -> dict[str, Playground]:
    """The moments of a pack that simulated customers play; empty for a pack they do not know.

    With a `calibration` they are like the customers of the log it was fitted to. Raises CalibrationError.
    """
    unfitted = Settings(adjustments=(), trait_means={})
    fitted = load_calibration(calibration, pack) if calibration else dict.fromkeys(pack.moments, unfitted)
    playgrounds = dict[str, Playground]()
    for i, moment in enumerate(pack.moments):
        try:
            if moment in SESSIONS_BY_MOMENT:
                session = BatchSessionEnv(pack, moment, **fitted[moment])
                playgrounds[moment] = SimulatedSession(session, seed + i)
            else:
                playgrounds[moment] = SimulatedMoment(
                    BatchMomentEnv(pack, moment, **fitted[moment]), np.random.default_rng([seed, i]), contexts
                )
        except (PackError, UnknownMomentError):
            continue
    return playgrounds


def no_rounds(d: int, k: int) -> LoggedRounds:
    """Rounds of d columns and k actions, none of them."""
    return LoggedRounds(
        contexts=np.empty((0, d), dtype=np.float32),
        mask=np.empty((0, k), dtype=np.bool_),
        actions=np.empty(0, dtype=np.int64),
        propensities=np.empty(0),
        rewards=np.empty(0),
        subjects=np.empty(0, dtype=np.uint64),
    )
