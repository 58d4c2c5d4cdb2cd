"""Disposition: customers differ in what no context shows, and the truth stays exact.

    u = Phi(sqrt(rho) z + sqrt(1 - rho) e),    z ~ N(0, 1) of the customer, e ~ N(0, 1) of the round

u is the latent quality of a round (`Response.happened`): uniform whatever rho is, so that every outcome keeps the very
probability of its equation, whatever the context; yet the rounds of one customer go well or badly together, with the
intra-class correlation rho on the latent scale. z is independent of all traits and facts. A population is one draw of
z: over m customers mean outcomes stray from the truth by some sqrt(rho / m), as they do in any real one.

The default rho 0.1 makes a tenth of what the context leaves open the customer's own. Two outcomes of one customer, each
of a chance of a half, then correlate by (2 / pi) arcsin(0.1) = 0.064 (Sheppard 1899), and 25 rounds a customer inflate
the variance of a mean 1 + 24 * 0.064 = 2.5 times (Kish 1965): enough that an interval which takes rounds of the same
customer for independent is visibly too narrow. Chosen, not fitted.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.people import Array, Customers, normals
from nba.errors import ShapeError

_STREAM = 900  # of envs.people.normals
# Abramowitz and Stegun 1964, 26.2.17: |error| < 7.5e-8.
_P = 0.2316419
_B = (1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530)


def checked_correlation(rho: float) -> float:
    """The intra-class correlation. Raises ShapeError where it is none."""
    if not 0.0 <= rho < 1.0:
        raise ShapeError(f"a disposition of {rho}", help="give an intra-class correlation from 0 to below 1")
    return rho


def dispositions(customers: Customers, seed: int) -> Array:
    """z of each customer (n,) of the population of that seed, standard normal."""
    return normals(customers, seed, _STREAM)


def quality(z: Array, rho: float, rng: Generator) -> Array:
    """The latent quality u (n,) of one round of each of these customers, uniform on (0, 1)."""
    if rho == 0.0:
        return rng.random(len(z))
    mixed = rng.standard_normal(len(z))
    mixed *= np.sqrt(1.0 - rho)
    mixed += np.sqrt(rho) * z
    return normal_cdf(mixed)


def normal_cdf(x: Array) -> Array:
    """P(N(0, 1) <= x), to 7.5e-8.

    1 - pdf(x) (b1 t + ... + b5 t^5), t = 1 / (1 + 0.2316419 x), for x >= 0; the rest by symmetry.
    Source: Abramowitz and Stegun (1964), formula 26.2.17.
    """
    t = 1.0 / (1.0 + _P * np.abs(x))
    upper = np.full_like(t, _B[0])
    for b in (*_B[1:], 0.0):
        upper *= t
        upper += b
    upper *= np.exp(-0.5 * np.square(x)) / np.sqrt(2.0 * np.pi)
    return np.where(x < 0.0, upper, 1.0 - upper)
