"""How well simulated outcomes match logged ones that the fit has not seen, by action and by segment of customers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from envs.calibration.parameters import ResponseParameters
from envs.calibration.response import ResponseFit
from envs.calibration.rounds import Z95, OutcomeRounds, clustered_variance
from envs.people import Array, logistic
from envs.response import Response
from nba.facts import Field
from nba.types import Facts

MIN_ROUNDS = 30  # of a cell; and
MIN_EVENTS = 5.0  # of either kind, simulated: below, a normal interval says nothing
BINS = 10


@dataclass(frozen=True, slots=True)
class Cell:
    """Some held-out rounds of a moment: how often an outcome came, and how often it does in the simulator."""

    moment: str
    outcome: str
    group: str  # an action, or a segment such as `device = mobile`
    rounds: int
    observed: float  # share of these rounds
    simulated: float  # on the same contexts and actions
    half_width: float  # of the 95 % interval of the difference; infinite where there are too few to say

    @property
    def difference(self) -> float:
        """Observed minus simulated."""
        return self.observed - self.simulated

    @property
    def judged(self) -> bool:
        """Whether there were enough rounds to say anything."""
        return self.half_width < float("inf")

    @property
    def misses(self) -> bool:
        """Whether the interval leaves 0 out."""
        return abs(self.difference) > self.half_width


@dataclass(frozen=True, slots=True)
class Bin:
    """A tenth of the held-out rounds, by their simulated probability."""

    rounds: int
    simulated: float  # mean probability
    observed: float  # share in which it came


@dataclass(frozen=True, slots=True)
class Reliability:
    """Whether what is given p per cent comes p times in a hundred."""

    moment: str
    outcome: str
    rounds: int
    log_loss: float  # nats a round
    gain: float  # log-loss of the uncalibrated response less this
    gain_half_width: float  # of its 95 % interval, by customer
    error: float  # expected calibration error: mean |observed - simulated| over the tenths
    by_chance: float  # what that error would be about if every probability were right
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """One moment's simulated response against held-out rounds."""

    by_action: tuple[Cell, ...]
    by_segment: tuple[Cell, ...]
    reliability: tuple[Reliability, ...]  # an outcome each


@dataclass(frozen=True, slots=True)
class Misses:
    """Of many 95 % intervals, how many leave 0 out."""

    judged: int
    missed: int

    @property
    def by_chance(self) -> float:
        """How many would if the simulator were right: one in twenty, give or take much, as intervals share rounds."""
        return 0.05 * self.judged

    @classmethod
    def of(cls, cells: tuple[Cell, ...]) -> Misses:
        """Those of the cells that could be judged."""
        judged = [cell for cell in cells if cell.judged]
        return cls(len(judged), sum(cell.misses for cell in judged))


def match(response: Response, rounds: OutcomeRounds, fit: ResponseFit | None = None) -> Match:
    """The unadjusted `response` against rounds held out of its calibration; with `fit`, the calibrated one.

    The variance of a difference is that of the rounds, customers being independent (never less than
    mean p (1 - p) / n), and that which the fitted parameters bring: g' C g, g the gradient of the simulated rate.
    """
    by_action, by_segment, reliability = list[Cell](), list[Cell](), list[Reliability]()
    if not len(rounds):
        return Match((), (), ())
    base = response.logits(rounds.contexts)
    actions = [(f"{action}", rounds.actions == a) for a, action in enumerate(response.plan.action_ids)]
    groups = [*segments(response.plan.encoder.fields, rounds.facts)]
    for o, outcome in enumerate(response.outcomes):
        told = _Outcome(response, outcome, o, rounds, base[o], fit)
        by_action += [told.cell(name, where) for name, where in actions if where.any()]
        by_segment += [told.cell(name, where) for name, where in groups]
        reliability.append(told.reliability())
    return Match(tuple(by_action), tuple(by_segment), tuple(reliability))


