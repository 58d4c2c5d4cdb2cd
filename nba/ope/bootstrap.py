"""Resampled sums: one bootstrap for every estimator at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_UNITS = 20_000  # resampled at most; of more customers, groups are
BLOCK = 32  # resamples whose counts are held at once


def resampled_sums(
    columns: NDArray[np.float64], subjects: NDArray[np.uint64], *, rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """The sums of columns (n, c) over `resamples` bootstrap samples of the customers: (resamples, c).

    An estimator that is a function of sums is bootstrapped by one matrix product of counts by columns. Customers are
    drawn, not rounds, because rounds of one customer are not independent. Where there are more than MAX_UNITS
    customers, groups of them are drawn: variance and skewness of the sums stay the same, time and memory are bounded.
    Source: Davison and Hinkley (1997), Bootstrap Methods and their Application, sections 2.4 and 3.8.
    """
    units = _totals(columns, subjects)
    n = len(units)
    sums = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        counts = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(size)])
        sums[start : start + size] = counts.astype(np.float64) @ units
    return sums


def _totals(columns: NDArray[np.float64], subjects: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The sums of columns (n, c) by customer, or by group of customers: (units, c)."""
    unit = np.unique(subjects, return_inverse=True)[1] % MAX_UNITS
    return np.stack([np.bincount(unit, weights=column) for column in columns.T], axis=1)
