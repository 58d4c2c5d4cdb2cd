"""Planning in sessions: exact optimal values by value iteration, and policies over contexts that use them.

    Q_t(c, x, a) = sum_e P(e | c, x, a) (r(a, e) + [e goes on] E[V_{t+1}(c, x') | c, x, a, e])
    V_t(c, x) = max over eligible a of Q_t(c, x, a)

Source: Bellman (1957), Dynamic Programming; Puterman (1994), Markov Decision Processes, section 4.5.

The values know the customer's type, which no policy sees: their mean over the first states is a certified upper bound
on what any policy over contexts can earn (Brown, Smith and Sun 2010, https://doi.org/10.1287/opre.1090.0796: the
information relaxation without a penalty). What a policy does earn is a lower bound on the best: `Planner` averages Q
over what the context says about the type (QMDP: Littman, Cassandra and Kaelbling 1995), and is the sessions' oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from envs.people import Array, logistic
from envs.session_law import STEP_FIELD, TRAIT_CUTS, SessionLaw, shown_codes
from nba.types import ActionMask, ActionValues, Contexts, Distribution

FORBIDDEN = -1e6  # the value of an action that is not eligible: finite, so that beliefs can weigh it


def action_values(law: SessionLaw, horizon: int | None = None) -> NDArray[np.float32]:
    """Q (t, c, s, k): reward units from step t to the end under optimal play; FORBIDDEN where not eligible.

    With `horizon` 1 only the reward of the step itself counts: what the best myopic policy goes by, t = 1.
    """
    steps = law.steps if horizon is None else horizon
    now = (law.chances * law.rewards).sum(axis=3)  # (c, s, k)
    table = np.empty((steps, *now.shape), dtype=np.float32)
    value = np.zeros(now.shape[:2])  # V of the step after the last
    for t in reversed(range(steps)):
        q = now + expected_next(law, value) if value.any() else now.copy()
        q[:, ~law.mask] = FORBIDDEN
        table[t] = q
        value = q.max(axis=2)
    return table


def expected_next(law: SessionLaw, value: Array) -> Array:
    """E[V(c, x') | c, x, a] (c, s, k) of values (c, s); sessions that end are worth 0 from then on."""
    shape = (law.space.types, *law.levels)
    expected = np.zeros(law.chances.shape[:3])
    for e in np.flatnonzero(~law.ends):
        for a in range(len(law.space.actions)):
            chance = law.chances[:, :, a, e]
            if chance.max() > 1e-12:
                expected[:, :, a] += chance * _moved(law, value.reshape(shape), a, int(e)).reshape(value.shape)
    return expected


def _moved(law: SessionLaw, value: Array, a: int, e: int) -> Array:
    """E[V(c, x') | c, x] (c, l1, ..., lv) after action a and event e: one variable after another."""
    for axis, variable in enumerate(law.variables, start=1):
        chance = variable.moves.chance[:, :, a, e]  # (c, l)
        if chance.any():
            shape = [1] * value.ndim
            shape[0], shape[axis] = chance.shape
            p = chance.reshape(shape)
            value = value + p * (np.take(value, variable.moves.target[:, a, e], axis=axis) - value)
    return value


def optimal_value(law: SessionLaw, q: NDArray[np.float32], type_shares: Array) -> float:
    """Reward units a session: the mean of V_0 over first states, types as often as `type_shares` (c,) says.

    The certified upper bound on the value of every policy over contexts.
    """
    start = np.ones((law.space.types, 1))
    for variable in law.variables:
        start = (start[:, :, None] * variable.start[:, None, :]).reshape(law.space.types, -1)
    return float((type_shares[:, None] * start * q[0].max(axis=2)).sum())


@dataclass(frozen=True, slots=True)
class TypeBelief:
    """What a context says about the customer's type: each trait normal around a linear function of its columns.

    P(trait in a third) by the normal law, approximated as Phi(x) = logistic(1.702 x) (error below 0.01)
    """

    columns: NDArray[np.intp]  # context columns that do not move in a session
    weights: Array  # (q, columns)
    spread: Array  # (q,) standard deviation of the trait around its prediction

    @classmethod
    def learn(cls, contexts: Contexts, traits: Array, columns: NDArray[np.intp]) -> Self:
        """By least squares on customers whose traits (n, q) are known."""
        x = contexts[:, columns].astype(np.float64)
        gram = x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1])
        weights: Array = np.linalg.solve(gram, x.T @ traits).T.astype(np.float64)
        spread: Array = (traits - x @ weights.T).std(axis=0)
        return cls(columns, weights, spread)

    def shares(self, contexts: Contexts) -> Array:
        """P(type | context) (n, c). One dot product a value: see `nba.models.linear` for why no matrix product."""
        x = np.ascontiguousarray(contexts[:, self.columns], dtype=np.float64)
        mean = np.vecdot(x[:, None, :], self.weights)  # (n, q)
        below = logistic(1.702 * (np.array(TRAIT_CUTS) - mean[:, :, None]) / self.spread[:, None])  # (n, q, 2)
        ends = np.zeros((len(x), mean.shape[1], 1))
        thirds = np.diff(np.concatenate([ends, below, ends + 1.0], axis=2), axis=2)  # (n, q, 3)
        joint = np.ones((len(x), 1))
        for q in range(mean.shape[1]):
            joint = (joint[:, :, None] * thirds[:, q, None, :]).reshape(len(x), -1)
        return joint


