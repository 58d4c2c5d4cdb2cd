"""Model values for evaluation, of which none has seen its own round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.models.linear import LinearModel
from nba.rounds import LoggedRounds
from nba.types import ActionValues


def cross_fit(
    rounds: LoggedRounds, action_features: NDArray[np.float64], *, folds: int = 3, ridge: float = 1.0
) -> ActionValues:
    """Expected rewards (n, k) by linear models, each learned from the other folds' customers.

    No round is predicted by a model that saw it, or another round of the same customer, so `doubly_robust` stays
    unbiased. A single customer leaves nothing to learn from: all values are 0, and doubly robust is `ips`.
    Raises ShapeError for fewer than two folds.
    Source: Chernozhukov et al. (2018), https://arxiv.org/abs/1608.00060
    """
    if folds < 2:
        raise ShapeError(f"{folds} fold", help="two or more: a model may not predict what it learned from")
    fold = np.unique(rounds.subjects, return_inverse=True)[1] % folds
    values: ActionValues = np.zeros(rounds.mask.shape)
    for held_out in range(folds):
        here = fold == held_out
        model = LinearModel.fit(rounds.take(~here), action_features, ridge=ridge)
        values[here] = model.values(rounds.contexts[here])
    return values
