"""What a policy asks of a model of action values, and the two steps that every model shares."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nba.errors import RewardError, ShapeError
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts, Weights

Draws = NDArray[np.float64]  # (k, m, c) m plausible weight vectors of each action, over the c features of a model


class Model(Protocol):
    """Expected reward of each action in a context, linear in features of the context, and how sure that is."""

    @property
    def rounds(self) -> int:
        """Rounds learned from; those that are half forgotten count half."""
        ...

    @classmethod
    def fit(
        cls,
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        half_life: float | None = None,
    ) -> Self:
        """The model after these rounds, each counting as many times as its weight says, and what `previous` has seen.

        Where given, every `half_life` new rounds halve the weight of what `previous` has seen.
        Raises ShapeError if `previous` has other shapes, RewardError where a number is not finite.
        """
        ...

    def weighed(self, rounds: float, action_features: NDArray[np.float64]) -> Self:
        """The model as if what it has seen had been so many rounds; one that knows nothing stays as it is."""
        ...

    def features(self, contexts: Contexts) -> NDArray[np.float64]:
        """What values are linear in, (n, c)."""
        ...

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward of each action, (n, k)."""
        ...

    def draws(self, action_features: NDArray[np.float64], size: int, rng: Generator) -> Draws:
        """Weights of m = `size` models drawn from what the rounds leave open."""
        ...


def score(features: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features (n, c) by weights (..., c): (n, ...), each row with the same bits alone and among others."""
    # One dot product a value. A matrix product rounds differently for one row than for many, and a decision that
    # was made in a batch must come out alone with the same bits.
    rows = features.reshape(len(features), *(1,) * (weights.ndim - 1), features.shape[1])
    scored: NDArray[np.float64] = np.vecdot(rows, weights)
    return scored


def samples(model: Model, contexts: Contexts, draws: Draws) -> NDArray[np.float64]:
    """Values (n, k, m) of each action under each of the drawn weights."""
    return score(model.features(contexts), draws)


def check_learnable(rounds: LoggedRounds, weights: Weights | None, half_life: float | None) -> None:
    """Raises RewardError for what no sum survives, ShapeError for weights or a half-life without sense."""
    for name, numbers in (("reward", rounds.rewards), ("context", rounds.contexts)):
        bad = ~np.isfinite(numbers.reshape(len(rounds), numbers[:1].size)).all(axis=1)
        if bad.any():
            raise RewardError(
                f"round {int(bad.argmax())} has a {name} that is not finite",
                help="look at the outcomes it was made of; leave the round out or repair it",
            )
    if weights is not None and (weights.shape != (len(rounds),) or not (np.isfinite(weights) & (weights >= 0)).all()):
        raise ShapeError(
            f"weights of shape {weights.shape} for {len(rounds)} rounds, or one that is negative or not finite",
            help="give each round one importance weight of at least 0",
        )
    if half_life is not None and not half_life > 0:
        raise ShapeError(f"a half-life of {half_life} rounds", help="more than 0; without one nothing is forgotten")


def counted(rounds: LoggedRounds, weights: Weights | None) -> int:
    """As how many rounds these count: the sum of their weights."""
    return len(rounds) if weights is None else round(float(weights.sum()))


def kept(new: int, half_life: float | None) -> float:
    """The part of what was known that counts after so many new rounds: 2^(-new / half_life)."""
    return 1.0 if half_life is None else float(0.5 ** (new / half_life))
