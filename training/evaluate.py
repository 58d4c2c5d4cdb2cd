"""What a challenger would earn: off-policy on rounds it never saw, and in truth where customers are simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from nba import ope
from nba.decision import PolicyRef
from nba.errors import EmptyLogError
from nba.ope import Estimate, Terms
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.types import ActionValues, Weights
from training.truth import Playground, Yardsticks


@dataclass(frozen=True, slots=True)
class Estimates:
    """What some logged rounds say of the challenger and, in pairs, of the champion. Reward units a round."""

    logged: float  # what the policies that logged them earned
    ips: Estimate
    snips: Estimate
    direct_method: Estimate
    doubly_robust: Estimate
    mean_weight: Estimate  # 1 where the log is sound
    champion: Estimate | None  # doubly robust; None where there is no champion
    champion_weight: Estimate | None
    lift: Estimate | None  # doubly robust, challenger minus champion

    @property
    def rounds(self) -> int:
        """Rounds these estimates are made of."""
        return self.doubly_robust.n

    @property
    def effective_n(self) -> float:
        """Rounds of its own that would tell as much, of challenger and champion the lesser."""
        return self.doubly_robust.effective_n if self.lift is None else self.lift.effective_n


@dataclass(frozen=True, slots=True)
class TrueValue:
    """True values in one simulated moment, in the units of its yardsticks."""

    challenger: float
    champion: float | None
    yardsticks: Yardsticks


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything known about a challenger before it serves."""

    challenger: PolicyRef
    champion: PolicyRef | None
    overall: Estimates  # every round of the log alike, whichever moment
    moments: Mapping[str, Estimates]  # those that have rounds
    truth: Mapping[str, TrueValue]  # those that are simulated

    def metrics(self) -> dict[str, float]:
        """Every figure by name, bounds as figures of their own: `lift`, `lift_low`, `lift_high`, `lift/tone_tuner`."""
        told = _figures(self.overall, "")
        for moment, estimates in self.moments.items():
            told |= _figures(estimates, f"/{moment}")
        for moment, true in self.truth.items():
            told[f"true_value/{moment}"] = true.challenger
            told[f"true_oracle/{moment}"] = true.yardsticks.oracle
            if true.champion is not None:
                told[f"true_champion/{moment}"] = true.champion
        return told


def evaluate(
    challenger: Snapshot,
    champion: Snapshot | None,
    rounds: Mapping[str, LoggedRounds],
    *,
    rng: Generator,
    simulated: Mapping[str, Playground] | None = None,
) -> Evaluation:
    """Estimates by moment and over all, with lift over the champion, and the truth of simulated moments.

    The rounds must be of customers that neither policy was learned from. Both snapshots are of one pack.
    Raises EmptyLogError where there are no rounds.
    """
    told = {moment: logged for moment, logged in rounds.items() if len(logged)}
    if not told:
        raise EmptyLogError("no rounds to judge by", help="wait until a reward window has closed (nba simulate)")
    terms = {moment: _terms(challenger, champion, moment, logged) for moment, logged in told.items()}
    new = Terms.concatenate([pair[0] for pair in terms.values()])
    old = Terms.concatenate([pair[1] for pair in terms.values() if pair[1] is not None]) if champion else None
    return Evaluation(
        challenger=challenger.policy,
        champion=champion.policy if champion else None,
        overall=_estimates(new, old, rng),
        moments={moment: _estimates(*pair, rng) for moment, pair in terms.items()},
        truth=true_values(challenger, champion, simulated or {}),
    )


def true_values(
    challenger: Snapshot, champion: Snapshot | None, simulated: Mapping[str, Playground]
) -> dict[str, TrueValue]:
    """The truth of each simulated moment."""
    return {
        moment: TrueValue(
            challenger=playground.value(challenger.policies[moment]),
            champion=playground.value(champion.policies[moment]) if champion else None,
            yardsticks=playground.yardsticks,
        )
        for moment, playground in simulated.items()
    }


def _terms(
    challenger: Snapshot, champion: Snapshot | None, moment: str, rounds: LoggedRounds
) -> tuple[Terms, Terms | None]:
    q_hat = ope.cross_fit(rounds, challenger.plans[moment].action_features)
    new = _joint_terms(challenger, moment, rounds, q_hat)
    return new, None if champion is None else _joint_terms(champion, moment, rounds, q_hat)


def _joint_terms(snapshot: Snapshot, moment: str, rounds: LoggedRounds, q_hat: ActionValues) -> Terms:
    """Terms whose weights are of action and phrasing together.

        w = pi(a | x) / p(a)  *  pi(t | x, a) / p(t | a)

    The second factor averages 1 for each action, so `q_hat`, which knows actions only, leaves estimates unbiased. It
    is 1 where there is no phrasing, and where both policies draw it evenly.
    """
    terms = Terms.of(rounds, snapshot.policies[moment].distribution(rounds.contexts, rounds.mask), q_hat)
    return replace(terms, weights=terms.weights * treatment_weights(snapshot, moment, rounds))


def treatment_weights(snapshot: Snapshot, moment: str, rounds: LoggedRounds) -> Weights:
    """Importance weights (n,) of the phrasings, given the actions."""
    weights, had = np.ones(len(rounds)), rounds.treatments >= 0
    told = rounds.treated()
    policy = snapshot.treatments.get(moment)
    even = told.mask / told.mask.sum(axis=1, keepdims=True)
    target = even if policy is None else policy.distribution(told.contexts, told.mask)
    weights[had] = target[np.arange(len(told)), told.actions] / told.propensities
    return weights


def _estimates(new: Terms, old: Terms | None, rng: Generator) -> Estimates:
    told = ope.estimates(new, rng=rng)
    before = ope.estimates(old, rng=rng) if old is not None else {}
    return Estimates(
        logged=float(new.rewards.mean()),
        ips=told["ips"],
        snips=told["snips"],
        direct_method=told["direct_method"],
        doubly_robust=told["doubly_robust"],
        mean_weight=told["mean_weight"],
        champion=before.get("doubly_robust"),
        champion_weight=before.get("mean_weight"),
        lift=ope.lift(new, old, rng=rng) if old is not None else None,
    )


def _figures(estimates: Estimates, suffix: str) -> dict[str, float]:
    named = {
        "ips": estimates.ips,
        "snips": estimates.snips,
        "direct_method": estimates.direct_method,
        "doubly_robust": estimates.doubly_robust,
        "mean_weight": estimates.mean_weight,
        "champion": estimates.champion,
        "lift": estimates.lift,
    }
    told = {f"rounds{suffix}": float(estimates.rounds), f"effective_n{suffix}": estimates.effective_n}
    for name, estimate in named.items():
        if estimate is not None:
            told[f"{name}{suffix}"] = estimate.value
            told[f"{name}_low{suffix}"] = estimate.low
            told[f"{name}_high{suffix}"] = estimate.high
    return told
