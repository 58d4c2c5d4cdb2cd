"""A linear model of action values, learned in closed form: what the value-based policies stand on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.models.model import Draws, check_learnable, counted, kept, score
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts, Weights

RIDGES: tuple[float, ...] = tuple(10.0 ** (step / 4) for step in range(17))  # 1 to 10,000, what the rounds choose from


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Ridge regression of the reward on the joint features phi(x, a) = z(a) (x) x of `nba.encoder`.

        (ridge I + sum phi phi') theta = sum phi r,      value(x, a) = theta' phi(x, a) = weights[a]' x

    phi is built from x alone once a is known, so two sums for each action hold all that the rounds said; updating is
    adding to them, and learning in parts equals learning at once. What actions share (layer, channel) makes it a
    hybrid of one model for all and one for each: Li et al. (2010), https://arxiv.org/abs/1003.0146, section 3.2.

    The ridge is the noise of a reward over the variance of a weight. The rounds choose it themselves, as the one under
    which they are likeliest: much where effects are small beside the noise, little where they are large.
    """

    gram: NDArray[np.float64]  # (k, d, d) sum of x x' over the rounds of each action, without the ridge
    target: NDArray[np.float64]  # (k, d) sum of x r
    weights: NDArray[np.float64]  # (k, d)
    rounds: int
    squares: float = 0.0  # sum of r^2
    ridge: float = 1.0

    @classmethod
    def fit(
        cls,
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        half_life: float | None = None,
        ridge: float | None = None,
    ) -> Self:
        """The model after these rounds and, where given, all that `previous` has seen; without `ridge` the likeliest.

        `action_features` is (k, q), its last k columns the identity. `weights` should average 1: the evidence counts
        rounds. Every `half_life` new rounds halve the weight of what `previous` has seen.
        Raises ShapeError if `previous` has other shapes, RewardError where a number is not finite.
        """
        x = rounds.contexts.astype(np.float64)
        return cls.learn(x, rounds, action_features, previous, weights=weights, half_life=half_life, ridge=ridge)

    @classmethod
    def learn(
        cls,
        features: NDArray[np.float64],
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        half_life: float | None = None,
        ridge: float | None = None,
    ) -> Self:
        """As `fit`, with features (n, d) made of the contexts in place of the contexts."""
        check_learnable(rounds, weights, half_life)
        before = cls.nothing(len(action_features), features.shape[1]) if previous is None else previous
        if before.target.shape != (len(action_features), features.shape[1]):
            raise ShapeError(
                f"previous model is for {before.target.shape} actions and columns, "
                f"not {(len(action_features), features.shape[1])}",
                help="the pack has changed: learn anew, without `previous`",
            )
        part = kept(len(rounds), half_life)
        gram, target = part * before.gram, part * before.target
        weighted = rounds.rewards if weights is None else weights * rounds.rewards
        for action in np.unique(rounds.actions):
            taken = rounds.actions == action
            x = features[taken]
            gram[action] += x.T @ (x if weights is None else weights[taken, None] * x)
            target[action] += x.T @ weighted[taken]
        squares, seen = part * before.squares + float(weighted @ rounds.rewards), round(part * before.rounds)
        seen, shared = seen + counted(rounds, weights), action_features[:, : -len(action_features)]
        if ridge is None:
            ridge = likeliest_ridge(gram, target, squares, seen, shared, before.ridge if before.rounds else None)
        return cls(gram, target, solve(gram, target, shared, ridge), seen, squares, ridge)

    @classmethod
    def nothing(cls, k: int, d: int) -> Self:
        """The model of k actions and d columns that has seen no rounds."""
        return cls(np.zeros((k, d, d)), np.zeros((k, d)), np.zeros((k, d)), 0)

    @property
    def noise(self) -> float:
        """Variance of a reward that the model leaves unexplained, by the evidence; 0 before any reward was seen."""
        unexplained = max(self.squares - float((self.target * self.weights).sum()), 1e-12 * self.squares)
        return unexplained / max(self.rounds, 1)

    def weighed(self, rounds: float, action_features: NDArray[np.float64]) -> Self:
        """The model as if what it has seen had been so many rounds, under the same ridge."""
        part = rounds / self.rounds if self.rounds else 1.0
        gram, target = part * self.gram, part * self.target
        weights = solve(gram, target, action_features[:, : -len(action_features)], self.ridge)
        return replace(
            self,
            gram=gram,
            target=target,
            weights=weights,
            rounds=round(part * self.rounds),
            squares=part * self.squares,
        )

    def features(self, contexts: Contexts) -> NDArray[np.float64]:
        """The context itself, (n, d)."""
        return np.ascontiguousarray(contexts, dtype=np.float64)

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward of each action, (n, k)."""
        return score(self.features(contexts), self.weights)

    def draws(self, action_features: NDArray[np.float64], size: int, rng: Generator) -> Draws:
        """Weights (k, m, d) from the posterior theta ~ N(A^-1 t, noise A^-1), A the ridged gram of joint features.

        What actions share is drawn first, from the system `_solve` leaves; then each action's own part given it.
        Actions that share what they know are drawn together, so that they rise and fall together.
        """
        (k, d), shared = self.target.shape, action_features[:, : -len(action_features)]
        s, deviation = shared.shape[1], self.noise**0.5
        ridged, left, common = _eliminated(self.gram, self.target, shared, self.ridge)
        noise = deviation * _whitened(left, rng.standard_normal((s * d, size)))
        drawn = np.einsum("as,sdm->adm", shared, common[:, :, None] + noise.reshape(s, d, size))
        rest = self.target[:, :, None] - self.gram @ drawn
        own = np.linalg.solve(ridged, rest) + deviation * _whitened(ridged, rng.standard_normal((k, d, size)))
        return np.ascontiguousarray((drawn + own).transpose(0, 2, 1))


def likeliest_ridge(
    gram: NDArray[np.float64],
    target: NDArray[np.float64],
    squares: float,
    rounds: int,
    shared: NDArray[np.float64],
    start: float | None = None,
) -> float:
    """The ridge of RIDGES with the highest marginal likelihood, the noise at its own best; 1 where nothing was seen.

        log p(r) = -n/2 log((sum r^2 - t' theta) / n) - 1/2 (log |A| - p log ridge) + constant,   A theta = t

    It rises to one peak, climbed from `start`, the ridge so far: more rounds of the same kind move it little.
    Source: MacKay (1992), Bayesian Interpolation, Neural Computation 4(3); Bishop (2006), section 3.5.
    """
    if not squares:
        return RIDGES[0]
    parameters = int(target.size + shared.shape[1] * target.shape[1])

    @cache
    def log_likelihood(step: int) -> float:
        ridged, left, common = _eliminated(gram, target, shared, RIDGES[step])
        unexplained = max(
            squares - float((target * _with_own(ridged, gram, target, shared @ common)).sum()), 1e-12 * squares
        )
        log_determinant = _log_determinant(ridged) + _log_determinant(left)
        return parameters * math.log(RIDGES[step]) - rounds * math.log(unexplained) - log_determinant

    step = RIDGES.index(start) if start in RIDGES else len(RIDGES) // 2
    for towards in (1, -1):
        while 0 <= step + towards < len(RIDGES) and log_likelihood(step + towards) > log_likelihood(step):
            step += towards
    return RIDGES[step]


def solve(
    gram: NDArray[np.float64], target: NDArray[np.float64], shared: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    """Weights (k, d) of the ridge regression on joint features, of sums (k, d, d) and (k, d)."""
    ridged, _, common = _eliminated(gram, target, shared, ridge)
    return _with_own(ridged, gram, target, shared @ common)


def _eliminated(
    gram: NDArray[np.float64], target: NDArray[np.float64], shared: NDArray[np.float64], ridge: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Each action's ridged gram (k, d, d), the system (s d, s d) left once own parts are eliminated, its solution.

    With G, t the sums of an action, s its shared features (k, q - k) and B the shared part of theta (s, d), its own
    part is (G + ridge I)^-1 (t - G B s). Put into the equations of B, only a small system is left: k may be thousands.
    """
    (_, d), s = target.shape, shared.shape[1]
    ridged = gram + ridge * np.eye(d)
    damped = ridge * np.linalg.inv(ridged)
    left = np.einsum("as,at,aij->sitj", shared, shared, damped @ gram, optimize=True).reshape(s * d, s * d)
    left += ridge * np.eye(s * d)
    right = np.einsum("as,aij,aj->si", shared, damped, target, optimize=True).reshape(s * d)
    return ridged, left, np.linalg.solve(left, right).reshape(s, d)


def _with_own(
    ridged: NDArray[np.float64], gram: NDArray[np.float64], target: NDArray[np.float64], common: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What actions share (k, d), and on top each one's own part."""
    rest = target - np.einsum("aij,aj->ai", gram, common)
    weights: NDArray[np.float64] = common + np.linalg.solve(ridged, rest[:, :, None])[:, :, 0]
    return weights


def _log_determinant(precision: NDArray[np.float64]) -> float:
    """Sum of log |P| over positive definite matrices (..., d, d)."""
    factors = np.linalg.cholesky(precision)
    return 2.0 * float(np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum())


def _whitened(precision: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal columns (..., d, m) as draws of covariance precision^-1: L'^-1 z with precision = L L'."""
    upper = np.linalg.cholesky(precision).mT
    drawn: NDArray[np.float64] = np.linalg.solve(upper, normal)
    return drawn
