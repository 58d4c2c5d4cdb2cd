"""Estimators of a target policy's value, each with a 95 % interval by percentile bootstrap.

The percentile interval is not symmetric, which rare rewards need. Measured, it holds the truth in 94 % of logs of 500
rounds with 100 rewarded, and in 91 % of logs of 2,000 with 20 (effective_n is about half of the rounds in both). Its
limits: where no round was rewarded it collapses to a point, and with an `effective_n` of a few dozen it is too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba.errors import EmptyLogError, ShapeError
from nba.ope.bootstrap import resampled_sums
from nba.ope.terms import Terms
from nba.types import Weights

RESAMPLES = 1_000
LEVEL = (2.5, 97.5)  # percentiles of the resampled values

# Every estimator is one sum over another: (numerator, denominator).
_RATIOS = {
    "mean_weight": ("weights", "rounds"),
    "ips": ("weighted_rewards", "rounds"),
    "snips": ("weighted_rewards", "weights"),
    "direct_method": ("expected", "rounds"),
    "doubly_robust": ("robust", "rounds"),
}
_NEEDS_MODEL = ("direct_method", "doubly_robust")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value in reward units a round, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int  # rounds
    effective_n: float  # (sum w)^2 / sum w^2: as many rounds of the target's own would say as much (Kong 1992)


def mean_weight(terms: Terms, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """The mean importance weight: 1 where propensities are right and the log is whole.

        E[ pi(a|x) / p ] = sum_a p (pi(a|x) / p) = 1

    Raises EmptyLogError.
    """
    return _named(terms, "mean_weight", rng, resamples)


def ips(terms: Terms, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Inverse propensity score estimate of the target policy's value, in reward units a round.

        V = mean( w r )

    Unbiased; it moves with the mean weight, so a wrong log moves it most. Raises EmptyLogError.
    Source: Horvitz and Thompson (1952); Strehl et al. (2010), https://arxiv.org/abs/1003.0120
    """
    return _named(terms, "ips", rng, resamples)


def snips(terms: Terms, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Self-normalised inverse propensity score estimate, in reward units a round.

        V = sum( w r ) / sum( w )

    NaN, with effective_n 0, where no round has weight: the log has no word on the target. Raises EmptyLogError.
    Source: Swaminathan and Joachims (2015), The self-normalized estimator for counterfactual learning, NIPS
    """
    return _named(terms, "snips", rng, resamples)


def direct_method(terms: Terms, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """The model's own idea of the target policy's value, in reward units a round. Never judge by it alone.

        V = mean( sum_a pi(a|x) q(x,a) )

    Raises EmptyLogError, and ShapeError where the terms have no model values.
    Source: Dudik, Langford and Li (2011), https://arxiv.org/abs/1103.4601
    """
    return _named(terms, "direct_method", rng, resamples)


def doubly_robust(terms: Terms, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Doubly robust estimate of the target policy's value, in reward units a round.

        V = mean( sum_a pi(a|x) q(x,a)  +  w (r - q(x,a)) )

    Unbiased whatever the model, where no round's own reward is in its prediction (see `cross_fit`); the better the
    model, the narrower. With no weight at all it is the direct method. Raises as `direct_method` does.
    Source: Dudik, Langford and Li (2011), https://arxiv.org/abs/1103.4601
    """
    return _named(terms, "doubly_robust", rng, resamples)


def lift(challenger: Terms, champion: Terms, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """How much more the challenger earns than the champion: both doubly robust, on the same rounds, in pairs.

    What the two have in common cancels, so it is much narrower than the difference of two estimates. `effective_n`
    is the lesser of the two. Raises ShapeError where the rounds are not the same, and as `doubly_robust` does.
    """
    same = np.array_equal(challenger.subjects, champion.subjects) and np.array_equal(
        challenger.rewards, champion.rewards
    )
    if not same:
        raise ShapeError("challenger and champion were given other rounds", help="make both terms of one LoggedRounds")
    _require_model(challenger)
    _require_model(champion)
    columns = {"robust": challenger.robust - champion.robust, "rounds": np.ones(len(champion))}
    effective_n = min(_effective_n(challenger.weights), _effective_n(champion.weights))
    ratios = {"lift": ("robust", "rounds")}
    return _estimate(columns, ratios, champion.subjects, effective_n, rng, resamples)["lift"]


def estimates(terms: Terms, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Every estimate by name, on the same resamples: mean_weight, ips, snips and, with a model, the other two.

    Raises EmptyLogError.
    """
    ratios = {name: ratio for name, ratio in _RATIOS.items() if terms.modelled or name not in _NEEDS_MODEL}
    return _estimate(_columns(terms), ratios, terms.subjects, _effective_n(terms.weights), rng, resamples)


def _named(terms: Terms, name: str, rng: np.random.Generator, resamples: int) -> Estimate:
    if name in _NEEDS_MODEL:
        _require_model(terms)
    effective_n = _effective_n(terms.weights)
    return _estimate(_columns(terms), {name: _RATIOS[name]}, terms.subjects, effective_n, rng, resamples)[name]


def _require_model(terms: Terms) -> None:
    if not terms.modelled:
        raise ShapeError("the terms have no model values", help="give Terms.of a q_hat, such as cross_fit's")


def _columns(terms: Terms) -> dict[str, NDArray[np.float64]]:
    return {
        "rounds": np.ones(len(terms)),
        "weights": terms.weights,
        "weighted_rewards": terms.weights * terms.rewards,
        "expected": terms.expected,
        "robust": terms.robust,
    }


def _effective_n(weights: Weights) -> float:
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares > 0.0 else 0.0


def _estimate(
    columns: Mapping[str, NDArray[np.float64]],
    ratios: Mapping[str, tuple[str, str]],
    subjects: NDArray[np.uint64],
    effective_n: float,
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, Estimate]:
    """The ratios of column sums, each with the percentiles of its resampled values."""
    n = len(subjects)
    if not n:
        raise EmptyLogError("no rounds to judge by", help="wait until a reward window has closed")
    used = sorted({name for ratio in ratios.values() for name in ratio})
    matrix = np.stack([columns[name] for name in used], axis=1)
    sums = resampled_sums(matrix, subjects, rng=rng, resamples=resamples)
    told = {}
    for name, (above, below) in ratios.items():
        i, j = used.index(above), used.index(below)
        value = _ratio(matrix[:, i].sum(keepdims=True), matrix[:, j].sum(keepdims=True))
        low, high = _interval(_ratio(sums[:, i], sums[:, j]))
        told[name] = Estimate(float(value[0]), low, high, n, effective_n)
    return told


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """above / below, NaN where below is 0: a sample in which no round had weight says nothing."""
    ratio = np.full(len(above), np.nan)
    np.divide(above, below, out=ratio, where=below != 0.0)
    return ratio


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.percentile(defined, LEVEL)
    return float(low), float(high)
