"""A moment for many customers at once: NumPy all through, no loop over customers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.people import Customers, Population
from envs.response import Probabilities, Response
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

    Raises UnknownMomentError where the pack has no such moment or nobody plays it, PackError where the pack asks for
    facts, actions or outcomes that simulated customers do not have.
    """

    def __init__(self, pack: Pack, moment: str, *, population_seed: int = 0, customers: int = 2_000) -> None:
        self.plan = plan_moment(pack, moment)
        self.response = Response.of(self.plan)
        self.population = Population(pack, population_seed)
        self._people = self.population.people(np.arange(customers))
        self._situations = Situations(pack, moment)

    @property
    def outcome_names(self) -> tuple[str, ...]:
        """Names of the outcomes (o), in the order of the pack's reward formula."""
        return self.response.outcomes

    def sample(self, n: int, rng: Generator) -> Batch:
        """n moments of customers drawn evenly from the population. Raises ShapeError where n is negative."""
        if n < 0:
            raise ShapeError(f"a batch of {n}", help="ask for 0 or more moments")
        people = self._people.take(rng.integers(0, len(self._people), n))
        facts = self._situations.facts(people, rng)
        mask = action_mask(self.plan.stages, facts, len(self.plan.action_ids))
        return Batch(people.customers, facts, self.plan.encoder.encode(facts), mask)

    def probabilities(self, contexts: Contexts) -> Probabilities:
        """P(outcome | context, action), (n, k, o)."""
        return self.response.probabilities(contexts)

    def expected_rewards(self, contexts: Contexts) -> ActionValues:
        """The truth: the exact expected reward of each action, eligible or not, (n, k)."""
        return self.response.expected_rewards(contexts)

    def outcomes(self, batch: Batch, actions: Actions, rng: Generator) -> NDArray[np.float64]:
        """Outcomes (n, o), 0 or 1, of these actions."""
        taken = self.probabilities(batch.contexts)[np.arange(len(batch)), actions]
        return self.response.happened(taken, rng.random(len(batch)))

    def rewards(self, outcomes: NDArray[np.float64], actions: Actions) -> Rewards:
        """Rewards (n,) by the pack's formula: sum(weight * outcome) - the action's cost."""
        return outcomes @ self.response.weights - self.plan.costs[actions]
