"""A model of action values that bends and learns round by round: no system is ever solved anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.models.model import Draws, check_learnable, counted, kept, score
from nba.models.rff import MAX_ANGLE, waves
from nba.rounds import LoggedRounds
from nba.types import ActionValues, Contexts, Weights

MAX_NUMBERS = 48_000_000  # in the covariances of a model: 384 MB of an artefact
BLOCK = 128  # rounds of one action that are learned from at once


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one action, over c features, as if a reward's noise had variance 1."""

    covariance: NDArray[np.float64]  # (c, c) of the weights
    weights: NDArray[np.float64]  # (c,) their mean
    deviations: NDArray[np.float64]  # (m, c) of m members from it, drawn from that covariance

    def after(
        self, x: NDArray[np.float64], rewards: NDArray[np.float64], noise: NDArray[np.float64]
    ) -> tuple[Known, float]:
        """The same after b rounds of features (b, c), and how much they surprised, in squared reward units.

            K = P x' (I + x P x')^-1,   P -= K x P,   theta += K (r - x theta),   deviation += K (noise - x deviation)

        with noise (m, b) standard normal: the members stay draws of the posterior.
        """
        reached = self.covariance @ x.T  # (c, b)
        innovation = np.eye(len(x)) + x @ reached
        gain = np.linalg.solve(innovation, reached.T).T  # (c, b)
        error = rewards - x @ self.weights
        known = Known(
            self.covariance - gain @ reached.T,
            self.weights + gain @ error,
            self.deviations + (noise - self.deviations @ x.T) @ gain.T,
        )
        return known, float(error @ np.linalg.solve(innovation, error))


