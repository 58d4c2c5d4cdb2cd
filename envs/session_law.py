"""Sessions as finite Markov decision processes: what a session is made of, and its law compiled into tables.

A session is one customer over T steps. Its state is the customer's type c (some latent traits, each in three levels)
and some variables, each on a few levels:

    e  ~  softmax over events of logit[c, x, a, e]               what comes of action a in state x; `nothing` has 0
    r  =  sum(weight * outcome of e) - cost of a                 the pack's formula
    x_i goes to target_i[x_i, a, e] with chance_i[c, x_i, a, e], else it stays;   the session ends where e says so

Given the event, variables move independently, so that the expectation of any function of the next state is a product
of small sums: value iteration is exact (`envs.planning`), and a batch of sessions steps by table look-up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from envs.people import Array
from envs.response import Adjustment
from nba.errors import PackError
from nba.guardrails import action_mask
from nba.moment_plan import MomentPlan
from nba.types import ActionMask, Value

TRAIT_LEVELS = (-1.0912, 0.0, 1.0912)  # means of the thirds of a standard normal
TRAIT_CUTS = (-0.4307, 0.4307)  # where the thirds meet
STEP_FIELD = "step"  # the field that counts a session's steps from 0
NOTHING = "nothing"  # the event that leaves no trace, of logit 0
NEVER = -1e9  # the logit of what cannot happen

EventLogits = dict[str, dict[str, Array]]  # event -> action -> (c, l1, ..., lv), or anything that broadcasts to it


@dataclass(frozen=True, slots=True)
class Event:
    """Something that may come of an action: the outcomes it is reported as, and whether the session is over."""

    name: str
    outcomes: Mapping[str, float] = field(default_factory=dict)
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Space:
    """The names that a session's tables are indexed by."""

    actions: tuple[str, ...]  # k
    events: tuple[str, ...]  # m
    traits: Mapping[str, Array]  # trait -> its value for each type (c,)

    @property
    def types(self) -> int:
        """How many types of customer there are."""
        return int(len(TRAIT_LEVELS) ** len(self.traits))


class Moves:
    """How a variable moves, by level, action and event: at first it stays wherever it is."""

    def __init__(self, space: Space, levels: int) -> None:
        k, m = len(space.actions), len(space.events)
        self._space = space
        self.target = np.broadcast_to(np.arange(levels)[:, None, None], (levels, k, m)).copy()  # (l, k, m)
        self.chance = np.zeros((space.types, levels, k, m))  # (c, l, k, m)

    def when(
        self,
        *,
        actions: Sequence[str] | None = None,
        events: Sequence[str] | None = None,
        by: int = 0,
        to: int | None = None,
        chance: float | Array = 1.0,
    ) -> Self:
        """After these actions (default: any) and events, by so many levels or to that one, with this chance.

        `chance` is one number or one a type (c,). A later rule replaces an earlier one where both apply. Names that
        the pack does not have are passed over, so that a pack with fewer actions keeps its session.
        """
        levels = len(self.target)
        goes = np.full(levels, to) if to is not None else np.clip(np.arange(levels) + by, 0, levels - 1)
        a = [i for i, name in enumerate(self._space.actions) if actions is None or name in actions]
        e = [i for i, name in enumerate(self._space.events) if events is None or name in events]
        cells = np.ix_(range(levels), a, e)
        self.target[cells] = goes[:, None, None]
        chances = np.clip(np.broadcast_to(np.asarray(chance, dtype=np.float64), self._space.types), 0.0, 1.0)
        self.chance[np.ix_(range(len(self.chance)), range(levels), a, e)] = chances[:, None, None, None]
        return self


@dataclass(frozen=True, slots=True)
class Variable:
    """One part of a session's state: the field that shows it, what it shows on each level, and how it moves."""

    name: str  # a field of the moment
    shown: tuple[Value, ...]  # (l,)
    start: Array  # (c, l) chances of the first level
    moves: Moves


