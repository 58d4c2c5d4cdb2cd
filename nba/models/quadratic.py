"""A model of action values that sees how facts act together: linear in the context and in products of its columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.models.model import Draws, check_learnable, counted, kept, score
from nba.models.relevance import START, Relevance
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts, Weights

MAX_SUMS = 4_000_000  # numbers in the sums of a model: 32 MB of an artefact; many actions leave fewer products
WIDEST = 1e6  # of a column, so that no product overflows; contexts of the encoder reach a hundred at most


@dataclass(frozen=True, slots=True)
class QuadraticModel:
    """Regression on x and on products x_i x_j, each column with a prior variance of its own (`Relevance`).

    Sums are kept for the products of the columns that varied most in the first rounds. Of these, the products of
    the `top` columns that matter most by the linear part are in the model: many rounds admit others than few did.
    What layer and channel share is not used; what all actions share is.
    """

    gram: NDArray[np.float64]  # (k, c, c) sum of f f' by action, f = (x, every product that sums are kept for)
    target: NDArray[np.float64]  # (k, c)
    first: NDArray[np.int64]  # (p,) columns of the products, c = d + p
    second: NDArray[np.int64]  # (p,)
    active: NDArray[np.int64]  # (a,) which products are in the model
    precision: NDArray[np.float64]  # (c,)
    weights: NDArray[np.float64]  # (k, d + a)
    noise: float
    rounds: int
    squares: float
    top: int

    @classmethod
    def fit(
        cls,
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        half_life: float | None = None,
        columns: int = 24,
        top: int = 12,
    ) -> Self:
        """The model after these rounds and, where given, all that `previous` has seen.

        `columns` and `top` count at the start; later ones are those of `previous`. Sums do not depend on the parts
        they were learned in; which columns were found to matter may, in the last digits. Raises as LinearModel does.
        """
        check_learnable(rounds, weights, half_life)
        k, d = len(action_features), rounds.contexts.shape[1]
        known = previous is not None and previous.rounds
        before = (
            previous if previous is not None and known else cls._nothing(rounds.contexts, k, int(columns), int(top))
        )
        if before._shape != (k, d):
            raise ShapeError(
                f"previous model is for {before._shape} actions and columns, not {(k, d)}",
                help="the pack has changed: learn anew, without `previous`",
            )
        part, features = kept(len(rounds), half_life), _products(rounds.contexts, before.first, before.second)
        gram, target = part * before.gram, part * before.target
        weighted = rounds.rewards if weights is None else weights * rounds.rewards
        for action in np.unique(rounds.actions):
            taken = rounds.actions == action
            x = features[taken]
            gram[action] += x.T @ (x if weights is None else weights[taken, None] * x)
            target[action] += x.T @ weighted[taken]
        squares = part * before.squares + float(weighted @ rounds.rewards)
        return before._learned(gram, target, squares, round(part * before.rounds) + counted(rounds, weights))

    @classmethod
    def _nothing(cls, contexts: Contexts, k: int, columns: int, top: int) -> Self:
        """The model that has seen no rounds, to learn from contexts like these."""
        d, (first, second) = contexts.shape[1], pairs(contexts, k, columns)
        c, none = d + len(first), np.zeros(0, dtype=np.int64)
        gram, target = np.zeros((k, c, c)), np.zeros((k, c))
        return cls(gram, target, first, second, none, np.full(c, START), np.zeros((k, d)), 0.0, 0, 0.0, top)

    def _learned(self, gram: NDArray[np.float64], target: NDArray[np.float64], squares: float, rounds: int) -> Self:
        """The model of these sums: the linear part says which products to take, then both are learned together."""
        d, precision = self._shape[1], self.precision.copy()
        linear = Relevance.of(gram[:, :d, :d], target[:, :d], squares, rounds, precision[:d])
        multiplied = np.unique(np.concatenate([self.first, self.second]))
        best = multiplied[np.argsort(linear.precision[multiplied], kind="stable")[: self.top]]
        active = np.flatnonzero(np.isin(self.first, best) & np.isin(self.second, best))
        inside = np.concatenate([np.arange(d), d + active])
        whole = Relevance.of(_part(gram, inside), target[:, inside], squares, rounds, precision[inside])
        precision[inside] = whole.precision
        return replace(
            self,
            gram=gram,
            target=target,
            active=active,
            precision=precision,
            weights=whole.weights,
            noise=whole.noise,
            rounds=rounds,
            squares=squares,
        )

    @property
    def _shape(self) -> tuple[int, int]:
        """Numbers of actions and of context columns."""
        return self.target.shape[0], self.target.shape[1] - len(self.first)

    def weighed(self, rounds: float, action_features: NDArray[np.float64]) -> Self:
        """The model as if what it has seen had been so many rounds."""
        part = rounds / self.rounds if self.rounds else 1.0
        return self._learned(part * self.gram, part * self.target, part * self.squares, round(part * self.rounds))

    def features(self, contexts: Contexts) -> NDArray[np.float64]:
        """The context and the products in the model, (n, d + a)."""
        return _products(contexts, self.first[self.active], self.second[self.active])

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward of each action, (n, k)."""
        return score(self.features(contexts), self.weights)

    def draws(self, action_features: NDArray[np.float64], size: int, rng: Generator) -> Draws:
        """Weights (k, m, d + a) from the posterior."""
        inside = np.concatenate([np.arange(self._shape[1]), self._shape[1] + self.active])
        gram, target = _part(self.gram, inside), self.target[:, inside]
        return Relevance(gram, target, self.precision[inside], self.weights, self.noise).draws(size, rng)


def pairs(contexts: Contexts, k: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which columns to multiply (p,) and (p,): those that vary most in these contexts, as many as asked for and fit.

    A column of two values is not squared: that would say what the column says.
    """
    d, spread = contexts.shape[1], contexts.astype(np.float64).var(axis=0) if len(contexts) else np.zeros(0)
    room = int((MAX_SUMS / k) ** 0.5) - d
    fitting = int(((1 + 8 * max(room, 0)) ** 0.5 - 1) / 2)  # m (m + 1) / 2 products of m columns
    most = np.argsort(-spread, kind="stable")[: min(columns, fitting)]
    chosen = np.sort(most[spread[most] > 0.0])
    i, j = np.triu_indices(len(chosen))
    squared = np.array([len(np.unique(contexts[:, c])) > 2 for c in chosen], dtype=np.bool_)
    told = (i != j) | squared[i] if len(chosen) else np.zeros(0, dtype=np.bool_)
    return chosen[i[told]].astype(np.int64), chosen[j[told]].astype(np.int64)


def _products(contexts: Contexts, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    x = np.ascontiguousarray(contexts, dtype=np.float64)
    narrow = np.clip(x, -WIDEST, WIDEST)
    return np.hstack([x, narrow[:, first] * narrow[:, second]])


def _part(gram: NDArray[np.float64], inside: NDArray[np.int64]) -> NDArray[np.float64]:
    part: NDArray[np.float64] = gram[:, inside[:, None], inside]
    return part
