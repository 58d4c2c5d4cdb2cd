"""A moment compiled: everything about it that a decision needs, worked out once when a pack is loaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba.encoder import Encoder, action_features
from nba.guardrails import Stage, eligibility
from nba.pack import Pack


@dataclass(frozen=True, slots=True)
class MomentPlan:
    """One moment of a pack, ready to decide in and to learn for."""

    pack: Pack
    name: str
    action_ids: tuple[str, ...]  # k, no_action first: the columns of masks and distributions
    encoder: Encoder
    stages: tuple[Stage, ...]  # the funnel after what the request asks for
    action_features: NDArray[np.float64]  # (k, q)
    costs: NDArray[np.float64]  # (k,) reward units
    rule_actions: NDArray[np.int64]  # (r,) column of the action of each rule, in the list's order
    reward_range: tuple[float, float]  # reward units

    @property
    def width(self) -> int:
        """Context columns d."""
        return self.encoder.width


def plan_moment(pack: Pack, name: str) -> MomentPlan:
    """The plan of one moment. Raises UnknownMomentError."""
    moment = pack.moment(name)
    ids = moment.action_ids
    return MomentPlan(
        pack=pack,
        name=name,
        action_ids=ids,
        encoder=Encoder(pack, name),
        stages=(eligibility(pack, name),),
        action_features=action_features([(a, pack.action(a)) for a in ids]),
        costs=np.array([pack.action(a).cost for a in ids]),
        rule_actions=np.array([ids.index(rule.action) for rule in moment.rules], dtype=np.int64),
        reward_range=pack.reward_range(name),
    )


def plan_pack(pack: Pack) -> dict[str, MomentPlan]:
    """The plans of all moments, by name."""
    return {name: plan_moment(pack, name) for name in pack.moments}
