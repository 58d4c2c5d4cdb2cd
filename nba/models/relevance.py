"""Which columns matter: a prior variance for each, chosen by the rounds themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

LEAST, START, MOST = 0.3, 100.0, 1e6  # of a precision, in parts of the noise
DOUBT = 0.5  # as how many coefficients the first guess of a precision counts
PASSES = 8  # of re-estimation; more move little


@dataclass(frozen=True, slots=True)
class Relevance:
    """Ridge regression on what all actions share and each action's own part, with a precision for each column.

        weights[a] = common + own[a],      common_j, own[a]_j ~ N(0, noise / precision_j)

    A column that no action's value depends on gets a high precision and drops out, so that many columns cost little.
    Source: MacKay (1992), Bayesian Interpolation; Tipping (2001), Sparse Bayesian Learning, section 2.3.
    """

    gram: NDArray[np.float64]  # (k, c, c) sum of x x' by action
    target: NDArray[np.float64]  # (k, c) sum of x r
    precision: NDArray[np.float64]  # (c,)
    weights: NDArray[np.float64]  # (k, c)
    noise: float  # variance of a reward that is left unexplained

    @classmethod
    def of(
        cls,
        gram: NDArray[np.float64],
        target: NDArray[np.float64],
        squares: float,
        rounds: int,
        start: NDArray[np.float64] | None = None,
    ) -> Relevance:
        """By so many rounds, whose rewards have this sum of squares; precisions are climbed from `start`.

        A precision's update is gamma / (theta^2 / noise), gamma the number of its coefficients the rounds determine.
        A column that dropped out starts afresh: with more rounds it may matter.
        """
        precision = np.full(target.shape[1], START) if start is None else np.minimum(start, START)
        for _ in range(PASSES if squares else 0):
            common, own, spread = _posterior(gram, target, precision)
            noise = _noise(target, common + own, squares, rounds)
            squared = (np.square(common) + np.square(own).sum(axis=0)) / noise
            determined = np.maximum(len(target) + 1.0 - precision * spread, 0.0)
            precision = np.clip((determined + 2.0 * DOUBT) / (squared + 2.0 * DOUBT / START), LEAST, MOST)
        common, own, _ = _posterior(gram, target, precision)
        return cls(gram, target, precision, common + own, _noise(target, common + own, squares, rounds))

    def draws(self, size: int, rng: Generator) -> NDArray[np.float64]:
        """Weights (k, m, c) from the posterior: the common part first, then each action's own given it."""
        (k, c), deviation = self.target.shape, self.noise**0.5
        ridged = self.gram + np.diag(self.precision)
        damped = self.precision[:, None] * np.linalg.inv(ridged)
        left = (damped @ self.gram).sum(axis=0) + np.diag(self.precision)
        mean = np.linalg.solve(left, np.einsum("aij,aj->i", damped, self.target))
        common = mean[:, None] + deviation * _whitened(left, rng.standard_normal((c, size)))
        own = np.linalg.solve(ridged, self.target[:, :, None] - self.gram @ common)
        own += deviation * _whitened(ridged, rng.standard_normal((k, c, size)))
        return np.ascontiguousarray((common + own).transpose(0, 2, 1))


def _posterior(
    gram: NDArray[np.float64], target: NDArray[np.float64], precision: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means of the common part (c,) and the own ones (k, c), and the variance (c,) of both by column, in noises.

    Own parts are eliminated, as in `nba.models.linear`: one small system is left for what is common.
    """
    inverse = np.linalg.inv(gram + np.diag(precision))
    passed_on = inverse @ gram  # how an own part answers to the common one
    left = precision[:, None] * passed_on.sum(axis=0) + np.diag(precision)
    covariance = np.linalg.inv(left)
    common = covariance @ (precision * np.einsum("aij,aj->i", inverse, target))
    own = np.einsum("aij,aj->ai", inverse, target - gram @ common)
    spread = np.diagonal(covariance) + np.einsum("aii->i", inverse)
    spread += np.einsum("aij,aij->i", passed_on @ covariance, passed_on)
    return common, own, spread


def _noise(target: NDArray[np.float64], weights: NDArray[np.float64], squares: float, rounds: int) -> float:
    return max(squares - float((target * weights).sum()), 1e-12 * squares) / max(rounds, 1)


def _whitened(precision: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal columns (..., c, m) as draws of covariance precision^-1."""
    drawn: NDArray[np.float64] = np.linalg.solve(np.linalg.cholesky(precision).mT, normal)
    return drawn
