"""Traffic for a server: customers in moments, what the app would send, and what would come of every action.

All of it is drawn before the first request goes out, so that neither the server's speed nor its choices change who
comes: two servers driven with the same seed meet the same customers in the same mood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.batch import BatchMomentEnv
from envs.oracle import Oracle
from envs.people import subject_id
from envs.rollout import value
from nba.pack import Pack
from nba.policies.rules import Rules
from nba.policies.uniform import Uniform
from nba.types import Actions, ActionValues, Policy, Rewards, Value

NOT_SERVED = -1


@dataclass(frozen=True, slots=True)
class MomentValues:
    """What policies are worth on the same rounds: expected reward a round, by the truth."""

    rounds: int
    served: float  # what was done
    uniform: float
    rules: float
    oracle: float


class MomentTraffic:
    """n rounds of one moment with their potential outcomes; `served` is filled in as answers come."""

    def __init__(self, env: BatchMomentEnv, n: int, rng: np.random.Generator) -> None:
        self.env, self.batch = env, env.sample(n, rng)
        chances = env.probabilities(self.batch.contexts)
        self.expected: ActionValues = chances @ env.response.weights - env.plan.costs
        self.outcomes: NDArray[np.bool_] = env.response.happened(chances, rng.random((n, 1))) > 0.5  # (n, k, o)
        self.served: Actions = np.full(n, NOT_SERVED, dtype=np.int64)
        fields = enumerate(env.plan.encoder.fields.items())
        self._brought = [(j, name, field) for j, (name, field) in fields if field.feature is None]

    def context(self, row: int) -> dict[str, Value]:
        """The facts that a request brings; what the feature store holds is left to the server to read."""
        facts = self.batch.facts[row].tolist()
        named = {name: field.name(facts[j]) for j, name, field in self._brought}
        return {name: fact for name, fact in named.items() if fact is not None}

    def serve(self, row: int, action_id: str) -> list[tuple[str, float]]:
        """Notes the action taken; the outcomes to report, the one that closes the window last and always.

        Raises ValueError where the pack has no such action.
        """
        column = self.env.plan.action_ids.index(action_id)
        self.served[row] = column
        closing = self.env.response.closing
        reports = zip(self.env.outcome_names, self.outcomes[row, column].tolist(), closing.tolist(), strict=True)
        return [(name, float(came)) for name, came, closes in sorted(reports, key=lambda r: r[2]) if came or closes]

    def rewards(self) -> Rewards:
        """Realised rewards of the rounds that were served."""
        rows = np.flatnonzero(self.served >= 0)
        taken = self.served[rows]
        return self.env.rewards(self.outcomes[rows, taken].astype(np.float64), taken)

    def values(self) -> MomentValues:
        """The served rounds' value beside what uniform, the pack's rules and the oracle would have got on them."""
        rows = np.flatnonzero(self.served >= 0)
        contexts, mask = self.batch.contexts[rows], self.batch.mask[rows]
        rules = Rules(self.env.plan.encoder.first_rule, self.env.plan.rule_actions)

        def worth(policy: Policy) -> float:
            return value(policy, self.env, contexts, mask).value

        served = float(self.expected[rows, self.served[rows]].mean())
        return MomentValues(len(rows), served, worth(Uniform()), worth(rules), worth(Oracle(self.env.response)))


class Traffic:
    """`rounds` moments in random order, as many of each kind as chance gives."""

    def __init__(
        self, pack: Pack, moments: Sequence[str], rounds: int, *, customers: int, population_seed: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self.pack = pack
        which = rng.integers(0, len(moments), rounds)
        self._moment: list[int] = which.tolist()
        self._row = np.zeros(rounds, dtype=np.int64)
        self.moments: dict[str, MomentTraffic] = {}
        for i, name in enumerate(moments):
            places = np.flatnonzero(which == i)
            self._row[places] = np.arange(len(places))
            env = BatchMomentEnv(pack, name, population_seed=population_seed, customers=customers)
            self.moments[name] = MomentTraffic(env, len(places), rng)
        self._parts: list[MomentTraffic] = list(self.moments.values())

    def __len__(self) -> int:
        return len(self._row)

    def body(self, i: int, decision_id: str) -> dict[str, object]:
        """The body of round i's request for a decision."""
        part, row = self._parts[self._moment[i]], int(self._row[i])
        return {
            "decision_id": decision_id,
            "subject_id": subject_id(int(part.batch.customers[row])),
            "pack": self.pack.pack,
            "moment": part.env.plan.name,
            "context": part.context(row),
        }

    def serve(self, i: int, action_id: str) -> list[tuple[str, float]]:
        """Notes what was done in round i; the outcomes to report, in order. Raises ValueError as MomentTraffic."""
        return self._parts[self._moment[i]].serve(int(self._row[i]), action_id)

    def values(self) -> tuple[MomentValues, dict[str, MomentValues]]:
        """Over all served rounds, and by moment; moments without a served round are left out."""
        by_moment = {name: part.values() for name, part in self.moments.items() if (part.served >= 0).any()}
        total = sum(v.rounds for v in by_moment.values())
        means = [
            sum(v.rounds * getattr(v, name) for v in by_moment.values()) / total
            for name in ("served", "uniform", "rules", "oracle")
        ]
        return MomentValues(total, *means), by_moment
