"""Drift: the response changes while nobody looks, and what was learned before it misleads.

    logit'(outcome | x, a) = logit(outcome | x, a) + size phase(step) pattern[outcome, a],    pattern ~ N(0, 1)

    gradual    phase = (step - at) / over, from 0 at `at` to 1 at `at + over`, where it stays
    sudden     phase = 1 from `at` on
    seasonal   phase = sin(2 pi (step - at) / over) from `at` on

Silence drifts too: what customers do by themselves changes as well. Contexts and masks never do. The pattern is a
function of seed, outcome and action by name, so that no order and no other action of a pack changes it. The default
size of half a logit moves a chance of a half by a tenth on average (0.8 of half a logit, a quarter each): as much as
sets two good actions apart in the built-in moments. Chosen, not fitted.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from envs.people import Array, normals
from nba.errors import ShapeError

Kind = Literal["gradual", "sudden", "seasonal"]
_STREAM = 901  # of envs.people.normals


@dataclass(frozen=True, slots=True)
class Drift:
    """How the truth of a moment moves with the steps of an environment. Raises ShapeError for values without sense."""

    kind: Kind
    at: int  # step at which it begins
    over: int = 10_000  # steps: a gradual drift takes so many, a season is so long; a sudden one ignores it
    size: float = 0.5  # logits: standard deviation of the shift where the phase is 1
    seed: int = 0  # another seed is another pattern

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ShapeError(f"drift of kind {self.kind!r}", help=f"kinds are {', '.join(get_args(Kind))}")
        if self.at < 0:
            raise ShapeError(f"a drift that begins at step {self.at}", help="steps are counted from 0")
        if self.over < 1:
            raise ShapeError(f"a drift over {self.over} steps", help="give at least 1; sudden drift ignores it")
        if not (math.isfinite(self.size) and self.size >= 0.0):
            raise ShapeError(f"a drift of size {self.size}", help="give a finite number of logits, 0 or more")

    def phase(self, step: int) -> float:
        """How far it has come at a step: 0 before `at`, then as the kind says, at most 1. Raises ShapeError below 0."""
        if step < 0:
            raise ShapeError(f"step {step}", help="steps are counted from 0")
        since = step - self.at
        if since < 0:
            return 0.0
        match self.kind:
            case "sudden":
                return 1.0
            case "gradual":
                return min(1.0, since / self.over)
            case "seasonal":
                return math.sin(2.0 * math.pi * (since % self.over) / self.over)

    def at_step(self, step: int) -> Drifted:
        """The change to the truth at a step."""
        return self.at_phase(self.phase(step))

    def at_phase(self, phase: float) -> Drifted:
        """The change to the truth at a phase."""
        return Drifted(self.size * phase, self.seed)


@dataclass(frozen=True, slots=True)
class Drifted:
    """A drift come so far: an `Adjustment` of `envs.response`."""

    shift: float  # logits: what a pattern of 1 is shifted by
    seed: int

    def logits(self, outcomes: tuple[str, ...], actions: tuple[str, ...], table: Array) -> Array:
        """The shifted logits (o, k, n), in place."""
        if self.shift:
            table += self.shift * pattern(self.seed, outcomes, actions)[:, :, None]
        return table


@lru_cache(maxsize=256)
def pattern(seed: int, outcomes: tuple[str, ...], actions: tuple[str, ...]) -> Array:
    """What a drift of size 1 adds (o, k), standard normal, each by its own names; not to be written to."""
    names = [f"{outcome}\n{action}".encode() for outcome in outcomes for action in actions]
    words = [int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1 for name in names]
    drawn = normals(np.array(words, dtype=np.int64), seed, _STREAM).reshape(len(outcomes), len(actions))
    drawn.flags.writeable = False
    return drawn
