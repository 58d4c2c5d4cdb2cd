"""The second level of a decision: which of its phrasings (treatments) the drawn action is told in.

To a policy, phrasings are actions: a column for each pair of action and treatment, a mask that leaves those of the
drawn action. What pairs share, the action and the treatment, is in their features, so that what is learned of a tone
carries over from one action to the next, and each pair still has a part of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nba.moment_plan import MomentPlan
from nba.types import ActionMask, Actions


def treatment_plan(plan: MomentPlan) -> MomentPlan | None:
    """The moment as its second level sees it: p columns `action/treatment`; None where no action has phrasings."""
    pairs = [(a, t) for a in plan.action_ids for t in sorted(plan.pack.action(a).treatments)]
    if not pairs:
        return None
    actions, treatments = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    shared = [[1.0, *(float(a == n) for n in actions), *(float(t == n) for n in treatments)] for a, t in pairs]
    return replace(
        plan,
        action_ids=tuple(f"{a}/{t}" for a, t in pairs),
        stages=(),  # what the action's stages left is left
        action_features=np.hstack([np.array(shared), np.eye(len(pairs))]),
        costs=np.array([plan.pack.action(a).cost for a, _ in pairs]),
        rule_actions=np.zeros(0, dtype=np.int64),
    )


def treatment_mask(plan: MomentPlan, treatments: MomentPlan, actions: Actions) -> ActionMask:
    """The phrasings (n, p) of each round's action (n,)."""
    return _pairs_of(plan, treatments)[actions]


def treatment_questions(plan: MomentPlan, treatments: MomentPlan) -> ActionMask:
    """Every mask that the second level may be asked with, (m, p): one for each action that has phrasings."""
    pairs = _pairs_of(plan, treatments)
    asked: ActionMask = pairs[pairs.any(axis=1)]
    return asked


def _pairs_of(plan: MomentPlan, treatments: MomentPlan) -> NDArray[np.bool_]:
    owners = [pair.split("/")[0] for pair in treatments.action_ids]
    return np.array([[owner == action_id for owner in owners] for action_id in plan.action_ids])