class State:
    """The state of a session as the equations read it: every answer broadcasts to (c, l1, ..., lv)."""

    def __init__(self, space: Space, variables: Sequence[Variable]) -> None:
        self._space, self._axes = space, {variable.name: i + 1 for i, variable in enumerate(variables)}
        self._levels = [len(variable.shown) for variable in variables]
        self.shape = (space.types, *self._levels)

    def level(self, name: str) -> Array:
        """A variable's level, counted from 0."""
        axis = self._axes[name]
        shape = [1] * len(self.shape)
        shape[axis] = -1
        return np.arange(self.shape[axis], dtype=np.float64).reshape(shape)

    def at(self, name: str, *levels: int) -> Array:
        """1 where the variable is on one of these levels, else 0."""
        return np.isin(self.level(name), levels).astype(np.float64)

    def trait(self, name: str) -> Array:
        """The type's value of a trait: standard normal, in three levels."""
        return self._space.traits[name].reshape(-1, *([1] * len(self._levels)))


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a session is: as written in `envs.sessions`, before a pack gives it actions and rewards."""

    moment: str
    steps: int  # T
    traits: tuple[str, ...]  # latent traits that its law depends on
    events: tuple[Event, ...]  # `nothing` comes first, by itself
    variables: Callable[[Space], tuple[Variable, ...]]
    logits: Callable[[State], EventLogits]


@dataclass(frozen=True, slots=True)
class SessionLaw:
    """A session's law as tables: c types, s states (the variables' levels in C order), k actions, m events."""

    plan: MomentPlan
    spec: SessionSpec
    space: Space
    variables: tuple[Variable, ...]
    events: tuple[Event, ...]  # m, `nothing` first
    chances: Array  # (c, s, k, m) of each event
    rewards: Array  # (k, m) reward units, the action's cost taken off
    mask: ActionMask  # (s, k)

    @classmethod
    def of(cls, plan: MomentPlan, spec: SessionSpec, adjustments: tuple[Adjustment, ...] = ()) -> Self:
        """The law of the session under a pack's plan.

        Raises PackError where the pack has actions, outcomes or conditions that the session has no law for.
        """
        events = (Event(NOTHING), *spec.events)
        _, traits = trait_types(spec.traits)
        space = Space(plan.action_ids, tuple(event.name for event in events), traits)
        variables = spec.variables(space)
        state = State(space, variables)
        table = _logits(plan, space, state, spec.logits(state))
        for adjustment in adjustments:
            table = adjustment.logits(space.events, space.actions, table)
        table[0] = 0.0
        rewards = np.array([_reward(plan, event) for event in events])[None, :] - plan.costs[:, None]
        mask = _mask(plan, variables)
        return cls(plan, spec, space, variables, events, _softmax(table, state.shape), rewards, mask)

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of each variable."""
        return tuple(len(variable.shown) for variable in self.variables)

    @property
    def steps(self) -> int:
        """Steps after which a session is cut off, T."""
        return self.spec.steps

    @property
    def ends(self) -> NDArray[np.bool_]:
        """Which events (m,) end the session."""
        return np.array([event.ends for event in self.events])


def trait_types(traits: tuple[str, ...]) -> tuple[Array, dict[str, Array]]:
    """The types of customer: their trait values (c, q), and the same by trait (c,)."""
    q = len(traits)
    values = np.array(list(itertools.product(TRAIT_LEVELS, repeat=q))).reshape(len(TRAIT_LEVELS) ** q, q)
    return values, dict(zip(traits, values.T, strict=True))


def type_of(traits: Array) -> NDArray[np.intp]:
    """The type (n,) of customers by the traits (n, q) that matter."""
    thirds = np.searchsorted(np.array(TRAIT_CUTS), traits)
    weights = len(TRAIT_LEVELS) ** np.arange(traits.shape[1])[::-1]
    return np.asarray((thirds * weights).sum(axis=1))


def _logits(plan: MomentPlan, space: Space, state: State, given: EventLogits) -> Array:
    """The equations' logits as a table (m, k, c * s)."""
    table = np.full((len(space.events), len(space.actions), *state.shape), NEVER)
    for e, event in enumerate(space.events[1:], start=1):
        for a, action in enumerate(space.actions):
            if action not in given[event]:
                raise PackError(
                    f"moment {plan.name!r}: sessions of simulated customers have no response to {action!r}",
                    help=f"they know {', '.join(given[event])}",
                )
            table[e, a] = given[event][action]
    return table.reshape(len(space.events), len(space.actions), -1)


