"""A model of action values on features that a small network learned; the last layer is the Bayesian linear model."""

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

Layers = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

LEAST = 200  # rounds to learn features from; fewer leave them as they were drawn
STEPS, BATCH, RATE, DECAY = 400, 256, 3e-3, 1e-3  # of AdamW


@dataclass(frozen=True, slots=True)
class NeuralLinear:
    """Ridge regression on x and on what two layers make of it; only the last layer knows what it does not know.

        features(x) = (x, tanh(W2 tanh(W1 x + b1) + b2))

    The layers are learned from rounds, by squared error of the action taken, whenever more rounds come at once than
    they were last learned from. What the last layer knew is then carried over to the new features by replaying it on
    the new contexts: as many rounds of each action as it had seen, each with the value it had been given. No old
    context is kept. Torch learns; what is kept and served are arrays.
    Source: Riquelme, Tucker and Snoek (2018), Deep Bayesian Bandits Showdown, https://arxiv.org/abs/1802.09127
    """

    first: NDArray[np.float64]  # (h, d) W1
    first_bias: NDArray[np.float64]  # (h,)
    second: NDArray[np.float64]  # (g, h) W2
    second_bias: NDArray[np.float64]  # (g,)
    linear: LinearModel  # on the features
    learned_from: int  # rounds that the layers were learned from; 0: they are as drawn

    @classmethod
    def fit(
        cls,
        rounds: LoggedRounds,
        action_features: NDArray[np.float64],
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        half_life: float | None = None,
        hidden: int = 32,
        seed: int = 0,
    ) -> Self:
        """The model after these rounds and, where given, what `previous` has seen.

        `hidden` (h and g) and `seed` count at the start. Raises as LinearModel does.
        """
        check_learnable(rounds, weights, half_life)
        layers = _drawn(rounds.contexts.shape[1], int(hidden), int(seed)) if previous is None else previous.layers
        learned_from, before = (previous.learned_from, previous.linear) if previous else (0, None)
        if len(rounds) >= max(LEAST, learned_from + 1):
            _check_width(rounds.contexts, layers)
            layers, learned_from = _learned(layers, rounds, len(action_features), weights, int(seed)), len(rounds)
            before = _carried_over(previous, rounds.contexts, layers) if previous else None
        features = _features(rounds.contexts, layers)
        linear = LinearModel.learn(features, rounds, action_features, before, weights=weights, half_life=half_life)
        return cls(*layers, linear, learned_from)

    @property
    def layers(self) -> Layers:
        """The layers that make the features."""
        return self.first, self.first_bias, self.second, self.second_bias

    @property
    def rounds(self) -> int:
        """Rounds learned from."""
        return self.linear.rounds

    def weighed(self, rounds: float, action_features: NDArray[np.float64]) -> Self:
        """The model as if what the last layer has seen had been so many rounds."""
        return replace(self, linear=self.linear.weighed(rounds, action_features))

    def features(self, contexts: Contexts) -> NDArray[np.float64]:
        """The context and what the layers make of it, (n, d + g)."""
        return _features(contexts, self.layers)

    def values(self, contexts: Contexts) -> ActionValues:
        """Expected reward of each action, (n, k)."""
        return score(self.features(contexts), self.linear.weights)

    def draws(self, action_features: NDArray[np.float64], size: int, rng: Generator) -> Draws:
        """Weights (k, m, d + g) from the posterior of the last layer."""
        return self.linear.draws(action_features, size, rng)


def _features(contexts: Contexts, layers: Layers) -> NDArray[np.float64]:
    _check_width(contexts, layers)
    first, first_bias, second, second_bias = layers
    x = np.ascontiguousarray(contexts, dtype=np.float64)
    return np.hstack([x, np.tanh(score(np.tanh(score(x, first) + first_bias), second) + second_bias)])


def _check_width(contexts: Contexts, layers: Layers) -> None:
    if contexts.shape[1] != layers[0].shape[1]:
        raise ShapeError(
            f"contexts of {contexts.shape[1]} columns for layers of {layers[0].shape[1]}",
            help="the pack has changed: learn anew, without `previous`",
        )


def _drawn(d: int, hidden: int, seed: int) -> Layers:
    """Layers before anything was learned, of variance 1 / inputs (Glorot and Bengio, 2010, for tanh)."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((hidden, d)) / d**0.5, rng.standard_normal((hidden, hidden)) / hidden**0.5
    return first, np.zeros(hidden), second, np.zeros(hidden)


def _carried_over(previous: NeuralLinear, contexts: Contexts, layers: Layers) -> LinearModel:
    """The last layer of `previous` on the features of new layers, replayed on these contexts."""
    features, values = _features(contexts, layers), previous.values(contexts)
    share = previous.linear.gram[:, 0, 0] / len(contexts)  # the first column is 1, so that its square counts rounds
    gram = share[:, None, None] * (features.T @ features)
    target = share[:, None] * (values.T @ features)
    old = previous.linear
    return LinearModel(gram, target, np.zeros_like(target), old.rounds, old.squares, old.ridge)


def _learned(layers: Layers, rounds: LoggedRounds, k: int, weights: Weights | None, seed: int) -> Layers:
    """Layers that go on learning from these rounds: squared error of the reward of the action taken.

    One thread and one seed, so that the same rounds give the same bits on the same machine.
    """
    import torch  # here and nowhere else, as it takes seconds to import and the server does without it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    parameters = [torch.tensor(layer, dtype=torch.float32, requires_grad=True) for layer in layers]
    width = rounds.contexts.shape[1] + len(layers[3])
    last = torch.zeros((k, width), requires_grad=True)
    x = torch.tensor(rounds.contexts)
    actions, scale = torch.tensor(rounds.actions), float(rounds.rewards.std()) or 1.0
    rewards = torch.tensor(rounds.rewards / scale, dtype=torch.float32)
    importance = torch.tensor(np.ones(len(rounds)) if weights is None else weights, dtype=torch.float32)
    optimiser = torch.optim.AdamW([*parameters, last], lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        some = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        first, first_bias, second, second_bias = parameters
        hidden = torch.tanh(torch.tanh(x[some] @ first.T + first_bias) @ second.T + second_bias)
        predicted = (torch.hstack([x[some], hidden]) * last[actions[some]]).sum(dim=1)
        error = (importance[some] * (predicted - rewards[some]) ** 2).mean()
        optimiser.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    torch.set_num_threads(threads)
    one, one_bias, two, two_bias = (p.detach().numpy().astype(np.float64) for p in parameters)
    return one, one_bias, two, two_bias
