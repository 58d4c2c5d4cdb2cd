"""The guardrail funnel: what takes actions away before a policy sees them (law 5).

A stage is a name and its bars: for each bar, the columns it removes, the condition under which it does, and the
reason that is given. Stages come one after another; the answer says how many actions each left.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """One step of the funnel, named as in FUNNEL."""

    name: str
    bars: tuple[Bar, ...]

    def barred(self, facts: Facts) -> NDArray[np.bool_]:
        """Which bars hold in which rows, (n, bars)."""
        held = np.zeros((len(facts), len(self.bars)), dtype=np.bool_)
        for i, bar in enumerate(self.bars):
            held[:, i] = bar.holds(facts)
        return held


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
    mask = np.ones((len(facts), k), dtype=np.bool_)
    for stage in stages:
        held = stage.barred(facts)
        for i, bar in enumerate(stage.bars):
            mask[np.ix_(held[:, i], bar.columns)] = False
    return mask


@dataclass(slots=True)
class Funnel:
    """What one decision's funnel left and took, as the answer tells it."""

    counts: dict[str, int]
    removed: dict[str, str]  # action -> reason


def run_funnel(
    stages: tuple[Stage, ...], facts: Facts, requested: ActionMask, ids: tuple[str, ...]
) -> tuple[ActionMask, list[Funnel]]:
    """The final mask (n, k) and each row's account, from what was requested (n, k) on."""
    mask = requested.copy()
    funnels = [
        Funnel(
            {"catalogue": len(ids), "requested": int(row.sum())},
            {ids[a]: "not_requested" for a in np.flatnonzero(~row)},
        )
        for row in requested
    ]
    by_name = {stage.name: stage for stage in stages}
    for name in FUNNEL[2:]:
        stage = by_name.get(name)
        if stage is not None:
            held = stage.barred(facts)
            for row, index in zip(*np.nonzero(held), strict=True):
                bar = stage.bars[index]
                for column in bar.columns:
                    if mask[row, column]:
                        mask[row, column] = False
                        funnels[row].removed[ids[column]] = bar.reason
        for row, funnel in enumerate(funnels):
            funnel.counts[name] = int(mask[row].sum())
    return mask, funnels
