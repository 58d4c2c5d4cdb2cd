"""Random numbers of a customer: a counter-based hash of (population seed, customer, stream), so that nothing is kept.

Customer i of a population gets the same numbers in every process that asks, in any order and beside anybody; a million
of them cost one array pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Customers = NDArray[np.int64]  # (n,) index of each customer in the population


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele, Lea and Flood 2014, https://doi.org/10.1145/2714064.2660195)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def subject_hash(customers: Customers, seed: int = 0, stream: int = 0) -> NDArray[np.uint64]:
    """64 well-mixed bits (n,) of (seed, customer, stream)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    state = np.full(1, seed & 0xFFFF_FFFF_FFFF_FFFF, dtype=np.uint64)
    state = _mixed((state + golden) * golden + np.uint64(stream))
    return _mixed(_mixed(state + (customers.astype(np.uint64) + np.uint64(1)) * golden))


def uniforms(customers: Customers, seed: int, stream: int) -> Array:
    """One number in (0, 1) for each customer (n,), independent between streams."""
    return ((subject_hash(customers, seed, stream) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def normals(customers: Customers, seed: int, stream: int) -> Array:
    """One standard normal number for each customer (n,), by Box and Muller; uses streams 2s and 2s + 1 of 1,000 on."""
    first, second = (uniforms(customers, seed, 1_000 + 2 * stream + half) for half in (0, 1))
    return np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@dataclass(frozen=True, slots=True)
class Draw:
    """The traits of some customers and the noise from which all else about them is made."""

    customers: Customers
    seed: int
    z: Mapping[str, Array]  # trait -> (n,)

    def uniform(self, stream: int) -> Array:
        """One number in (0, 1) for each customer (n,), independent of the traits and between streams."""
        return uniforms(self.customers, self.seed, stream)

    def normal(self, stream: int) -> Array:
        """One standard normal number for each customer (n,), independent of the traits and between streams."""
        return normals(self.customers, self.seed, 100 + stream)
