"""The only place where facts become numbers.

Context columns of a moment, in order: a constant 1; for each field its own columns (below); for each rule of
the moment's priority list whether its condition holds (so that a rules policy is a policy over contexts like
any other, and a learned one may use what the product team already knows).

    number    scaled to [-1, 1] by its range, and 1 where missing
    category  one 1 for its value, none where missing
    boolean   1, -1, and 0 where missing
    time      sine and cosine of the hour of day and of the day of week, 0 where missing
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nba.conditions import TIME_PARTS, parse
from nba.facts import Field
from nba.pack import Action, Pack
from nba.types import Contexts, Facts

VERSION = 1  # of the encoding; a change makes artefacts of the old one unusable


class Encoder:
    """Coded facts (n, f) of one moment to contexts (n, d). Finite for every input."""

    def __init__(self, pack: Pack, moment: str) -> None:
        self.fields = pack.moment_fields(moment)
        self._rules = [parse(rule.when, self.fields) for rule in pack.moment(moment).rules]
        self.columns: tuple[str, ...] = ("1", *(c for item in self.fields.items() for c in _columns(*item)))
        self.first_rule = len(self.columns)
        self.columns += tuple(f"rule:{i}" for i in range(len(self._rules)))
        self.width = len(self.columns)
        self._place = {name: i for i, name in enumerate(self.columns)}
        fields = list(self.fields.items())
        numbers = [(j, name, f.range or (-1.0, 1.0)) for j, (name, f) in enumerate(fields) if f.type == "number"]
        self._number = np.array([j for j, _, _ in numbers], dtype=np.intp)
        self._number_at = self._at([name for _, name, _ in numbers])
        self._middle = np.array([(low + high) / 2 for _, _, (low, high) in numbers])
        self._half = np.array([(high - low) / 2 for _, _, (low, high) in numbers])
        categories = [(j, name, f) for j, (name, f) in enumerate(fields) if f.type == "category"]
        self._category = np.array([j for j, _, _ in categories], dtype=np.intp)
        self._category_at = self._at([f"{name}={f.values[0]}" for _, name, f in categories])
        self._category_size = np.array([len(f.values) for _, _, f in categories])
        booleans = [(j, name) for j, (name, f) in enumerate(fields) if f.type == "boolean"]
        self._boolean = np.array([j for j, _ in booleans], dtype=np.intp)
        self._boolean_at = self._at([name for _, name in booleans])
        times = [(j, name) for j, (name, f) in enumerate(fields) if f.type == "time"]
        self._time = np.array([j for j, _ in times], dtype=np.intp)
        self._time_at = self._at([f"{name}:hour_sin" for _, name in times])

    def _at(self, names: list[str]) -> NDArray[np.intp]:
        return np.array([self._place[name] for name in names], dtype=np.intp)

    def column(self, name: str) -> int:
        """Where a context column is, by its name (`sentiment`, `device=mobile`, `local_time:hour_sin`)."""
        return self._place[name]

    def encode(self, facts: Facts) -> Contexts:
        """Contexts (n, d) of coded facts (n, f)."""
        facts = np.where(np.isfinite(facts), facts, np.nan)
        contexts: Contexts = np.zeros((len(facts), self.width), dtype=np.float32)
        contexts[:, 0] = 1.0
        if self._number.size:
            scaled = (facts[:, self._number] - self._middle) / self._half
            missing = np.isnan(scaled)
            contexts[:, self._number_at] = np.where(missing, 0.0, np.clip(scaled, -1.0, 1.0))
            contexts[:, self._number_at + 1] = missing
        if self._category.size:
            codes = facts[:, self._category]
            rows, which = np.nonzero((codes >= 0) & (codes < self._category_size))
            contexts[rows, self._category_at[which] + codes[rows, which].astype(np.intp)] = 1.0
        if self._boolean.size:
            truth = facts[:, self._boolean]
            contexts[:, self._boolean_at] = np.where(np.isnan(truth), 0.0, np.where(truth > 0.5, 1.0, -1.0))
        if self._time.size:
            self._encode_times(facts[:, self._time], contexts)
        for i, holds in enumerate(self._rules):
            contexts[:, self.first_rule + i] = holds(facts)
        return contexts

    def _encode_times(self, seconds: NDArray[np.float64], contexts: Contexts) -> None:
        for offset, part, period in ((0, "hour", 24.0), (2, "weekday", 7.0)):
            angle = TIME_PARTS[part](seconds) * (2.0 * np.pi / period)
            contexts[:, self._time_at + offset] = np.nan_to_num(np.sin(angle))
            contexts[:, self._time_at + offset + 1] = np.nan_to_num(np.cos(angle))


def _columns(name: str, field: Field) -> tuple[str, ...]:
    match field.type:
        case "number":
            return name, f"{name}:missing"
        case "category":
            return tuple(f"{name}={value}" for value in field.values)
        case "boolean":
            return (name,)
    return tuple(f"{name}:{part}_{wave}" for part in ("hour", "weekday") for wave in ("sin", "cos"))


def action_features(actions: Sequence[tuple[str, Action]]) -> NDArray[np.float64]:
    """What actions share and what sets them apart, (k, q): a constant, layer, channel, and the action itself.

    With the outer product by contexts these are the joint features phi(x, a) = z(a) (x) x: the first columns
    let actions learn from each other, so that a new one starts warm; the last give each its own part.
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
