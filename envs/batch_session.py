"""Sessions of many customers at once: NumPy all through, no loop over customers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.dynamics.drift import Drift
from envs.moments import Situation
from envs.moments.parts import Made, channel, locale
from envs.people import TRAITS, Array, Customers, People, Population
from envs.response import Adjustment
from envs.session_law import STEP_FIELD, SessionLaw, shown_codes, type_of
from envs.sessions import session_spec
from envs.situations import Situations
from nba.errors import PackError, ShapeError
from nba.guardrails import action_mask
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.types import ActionMask, Actions, Contexts, Facts, Rewards


@dataclass(slots=True)
class Sessions:
    """n sessions under way; `BatchSessionEnv.advance` and `restart` write to it."""

    customers: Customers
    types: NDArray[np.intp]  # (n,)
    levels: NDArray[np.intp]  # (v, n)
    steps: NDArray[np.int64]  # (n,) steps behind
    facts: Facts  # (n, f) what is known now
    hidden: NDArray[np.bool_]  # (n, f) what must not be known, for want of consent

    def __len__(self) -> int:
        return len(self.customers)


@dataclass(frozen=True, slots=True)
class Happened:
    """What came of one step of n sessions."""

    events: NDArray[np.intp]  # (n,) places in the law's events
    rewards: Rewards
    terminated: NDArray[np.bool_]  # (n,) the session ended by itself
    truncated: NDArray[np.bool_]  # (n,) it was cut off at its last step

    @classmethod
    def none(cls, n: int) -> Happened:
        """Nothing, n times."""
        over = np.zeros(n, dtype=np.bool_)
        return cls(np.zeros(n, dtype=np.intp), np.zeros(n), over, over.copy())

    def clear(self, rows: NDArray[np.intp]) -> None:
        """Takes back what came of the step in these rows."""
        for array in (self.events, self.rewards, self.terminated, self.truncated):
            array[rows] = 0


class BatchSessionEnv:
    """A session moment of a pack, played by a population; every call takes the rng it draws from.

    Raises UnknownMomentError where nobody plays such a session, PackError where the pack's fields, actions, outcomes
    or guardrails are not those of the session.
    """

    def __init__(
        self,
        pack: Pack,
        moment: str,
        *,
        population_seed: int = 0,
        customers: int = 2_000,
        drift: Drift | None = None,
        adjustments: tuple[Adjustment, ...] = (),
        trait_means: Mapping[str, float] | None = None,
    ) -> None:
        if customers < 1:
            raise ShapeError(f"a population of {customers}", help="ask for at least one customer")
        plan, spec = plan_moment(pack, moment), session_spec(moment)
        if STEP_FIELD not in plan.encoder.fields:
            raise PackError(
                f"moment {moment!r} has no field {STEP_FIELD!r}",
                help=f"add a number field {STEP_FIELD!r} that counts the steps of the session, range from 0",
            )
        self.plan = plan
        self._drift, self._adjustments = drift, adjustments
        self.law = SessionLaw.of(plan, spec, adjustments)
        self.population = Population(pack, population_seed, trait_means=trait_means)
        self.people = self.population.people(np.arange(customers))
        self.situations = Situations(pack, moment, _brings(self.law))
        self._types = type_of(self.people.traits[:, [TRAITS.index(name) for name in self.law.spec.traits]])
        fields = list(plan.encoder.fields)
        self._step_at = fields.index(STEP_FIELD)
        self._shown = [  # column of the facts, what it holds on each level, whether it may have to stay unknown
            (fields.index(v.name), shown_codes(plan, v), plan.encoder.fields[v.name].purpose is not None)
            for v in self.law.variables
        ]
        self._starts = [variable.start.cumsum(axis=1)[:, :-1] for variable in self.law.variables]
        self._tables = _StepTables(self.law)
        self._drifted: dict[int, BatchSessionEnv] = {}

    def at(self, step: int) -> BatchSessionEnv:
        """The same environment with the law as it is at that step of its drift, to a 64th of the drift's size."""
        phase = 0 if self._drift is None else round(64.0 * self._drift.phase(step))
        if self._drift is None or phase == 0:
            return self
        if phase not in self._drifted:
            drifted = copy.copy(self)
            adjustments = (*self._adjustments, self._drift.at_phase(phase / 64.0))
            drifted.law = SessionLaw.of(self.plan, self.law.spec, adjustments)
            drifted._tables = _StepTables(drifted.law)
            self._drifted[phase] = drifted
        return self._drifted[phase]

    @property
    def type_shares(self) -> Array:
        """How often each type comes (c,)."""
        return np.bincount(self._types, minlength=self.law.space.types) / len(self._types)

    def start(self, n: int, rng: Generator, people: People | None = None) -> Sessions:
        """n sessions of customers drawn evenly from the population, or of these n of it, as they are now.

        Raises ShapeError where n is negative.
        """
        if n < 0:
            raise ShapeError(f"a batch of {n}", help="ask for 0 or more sessions")
        f, v = len(self.plan.encoder.fields), len(self.law.variables)
        sessions = Sessions(
            customers=np.empty(n, dtype=np.int64),
            types=np.empty(n, dtype=np.intp),
            levels=np.empty((v, n), dtype=np.intp),
            steps=np.zeros(n, dtype=np.int64),
            facts=np.empty((n, f)),
            hidden=np.zeros((n, f), dtype=np.bool_),
        )
        self.restart(sessions, np.arange(n), rng, people)
        return sessions

    def restart(self, sessions: Sessions, rows: NDArray[np.intp], rng: Generator, people: People | None = None) -> None:
        """New sessions of other customers in these rows, drawn evenly, or of these."""
        if people is None:
            people = self.people.take(rng.integers(0, len(self.people), len(rows)))
        sessions.customers[rows] = people.customers
        sessions.types[rows] = types = self._types[people.customers]
        sessions.steps[rows] = 0
        draws = rng.random((len(self._starts), len(rows)))
        for i, reached in enumerate(self._starts):
            sessions.levels[i, rows] = (draws[i, :, None] > reached[types]).sum(axis=1)
        sessions.facts[rows] = self.situations.facts(people, rng)
        sessions.hidden[rows] = self.situations.withheld(people)
        self._show(sessions, rows)

    def observe(self, sessions: Sessions) -> tuple[Contexts, ActionMask]:
        """What a policy sees of each session now: contexts (n, d) and masks (n, k)."""
        mask = action_mask(self.plan.stages, sessions.facts, len(self.plan.action_ids))
        return self.plan.encoder.encode(sessions.facts), mask

    def advance(self, sessions: Sessions, actions: Actions, rng: Generator) -> Happened:
        """Takes these actions, which must be eligible, and moves the sessions a step on."""
        return self.advance_by(sessions, actions, rng.random((1 + len(self._shown), len(sessions))))

    def advance_by(self, sessions: Sessions, actions: Actions, draws: Array) -> Happened:
        """As `advance`, by uniform numbers (1 + v, n) that were drawn before."""
        events = self._tables.move(sessions.types, sessions.levels, actions, draws)
        sessions.steps += 1
        self._show(sessions, slice(None))
        terminated = self._tables.ends[events]
        return Happened(
            events, self.law.rewards[actions, events], terminated, ~terminated & (sessions.steps >= self.law.steps)
        )

    def _show(self, sessions: Sessions, rows: NDArray[np.intp] | slice) -> None:
        """Writes the state of these sessions into the facts that show it; what must not be known stays unknown."""
        sessions.facts[rows, self._step_at] = sessions.steps[rows]
        for i, (column, codes, may_be_hidden) in enumerate(self._shown):
            shown = codes.take(sessions.levels[i, rows])
            if may_be_hidden:
                shown[sessions.hidden[rows, column]] = np.nan
            sessions.facts[rows, column] = shown


