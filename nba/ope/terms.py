"""What each logged round says about a target policy: the only thing estimators look at."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nba.errors import EmptyLogError, ShapeError
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Distribution, Rewards, Weights


@dataclass(frozen=True, slots=True)
class Terms:
    """n rounds under one target policy. No column depends on the number of actions, so moments concatenate."""

    weights: Weights  # (n,) importance weights pi(a | x) / propensity
    rewards: Rewards  # (n,)
    predicted: Rewards  # (n,) q(x, a) of the action taken; NaN without a model
    expected: Rewards  # (n,) sum_a pi(a | x) q(x, a); NaN without a model
    subjects: NDArray[np.uint64]  # (n,) whose rounds they are: customers are resampled whole

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def modelled(self) -> bool:
        """True where every round has model values."""
        return not np.isnan(self.expected).any()

    @property
    def robust(self) -> Rewards:
        """Doubly robust terms (n,): the model's value of the target, corrected by what the round showed."""
        return self.expected + self.weights * (self.rewards - self.predicted)

    @classmethod
    def of(cls, rounds: LoggedRounds, target: Distribution, q_hat: ActionValues | None = None) -> Terms:
        """The terms of these rounds for a target distribution (n, k), with model values (n, k) where there are any.

        Target mass on an action that the logging policy never took has no round to speak for it: importance
        weighting loses it (the mean weight falls below 1), and only the model has a word on it.
        Raises ShapeError where an array is not (n, k) or a row of the target is no distribution.
        """
        target = _checked("the target", target, rounds)
        if (target < 0.0).any() or not np.allclose(target.sum(axis=1), 1.0, rtol=0.0, atol=1e-6):
            raise ShapeError("a row of the target is no distribution", help="rows are not negative and sum to 1")
        taken = np.arange(len(rounds)), rounds.actions
        predicted = expected = np.full(len(rounds), np.nan)
        if q_hat is not None:
            q_hat = _checked("q_hat", q_hat, rounds)
            predicted, expected = q_hat[taken], (target * q_hat).sum(axis=1)
        return cls(target[taken] / rounds.propensities, rounds.rewards, predicted, expected, rounds.subjects)

    @classmethod
    def logged(cls, rounds: LoggedRounds) -> Terms:
        """The terms of the policy that logged the rounds: every weight is 1, so `ips` is the plain mean reward."""
        n = len(rounds)
        return cls(np.ones(n), rounds.rewards, np.full(n, np.nan), np.full(n, np.nan), rounds.subjects)

    @staticmethod
    def concatenate(parts: list[Terms]) -> Terms:
        """All rounds of the parts, in order. Raises EmptyLogError where there is no part."""
        if not parts:
            raise EmptyLogError("no rounds to judge by", help="wait until a reward window has closed")
        return Terms(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Terms)))


def _checked(name: str, array: NDArray[np.float64], rounds: LoggedRounds) -> NDArray[np.float64]:
    if array.shape != rounds.mask.shape:
        raise ShapeError(
            f"{name} has shape {array.shape}, the rounds' mask {rounds.mask.shape}",
            help="one row a round, one column an action of the moment",
        )
    return np.asarray(array, dtype=np.float64)
