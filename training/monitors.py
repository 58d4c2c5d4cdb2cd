"""What watches a policy that learns while it serves. Each may be looked at after every batch, for as long as one likes.

Three ask a question of chance, and together are wrong in at most 5 % of all followings that nothing is wrong with:
is the log sound, is what was served worse than the champion it started from, is it worth less than a floor?
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from nba.decision import Decision
from nba.ope import cross_fit
from nba.pack import Pack
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from training.evaluate import treatment_weights
from training.pending import Closed
from training.sequence import Sequence

MAX_WEIGHT = 10.0  # importance weights of the harm count no more; beyond, the model's word counts alone
MIN_DECISIONS = 100  # fewer do not say which share of them is degraded
RECENT = 1_000  # decisions: at as many, those so far count half


@dataclass(frozen=True, slots=True)
class Limits:
    """When to halt."""

    floor: float | None = None  # reward a round: the followed versions' value must not surely be below
    max_degraded: float = 0.2  # of the decisions of followed versions


USUAL = Limits()


class Monitors(Struct, frozen=True, kw_only=True):
    """What is known so far of the versions that were followed, and of the log."""

    low: float  # reward units: the least any round of the pack can have
    span: float  # reward units: from there to the most
    harm: Sequence = Sequence(level=0.03)  # 1 + (champion it started from - what was served) / (MAX_WEIGHT span)
    heavy: Sequence = Sequence(level=0.005)  # importance weights
    light: Sequence = Sequence(level=0.005)  # 2 - importance weights
    poor: Sequence = Sequence(level=0.01)  # (most - reward) / span
    decided: float = 0.0  # decisions of followed versions lately
    degraded: float = 0.0  # of them, those made without all that a decision should have, fallbacks included

    @classmethod
    def of(cls, pack: Pack) -> Monitors:
        """The monitors of a pack that know nothing yet."""
        ranges = [pack.reward_range(moment) for moment in pack.moments]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        return cls(low=low, span=max(high - low, 1e-9))

    @property
    def value(self) -> float:
        """Mean reward a round of the versions that were followed, in this epoch; NaN before the first."""
        return self.low + self.span * (1.0 - self.poor.mean)

    @property
    def weight(self) -> float:
        """Mean importance weight of the log, in this epoch: 1 where it is sound."""
        return self.heavy.mean

    def seen(self, decision: Decision) -> Monitors:
        """With one more decision of a followed version, whatever becomes of it."""
        kept = 0.5 if self.decided >= RECENT else 1.0
        bad = bool(decision.degraded) or decision.mode == "fallback"
        return replace(self, decided=kept * self.decided + 1.0, degraded=kept * self.degraded + bad)

    def after(self, closed: Closed, start: Snapshot, followed: Set[str]) -> Monitors:
        """With rounds that have closed. `start`: the champion that was started from; `followed`: versions after it."""
        told = self
        for moment, rounds in closed.rounds.items():
            weights = np.array([sharpened_weight(decision) for decision in closed.decisions[moment]])
            mine = np.array([decision.policy.version in followed for decision in closed.decisions[moment]])
            decisions = [decision for decision, is_mine in zip(closed.decisions[moment], mine, strict=True) if is_mine]
            shares = (rounds.rewards[mine] - self.low) / self.span
            told = replace(
                told,
                harm=told.harm.after(1.0 + _harm(rounds.take(mine), decisions, start) / self._reach),
                heavy=told.heavy.after(weights),
                light=told.light.after(np.maximum(2.0 - weights, 0.0)),
                poor=told.poor.after(1.0 - shares),
            )
        return told

    @property
    def _reach(self) -> float:
        """Reward units: how far below 0 the harm of one round can be."""
        return MAX_WEIGHT * self.span

    def alarms(self, limits: Limits) -> Iterator[str]:
        """Why to halt; nothing while all is well."""
        if max(self.heavy.low, self.light.low) > 1.0:
            yield f"the log is biased: the mean importance weight is {self.weight:.3f} where it must be 1"
        if self.harm.low > 1.0:
            harm, surely = (self._reach * (number - 1.0) for number in (self.harm.mean, self.harm.low))
            yield f"it earns {harm:.4f} a round less than the champion it started from, surely {surely:.4f}"
        if limits.floor is not None and self.low + self.span * (1.0 - self.poor.low) < limits.floor:
            yield f"its value is {self.value:.4f} a round, surely below the floor of {limits.floor:g}"
        if self.decided >= MIN_DECISIONS:
            share = self.degraded / self.decided
            if share - 3.0 * math.sqrt(share * (1.0 - share) / self.decided) > limits.max_degraded:
                yield f"{share:.0%} of its decisions are degraded, at most {limits.max_degraded:.0%} may be"


def sharpened_weight(decision: Decision) -> float:
    """The importance weight of a decision for a policy that prefers what was likely already: mean 1, in [0, 2].

        w = t(a) / p,    t(a) = d(a) (1 + d(a) - sum_b d(b)^2)

    with the distribution d and the propensity p as logged. Its mean is 1 whatever the policy, but only where actions
    were drawn by d and p is what they were drawn with; it has no heavy tail, so that a sound log is not suspected.
    """
    d = np.array(decision.distribution)
    drawn = float(d[decision.candidates.index(decision.action_id)])
    return drawn * (1.0 + drawn - float(d @ d)) / decision.propensity


def _harm(rounds: LoggedRounds, decisions: list[Decision], start: Snapshot) -> NDArray[np.float64]:
    """How much more `start` would have earned than what was served, (n,) reward units a round, doubly robust.

        sum_a (s(a|x) - d(a|x)) q(x,a)  +  (min(s(a,t|x) / p, MAX_WEIGHT) - 1) (r - q(x,a))

    with t the phrasing, s the start's distribution, d the logged one and q cross-fitted values: neither policy's own,
    which may be what is wrong. The mean is the harm, where no weight is cut or q is right.
    """
    if not decisions:
        return np.empty(0)
    moment = decisions[0].context.moment
    plan = start.plans[moment]
    q = np.clip(cross_fit(rounds, plan.action_features), *plan.reward_range)
    would = start.policies[moment].distribution(rounds.contexts, rounds.mask)
    did = np.array([decision.distribution for decision in decisions])
    taken = np.arange(len(rounds)), rounds.actions
    joint = would[taken] / rounds.propensities * treatment_weights(start, moment, rounds)
    weights = np.minimum(joint, MAX_WEIGHT)
    harm: NDArray[np.float64] = ((would - did) * q).sum(axis=1) + (weights - 1.0) * (rounds.rewards - q[taken])
    return harm
