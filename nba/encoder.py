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

_HOUR, _WEEKDAY = TIME_PARTS["hour"], TIME_PARTS["weekday"]  # the parts of a time that turn
# Sine and cosine by weekday; the eighth is that of a missing time.
_WEEK = [np.append(turned(np.arange(7.0) * (2.0 * np.pi / 7.0)), 0.0) for turned in (np.sin, np.cos)]
# Rows encoded at once: their columns stay in the cache. No power of two, or all columns would share one line of it.
_BLOCK = 2_100
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
        self._low, self._high = np.array(ends).reshape(-1, 2, 1).transpose(1, 0, 2)
        self._middle, self._half = self._low / 2 + self._high / 2, self._high / 2 - self._low / 2
        self._scaled = self._places(numbers + booleans)
        self._scaled_at = self._add(numbers + booleans)
        self._missing_at = self._add([f"{name}:missing" for name in numbers])
        self._numbers = slice(len(numbers))
        pairs = [(name, value) for name in self._of_type("category") for value in self.fields[name].values]
        self._category = self._places([name for name, _ in pairs])
        self._code = np.array([self.fields[name].code(value) for name, value in pairs], dtype=np.float64)[:, None]
        self._category_at = self._add([f"{name}={value}" for name, value in pairs])
        self._time = self._places(times)
        self._turned_at = [
            [self._add([f"{name}:{part}_{turned}" for name in times]) for part in ("hour", "weekday")]
            for turned in ("sin", "cos")
        ]
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
        if len(facts) <= _BLOCK:
            return np.ascontiguousarray(self._columns_of(np.array(facts.T, order="C")).T)
        contexts: Contexts = np.empty((len(facts), self.width), dtype=np.float32)
        for start in range(0, len(facts), _BLOCK):
            block = slice(start, start + _BLOCK)
            contexts[block] = self._columns_of(np.array(facts[block].T, order="C")).T
        return contexts

    def _columns_of(self, facts: Facts) -> Contexts:
        """Context columns (d, n) of columns of facts (f, n), which are written to: each pass is over whole columns."""
        facts[np.isinf(facts)] = np.nan
        columns: Contexts = np.empty((self.width, facts.shape[1]), dtype=np.float32)
        columns[0] = 1.0
        numbers = facts.take(self._scaled, axis=0)
        missing = np.isnan(numbers)
        columns[self._missing_at] = missing[self._numbers]
        np.maximum(numbers, self._low, out=numbers)
        np.minimum(numbers, self._high, out=numbers)
        numbers -= self._middle
        numbers /= self._half
        numbers[missing] = 0.0
        columns[self._scaled_at] = numbers
        columns[self._category_at] = facts.take(self._category, axis=0) == self._code
        if self._time.size:
            self._turn(facts.take(self._time, axis=0), columns)
        for i, holds in enumerate(self._rules):
            columns[self.first_rule + i] = holds(facts.T)
        return columns

    def _turn(self, times: Facts, columns: Contexts) -> None:
        """Writes the columns of times (t, n)."""
        missing = np.isnan(times)
        angles, days = _HOUR(times) * (2.0 * np.pi / 24.0), _WEEKDAY(times)
        days[missing] = 7.0
        weekday = days.astype(np.intp)
        for (of_hour, of_day), turned, week in zip(self._turned_at, (np.sin, np.cos), _WEEK, strict=True):
            turned(angles, out=columns[of_hour])
            columns[of_hour][missing] = 0.0
            columns[of_day] = week.take(weekday)


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
