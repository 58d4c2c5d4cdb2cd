"""Contexts read back in the units of their fields: what the response equations are written in.

The truth is a function of the encoded context and of nothing else, so that what a policy sees is all there is to
know and expected rewards are exact. A missing value reads as a stated number; it never makes anything undefined.
"""

from __future__ import annotations

import numpy as np

from envs.people import Array, logistic
from nba.encoder import Encoder
from nba.types import Contexts

NIGHT = 2.0 * np.pi * 2.5 / 24.0  # half past two, its middle


class Seen:
    """Contexts (n, d) of one encoder, by field. Every answer is (n,)."""

    def __init__(self, contexts: Contexts, encoder: Encoder) -> None:
        # The encoder never leaves [-1, 1]; whatever else is asked about is answered as its nearest context.
        self._columns: Array = np.ascontiguousarray(contexts.T, dtype=np.float64)  # (d, n)
        np.clip(self._columns, -1.0, 1.0, out=self._columns)
        self._encoder = encoder

    def __len__(self) -> int:
        return len(self._columns[0])

    def column(self, name: str) -> Array:
        """A context column as it is; not to be written to."""
        column: Array = self._columns[self._encoder.column(name)]
        return column

    def number(self, name: str, missing: float) -> Array:
        """A number in the units of its field; `missing` where it is not known."""
        low, high = self._encoder.fields[name].range or (-1.0, 1.0)
        value = (low + high) / 2.0 + (high - low) / 2.0 * self.column(name)
        return np.where(self.column(f"{name}:missing") > 0.5, missing, value)

    def known(self, name: str) -> Array:
        """1 where the number is known, else 0."""
        return 1.0 - self.column(f"{name}:missing")

    def among(self, name: str, *values: str) -> Array:
        """1 where the category is one of these, else 0; 0 where missing."""
        return np.asarray(sum(self.column(f"{name}={value}") for value in values))

    def near(self, name: str, hour: Array) -> Array:
        """cos of the time of day's distance from `hour`: 1 at that hour, -1 twelve hours off, 0 where missing."""
        angle = hour * (2.0 * np.pi / 24.0)
        return self.column(f"{name}:hour_sin") * np.sin(angle) + self.column(f"{name}:hour_cos") * np.cos(angle)

    def night(self, name: str) -> Array:
        """How much it is night, 0 to 1: a half at 22:00 and 7:00; nearly 0 where the time is missing."""
        sine, cosine = self.column(f"{name}:hour_sin"), self.column(f"{name}:hour_cos")
        depth = sine * np.sin(NIGHT) + cosine * np.cos(NIGHT)
        timeless = (np.abs(sine) + np.abs(cosine)) < 1e-6
        return np.where(timeless, 0.0, logistic(10.0 * (depth - np.cos(2.0 * np.pi * 4.5 / 24.0))))
