"""Delays: outcomes take their time, and some never come, so that what a log holds is less than what happened.

    delay = median exp(spread e),  e ~ N(0, 1);    never with chance `never`
    kept  = (1 - never) Phi(log(window / median) / spread)                share of reports that come within the window

A report that comes after its window, or after the outcome that closes it, is not counted: where outcomes are reported
that pay, mean rewards are too low, where outcomes that hurt, too high. With w the weights and p the chances, by time
alone:

    E[reward as logged] = sum(w p kept) - cost    instead of    sum(w p) - cost

Defaults, by a moment's window: the outcome that closes it has a median of a quarter of the window, so that 92 % of
those that come are in time; the others a sixteenth, and 84 % of them come before it; 3 % of all reports are lost. Long
tails and some lost events are what conversion logs show; the figures are chosen, not fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.people import Array
from nba.errors import ShapeError
from nba.moment_plan import MomentPlan

HOUR = 3_600.0  # seconds


@dataclass(frozen=True, slots=True)
class Delay:
    """How long reports of one outcome take. Raises ShapeError for values without sense."""

    median_h: float  # hours; 0: at once
    spread: float = 1.0  # standard deviation of the logarithm
    never: float = 0.03  # share that is never reported

    def __post_init__(self) -> None:
        for name, value in (("median", self.median_h), ("spread", self.spread)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ShapeError(f"a delay of {name} {value}", help="give a finite number, 0 or more")
        if not 0.0 <= self.never <= 1.0:
            raise ShapeError(f"a share of {self.never} never reported", help="give a share from 0 to 1")

    def kept(self, window_s: float) -> float:
        """Share of the reports that come within so many seconds."""
        if self.median_h == 0.0 or self.spread == 0.0:
            return (1.0 - self.never) * (self.median_h * HOUR <= window_s)
        if window_s <= 0.0:
            return 0.0
        reached = math.log(window_s / (self.median_h * HOUR)) / self.spread
        return (1.0 - self.never) * 0.5 * math.erfc(-reached / math.sqrt(2.0))


AT_ONCE = Delay(median_h=0.0, never=0.0)


@dataclass(frozen=True, slots=True)
class Delays:
    """How long the outcomes of a moment take to come, in the order of the pack's reward formula."""

    outcomes: tuple[Delay, ...]  # o
    closing: tuple[bool, ...]  # o: which of them closes the window
    window_s: float

    @classmethod
    def of(cls, plan: MomentPlan) -> Delays:
        """The defaults for a moment, by its window."""
        moment, closing = plan.pack.moment(plan.name), _closing(plan)
        hours = moment.window_s / HOUR
        return cls(tuple(Delay(hours / (4.0 if closes else 16.0)) for closes in closing), closing, moment.window_s)

    @classmethod
    def none(cls, plan: MomentPlan) -> Delays:
        """Every outcome at once."""
        closing = _closing(plan)
        return cls((AT_ONCE,) * len(closing), closing, plan.pack.moment(plan.name).window_s)

    def draw(self, n: int, rng: Generator) -> Array:
        """Seconds until each outcome of n rounds is reported (n, o); inf where it never is."""
        if all(delay == AT_ONCE for delay in self.outcomes):
            return np.zeros((n, len(self.outcomes)))
        medians, spreads, never = np.array([(d.median_h * HOUR, d.spread, d.never) for d in self.outcomes]).T
        shape = n, len(self.outcomes)
        taken: Array = medians * np.exp(spreads * rng.standard_normal(shape))
        taken[rng.random(shape) < never] = np.inf
        return taken

    def in_window(self, delays: Array) -> NDArray[np.bool_]:
        """Which reports (n, o) that come after these seconds count: in the window, and before it was closed."""
        closed = np.where(self.closing, delays, np.inf).min(axis=1, initial=self.window_s)
        return np.asarray(delays <= closed[:, None])

    def kept(self) -> Array:
        """Share of each outcome's reports (o,) that come within the window by time alone."""
        return np.array([delay.kept(self.window_s) for delay in self.outcomes])


def _closing(plan: MomentPlan) -> tuple[bool, ...]:
    formula = plan.pack.moment(plan.name).reward
    return tuple(plan.pack.outcomes[outcome].closes_window for outcome in formula)
