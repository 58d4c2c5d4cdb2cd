"""A moment for many customers at once: NumPy all through, no loop over customers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.dynamics.disposition import checked_correlation, dispositions, quality
from envs.dynamics.drift import Drift
from envs.dynamics.sleeping import checked_chance, put_to_sleep
from envs.people import Array, Customers, Population
from envs.response import Adjustment, Probabilities, Response
from envs.situations import Situations
from nba.errors import ShapeError
from nba.guardrails import action_mask
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.types import ActionMask, Actions, ActionValues, Contexts, Facts, Rewards


@dataclass(frozen=True, slots=True)
class Batch:
    """n customers in a moment: what the server would know, see and allow."""

    customers: Customers
    facts: Facts
    contexts: Contexts
    mask: ActionMask

    def __len__(self) -> int:
        return len(self.customers)


class BatchMomentEnv:
    """One moment of a pack, played by a population; every call takes the rng it draws from.

    `drift` changes the truth with the steps (`at`). `sleeping` is the chance that an action is away whatever the
    context, `disposition` the correlation of one customer's rounds (`envs.dynamics`). `adjustments` and `trait_means`
    are what a calibration found.

    Raises UnknownMomentError where the pack has no such moment or nobody plays it, PackError where the pack asks for
    facts, actions or outcomes that simulated customers do not have, ShapeError for numbers without sense.
    """

    def __init__(
        self,
        pack: Pack,
        moment: str,
        *,
        population_seed: int = 0,
        customers: int = 2_000,
        drift: Drift | None = None,
        sleeping: float = 0.0,
        disposition: float = 0.1,
        adjustments: tuple[Adjustment, ...] = (),
        trait_means: Mapping[str, float] | None = None,
    ) -> None:
        if customers < 1:
            raise ShapeError(f"a population of {customers}", help="ask for at least one customer")
        self.plan = plan_moment(pack, moment)
        self._undrifted = self.response = Response.of(self.plan, adjustments)
        self.population = Population(pack, population_seed, trait_means=trait_means)
        self.drift, self._sleeping = drift, checked_chance(sleeping)
        self._people = self.population.people(np.arange(customers))
        self._disposition = checked_correlation(disposition)
        self._disposed = dispositions(self._people.customers, population_seed)
        self._situations = Situations(pack, moment)

    @property
    def outcome_names(self) -> tuple[str, ...]:
        """Names of the outcomes (o), in the order of the pack's reward formula."""
        return self.response.outcomes

    def at(self, step: int) -> BatchMomentEnv:
        """The same environment, its population shared, with the truth as it is at that step; steps count from 0.

        One that was just made is as before any drift. Raises ShapeError where the step is negative.
        """
        if step < 0:
            raise ShapeError(f"step {step}", help="steps are counted from 0")
        if self.drift is None:
            return self
        then, undrifted = copy.copy(self), self._undrifted
        drifted = (*undrifted.adjustments, self.drift.at_step(step))
        then.response = dataclasses.replace(undrifted, adjustments=drifted)
        return then

    def sample(self, n: int, rng: Generator) -> Batch:
        """n moments of customers drawn evenly from the population. Raises ShapeError where n is negative."""
        if n < 0:
            raise ShapeError(f"a batch of {n}", help="ask for 0 or more moments")
        people = self._people.take(rng.integers(0, len(self._people), n))
        facts = self._situations.facts(people, rng)
        mask = action_mask(self.plan.stages, facts, len(self.plan.action_ids))
        put_to_sleep(mask, self._sleeping, rng)
        return Batch(people.customers, facts, self.plan.encoder.encode(facts), mask)

    def probabilities(self, contexts: Contexts) -> Probabilities:
        """P(outcome | context, action), (n, k, o)."""
        return self.response.probabilities(contexts)

    def expected_rewards(self, contexts: Contexts) -> ActionValues:
        """The truth: the exact expected reward of each action, eligible or not, (n, k)."""
        return self.response.expected_rewards(contexts)

    def quality(self, batch: Batch, rng: Generator) -> Array:
        """The latent quality of each round (n,), uniform on (0, 1); one customer's rounds are correlated."""
        return quality(self._disposed[batch.customers], self._disposition, rng)

    def outcomes(self, batch: Batch, actions: Actions, rng: Generator) -> NDArray[np.float64]:
        """Outcomes (n, o), 0 or 1, of these actions."""
        return self.response.happened(self.response.taken(batch.contexts, actions), self.quality(batch, rng))

    def rewards(self, outcomes: NDArray[np.float64], actions: Actions) -> Rewards:
        """Rewards (n,) by the pack's formula: sum(weight * outcome) - the action's cost."""
        return outcomes @ self.response.weights - self.plan.costs[actions]
