"""What a model is fitted on where another policy logged the rounds: the rewards seen, weighted, or made good for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.models.model import Model
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Weights

MAX_NUMBERS = 64_000_000  # in the contexts of dr's rows: 256 MB, twice that in a model's own precision


@dataclass(frozen=True, slots=True)
class Target:
    """How rounds are turned into what a model is fitted on.

        direct   r of the action taken, each round once: the direct method
        iw       the same, each round min(1 / p, clip) times: contexts and actions as under even logging
        dr       q(x,a) + 1{A = a} min(1 / p, clip) (r - q(x,a)) of every eligible action a: doubly robust regression

    Below `clip` the last two are unbiased, whatever p was; what it cuts off is bias in exchange for variance.
    Raises ShapeError for a clip below 1. Source: Dudik, Langford and Li (2011), https://arxiv.org/abs/1103.4601
    """

    method: Literal["direct", "iw", "dr"] = "direct"
    clip: float = 20.0  # the largest importance weight

    def __post_init__(self) -> None:
        if not self.clip >= 1.0:
            raise ShapeError(f"importance weights clipped at {self.clip}", help="at 1 or more; inf clips nothing")

    def __str__(self) -> str:
        return self.method if self.method == "direct" else f"{self.method} clip={self.clip:g}"


DIRECT = Target()


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a model is fitted on."""

    rounds: LoggedRounds
    weights: Weights | None  # (n,) of each round; None: once


def fitted_on(target: Target, rounds: LoggedRounds, learn: Callable[[LoggedRounds], Model]) -> Fitted:
    """Rounds and weights to fit a model on; `learn` makes the model q of dr from half of the rounds.

    Weights sum to the number of rounds, so that ridge and noise keep their meaning. Raises ShapeError as `expanded`.
    """
    if target.method == "direct" or not len(rounds):
        return Fitted(rounds, None)
    weights = importance(rounds, target.clip)
    if target.method == "iw":
        return Fitted(rounds, weights / weights.mean())
    return expanded(rounds, pseudo_rewards(rounds, cross_fitted(rounds, learn), weights))


def importance(rounds: LoggedRounds, clip: float) -> Weights:
    """Importance weights (n,) of the actions taken: min(1 / p, clip)."""
    weights: Weights = np.minimum(1.0 / rounds.propensities, clip)
    return weights


def cross_fitted(rounds: LoggedRounds, learn: Callable[[LoggedRounds], Model]) -> ActionValues:
    """Expected rewards (n, k) of the model learned from the other half of the customers, which has not seen the round.

    A single customer leaves no other half: that model is learned from no rounds.
    """
    half = np.unique(rounds.subjects, return_inverse=True)[1] % 2 == 0
    values: ActionValues = np.zeros(rounds.mask.shape)
    for here in (half, ~half):
        if here.any():
            values[here] = learn(rounds.take(~here)).values(rounds.contexts[here])
    return values


def pseudo_rewards(rounds: LoggedRounds, q: ActionValues, weights: Weights) -> NDArray[np.float64]:
    """Doubly robust rewards (n, k) of every action: q(x,a), and w (r - q(x,a)) on top for the action taken."""
    at = np.arange(len(rounds)), rounds.actions
    rewards = q.copy()
    rewards[at] += weights * (rounds.rewards - q[at])
    return rewards


def expanded(rounds: LoggedRounds, rewards: NDArray[np.float64]) -> Fitted:
    """A row for each eligible action of each round, as if drawn evenly; the rows of a round weigh 1 together.

    Raises ShapeError where the rows would not fit into memory.
    """
    rows, actions = np.nonzero(rounds.mask)
    numbers = len(rows) * rounds.contexts.shape[1]
    if numbers > MAX_NUMBERS:
        raise ShapeError(
            f"{len(rounds):,} rounds by their eligible actions have contexts of {numbers:,} numbers, "
            f"more than {MAX_NUMBERS:,}",
            help="learn from a shorter window, or by the target iw or direct",
        )
    evenly = 1.0 / rounds.mask.sum(axis=1)[rows]
    told = LoggedRounds(
        contexts=rounds.contexts[rows],
        mask=rounds.mask[rows],
        actions=actions,
        propensities=evenly,
        rewards=rewards[rows, actions],
        subjects=rounds.subjects[rows],
    )
    return Fitted(told, evenly)