@dataclass(frozen=True, slots=True)
class RecursiveModel:
    """Bayesian regression on x and on D random cosines of it, each action for itself, by recursive least squares.

        features(x) = (x, amplitude sqrt(2 / D) cos(W x + b)),     W ~ N(0, 1 / bandwidth^2),  b ~ U(0, 2 pi)

    With every round come not only new weights but new draws from their posterior: members that each learn from the
    same rewards with noise of their own, which is exact for a linear model. A round costs c^2 where solving anew and
    drawing costs c^3, so that a policy may learn from every one of them. Actions share nothing, and the ridge is given.
    Source: Rahimi and Recht (2007) for the features; Papandreou and Yuille (2010), Gaussian Sampling by Local
    Perturbations, and Lu and Van Roy (2017), Ensemble Sampling, https://arxiv.org/abs/1705.07347, for the members.
    """

    frequencies: NDArray[np.float64]  # (D, d) W
    phases: NDArray[np.float64]  # (D,) b
    actions: tuple[Known, ...]
    rounds: int
    squares: float  # sum of squared surprises, each over its own variance at noise 1
    amplitude: float
    ridge: float  # noise of a reward over the variance of a weight before any round

    @classmethod
    def fit(
        cls,
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        half_life: float | None = None,
        features: int = 200,
        amplitude: float = 10.0,
        width: float = 0.7,
        ridge: float = 10.0,
        members: int = 32,
        seed: int = 0,
    ) -> Self:
        """The model after these rounds and, where given, all that `previous` has seen.

        `width` times the median distance of the first rounds' contexts is the bandwidth. The settings count at the
        start; later ones are those of `previous`, except `seed`. Of `action_features` (k, q) only k is asked.
        Raises as LinearModel does, and ShapeError where the covariances would not fit into an artefact.
        """
        check_learnable(rounds, weights, half_life)
        k, rng = len(action_features), np.random.default_rng([int(seed), previous.rounds if previous else 0])
        if previous is None or not previous.rounds:
            frequencies, phases = waves(rounds.contexts, int(features), int(seed))
            columns = rounds.contexts.shape[1] + int(features)
            if k * columns**2 > MAX_NUMBERS:
                raise ShapeError(
                    f"{k} actions by {columns} features squared are more than {MAX_NUMBERS:,} numbers",
                    help="ask for fewer features, or use the linear model",
                )
            known = unknown(columns, ridge, int(members), rng, k)
            model = cls(frequencies / width, phases, known, 0, 0.0, float(amplitude), float(ridge))
        else:
            model = previous
            if len(model.actions) != k:
                raise ShapeError(
                    f"previous model is for {len(model.actions)} actions, not {k}",
                    help="the pack has changed: learn anew, without `previous`",
                )
        return model._faded(kept(len(rounds), half_life), rng)._after(rounds, weights, rng)

    def weighed(self, rounds: float, action_features: NDArray[np.float64]) -> Self:
        """The model as if what it has seen had been so many rounds, under the same ridge; the members drawn anew."""
        part = rounds / self.rounds if self.rounds else 1.0
        return self._faded(part, np.random.default_rng(self.rounds))

    @property
    def noise(self) -> float:
        """Variance of a reward that the model leaves unexplained; 0 before any reward was seen."""
        return self.squares / max(self.rounds, 1)

    def features(self, contexts: Contexts) -> NDArray[np.float64]:
        """The context and its cosines, (n, c)."""
        if contexts.shape[1] != self.frequencies.shape[1]:
            raise ShapeError(
                f"contexts of {contexts.shape[1]} columns for frequencies of {self.frequencies.shape[1]}",
                help="the pack has changed: learn anew, without `previous`",
            )
        n, d = contexts.shape
        features = np.empty((n, d + len(self.phases)))
        features[:, :d] = contexts
        angles = score(features[:, :d], self.frequencies)
        angles += self.phases
        np.minimum(np.maximum(angles, -MAX_ANGLE, out=angles), MAX_ANGLE, out=angles)
        np.multiply(np.cos(angles, out=angles), self.amplitude * (2.0 / len(self.phases)) ** 0.5, out=features[:, d:])
        return features

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward of each action, (n, k)."""
        return score(self.features(contexts), np.stack([known.weights for known in self.actions]))

    def draws(self, action_features: NDArray[np.float64], size: int, rng: Generator) -> Draws:
        """Weights (k, m, c) of the members themselves, whatever the size asked for."""
        deviation = self.noise**0.5
        return np.stack([known.weights + deviation * known.deviations for known in self.actions])

    def _after(self, rounds: LoggedRounds, weights: Weights | None, rng: Generator) -> Self:
        x, rewards = self.features(rounds.contexts), rounds.rewards
        if weights is not None:
            x, rewards = x * weights[:, None] ** 0.5, rewards * weights**0.5
        actions, squares = list(self.actions), self.squares
        for action in np.unique(rounds.actions).tolist():
            for part in _blocks(np.flatnonzero(rounds.actions == action)):
                noise = _centred(rng.standard_normal((len(actions[action].deviations), len(part))))
                actions[action], surprise = actions[action].after(x[part], rewards[part], noise)
                squares += surprise
        return replace(self, actions=tuple(actions), rounds=self.rounds + counted(rounds, weights), squares=squares)

    def _faded(self, part: float, rng: Generator) -> Self:
        """With this part (or multiple) of all that the rounds said, the prior as it was; the members drawn anew."""
        if part == 1.0:
            return self
        prior = self.ridge * np.eye(len(self.actions[0].weights))
        actions = []
        for known in self.actions:
            said = np.linalg.inv(known.covariance) - prior
            covariance = np.asarray(np.linalg.inv(part * said + prior), dtype=np.float64)
            weights: NDArray[np.float64] = part * covariance @ ((said + prior) @ known.weights)
            normal = _centred(rng.standard_normal(known.deviations.shape))
            drawn: NDArray[np.float64] = normal @ np.linalg.cholesky(covariance).T
            actions.append(Known(covariance, weights, drawn))
        return replace(self, actions=tuple(actions), rounds=round(part * self.rounds), squares=part * self.squares)


def unknown(columns: int, ridge: float, members: int, rng: Generator, k: int) -> tuple[Known, ...]:
    """Each of k actions before any round: weights of mean 0 and variance 1 / ridge."""
    covariance, weights = np.eye(columns) / ridge, np.zeros(columns)
    drawn = (_centred(rng.standard_normal((members, columns))) / ridge**0.5 for _ in range(k))
    return tuple(Known(covariance, weights, deviations) for deviations in drawn)


def _centred(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal numbers (m, n) whose mean over the m members is 0 and whose expected variance stays 1."""
    members = len(normal)
    centred: NDArray[np.float64] = (normal - normal.mean(axis=0)) * (members / max(members - 1, 1)) ** 0.5
    return centred


def _blocks(places: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    yield from (places[start : start + BLOCK] for start in range(0, len(places), BLOCK))