def _brings(law: SessionLaw) -> Situation:
    """What customers bring into a session: channel and language; what moves is shown step by step."""

    def situation(people: People, rng: Generator) -> Made:
        moving = {variable.name: np.full(len(people), np.nan) for variable in law.variables}
        return {"channel": channel(people, rng), "locale": locale(people), STEP_FIELD: np.zeros(len(people)), **moving}

    return situation


class _StepTables:
    """A law laid out for look-ups: one flat row of cumulative chances a (type, state, action)."""

    def __init__(self, law: SessionLaw) -> None:
        c, s, self._k, self._m = law.chances.shape
        self._states, self._levels = s, law.levels
        reached = law.chances.cumsum(axis=3)[..., :-1].reshape(c * s * self._k, self._m - 1)
        # Rows of a power of two lie within few cache lines; 2 is never drawn.
        self._reached = np.full((len(reached), 1 << (self._m - 2).bit_length()), 2.0)
        self._reached[:, : self._m - 1] = reached
        self._variables = [(v.moves.target.ravel(), v.moves.chance.ravel()) for v in law.variables]
        self.ends = law.ends

    def move(
        self, types: NDArray[np.intp], levels: NDArray[np.intp], actions: Actions, draws: Array
    ) -> NDArray[np.intp]:
        """The events (n,); `levels` (v, n) move along."""
        state = levels[0].copy()
        for i in range(1, len(levels)):
            state *= self._levels[i]
            state += levels[i]
        row = (types * self._states + state) * self._k + actions
        events = np.zeros(len(row), dtype=np.intp)
        for reached in self._reached.take(row, axis=0).T[: self._m - 1]:
            events += draws[0] > reached
        cell = actions * self._m + events
        for i, (target, chance) in enumerate(self._variables):
            place = levels[i] * (self._k * self._m) + cell
            goes = draws[1 + i] < chance[types * len(target) + place]
            levels[i] = np.where(goes, target[place], levels[i])
        return events
