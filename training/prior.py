"""A prior of a stated weight, such as one learned in the simulator, and what it was worth on held-out customers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nba.decision import PolicyRef
from nba.errors import NbaError
from nba.home import Home
from nba.moment_plan import MomentPlan
from nba.ope import Estimate
from nba.pack import Pack
from nba.policies import model_type
from nba.snapshot import Snapshot
from nba.types import Policy
from training.evaluate import evaluate
from training.learn import Learned, Settings, from_rounds, plans_sessions
from training.targets import DIRECT, Target
from training.tracking import Tracking, Version
from training.versions import load
from training.window import Split, Window


class PriorError(NbaError):
    """A version cannot be the prior of what is to be learned."""

    code = "bad_prior"


@dataclass(frozen=True, slots=True)
class Worth:
    """What the policy learned with a prior earns beyond the one learned from the same rounds without it.

    Reward units a round, doubly robust and in pairs, on rounds of customers that neither was learned from.
    """

    overall: Estimate
    moments: Mapping[str, Estimate]  # those that have such rounds

    def metrics(self) -> dict[str, float]:
        """Every figure by name: `prior_worth`, `prior_worth_low`, `prior_worth_high`, `prior_worth/tone_tuner`."""
        told = dict[str, float]()
        for suffix, of in {"": self.overall, **{f"/{m}": e for m, e in self.moments.items()}}.items():
            bounds = {"prior_worth": of.value, "prior_worth_low": of.low, "prior_worth_high": of.high}
            told |= {f"{name}{suffix}": figure for name, figure in bounds.items()}
        return told

    def __str__(self) -> str:
        return f"{self.overall.value:+.4f} [{self.overall.low:+.4f}, {self.overall.high:+.4f}]"


def can_build_on(kind: str, prior: Version) -> bool:
    """Whether policies of this kind have the type of model that the prior's have, whichever way they explore by it."""
    known = model_type(prior.kind)
    return known is not None and known is model_type(kind)


def weighed(prior: Snapshot, rounds: float) -> Snapshot:
    """The prior to be learned on top of, what it knows of each moment counted as so many rounds.

    More rounds than it has seen make it surer than it is. What has no model of values, or plans whole sessions, stays.
    """
    policies = {name: weighed_policy(policy, rounds, prior.plans[name]) for name, policy in prior.policies.items()}
    treatments = {
        name: weighed_policy(policy, rounds, prior.treatment_plans[name]) for name, policy in prior.treatments.items()
    }
    return dataclasses.replace(prior, policies=policies, treatments=treatments)


def weighed_policy(policy: Any, rounds: float, plan: MomentPlan) -> Policy:
    """The policy with a model that counts as so many rounds; how it explores follows when it is learned on."""
    known = getattr(policy, "model", None)
    if known is None:
        return policy  # type: ignore[no-any-return]
    counted: Policy = dataclasses.replace(policy, model=known.weighed(rounds, plan.action_features))
    return counted


def worth(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    version: Version,
    window: Window,
    *,
    settings: Settings | None = None,
    target: Target = DIRECT,
) -> Worth | None:
    """What the prior of a version learned from this window was worth; None where no customer is held out.

    `settings` and `target` are those the version was learned with. Recorded once: in the version's run (figures at step
    = rounds of the window) and, in a word, in its tag `prior_worth`.
    """
    learn_from, held_out = window.split(Split.of(version.tags))
    if not any(len(rounds) for rounds in held_out.values()):
        return None
    given = load(home, tracking, version, pack)
    alone = _without(given, from_rounds(pack, version.kind, learn_from, settings=settings, target=target))
    evaluation = evaluate(given, alone, held_out, rng=np.random.default_rng(int(window.digest[:16], 16)))
    every = {"": evaluation.overall, **evaluation.moments}
    lifts = {name: estimates.lift for name, estimates in every.items() if estimates.lift is not None}
    found = Worth(lifts.pop(""), lifts)
    if "prior_worth" not in version.tags:
        with tracking.resume(version.pack, version.run_id) as run:
            run.metrics(found.metrics(), step=len(window))
        tracking.tag(version, prior_worth=str(found))
    return found


def _without(given: Snapshot, alone: Learned) -> Snapshot:
    """What was learned without the prior, beside the networks of sessions, which single rounds do not teach."""
    kept = {name: policy for name, policy in given.policies.items() if plans_sessions(policy)}
    named = PolicyRef(name=given.policy.name, version="without prior", kind=alone.kind, digest="")
    return Snapshot.of(given.pack, named, {**alone.policies, **kept}, alone.treatments)
