"""Logged sessions as tensors, and what the learners read off them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nba.policies.network import Network
from nba.rounds import in_first_part
from training.offline.episodes import LoggedEpisodes
from training.offline.fitting import Fitting
from training.offline.stack import Learning, Loss, Scaling, Stack

FORBIDDEN = -1e9  # the value or logit of an action that is not eligible


@dataclass(slots=True)
class Table:
    """Logged sessions as tensors, in units of what sessions earn; `unit` makes reward units of them again."""

    x: Tensor  # (n, d) scaled contexts
    mask: Tensor  # (n, k)
    actions: Tensor  # (n, 1)
    rewards: Tensor  # (n,)
    to_go: Tensor  # (n,) NaN in sessions that were cut
    goes_on: Tensor  # (n,) the next row is where the step led; 0: the session ended
    transitions: Tensor  # (n,)
    choices: Tensor  # (n,)
    held_out: Tensor  # (n,) steps of the customers that say when to stop
    scaling: Scaling
    unit: float  # reward units

    @classmethod
    def of(cls, episodes: LoggedEpisodes, fitting: Fitting) -> Self:
        """The columns of these sessions. Raises EmptyLogError, RewardError."""
        episodes.check()
        rounds, to_go = episodes.rounds, episodes.to_go()
        known = to_go[np.isfinite(to_go)]
        unit = float(known.std()) if known.size else float(rounds.rewards.std())
        unit = unit if unit > 1e-9 else 1.0
        scaling = Scaling.of(rounds.contexts)
        return cls(
            x=scaling(rounds.contexts),
            mask=torch.tensor(rounds.mask),
            actions=torch.tensor(rounds.actions)[:, None],
            rewards=_column(rounds.rewards / unit),
            to_go=_column(to_go / unit),
            goes_on=_column(~episodes.last),
            transitions=torch.tensor(episodes.transitions),
            choices=torch.tensor(episodes.choices),
            held_out=_held_out(episodes, fitting),
            scaling=scaling,
            unit=unit,
        )

    @property
    def known_to_go(self) -> Tensor:
        """Steps (n,) of sessions that have ended: it is known what these earned."""
        return torch.isfinite(self.to_go)

    def learning(self, fitting: Fitting, generator: torch.Generator, *, outputs: int | None = None) -> Learning:
        """Networks for these contexts, ready to learn; of so many `outputs`, else one an action."""
        k = self.mask.shape[1] if outputs is None else outputs
        stack = Stack(self.x.shape[1], k, members=fitting.members, hidden=fitting.hidden, generator=generator)
        return Learning(stack, rate=fitting.rate, decay=fitting.decay, batch=fitting.batch)

    def next(self, values: Tensor) -> Tensor:
        """What the state that each step led to is worth (n,), by the values of all rows; 0 after a session's end."""
        return torch.roll(values, -1) * self.goes_on

    def best(self, values: Tensor) -> Tensor:
        """The highest value among eligible actions (n,)."""
        return values.masked_fill(~self.mask, FORBIDDEN).max(dim=1).values

    def taken(self, values: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """Of values (..., k), those of the actions that were taken in these rows."""
        return values.gather(-1, self.actions[rows]).squeeze(-1)

    def squared_error(self, target: Tensor) -> Loss:
        """Mean squared distance of the taken actions' values from a target (n,)."""
        return lambda values, rows: ((self.taken(values, rows) - target[rows]) ** 2).mean()

    def surprise(self, weights: Tensor | None = None) -> Loss:
        """Mean of - log pi(a | x) at the actions taken, each of its weight (n,); logits of eligible actions count."""

        def loss(logits: Tensor, rows: Tensor) -> Tensor:
            odds = torch.log_softmax(logits.masked_fill(~self.mask[rows], FORBIDDEN), dim=-1)
            told = -self.taken(odds, rows)
            return told.mean() if weights is None else (weights[rows] * told).mean()

        return loss

    def parts(self, usable: Tensor) -> tuple[Tensor, Tensor]:
        """Rows to learn from and rows to watch, of those usable; the same where nobody is held out."""
        learned = torch.nonzero(usable & ~self.held_out)[:, 0]
        watched = torch.nonzero(usable & self.held_out)[:, 0]
        return learned, watched if len(watched) else learned

    def policy(self, stack: Stack, fitting: Fitting) -> Network:
        """The policy that prefers actions by the values of a stack."""
        return stack.network(
            self.scaling, unit=self.unit, temperature=fitting.temperature * self.unit, floor=fitting.floor
        )


def _column(values: NDArray[np.generic]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _held_out(episodes: LoggedEpisodes, fitting: Fitting) -> Tensor:
    """Steps of about that share of the customers; none where that would leave nothing to learn from."""
    first = episodes.offsets[:-1]
    out = in_first_part(episodes.rounds.subjects[first], fitting.held_out, salt=fitting.seed + 1)
    if out.all():
        out[:] = False
    return torch.tensor(np.repeat(out, np.diff(episodes.offsets)))
