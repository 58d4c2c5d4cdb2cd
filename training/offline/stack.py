"""Small networks that learn side by side, in torch; what they say together becomes one network that NumPy serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nba.policies.network import Layer, Network
from nba.types import Contexts

ROWS = 16_384  # contexts at a time, where nothing is learned
LEAST_RATE = 0.03  # of the first rate, towards the end

Loss = Callable[[Tensor, Tensor], Tensor]  # outputs (m, b, k) and the rows (m, b) they are for -> a number


@dataclass(frozen=True, slots=True)
class Scaling:
    """Contexts made comparable: a column that moves gets mean 0 and deviation 1, one that does not counts nothing."""

    mean: NDArray[np.float64]  # (d,)
    scale: NDArray[np.float64]  # (d,)
    moves: NDArray[np.bool_]  # (d,)

    @classmethod
    def of(cls, contexts: Contexts) -> Scaling:
        """The scaling of these contexts."""
        deviation = contexts.std(axis=0, dtype=np.float64)
        moves = deviation > 1e-6
        return cls(contexts.mean(axis=0, dtype=np.float64), np.where(moves, deviation, 1.0), moves)

    def __call__(self, contexts: Contexts) -> Tensor:
        """The contexts, scaled (n, d)."""
        return torch.tensor(((contexts - self.mean) / self.scale * self.moves).astype(np.float32))


class Stack:
    """m networks of two hidden layers; each starts elsewhere and sees its own batches, and their mean is what counts.

    Source of the mean: Lakshminarayanan, Pritzel and Blundell (2017), https://arxiv.org/abs/1612.01474
    """

    def __init__(self, inputs: int, outputs: int, *, members: int, hidden: int, generator: torch.Generator) -> None:
        self.members, self.generator = members, generator
        self.layers: list[tuple[Tensor, Tensor]] = []
        for into, out in pairwise([inputs, hidden, hidden, outputs]):
            drawn = torch.rand((members, into + 1, out), generator=generator) * 2.0 - 1.0
            weights, bias = drawn[:, :into] * into**-0.5, drawn[:, into:] * into**-0.5
            self.layers.append((weights.contiguous().requires_grad_(), bias.contiguous().requires_grad_()))

    @property
    def parameters(self) -> list[Tensor]:
        """All that is learned."""
        return [array for layer in self.layers for array in layer]

    def __call__(self, x: Tensor) -> Tensor:
        """What each member says of its own inputs (m, b, d): (m, b, k)."""
        *hidden, last = self.layers
        for weights, bias in hidden:
            x = torch.relu(torch.baddbmm(bias, x, weights))
        return torch.baddbmm(last[1], x, last[0])

    @torch.no_grad()
    def mean(self, x: Tensor) -> Tensor:
        """What the members say together of the same inputs (n, d): (n, k)."""
        parts = [self(part.expand(self.members, *part.shape)).mean(dim=0) for part in x.split(ROWS)]  # type: ignore[no-untyped-call]
        return torch.cat(parts)

    def network(self, scaling: Scaling, *, unit: float = 1.0, temperature: float, floor: float) -> Network:
        """The members' mean, times `unit`, as one wide network that gives the same numbers."""
        (first, *_), *_ = self.layers
        arrays = [(w.detach().double().numpy(), b.detach().double().numpy()) for w, b in self.layers]
        (w1, b1), (w2, b2), (w3, b3) = arrays
        m, h = self.members, first.shape[2]
        between = np.zeros((m * h, m * h))
        for i in range(m):
            between[i * h : (i + 1) * h, i * h : (i + 1) * h] = w2[i].T
        layers = (
            Layer(w1.transpose(0, 2, 1).reshape(m * h, -1) * scaling.moves, b1.reshape(-1)),
            Layer(between, b2.reshape(-1)),
            Layer(w3.transpose(2, 0, 1).reshape(-1, m * h) * (unit / m), b3.mean(axis=0)[0] * unit),
        )
        return Network(scaling.mean, scaling.scale, layers, "relu", temperature, floor)


class Learning:
    """A stack under AdamW (Loshchilov and Hutter 2019), the rate falling to nearly nothing towards the end."""

    def __init__(self, stack: Stack, *, rate: float, decay: float, batch: int) -> None:
        self.stack, self._rate, self._batch = stack, rate, batch
        self._optimiser = torch.optim.AdamW(stack.parameters, lr=rate, weight_decay=decay)

    def epoch(self, x: Tensor, rows: Tensor, loss: Loss, *, left: float = 1.0) -> float:
        """Once through these rows of the inputs (n, d), each member in an order of its own; the mean loss.

        `left`: the share of all epochs that is still to come, 1 to 0, by which the rate falls from 0.6 on.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * max(LEAST_RATE, min(1.0, left / 0.6))
        generator, members = self.stack.generator, self.stack.members
        orders = torch.stack([rows[torch.randperm(len(rows), generator=generator)] for _ in range(members)])
        total = 0.0
        for some in orders.split(self._batch, dim=1):  # type: ignore[no-untyped-call]
            value = loss(self.stack(x[some]), some)
            self._optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            total += value.item() * some.shape[1]
        return total / len(rows)
