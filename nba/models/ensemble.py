"""Many linear models, each of its own resample of the rounds: where they differ, little is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nba.models.linear import LinearModel, solve
from nba.models.model import Draws, kept, score
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts, Weights

# P(Poisson(1) <= j) for j = 0, 1, ...; beyond the last there is nothing in 2^53 draws.
_POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 18)]))


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Linear models of K bootstrap resamples; their mean is the value, their spread what the rounds leave open.

    A customer counts Poisson(1) times in each resample, by a hash of who it is: the same rounds give the same models,
    in parts as at once, and all rounds of one customer, which hang together, come and go together. Each member starts
    from weights of its own, drawn from the prior, or all would agree on what nobody has tried.
    Source: Oza and Russell (2001), Online Bagging and Boosting; Osband, Aslanides and Cassirer (2018), Randomized
    Prior Functions, https://arxiv.org/abs/1806.03335
    """

    whole: LinearModel  # of every round once; its ridge is that of all
    gram: NDArray[np.float64]  # (K, k, d, d) sums as in `whole`, by resample
    target: NDArray[np.float64]  # (K, k, d)
    members: NDArray[np.float64]  # (K, k, d) weights
    weights: NDArray[np.float64]  # (k, d) mean of the members
    seed: int

    @classmethod
    def fit(
        cls,
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        half_life: float | None = None,
        members: int = 10,
        seed: int = 0,
    ) -> Self:
        """The models after these rounds and, where given, all that `previous` has seen.

        `members` (K) and `seed` count at the start; later ones are those of `previous`. Raises as LinearModel does.
        """
        before = previous.whole if previous else None
        whole = LinearModel.fit(rounds, action_features, before, weights=weights, half_life=half_life)
        seed = previous.seed if previous else int(seed)
        size = len(previous.members) if previous else int(members)
        part = kept(len(rounds), half_life)
        gram = part * previous.gram if previous else np.zeros((size, *whole.gram.shape))
        target = part * previous.target if previous else np.zeros((size, *whole.target.shape))
        for i in range(size):
            counted = resampled(rounds.subjects, i, seed) * (1.0 if weights is None else weights)
            here = LinearModel.fit(rounds, action_features, weights=counted, ridge=whole.ridge)
            gram[i] += here.gram
            target[i] += here.target
        return cls._solved(whole, gram, target, action_features, seed)

    @classmethod
    def _solved(
        cls,
        whole: LinearModel,
        gram: NDArray[np.float64],
        target: NDArray[np.float64],
        action_features: NDArray[np.float64],
        seed: int,
    ) -> Self:
        """The members of these sums."""
        shared = action_features[:, : -len(action_features)]
        priors = (whole.noise / whole.ridge) ** 0.5 * _priors(len(gram), shared, whole.target.shape[1], seed)
        rest = target - np.einsum("mkij,mkj->mki", gram, priors)
        solved = priors + [solve(g, t, shared, whole.ridge) for g, t in zip(gram, rest, strict=True)]
        return cls(whole, gram, target, solved, solved.mean(axis=0), seed)

    @property
    def rounds(self) -> int:
        """Rounds learned from."""
        return self.whole.rounds

    def weighed(self, rounds: float, action_features: NDArray[np.float64]) -> Self:
        """The models as if what they have seen had been so many rounds."""
        part, whole = rounds / self.rounds if self.rounds else 1.0, self.whole.weighed(rounds, action_features)
        return self._solved(whole, part * self.gram, part * self.target, action_features, self.seed)

    def features(self, contexts: Contexts) -> NDArray[np.float64]:
        """The context itself, (n, d)."""
        return self.whole.features(contexts)

    def values(self, contexts: Contexts) -> ActionValues:
        """Mean expected reward of each action over the members, (n, k)."""
        return score(self.features(contexts), self.weights)

    def draws(self, action_features: NDArray[np.float64], size: int, rng: Generator) -> Draws:
        """Weights (k, K, d) of the members themselves, whatever the size asked for."""
        return np.ascontiguousarray(self.members.transpose(1, 0, 2))


def _priors(size: int, shared: NDArray[np.float64], d: int, seed: int) -> NDArray[np.float64]:
    """Weights (K, k, d) that each member holds before it learns, of the prior with variance 1; their mean is 0."""
    rng, (k, s) = np.random.default_rng(seed), shared.shape
    drawn = np.einsum("ks,msd->mkd", shared, rng.standard_normal((size, s, d))) + rng.standard_normal((size, k, d))
    centred: NDArray[np.float64] = drawn - drawn.mean(axis=0)
    return centred


def resampled(subjects: NDArray[np.uint64], member: int, seed: int) -> NDArray[np.float64]:
    """How often each customer (n,) counts in a member's resample: Poisson(1), by a hash."""
    salt = (seed * 1_000_003 + member + 1) * 0x9E3779B97F4A7C15 % 2**64
    mixed = subjects ^ np.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finalizer of splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    uniform = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return np.searchsorted(_POISSON, uniform, side="right").astype(np.float64)
