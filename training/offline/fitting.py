"""How networks are fitted to logged sessions: settings, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from training.learn import SettingError
from training.offline.stack import Stack

OnEpoch = Callable[[int, Mapping[str, float]], None]  # epochs done, figures of the last one


@dataclass(frozen=True, slots=True)
class Fitting:
    """How networks are fitted to logged sessions."""

    members: int = 4  # networks whose mean counts
    hidden: int = 64  # units of each of two hidden layers
    epochs: int = 12  # times through the steps, at most
    batch: int = 512  # steps
    rate: float = 1e-3  # of AdamW, at first
    decay: float = 1e-2  # of AdamW
    held_out: float = 0.1  # share of the customers that say when to stop; 0: nobody does
    patience: int = 3  # epochs without a better fit of those held out, then it stops
    temperature: float = 0.01  # of the policy, in deviations of what sessions earn from a step on
    floor: float = 0.02  # probability that the policy shares evenly among eligible actions
    expectile: float = 0.9  # of implicit Q-learning: 0.5 values the logging policy, 1 the best action
    keenness: float = 60.0  # of implicit Q-learning: an advantage of one deviation has e^keenness of the weight
    seed: int = 0

    @classmethod
    def of(cls, settings: Mapping[str, float]) -> Self:
        """The usual ones but for these. Raises SettingError."""
        whole = {f.name: f.type == "int" for f in fields(cls)}
        for name in settings:
            if name not in whole:
                raise SettingError(
                    f"offline learning has no setting {name!r}", help=f"it has {', '.join(whole)}", field="set"
                )
        chosen: dict[str, Any] = {name: int(value) if whole[name] else value for name, value in settings.items()}
        return replace(cls(), **chosen)


USUAL = Fitting()


@dataclass(slots=True)
class Best:
    """The parameters with the least error of those held out, and how long ago that was."""

    stack: Stack
    patience: int
    error: float = float("inf")
    waited: int = 0
    kept: list[Tensor] = field(default_factory=list)

    def see(self, error: float) -> bool:
        """Notes an epoch's error; whether to stop."""
        if error < self.error:
            self.error, self.waited = error, 0
            self.kept = [p.detach().clone() for p in self.stack.parameters]
        else:
            self.waited += 1
        return self.waited >= self.patience

    @torch.no_grad()
    def restore(self) -> None:
        """Puts them back."""
        for parameter, kept in zip(self.stack.parameters, self.kept, strict=True):
            parameter.copy_(kept)


@dataclass(slots=True)
class Settling:
    """Whether a value that is learned from itself still moves: by a 200th of what it was, in an epoch."""

    patience: int
    before: float = float("inf")
    still: int = 0

    def see(self, value: float) -> bool:
        """Notes an epoch's value; whether to stop."""
        self.still = self.still + 1 if abs(value - self.before) <= 0.005 * abs(value) else 0
        self.before = value
        return self.still >= self.patience


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: the same sessions and seed give the same bits, and servers beside it keep their cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def nobody(done: int, figures: Mapping[str, float]) -> None:
    """Where nobody wants to know of each epoch."""