def segments(fields: Mapping[str, Field], facts: Facts) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Every value of a category and of a boolean, every third of a number, and where it is missing, if anywhere."""
    for (name, field), column in zip(fields.items(), facts.T, strict=True):
        if field.type == "time":
            continue
        known = ~np.isnan(column)
        for label, where in _parts(field, column, known):
            if where.any():
                yield f"{name} {label}", where
        if not known.all():
            yield f"{name} missing", ~known


def _parts(field: Field, column: Array, known: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    if field.type == "category":
        yield from ((f"= {value}", column == code) for code, value in enumerate(field.values))
    elif field.type == "boolean":
        yield from ((f"= {str(bool(code)).lower()}", column == code) for code in (0, 1))
    elif known.any():
        edges = np.unique(np.quantile(column[known], (1 / 3, 2 / 3)))
        bounds = [-np.inf, *edges.tolist(), np.inf]
        for low, high in pairwise(bounds):
            above, upto = f"> {low:.4g}" * (low > -np.inf), f"<= {high:.4g}" * (high < np.inf)
            yield " and ".join(filter(None, (above, upto))), known & (column > low) & (column <= high)


def _log_losses(p: Array, y: Array) -> Array:
    p = np.clip(p, 1e-12, 1.0 - 1e-12)
    losses: Array = -(y * np.log(p) + (1.0 - y) * np.log1p(-p))
    return losses


class _Outcome:
    """One outcome of the held-out rounds beside its simulated probability."""

    def __init__(
        self, response: Response, outcome: str, o: int, rounds: OutcomeRounds, base: Array, fit: ResponseFit | None
    ) -> None:
        n, k = len(rounds), len(response.plan.action_ids)
        z = base[rounds.actions, np.arange(n)]
        parameters = ResponseParameters() if fit is None else fit.parameters
        calibrated = parameters.logits((outcome,), response.plan.action_ids, base[None])[0]
        self.uncalibrated, self.p = logistic(z), logistic(calibrated[rounds.actions, np.arange(n)])
        self.moment, self.outcome, self.rounds = response.plan.name, outcome, rounds
        self.y = rounds.outcomes[:, o]
        self.spread = self.p * (1.0 - self.p)
        self.covariance = np.zeros((k + 1, k + 1)) if fit is None else fit.covariances[outcome]
        self.gradient = np.zeros((n, k + 1))
        self.gradient[np.arange(n), rounds.actions] = self.spread
        self.gradient[:, -1] = self.spread * z

    def cell(self, group: str, where: NDArray[np.bool_]) -> Cell:
        """The rounds of one group."""
        n = int(where.sum())
        y, p = self.y[where], self.p[where]
        return Cell(
            self.moment, self.outcome, group, n, float(y.mean()), float(p.mean()), self._half_width(where, y - p)
        )

    def _half_width(self, where: NDArray[np.bool_], residuals: Array) -> float:
        n, p = len(residuals), self.p[where]
        if n < MIN_ROUNDS or min(p.sum(), n - p.sum()) < MIN_EVENTS:
            return float("inf")
        of_rounds = clustered_variance(residuals, self.rounds.subjects[where])
        g = self.gradient[where].mean(axis=0)
        variance = max(of_rounds, float(self.spread[where].sum()) / n**2) + float(g @ self.covariance @ g)
        return Z95 * float(np.sqrt(variance))

    def reliability(self) -> Reliability:
        """Log-loss, and calibration by tenths.

        Source of the error: Naeini, Cooper and Hauskrecht (2015), https://doi.org/10.1609/aaai.v29i1.9602
        """
        p, y = self.p, self.y
        losses = _log_losses(p, y)
        gains = _log_losses(self.uncalibrated, y) - losses
        tenths = [rows for rows in np.array_split(np.argsort(p, kind="stable"), BINS) if len(rows)]
        bins = tuple(Bin(len(rows), float(self.p[rows].mean()), float(y[rows].mean())) for rows in tenths)
        share = np.array([b.rounds for b in bins]) / len(y)
        # E |N(0, s^2)| = s sqrt(2 / pi)
        noise = [np.sqrt(2.0 / np.pi * self.spread[rows].sum()) / len(rows) for rows in tenths]
        return Reliability(
            self.moment,
            self.outcome,
            len(y),
            float(losses.mean()),
            float(gains.mean()),
            Z95 * float(np.sqrt(clustered_variance(gains, self.rounds.subjects))),
            float(share @ [abs(b.observed - b.simulated) for b in bins]),
            float(share @ noise),
            bins,
        )