def _softmax(table: Array, shape: tuple[int, ...]) -> Array:
    """Chances (c, s, k, m) of logits (m, k, c * s)."""
    table = np.exp(table - table.max(axis=0))
    table /= table.sum(axis=0)
    m, k = table.shape[:2]
    return np.ascontiguousarray(table.reshape(m, k, shape[0], -1).transpose(2, 3, 1, 0))


def _reward(plan: MomentPlan, event: Event) -> float:
    formula = plan.pack.moment(plan.name).reward
    for outcome in event.outcomes:
        if outcome not in formula:
            raise PackError(
                f"moment {plan.name!r}: a session reports outcome {outcome!r}, which its reward does not name",
                help=f"add it to the moment's reward (weight 0 if it should not count); named are {', '.join(formula)}",
            )
    return sum(formula[outcome] * value for outcome, value in event.outcomes.items())


def _mask(plan: MomentPlan, variables: tuple[Variable, ...]) -> ActionMask:
    """Which actions each state allows (s, k). Raises PackError where a condition looks at more than the session."""
    fields = list(plan.encoder.fields)
    for variable in variables:
        if variable.name not in fields:
            raise PackError(
                f"moment {plan.name!r} has no field {variable.name!r}, which shows a session's state",
                help=f"add it to the moment's fields; it holds {', '.join(str(v) for v in variable.shown)}",
            )
    codes = [shown_codes(plan, variable) for variable in variables]
    facts = np.full((int(np.prod([len(c) for c in codes])), len(fields)), np.nan)
    for variable, column in zip(variables, np.meshgrid(*codes, indexing="ij"), strict=True):
        facts[:, fields.index(variable.name)] = column.ravel()
    mask = action_mask(plan.stages, facts, len(plan.action_ids))
    _must_be_decided_by(plan, facts, mask)
    return mask


def _must_be_decided_by(plan: MomentPlan, facts: Array, mask: ActionMask) -> None:
    """Raises PackError where other facts than these change what is allowed, or where not knowing one allows more."""
    k, repeats = len(plan.action_ids), -(-4_096 // len(facts))
    rng, other = np.random.default_rng(0), np.tile(facts, (repeats, 1))
    for j, fact in enumerate(plan.encoder.fields.values()):
        if np.isnan(facts[:, j]).all():
            low, high = fact.range or (0.0, float(max(len(fact.values) - 1, 1)))
            drawn = rng.uniform(low, high, len(other))
            other[:, j] = drawn if fact.range else np.rint(drawn)
    if not np.array_equal(action_mask(plan.stages, other, k), np.tile(mask, (repeats, 1))):
        raise PackError(
            f"moment {plan.name!r}: a trigger or guardrail looks at a fact that is not part of the session's state",
            help="write it over the fields that the session moves",
        )
    for j, (name, fact) in enumerate(plan.encoder.fields.items()):
        hidden = facts.copy()
        hidden[:, j] = np.nan
        if fact.purpose is not None and (action_mask(plan.stages, hidden, k) & ~mask).any():
            raise PackError(
                f"moment {plan.name!r}: an action is allowed where {name!r} is withheld and not where it is known",
                help=f"drop missing({name}) and `not` from its condition: the optimum could not be bounded",
            )


def shown_codes(plan: MomentPlan, variable: Variable) -> Array:
    """What a variable's field holds on each level, coded (l,). Raises PackError for a value it cannot hold."""
    fact = plan.encoder.fields[variable.name]
    codes = [fact.code(value) for value in variable.shown]
    for value, code in zip(variable.shown, codes, strict=True):
        if code is None:
            raise PackError(
                f"moment {plan.name!r}: a session shows {variable.name} = {value!r}, not {fact.describe()}",
                help="widen the field's range or vocabulary",
            )
    return np.array(codes, dtype=np.float64)
