"""A linear model of action values, learned in closed form: what the value-based policies stand on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts

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
        ridge: float | None = None,
    ) -> Self:
        """The model after these rounds and, where given, all that `previous` has seen; without `ridge` the likeliest.

        `action_features` is (k, q), its last k columns the identity. Raises ShapeError if `previous` has other shapes.
        """
        k, d = len(action_features), rounds.contexts.shape[1]
        if previous is not None and previous.target.shape != (k, d):
            raise ShapeError(
                f"previous model is for {previous.target.shape} actions and columns, not {(k, d)}",
                help="the pack has changed: learn anew, without `previous`",
            )
        gram = np.zeros((k, d, d)) if previous is None else previous.gram.copy()
        target = np.zeros((k, d)) if previous is None else previous.target.copy()
        for action in np.unique(rounds.actions):
            taken = rounds.actions == action
            x = rounds.contexts[taken].astype(np.float64)
            gram[action] += x.T @ x
            target[action] += x.T @ rounds.rewards[taken]
        squares = float(rounds.rewards @ rounds.rewards) + (previous.squares if previous else 0.0)
        seen, shared = len(rounds) + (previous.rounds if previous else 0), action_features[:, :-k]
        if ridge is None:
            ridge = _likeliest_ridge(gram, target, squares, seen, shared)
        weights, _ = _solve(gram, target, shared, ridge)
        return cls(gram, target, weights, seen, squares, ridge)

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward of each action, (n, k)."""
        # One dot product a value. A matrix product rounds differently for one row than for many, and a decision that
        # was made in a batch must come out alone with the same bits.
        values: ActionValues = np.vecdot(np.ascontiguousarray(contexts, dtype=np.float64)[:, None, :], self.weights)
        return values


def _likeliest_ridge(
    gram: NDArray[np.float64], target: NDArray[np.float64], squares: float, rounds: int, shared: NDArray[np.float64]
) -> float:
    """The ridge of RIDGES with the highest marginal likelihood, the noise at its own best; 1 where nothing was seen.

        log p(r) = -n/2 log((sum r^2 - t' theta) / n) - 1/2 (log |A| - p log ridge) + constant,   A theta = t

    Source: MacKay (1992), Bayesian Interpolation, Neural Computation 4(3); Bishop (2006), section 3.5.
    """
    if not squares:
        return RIDGES[0]
    parameters = int(target.size + shared.shape[1] * target.shape[1])

    def log_likelihood(ridge: float) -> float:
        weights, log_determinant = _solve(gram, target, shared, ridge)
        unexplained = max(squares - float((target * weights).sum()), 1e-12 * squares)
        return parameters * math.log(ridge) - rounds * math.log(unexplained) - log_determinant

    return max(RIDGES, key=log_likelihood)


def _solve(
    gram: NDArray[np.float64], target: NDArray[np.float64], shared: NDArray[np.float64], ridge: float
) -> tuple[NDArray[np.float64], float]:
    """Weights (k, d) of the ridge regression on joint features, and log |A|, by eliminating each action's own part.

    With G, t the sums of an action, s its shared features (k, q - k) and B the shared part of theta, its own part is
    (G + ridge I)^-1 (t - G B s). Put into the equations of B, only a small system is left: k may be thousands.
    """
    (k, d), s = target.shape, shared.shape[1]
    ridged = gram + ridge * np.eye(d)
    damped = ridge * np.linalg.inv(ridged)
    left = np.einsum("as,at,aij->sitj", shared, shared, damped @ gram, optimize=True).reshape(s * d, s * d)
    left += ridge * np.eye(s * d)
    right = np.einsum("as,aij,aj->si", shared, damped, target, optimize=True).reshape(s * d)
    common = shared @ np.linalg.solve(left, right).reshape(s, d)
    rest = target - np.einsum("aij,aj->ai", gram, common)
    own: NDArray[np.float64] = np.linalg.solve(ridged, rest.reshape(k, d, 1))[:, :, 0]
    log_determinant = np.linalg.slogdet(ridged)[1].sum() + np.linalg.slogdet(left)[1]
    return common + own, float(log_determinant)
