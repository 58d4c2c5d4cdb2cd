"""What the simulator knows of a pack: the exact value of any policy, and of those it is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator

from envs.batch import BatchMomentEnv
from envs.oracle import Oracle, best_context_free
from envs.rollout import value
from nba.errors import PackError, UnknownMomentError
from nba.pack import Pack
from nba.policies import KINDS
from nba.rounds import LoggedRounds
from nba.types import Policy

CONTEXTS = 20_000  # rounds over which a true value is averaged


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """True values of a moment, reward units a round, on the same contexts."""

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


def simulate(pack: Pack, *, seed: int = 0, contexts: int = CONTEXTS) -> dict[str, SimulatedMoment]:
    """The moments of a pack that simulated customers play; empty for a pack they do not know."""
    moments = {}
    for i, moment in enumerate(pack.moments):
        try:
            env = BatchMomentEnv(pack, moment)
        except (PackError, UnknownMomentError):
            continue
        moments[moment] = SimulatedMoment(env, np.random.default_rng([seed, i]), contexts)
    return moments


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
