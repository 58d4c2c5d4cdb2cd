"""The gate: may a challenger become champion, by what the log says of it?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nba.ope import Estimate
from training.evaluate import Estimates, Evaluation


@dataclass(frozen=True, slots=True)
class Gate:
    """What a challenger must show on held-out rounds."""

    min_lift_low: float = 0.0  # reward a round: the lift's lower bound must be above
    min_moment_lift_high: float = 0.0  # reward a round: no moment's upper bound may be below
    min_effective_n: float = 500.0  # rounds: fewer, and intervals are too narrow to trust
    min_effective_share: float = 0.01  # of the rounds: less, and the challenger does what the log hardly ever did
    max_weight_gap: float = 2.5  # half widths of its 95 % interval, too narrow for heavy tails, that it may be off 1
    max_waiting: float = 0.05  # of the decisions: more open windows, and the quick to answer are over-represented


USUAL = Gate()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a challenger may be promoted, why or why not, and what to keep in mind either way."""

    promote: bool
    reasons: tuple[str, ...]
    cautions: tuple[str, ...] = ()


def judge(evaluation: Evaluation, gate: Gate, *, waiting: float = 0.0) -> Verdict:
    """The verdict on an evaluated challenger. `waiting`: share of decisions whose reward window is open.

    A pack's first champion has nothing to beat, and passes. Several challengers judged on the same rounds each have
    a chance of 1 in 40 of passing without merit: keep them few.
    """
    cautions = tuple(_cautions(evaluation, gate, waiting))
    if evaluation.champion is None:
        return Verdict(True, ("there is no champion yet",), cautions)
    if evaluation.champion.digest == evaluation.challenger.digest:
        return Verdict(False, ("it is the champion already",), cautions)
    refusals = tuple(_refusals(evaluation, gate))
    if refusals:
        return Verdict(False, refusals, cautions)
    return Verdict(True, (f"lift over the champion is {_interval(evaluation.overall.lift)}",), cautions)


def _refusals(evaluation: Evaluation, gate: Gate) -> Iterator[str]:
    overall = evaluation.overall
    for who, weight in (("challenger", overall.mean_weight), ("champion", overall.champion_weight)):
        if weight is not None and _is_off(weight, gate):
            yield f"the log is biased: the {who}'s mean importance weight is {_interval(weight)} where it must be 1"
    if overall.effective_n < gate.min_effective_n:
        yield (
            f"too few rounds: {overall.effective_n:,.0f} effective ones of {overall.rounds:,}, "
            f"at least {gate.min_effective_n:,.0f} are needed"
        )
    if overall.effective_n < gate.min_effective_share * overall.rounds:
        share = overall.effective_n / overall.rounds
        yield f"the log hardly ever did what it would do: {share:.1%} of the rounds speak of it"
    if overall.lift is None or not overall.lift.low > gate.min_lift_low:
        yield f"lift over the champion is {_interval(overall.lift)}: not clearly above {gate.min_lift_low:g}"
    for moment, estimates in evaluation.moments.items():
        if estimates.lift is not None and estimates.lift.high < gate.min_moment_lift_high:
            yield f"clearly worse in {moment}: lift {_interval(estimates.lift)}"


def _cautions(evaluation: Evaluation, gate: Gate, waiting: float) -> Iterator[str]:
    if waiting > gate.max_waiting:
        yield f"{waiting:.0%} of the decisions still wait for their outcome: those that answer quickly weigh too much"
    for moment, estimates in evaluation.moments.items():
        if _is_off(estimates.mean_weight, gate):
            yield f"in {moment} the mean importance weight is {_interval(estimates.mean_weight)}, not 1"
        if _few(estimates, gate):
            yield f"in {moment} only {estimates.effective_n:,.0f} effective rounds speak of it"


def _few(estimates: Estimates, gate: Gate) -> bool:
    """A tenth of what all together must have."""
    return estimates.effective_n < gate.min_effective_n / 10.0


def _is_off(weight: Estimate, gate: Gate) -> bool:
    """Whether a mean weight is off 1 by more than chance explains; each side has its own half width."""
    if not math.isfinite(weight.value):
        return True
    half = weight.value - weight.low if weight.value > 1.0 else weight.high - weight.value
    return abs(weight.value - 1.0) > gate.max_weight_gap * half + 1e-9


def _interval(estimate: Estimate | None) -> str:
    return "unknown" if estimate is None else f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"
