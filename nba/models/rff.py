"""A model of action values that bends: the linear one on random Fourier features of the context."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.models.linear import LinearModel
from nba.models.model import Draws, check_learnable, score
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts, Weights

MAX_SUMS = 32_000_000  # numbers in the sums of a model: 256 MB of an artefact
MAX_ANGLE = 1e6  # radians; contexts of the encoder reach a hundred at most, and a cosine of 1e300 is anything
LOOKED_AT = 500  # rounds by whose distances the bandwidth is chosen


@dataclass(frozen=True, slots=True)
class FourierModel:
    """Ridge regression on x and on D random cosines of it, which together are as good as a Gaussian kernel.

        features(x) = (x, sqrt(2 / D) cos(W x + b)),     W ~ N(0, 1 / bandwidth^2),  b ~ U(0, 2 pi)
        E[cos part(x)' cos part(y)] = exp(-|x - y|^2 / (2 bandwidth^2))

    The bandwidth is the median distance of the first rounds' contexts; what it was once, it stays, as the sums are
    over these features. Source: Rahimi and Recht (2007), Random Features for Large-Scale Kernel Machines, algorithm 1.
    """

    frequencies: NDArray[np.float64]  # (D, d) W
    phases: NDArray[np.float64]  # (D,) b
    linear: LinearModel  # on the features

    @classmethod
    def fit(
        cls,
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        half_life: float | None = None,
        features: int = 100,
        seed: int = 0,
    ) -> Self:
        """The model after these rounds and, where given, all that `previous` has seen.

        `features` (D) and `seed` count at the start; later ones are those of `previous`. Raises as LinearModel does,
        and ShapeError where the sums would not fit into an artefact.
        """
        check_learnable(rounds, weights, half_life)
        if previous is None or not previous.rounds:
            _check_size(len(action_features), rounds.contexts.shape[1] + int(features))
            previous = None
            frequencies, phases = waves(rounds.contexts, int(features), int(seed))
        else:
            frequencies, phases = previous.frequencies, previous.phases
        linear = LinearModel.learn(
            _features(rounds.contexts, frequencies, phases),
            rounds,
            action_features,
            previous.linear if previous else None,
            weights=weights,
            half_life=half_life,
        )
        return cls(frequencies, phases, linear)

    @property
    def rounds(self) -> int:
        """Rounds learned from."""
        return self.linear.rounds

    def weighed(self, rounds: float, action_features: NDArray[np.float64]) -> Self:
        """The model as if what it has seen had been so many rounds."""
        return replace(self, linear=self.linear.weighed(rounds, action_features))

    def features(self, contexts: Contexts) -> NDArray[np.float64]:
        """The context and its cosines, (n, d + D)."""
        return _features(contexts, self.frequencies, self.phases)

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward of each action, (n, k)."""
        return score(self.features(contexts), self.linear.weights)

    def draws(self, action_features: NDArray[np.float64], size: int, rng: Generator) -> Draws:
        """Weights (k, m, d + D) from the posterior of the linear model."""
        return self.linear.draws(action_features, size, rng)


def _features(contexts: Contexts, frequencies: NDArray[np.float64], phases: NDArray[np.float64]) -> NDArray[np.float64]:
    if contexts.shape[1] != frequencies.shape[1]:
        raise ShapeError(
            f"contexts of {contexts.shape[1]} columns for frequencies of {frequencies.shape[1]}",
            help="the pack has changed: learn anew, without `previous`",
        )
    x = np.ascontiguousarray(contexts, dtype=np.float64)
    angles = np.clip(score(x, frequencies) + phases, -MAX_ANGLE, MAX_ANGLE)
    return np.hstack([x, np.cos(angles) * (2.0 / len(phases)) ** 0.5])


def waves(contexts: Contexts, size: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies (D, d) and phases (D,) for contexts like these."""
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((size, contexts.shape[1]))
    return drawn / bandwidth(contexts), rng.uniform(0.0, 2.0 * np.pi, size)


def bandwidth(contexts: Contexts) -> float:
    """The median distance of two contexts that differ, over the first `LOOKED_AT`; 1 where none do."""
    x = contexts[:LOOKED_AT].astype(np.float64)
    squares = (x * x).sum(axis=1)
    squared = squares[:, None] + squares - 2.0 * x @ x.T
    apart = squared[np.triu_indices(len(x), 1)]
    apart = apart[apart > 1e-9]
    return float(np.median(apart) ** 0.5) if apart.size else 1.0


def _check_size(k: int, columns: int) -> None:
    if columns < 1 or k * columns**2 > MAX_SUMS:
        raise ShapeError(
            f"{k} actions by {columns} features squared are more than {MAX_SUMS:,} sums",
            help="ask for fewer features, or use the linear model",
        )
