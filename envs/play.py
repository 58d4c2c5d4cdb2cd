"""A person against a simulated customer: one turn after another, each with what every choice was worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator

from envs.batch import BatchMomentEnv
from envs.batch_session import BatchSessionEnv
from envs.people import subject_id
from envs.planning import action_values
from envs.sessions import SESSIONS
from nba.errors import UnknownActionError
from nba.facts import name_facts
from nba.pack import Pack
from nba.types import Value


@dataclass(frozen=True, slots=True)
class Turn:
    """What a person sees before choosing."""

    customer: str
    facts: Mapping[str, Value]
    choices: tuple[str, ...]  # every action in column order
    eligible: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a choice. Values are reward units: of the round in a moment, to the end in a session."""

    action_id: str
    outcomes: Mapping[str, float]
    reward: float
    worth: Mapping[str, float]  # every eligible action's true expected value
    over: bool  # nothing more comes of this customer

    @property
    def best(self) -> str:
        """The eligible action that was worth most."""
        return max(self.worth, key=lambda action: self.worth[action])

    @property
    def regret(self) -> float:
        """How much less the choice was worth than the best."""
        return self.worth[self.best] - self.worth[self.action_id]


class Play(Protocol):
    """A customer to act on."""

    def turn(self) -> Turn:
        """What is to be decided now."""
        ...

    def take(self, action_id: str) -> Result:
        """Takes an action and moves on. Raises UnknownActionError where it is not eligible."""
        ...


class MomentPlay:
    """One customer after another, each in one moment."""

    def __init__(self, pack: Pack, moment: str, rng: Generator) -> None:
        self._env, self._rng = BatchMomentEnv(pack, moment), rng
        self._batch = self._env.sample(1, rng)

    def turn(self) -> Turn:
        """The customer who has just come."""
        plan, batch = self._env.plan, self._batch
        facts = name_facts(plan.encoder.fields, batch.facts)[0]
        return Turn(subject_id(int(batch.customers[0])), facts, plan.action_ids, tuple(batch.mask[0].tolist()))

    def take(self, action_id: str) -> Result:
        """Acts, and lets the next customer in."""
        batch, taken = self._batch, np.array([_column(self.turn(), action_id)])
        outcomes = self._env.outcomes(batch, taken, self._rng)
        result = Result(
            action_id=action_id,
            outcomes=dict(zip(self._env.outcome_names, outcomes[0].tolist(), strict=True)),
            reward=float(self._env.rewards(outcomes, taken)[0]),
            worth=_worth(self.turn(), self._env.expected_rewards(batch.contexts)[0]),
            over=True,
        )
        self._batch = self._env.sample(1, self._rng)
        return result


class SessionPlay:
    """One customer after another, each through a whole session."""

    def __init__(self, pack: Pack, moment: str, rng: Generator) -> None:
        self._env, self._rng = BatchSessionEnv(pack, moment), rng
        self._values = action_values(self._env.law)
        self._sessions = self._env.start(1, rng)

    def turn(self) -> Turn:
        """Where the session stands."""
        plan, mask = self._env.plan, self._env.observe(self._sessions)[1]
        facts = name_facts(plan.encoder.fields, self._sessions.facts)[0]
        customer = subject_id(int(self._sessions.customers[0]))
        return Turn(customer, facts, plan.action_ids, tuple(mask[0].tolist()))

    def take(self, action_id: str) -> Result:
        """Acts; where the session ends, the next customer's begins."""
        turn, sessions, law = self.turn(), self._sessions, self._env.law
        column = _column(turn, action_id)
        state = int(np.ravel_multi_index(tuple(sessions.levels[:, 0]), law.levels))
        worth = self._values[int(sessions.steps[0]), int(sessions.types[0]), state]
        happened = self._env.advance(sessions, np.array([column]), self._rng)
        over = bool(happened.terminated[0] or happened.truncated[0])
        if over:
            self._sessions = self._env.start(1, self._rng)
        event = law.events[int(happened.events[0])]
        return Result(action_id, dict(event.outcomes), float(happened.rewards[0]), _worth(turn, worth), over)


def start_play(pack: Pack, moment: str, rng: Generator) -> Play:
    """A game in that moment. Raises UnknownMomentError, PackError where simulated customers do not play it."""
    return SessionPlay(pack, moment, rng) if moment in SESSIONS else MomentPlay(pack, moment, rng)


@dataclass(slots=True)
class Score:
    """How a person does, over all turns."""

    turns: int = 0
    customers: int = 0
    earned: float = 0.0  # realised reward
    regret: float = 0.0  # of the choices, by the truth
    best: int = 0  # turns on which nothing was better

    def add(self, result: Result) -> None:
        """Counts a turn."""
        self.turns += 1
        self.customers += result.over
        self.earned += result.reward
        self.regret += result.regret
        self.best += result.regret < 1e-6

    def told(self) -> str:
        """The score in one sentence."""
        if not self.turns:
            return "no turn was played"
        return (
            f"{self.turns} turns with {self.customers} customers: earned {self.earned:+.2f}; "
            f"{self.best} of {self.turns} choices were the best there was, the others cost {self.regret:.2f} in all"
        )


def _worth(turn: Turn, values: np.ndarray) -> dict[str, float]:
    return {a: float(v) for a, v, may in zip(turn.choices, values, turn.eligible, strict=True) if may}


def _column(turn: Turn, action_id: str) -> int:
    allowed = [a for a, may in zip(turn.choices, turn.eligible, strict=True) if may]
    if action_id not in allowed:
        raise UnknownActionError(f"{action_id!r} is not eligible now", help=f"eligible are {', '.join(allowed)}")
    return turn.choices.index(action_id)
