"""A small network that gives the odds of each action: what learners of whole sessions leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from nba.errors import ShapeError
from nba.explore.explorer import floored
from nba.explore.softmax import softmax
from nba.models.model import score
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds
from nba.types import ActionMask, ActionValues, Contexts, Distribution

Activation = Literal["tanh", "relu"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer: W x + b."""

    weights: NDArray[np.float64]  # (out, in) W
    bias: NDArray[np.float64]  # (out,) b


@dataclass(frozen=True, slots=True)
class Network:
    """pi(a | x) in proportion to exp(logit(x, a) / temperature) over eligible actions, mixed with a uniform floor.

        logits(x) = W_m f(... f(W_1 (x - mean) / scale + b_1) ...) + b_m,     f = tanh or max(0, .)

    The logits may be log odds (policy gradients) or action values in reward units (Q-learning), by which the
    temperature is to be chosen. Served in NumPy, whatever learned it.
    Raises ShapeError where the layers do not fit each other or a setting makes no sense.
    """

    mean: NDArray[np.float64]  # (d,) taken off the context
    scale: NDArray[np.float64]  # (d,) divides what is left
    layers: tuple[Layer, ...]
    activation: Activation = "tanh"
    temperature: float = 1.0  # in the unit of the logits: an action worse by this has 1 / e of the odds
    floor: float = 0.02  # probability shared evenly by the eligible actions

    def __post_init__(self) -> None:
        widths = [len(self.mean), *(len(layer.bias) for layer in self.layers)]
        shapes = [(out, into) for into, out in pairwise(widths)]
        if (
            [layer.weights.shape for layer in self.layers] != shapes
            or not shapes
            or self.scale.shape != self.mean.shape
        ):
            raise ShapeError(
                f"layers of {[layer.weights.shape for layer in self.layers]} for {len(self.mean)} columns",
                help="each layer is (out, in) with a bias (out,), and takes what the one before gives",
            )
        if not ((self.scale > 0.0).all() and self.temperature > 0.0 and 0.0 <= self.floor <= 1.0):
            raise ShapeError(
                f"a scale of {self.scale.min()}, a temperature of {self.temperature} or a floor of {self.floor}",
                help="scales and temperature are more than 0, the floor is from 0 to 1",
            )

    def logits(self, contexts: Contexts) -> ActionValues:
        """What the last layer says of each action (n, k). Raises ShapeError for contexts of another width."""
        if contexts.shape[1] != len(self.mean):
            raise ShapeError(
                f"contexts of {contexts.shape[1]} columns for a network of {len(self.mean)}",
                help="the pack has changed: learn anew",
            )
        x = (contexts - self.mean) / self.scale
        for layer in self.layers[:-1]:
            x = score(x, layer.weights)
            x += layer.bias
            np.tanh(x, out=x) if self.activation == "tanh" else np.maximum(x, 0.0, out=x)
        return score(x, self.layers[-1].weights) + self.layers[-1].bias

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        return floored(softmax(self.logits(contexts), mask, self.temperature), mask, self.floor)

    @classmethod
    def fit(
        cls,
        plan: MomentPlan,
        rounds: LoggedRounds,
        previous: Self | None = None,
        *,
        temperature: float = 1.0,
        floor: float = 0.02,
    ) -> Self:
        """What `previous` knows, else a start that prefers nothing; single rounds teach it nothing, sessions do.

        See `training.rl`.
        """
        if previous is not None:
            known = previous.mean, previous.scale, previous.layers, previous.activation
            return cls(*known, temperature=temperature, floor=floor)
        d, k = plan.width, len(plan.action_ids)
        nothing = Layer(np.zeros((k, d)), np.zeros(k))
        return cls(np.zeros(d), np.ones(d), (nothing,), temperature=temperature, floor=floor)
