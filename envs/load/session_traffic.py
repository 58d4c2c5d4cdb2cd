"""Sessions for a server: whole conversations, journeys and months, played step by step by what it answers.

Everything that a session draws, it draws from its own seed before its first request: type and first levels, and the
uniform numbers of all of its steps. So what comes of an action depends on the actions taken and on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from envs.batch_session import BatchSessionEnv
from envs.load.changes import Lives
from envs.load.told import Report, Teller
from envs.people import PURPOSES, People, subject_id
from envs.session_play import session_oracle, session_value
from nba.pack import Pack
from nba.policies.rules import Rules
from nba.policies.uniform import Uniform
from nba.types import Facts, Policy, Rewards

YARDSTICK_SESSIONS = 4_000  # that each policy's value is measured on
_CHOICE, _SESSION = 3, 4  # streams of the seed


@dataclass(frozen=True, slots=True)
class SessionGroup:
    """Sessions that are played in lockstep, and the round before which they begin."""

    numbers: range
    place: int


def session_groups(sessions: int, *, rounds: int, batch: int, concurrency: int) -> list[SessionGroup]:
    """As many sessions in groups of at most `batch`, enough for all workers, spread evenly between calls of rounds.

    A group begins where a call of `batch` rounds does.
    """
    size = max(1, min(batch, -(-sessions // concurrency)))
    starts, calls = range(0, sessions, size), max(-(-rounds // batch), 1)
    return [
        SessionGroup(range(start, min(start + size, sessions)), (i * calls // len(starts)) * batch)
        for i, start in enumerate(starts)
    ]


@dataclass(frozen=True, slots=True)
class SessionYardsticks:
    """What policies earn in whole sessions of simulated customers, in reward units a session."""

    uniform: float
    rules: float
    planner: float
    bound: float  # no policy over contexts earns more


class PlayedSession:
    """One session under way."""

    def __init__(
        self,
        env: BatchSessionEnv,
        people: People,
        *,
        number: int,
        place: int,
        seed: int,
        states_consent: bool,
    ) -> None:
        """Of the one customer in `people`, as it is at the place where the session begins."""
        rng = np.random.default_rng([_SESSION, seed, number])
        self.number, self.place, self.customer = number, place, int(people.customers[0])
        self.moment = env.plan.name
        self.earned, self.steps, self.over = 0.0, 0, False
        self._env, self._people, self._states_consent = env, people, states_consent
        # What is withheld does not change how the session goes: it is left out of what is told, or of what is used.
        self._sessions = env.start(1, rng, replace(people, consent=np.ones_like(people.consent)))
        self._draws = rng.random((env.law.steps, 1 + len(env.law.variables), 1))
        self._teller = Teller(env.plan.encoder.fields)

    @property
    def facts(self) -> Facts:
        """What the step now to be decided is decided on, coded (1, f)."""
        return self._env.situations.known(self._sessions.facts, self._people)

    def body(self, run: str) -> dict[str, object]:
        """The body of the request for the next step's decision."""
        facts = self._sessions.facts if self._states_consent else self.facts
        withheld = zip(PURPOSES, self._people.consent[0], strict=True)
        consent = {} if self._states_consent else {purpose: False for purpose, agrees in withheld if not agrees}
        return {
            "decision_id": self.decision_id(run),
            "subject_id": subject_id(self.customer),
            "session_id": f"{run}-s{self.number}",
            "pack": self._env.plan.pack.pack,
            "moment": self.moment,
            "context": self._teller.context(facts[0], int(self._people.time_zone[0])),
            **({"consent": consent} if consent else {}),
        }

    def decision_id(self, run: str) -> str:
        """Of the next step."""
        return f"{run}-s{self.number}-{self.steps}"

    def take(self, action_id: str) -> list[Report]:
        """Takes an action and moves a step on; the outcomes to report, the one that closes the window last and always.

        Raises ValueError where the moment has no such action.
        """
        plan, law = self._env.plan, self._env.law
        column = plan.action_ids.index(action_id)
        happened = self._env.advance_by(self._sessions, np.array([column]), self._draws[self.steps])
        self.steps += 1
        self.earned += float(happened.rewards[0])
        self.over = bool(happened.terminated[0] or happened.truncated[0])
        came = law.events[int(happened.events[0])].outcomes
        closing = [name for name in plan.pack.moment(plan.name).reward if plan.pack.outcomes[name].closes_window]
        others = [Report(name, amount) for name, amount in came.items() if name not in closing]
        return others + [Report(name, came.get(name, 0.0)) for name in closing]


class SessionTraffic:
    """Sessions of some moments of a pack, as many of each as chance gives; what they earned is kept as they end."""

    def __init__(
        self,
        pack: Pack,
        moments: Sequence[str],
        groups: Sequence[SessionGroup],
        lives: Lives,
        *,
        customers: int,
        population_seed: int,
        seed: int,
        states_consent: bool = False,
    ) -> None:
        self.groups = tuple(groups) if moments else ()
        n = sum(len(group.numbers) for group in self.groups)
        rng = np.random.default_rng([_CHOICE, seed])
        self._which = rng.integers(0, max(len(moments), 1), n)
        self.customers: NDArray[np.int64] = rng.integers(0, customers, n)
        self.places: NDArray[np.int64] = np.repeat(
            np.array([group.place for group in self.groups], dtype=np.int64),
            np.array([len(group.numbers) for group in self.groups], dtype=np.int64),
        )
        self._envs = [
            BatchSessionEnv(pack, name, population_seed=population_seed, customers=customers)
            for name in (moments if n else ())
        ]
        self._lives, self._seed, self._states_consent = lives, seed, states_consent
        self._earned = np.full(n, np.nan)  # NaN: not played to its end
        self._steps = np.zeros(n, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._which)

    def start(self, number: int) -> PlayedSession:
        """The session of that number, before its first step."""
        rows = slice(number, number + 1)
        return PlayedSession(
            self._envs[self._which[number]],
            self._lives.at(self.customers[rows], self.places[rows]),
            number=number,
            place=int(self.places[number]),
            seed=self._seed,
            states_consent=self._states_consent,
        )

    def keep(self, session: PlayedSession) -> None:
        """Notes what a session earned that was played to its end."""
        self._earned[session.number], self._steps[session.number] = session.earned, session.steps

    def played(self) -> Iterator[tuple[str, Rewards, int, SessionYardsticks]]:
        """Of each moment of which a session was played to its end: what each earned, steps in all, yardsticks."""
        for i, env in enumerate(self._envs):
            rows = np.flatnonzero((self._which == i) & ~np.isnan(self._earned))
            if rows.size:
                yield env.plan.name, self._earned[rows], int(self._steps[rows].sum()), yardsticks(env)


def yardsticks(env: BatchSessionEnv, *, seed: int = 0) -> SessionYardsticks:
    """What the policies that need no learning earn, and what nobody can; seconds."""
    oracle = session_oracle(env, seed=seed)
    rules = Rules(env.plan.encoder.first_rule, env.plan.rule_actions)

    def earns(policy: Policy) -> float:
        return session_value(policy, env, sessions=YARDSTICK_SESSIONS, rng=np.random.default_rng(seed)).value

    return SessionYardsticks(earns(Uniform()), earns(rules), earns(oracle.planner), oracle.bound)
