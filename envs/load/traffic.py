"""Traffic for a server: customers in moments, what the app would send, and what would come of every action.

All of it is drawn before the first request goes out, so that neither the server's speed nor its choices change who
comes: two servers driven with the same seed meet the same customers in the same mood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.batch import Batch, BatchMomentEnv
from envs.dynamics.delays import Delays
from envs.load.changes import Lives, purposes_of
from envs.load.session_traffic import SessionGroup, SessionTraffic
from envs.load.told import Report, Teller
from envs.oracle import Oracle
from envs.people import PURPOSES, People, Population, subject_id
from envs.response import Adjustment
from envs.rollout import value
from envs.sessions import SESSIONS
from envs.situations import Situations
from nba.guardrails import action_mask
from nba.pack import Pack
from nba.policies.rules import Rules
from nba.policies.uniform import Uniform
from nba.types import Actions, ActionValues, Policy, Rewards, Value

NOT_SERVED = -1
_CHANGES, _DELAYS = 1, 2  # streams of the seed


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

    def __init__(self, env: BatchMomentEnv, people: People, rng: Generator, delays: NDArray[np.float64]) -> None:
        """Rounds of these people (n,), as they are then; `delays` (n, o) are the seconds until outcomes come."""
        situations = Situations(env.plan.pack, env.plan.name)
        brought = situations.brought(people, rng)
        facts = situations.known(brought, people)
        mask = action_mask(env.plan.stages, facts, len(env.plan.action_ids))
        self.env, self.batch = env, Batch(people.customers, facts, env.plan.encoder.encode(facts), mask)
        self._brought = situations.known(brought, replace(people, consent=np.ones_like(people.consent)))
        self._consent, self._time_zone = people.consent, people.time_zone
        chances = env.probabilities(self.batch.contexts)
        self.expected: ActionValues = chances @ env.response.weights - env.plan.costs
        quality = env.quality(self.batch, rng)[:, None]
        self.outcomes: NDArray[np.bool_] = env.response.happened(chances, quality) > 0.5  # (n, k, o)
        self._delays, self._window_s = delays, env.plan.pack.moment(env.plan.name).window_s
        self.served: Actions = np.full(len(people), NOT_SERVED, dtype=np.int64)
        self.lost = self.too_late = 0  # outcomes that never came, and that came after their window
        self._teller = Teller(env.plan.encoder.fields)

    def context(self, row: int, *, withheld: bool = False) -> dict[str, Value]:
        """The facts that a request brings, with `withheld` also those that the customer does not agree to."""
        facts = self._brought if withheld else self.batch.facts
        return self._teller.context(facts[row], int(self._time_zone[row]))

    def consent(self, row: int) -> dict[str, bool]:
        """The purposes that the customer withholds, each False: what a request says of consent."""
        return {purpose: False for purpose, agrees in zip(PURPOSES, self._consent[row], strict=True) if not agrees}

    def serve(self, row: int, action_id: str) -> list[Report]:
        """Notes the action taken; the outcomes to report, by their delay, the one that closes the window always.

        Of equal delay it is the last. What never comes, or not within the window, is left out, and counted.

        Raises ValueError where the pack has no such action.
        """
        column = self.env.plan.action_ids.index(action_id)
        self.served[row] = column
        columns = (self._delays[row], self.env.response.closing, self.outcomes[row, column])
        told = []
        for seconds, closes, came, name in sorted(
            zip(*(of.tolist() for of in columns), self.env.outcome_names, strict=True), key=lambda one: one[:2]
        ):
            if not (came or closes):
                continue
            self.lost += seconds == np.inf
            self.too_late += self._window_s < seconds < np.inf
            if seconds <= self._window_s:
                told.append(Report(name, float(came), seconds))
        return told

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


class Round(NamedTuple):
    """One round of a drive: where it stands, and who is in it."""

    place: int
    customer: int


class Traffic:
    """`rounds` one-step moments in random order, as many of each kind as chance gives, and sessions between them."""

    def __init__(
        self,
        pack: Pack,
        moments: Sequence[str],
        rounds: int,
        *,
        customers: int,
        population_seed: int,
        seed: int,
        groups: Sequence[SessionGroup] = (),
        delayed: bool = False,
        events: float = 0.0,
        consent_changes: float = 0.0,
        responses: Mapping[str, tuple[Adjustment, ...]] | None = None,
    ) -> None:
        """Of these moments of the pack, by as many customers of a population.

        `delayed`: outcomes as `envs.dynamics.delays`. `events` and `consent_changes`: after which share of the rounds
        something changes (`envs.load.changes`); with the latter it is for the server to know what is withheld.
        `responses`: what is added to the truth of a moment, by its name.
        """
        self.pack, self.states_consent = pack, consent_changes > 0.0
        responses, population = responses or {}, Population(pack, population_seed)
        rng, drawn = np.random.default_rng(seed), np.random.default_rng([_DELAYS, seed])
        one_step = [name for name in moments if name not in SESSIONS]
        n = rounds if one_step else 0
        which = rng.integers(0, max(len(one_step), 1), n)
        self._customers = rng.integers(0, customers, n)
        self.lives = Lives(
            population.people(np.arange(customers)),
            population.fields,
            self._customers,
            np.random.default_rng([_CHANGES, seed]),
            purposes=purposes_of(pack),
            events=events,
            consent_changes=consent_changes,
        )
        self._moment, self._row = which.tolist(), np.zeros(n, dtype=np.int64)
        self.moments: dict[str, MomentTraffic] = {}
        for i, name in enumerate(one_step):
            places = np.flatnonzero(which == i)
            self._row[places] = np.arange(len(places))
            added = responses.get(name, ())
            env = BatchMomentEnv(pack, name, population_seed=population_seed, customers=customers, adjustments=added)
            delays = (Delays.of if delayed else Delays.none)(env.plan).draw(len(places), drawn)
            self.moments[name] = MomentTraffic(env, self.lives.at(self._customers[places], places), rng, delays)
        self._parts: list[MomentTraffic] = list(self.moments.values())
        self.sessions = SessionTraffic(
            pack,
            [name for name in moments if name in SESSIONS],
            groups,
            self.lives,
            customers=customers,
            population_seed=population_seed,
            seed=seed,
            states_consent=self.states_consent,
        )

    def __len__(self) -> int:
        return len(self._row)

    def round(self, place: int) -> Round:
        """The round at a place."""
        return Round(place, int(self._customers[place]))

    def acts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Customers and places of all rounds and sessions."""
        who = np.concatenate([self._customers, self.sessions.customers])
        return who, np.concatenate([np.arange(len(self)), self.sessions.places])

    def part(self, place: int) -> tuple[MomentTraffic, int]:
        """The moment of the round at a place, and the round's row in it."""
        return self._parts[self._moment[place]], int(self._row[place])

    def body(self, place: int, decision_id: str) -> dict[str, object]:
        """The body of a round's request for a decision.

        Where the server has been told what is withheld, the request does not say it, and brings what it has.
        """
        part, row = self.part(place)
        consent = {} if self.states_consent else part.consent(row)
        return {
            "decision_id": decision_id,
            "subject_id": subject_id(int(part.batch.customers[row])),
            "pack": self.pack.pack,
            "moment": part.env.plan.name,
            "context": part.context(row, withheld=self.states_consent),
            **({"consent": consent} if consent else {}),
        }

    def serve(self, place: int, action_id: str) -> list[Report]:
        """Notes what was done in a round; the outcomes to report, in order. Raises ValueError as MomentTraffic."""
        part, row = self.part(place)
        return part.serve(row, action_id)

    def values(self) -> tuple[MomentValues | None, dict[str, MomentValues]]:
        """Over all served rounds, None without one, and by moment; moments without a served round are left out."""
        by_moment = {name: part.values() for name, part in self.moments.items() if (part.served >= 0).any()}
        total = sum(v.rounds for v in by_moment.values())
        if not total:
            return None, {}
        means = [
            sum(v.rounds * getattr(v, name) for v in by_moment.values()) / total
            for name in ("served", "uniform", "rules", "oracle")
        ]
        return MomentValues(total, *means), by_moment
