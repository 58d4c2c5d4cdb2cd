"""The guardrail funnel: what takes actions away before a policy sees them (law 5).

A stage is a name and its bars: for each bar, the columns it removes, the condition under which it does, and the
reason that is given. Stages come one after another; the answer says how many actions each left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nba.conditions import ALWAYS, Condition, parse
from nba.pack import Pack
from nba.types import ActionMask, Facts

# What the funnel of every answer counts, in order; a stage that a pack has no bars for removes nothing.
FUNNEL = ("catalogue", "requested", "consent", "eligible", "caps", "suppressed")


@dataclass(frozen=True, slots=True)
class Bar:
    """Removes some actions where a condition holds."""

    reason: str
    columns: NDArray[np.intp]  # of the moment's actions; never column 0
    holds: Condition


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the funnel: a name of FUNNEL, and its bars in the order in which they give their reason."""

    name: str
    bars: tuple[Bar, ...]

    def __post_init__(self) -> None:
        if self.name not in FUNNEL[2:]:
            raise ValueError(f"stage {self.name!r} is not one of {', '.join(FUNNEL[2:])}")


def eligibility(pack: Pack, moment_name: str) -> Stage:
    """The pack's own conditions: an action goes where its trigger does not hold, or where a guardrail's does."""
    moment, fields = pack.moment(moment_name), pack.moment_fields(moment_name)
    ids = moment.action_ids
    bars = []
    for column, action_id in enumerate(ids):
        trigger = pack.action(action_id).trigger
        if column and trigger.strip() != ALWAYS:
            bars.append(Bar("trigger", np.array([column], dtype=np.intp), _negated(parse(trigger, fields))))
    for name, guardrail in pack.guardrails.items():
        columns = [ids.index(a) for a in guardrail.remove if a in moment.actions]
        if columns and moment_name in (guardrail.moments or pack.moments):
            bars.append(Bar(name, np.array(columns, dtype=np.intp), parse(guardrail.when, fields)))
    return Stage("eligible", tuple(bars))


def _negated(condition: Condition) -> Condition:
    return lambda facts: ~condition(facts)


def action_mask(stages: tuple[Stage, ...], facts: Facts, k: int) -> ActionMask:
    """Which of k actions survive the stages, (n, k): the mask learning and the simulator use."""
    columns = np.ones((k, len(facts)), dtype=np.bool_)
    for stage in stages:
        for bar in stage.bars:
            columns[bar.columns] &= ~bar.holds(facts)
    return np.ascontiguousarray(columns.T)


class Funnel(NamedTuple):
    """What one decision's funnel left and took, as the answer tells it."""

    counts: dict[str, int]
    removed: dict[str, str]  # action -> reason


def run_funnel(
    stages: tuple[Stage, ...], facts: Facts, requested: ActionMask, ids: tuple[str, ...]
) -> tuple[ActionMask, list[Funnel]]:
    """The final mask (n, k) and each row's account, from what was requested (n, k) on."""
    mask, k = requested.copy(), len(ids)
    removed: list[dict[str, str]] = [{} for _ in mask]
    for row, column in zip(*(~requested).nonzero(), strict=True):
        removed[row][ids[column]] = "not_requested"
    funnels = [Funnel({"catalogue": k, "requested": k - len(gone)}, gone) for gone in removed]
    for name in FUNNEL[2:]:
        for stage in stages:
            if stage.name == name:
                _apply(stage, facts, mask, removed, ids)
        for funnel in funnels:
            funnel.counts[name] = k - len(funnel.removed)
    return mask, funnels


def _apply(stage: Stage, facts: Facts, mask: ActionMask, removed: list[dict[str, str]], ids: tuple[str, ...]) -> None:
    """Takes out of `mask` what the stage bars, and notes in `removed` the first reason for each."""
    for bar in stage.bars:
        for row in bar.holds(facts).nonzero()[0].tolist():
            for column in bar.columns.tolist():
                if mask[row, column]:
                    mask[row, column] = False
                    removed[row][ids[column]] = bar.reason
