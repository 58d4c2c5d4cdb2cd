"""A confidence sequence: what the mean of a stream surely is, however often one looks and whenever one stops."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

EPOCH = 10_000  # numbers after which it begins anew: a long good time must not hide a bad one
HORIZON = 2_000.0  # numbers for which the bets are best; it holds with any
MAX_BET = 0.5


class Sequence(Struct, frozen=True, kw_only=True):
    """A lower bound on the mean of numbers of at least 0, which holds at all times at once with chance 1 - `level`.

        mean >= (sum l_i z_i - log(1/a) - sum psi(l_i) (z_i - g_i)^2) / sum l_i,    psi(l) = -log(1 - l) - l

    g_i is the mean of the numbers before, at most 1, and l_i the bet their spread suggests. No number needs an upper
    bound. The mean is that of each number given those before, weighted by the bets. Epoch e of EPOCH numbers has
    a = level / (e (e + 1)), and all of them together the level.
    Source: empirical Bernstein confidence sequences: Howard et al. (2021), https://arxiv.org/abs/1810.08240;
    Waudby-Smith and Ramdas (2024), https://arxiv.org/abs/2010.09686, theorem 2; with importance weights:
    Waudby-Smith et al. (2022), https://arxiv.org/abs/2210.10768
    """

    level: float
    epoch: int = 1
    n: int = 0  # numbers of this epoch, as all below
    total: float = 0.0
    squares: float = 0.0  # of z_i - g_i
    bets: float = 0.0
    won: float = 0.0  # sum l_i z_i
    paid: float = 0.0  # sum psi(l_i) (z_i - g_i)^2

    def after(self, numbers: NDArray[np.float64]) -> Sequence:
        """The sequence with these numbers, in order."""
        if self.n >= EPOCH:
            return Sequence(level=self.level, epoch=self.epoch + 1).after(numbers)
        past = self.n + 1.0 + np.arange(len(numbers))  # as if a first one had been 1, with a variance of 1/4
        guess = np.minimum((1.0 + self.total + _before(numbers)) / past, 1.0)
        off = (numbers - guess) ** 2
        variance = (0.25 + self.squares + _before(off)) / past
        bets = np.minimum(np.sqrt(2.0 * self._price / (variance * HORIZON)), MAX_BET)
        return Sequence(
            level=self.level,
            epoch=self.epoch,
            n=self.n + len(numbers),
            total=self.total + float(numbers.sum()),
            squares=self.squares + float(off.sum()),
            bets=self.bets + float(bets.sum()),
            won=self.won + float(bets @ numbers),
            paid=self.paid + float((-np.log1p(-bets) - bets) @ off),
        )

    @property
    def low(self) -> float:
        """The bound now; minus infinity before the first number."""
        return (self.won - self._price - self.paid) / self.bets if self.n else -math.inf

    @property
    def mean(self) -> float:
        """The mean of this epoch's numbers, NaN before the first."""
        return self.total / self.n if self.n else math.nan

    @property
    def _price(self) -> float:
        return math.log(self.epoch * (self.epoch + 1) / self.level)


def _before(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of those before each."""
    return np.cumsum(numbers) - numbers
