"""The only place where facts become numbers.

Context columns of a moment, in order: a constant 1; the columns of its fields, by type (below); for each rule of
the moment's priority list whether its condition holds (so that a rules policy is a policy over contexts like
any other, and a learned one may use what the product team already knows).

    number    `x`, scaled to [-1, 1] by its range, 0 where missing; `x:missing`, 1 where missing
    boolean   `x`, 1 or -1, and 0 where missing
    category  `x=value`, one 1 for its value, none where missing
    time      `x:hour_sin`, `x:hour_cos`, `x:weekday_sin`, `x:weekday_cos`, 0 where missing
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nba.conditions import parse
from nba.facts import TIME_PARTS
from nba.pack import Action, Pack
from nba.types import Contexts, Facts

_TURNS = {"hour": 24.0, "weekday": 7.0}  # parts of a time that turn, and after how much
VERSION = 1  # of the encoding; a change makes artefacts of the old one unusable


class Encoder:
    """Coded facts (n, f) of one moment to contexts (n, d). Finite for every input."""

    def __init__(self, pack: Pack, moment: str) -> None:
        self.fields = pack.moment_fields(moment)
        self._rules = [parse(rule.when, self.fields) for rule in pack.moment(moment).rules]
        self._columns: list[str] = ["1"]
        numbers, booleans, times = (self._of_type(kind) for kind in ("number", "boolean", "time"))
        # A boolean is scaled as a number of the range [0, 1] is.
        ends = [self.fields[name].range or (0.0, 1.0) for name in numbers + booleans]
        self._low, self._high = np.array(ends).reshape(-1, 2).T
        self._middle, self._half = self._low / 2 + self._high / 2, self._high / 2 - self._low / 2
        self._scaled = self._places(numbers + booleans)
        self._scaled_at = self._add(numbers + booleans)
        self._missing_at = self._add([f"{name}:missing" for name in numbers])
        self._numbers = slice(len(numbers))
        pairs = [(name, value) for name in self._of_type("category") for value in self.fields[name].values]
        self._category = self._places([name for name, _ in pairs])
        self._code = np.array([self.fields[name].code(value) for name, value in pairs], dtype=np.float64)
        self._category_at = self._add([f"{name}={value}" for name, value in pairs])
        self._time = self._places(times)
        self._turns = [(TIME_PARTS[part], turn) for part, turn in _TURNS.items()]
        self._sine_at = self._add([f"{name}:{part}_sin" for part in _TURNS for name in times])
        self._cosine_at = self._add([f"{name}:{part}_cos" for part in _TURNS for name in times])
        self.first_rule = len(self._columns)
        self._add([f"rule:{i}" for i in range(len(self._rules))])
        self.columns: tuple[str, ...] = tuple(self._columns)
        self.width = len(self.columns)
        self._place = {name: i for i, name in enumerate(self.columns)}

    def _of_type(self, kind: str) -> list[str]:
        return [name for name, field in self.fields.items() if field.type == kind]

    def _places(self, names: list[str]) -> NDArray[np.intp]:
        """Columns of facts."""
        order = list(self.fields)
        return np.array([order.index(name) for name in names], dtype=np.intp)

    def _add(self, names: list[str]) -> slice:
        """Columns of contexts, appended."""
        start = len(self._columns)
        self._columns += names
        return slice(start, len(self._columns))

    def column(self, name: str) -> int:
        """Where a context column is, by its name (`sentiment`, `device=mobile`, `local_time:hour_sin`)."""
        return self._place[name]

    def encode(self, facts: Facts) -> Contexts:
        """Contexts (n, d) of coded facts (n, f)."""
        facts = np.where(np.isfinite(facts), facts, np.nan)
        contexts: Contexts = np.empty((len(facts), self.width), dtype=np.float32)
        contexts[:, 0] = 1.0
        numbers = facts.take(self._scaled, axis=1)
        contexts[:, self._scaled_at] = (
            np.minimum(np.maximum(numbers, self._low), self._high) - self._middle
        ) / self._half
        contexts[:, self._missing_at] = np.isnan(numbers[:, self._numbers])
        contexts[:, self._category_at] = facts.take(self._category, axis=1) == self._code
        if self._time.size:
            times = facts.take(self._time, axis=1)
            angles = np.concatenate([part(times) * (2.0 * np.pi / turn) for part, turn in self._turns], axis=1)
            contexts[:, self._sine_at] = np.sin(angles)
            contexts[:, self._cosine_at] = np.cos(angles)
        for i, holds in enumerate(self._rules):
            contexts[:, self.first_rule + i] = holds(facts)
        contexts[np.isnan(contexts)] = 0.0
        return contexts


def action_features(actions: Sequence[tuple[str, Action]]) -> NDArray[np.float64]:
    """What actions share and what sets them apart, (k, q): a constant, layer, channel, and last the action itself.

    With the outer product by contexts these are the joint features phi(x, a) = z(a) (x) x: the first columns
    let actions learn from each other, so that a new one starts warm; the last k give each its own part.
    """
    layers = sorted({action.layer for _, action in actions})
    channels = sorted({action.channel for _, action in actions})
    rows = [
        [1.0, *(float(a.layer == n) for n in layers), *(float(a.channel == n) for n in channels)] for _, a in actions
    ]
    return np.hstack([np.array(rows), np.eye(len(actions))])


def joint_features(contexts: Contexts, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """phi(x, a) (n, q * d) of contexts (n, d), each with the features (n, q) of one action: their outer product."""
    n = len(contexts)
    return (features[:, :, None] * contexts[:, None, :].astype(np.float64)).reshape(n, -1)