class StateReader:
    """Reads a session's step and state back from contexts."""

    def __init__(self, law: SessionLaw) -> None:
        self._plan, self._levels = law.plan, law.levels
        self._variables = [(v, shown_codes(law.plan, v), int(v.start.mean(axis=0).argmax())) for v in law.variables]

    def moving(self) -> set[str]:
        """Names of the context columns that a session moves, and of the rules, which may look at them."""
        names = {variable.name for variable, _, _ in self._variables} | {STEP_FIELD}
        columns = self._plan.encoder.columns
        return {c for c in columns if c.partition("=")[0].partition(":")[0] in names or c.startswith("rule:")}

    def step(self, contexts: Contexts, last: int) -> NDArray[np.intp]:
        """The step (n,), from 0 to `last`."""
        return np.clip(np.rint(self._number(contexts, STEP_FIELD)), 0, last).astype(np.intp)

    def states(self, contexts: Contexts) -> NDArray[np.intp]:
        """The state (n,): each variable's level is the nearest shown; where missing, the commonest first one."""
        found = []
        for variable, codes, usual in self._variables:
            fact = self._plan.encoder.fields[variable.name]
            if fact.type == "boolean":
                column = contexts[:, self._plan.encoder.column(variable.name)]
                level = np.abs(column[:, None] - (2.0 * codes - 1.0)).argmin(axis=1)
            else:
                level = np.abs(self._number(contexts, variable.name)[:, None] - codes).argmin(axis=1)
                level[contexts[:, self._plan.encoder.column(f"{variable.name}:missing")] > 0.5] = usual
            found.append(level)
        return np.asarray(np.ravel_multi_index(tuple(found), self._levels))

    def _number(self, contexts: Contexts, name: str) -> Array:
        encoder = self._plan.encoder
        low, high = encoder.fields[name].range or (0.0, 1.0)
        value = contexts[:, encoder.column(name)].astype(np.float64)
        return (low + high) / 2.0 + (high - low) / 2.0 * np.clip(value, -1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Planner:
    """The eligible action of the highest mean Q over what the context says about the type, always."""

    q: NDArray[np.float32]  # (t, c, s, k)
    belief: TypeBelief
    reader: StateReader

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k), each row a single 1."""
        values = np.where(mask, self.values(contexts), -np.inf)
        distribution: Distribution = np.zeros(mask.shape)
        distribution[np.arange(len(mask)), values.argmax(axis=1)] = 1.0
        return distribution

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward from here to the end (n, k), in reward units."""
        steps, states = self.reader.step(contexts, len(self.q) - 1), self.reader.states(contexts)
        shares = self.belief.shares(contexts)
        values = np.zeros((len(contexts), self.q.shape[3]))
        for c in range(self.q.shape[1]):
            values += shares[:, c, None] * self.q[steps, c, states]
        return values
