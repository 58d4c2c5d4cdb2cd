"""Learning a policy for every moment of a pack, from simulated customers or from logged rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nba.errors import EmptyLogError, NbaError
from nba.moment_plan import MomentPlan, plan_pack
from nba.pack import Pack
from nba.policies import KINDS, model_type
from nba.policies.network import Network
from nba.policies.pair import options
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.treatments import treatment_plan
from nba.types import Policy
from training.targets import DIRECT, Target, fitted_on
from training.truth import Playground, no_rounds

Settings = Mapping[str, float]  # keyword arguments of a kind's `fit`
BATCHES = 10  # between two updates of a policy that learns in the simulator
GROWTH = 1.6  # each batch over the one before: early updates are worth more


class UnknownKindError(NbaError):
    """There is no policy of this kind."""

    code = "unknown_kind"


class SettingError(NbaError):
    """A kind of policy has no such setting."""

    code = "unknown_setting"


@dataclass(frozen=True, slots=True)
class Step:
    """One point of a learning curve."""

    moment: str
    rounds: int  # learned from so far
    value: float  # true expected reward a round


@dataclass(frozen=True, slots=True)
class Learned:
    """Policies of one kind for every moment of a pack, and how they came about."""

    kind: str
    policies: Mapping[str, Policy]
    rounds: Mapping[str, int]  # moment -> rounds learned from, now
    notes: Mapping[str, str] = field(default_factory=dict)  # moment -> where its policy is from, if not from rounds
    curve: tuple[Step, ...] = ()
    treatments: Mapping[str, Policy] = field(default_factory=dict)  # moment -> policy of phrasings; evenly without


def from_simulator(
    pack: Pack,
    kind: str,
    simulated: Mapping[str, Playground],
    *,
    rounds: int,
    seed: int,
    settings: Settings | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> Learned:
    """Policies learned by playing: each moment starts without knowledge, plays, learns from what came, plays on.

    `rounds` for each moment, in growing batches; `on_step` is told the rounds played so far over all moments.
    `settings` go to the kind's `fit` (`scale` of square_cb, `spread` of a Thompson pair). The same seed gives the same
    policies. Raises UnknownKindError, SettingError, and EmptyLogError where nobody plays the pack.
    """
    if not simulated:
        raise EmptyLogError(
            f"simulated customers do not play pack {pack.pack!r}",
            help="start with a policy that needs no rounds (--policy uniform), then learn from the log (--from log)",
        )
    untrained = from_rounds(pack, kind, {}, settings=settings)
    policies, curve = dict(untrained.policies), list[Step]()
    for i, (moment, playground) in enumerate(simulated.items()):
        rng, played = np.random.default_rng([seed, i]), 0
        curve.append(Step(moment, 0, playground.value(policies[moment])))
        for size in batches(rounds):
            heard = playground.play(policies[moment], size, rng)
            policies[moment] = _fit(kind, playground.plan, heard, _knowing(policies[moment], kind), settings)
            played += size
            curve.append(Step(moment, played, playground.value(policies[moment])))
            on_step(i * rounds + played)
    notes = {moment: note for moment, note in untrained.notes.items() if moment not in simulated}
    return Learned(kind, policies, dict.fromkeys(simulated, rounds), notes, tuple(curve))


def from_rounds(
    pack: Pack,
    kind: str,
    rounds: Mapping[str, LoggedRounds],
    *,
    previous: Snapshot | None = None,
    settings: Settings | None = None,
    target: Target = DIRECT,
) -> Learned:
    """Policies learned from logged rounds, on top of what `previous` knows.

    A `previous` of another kind of model knows nothing that this kind can build on: it learns from the rounds alone.
    A moment without rounds decides by what `previous` knows, else starts without knowledge (uniform, or the rules).
    Where `previous` has a network, which plans whole sessions, it stays: single rounds do not teach that.
    `previous` must not have been learned from any of these rounds: they would count twice.
    `target` is what models are fitted on. Raises UnknownKindError, SettingError; ShapeError as the target does.
    """
    policies, notes = dict[str, Policy](), dict[str, str]()
    for moment, plan in plan_pack(pack).items():
        logged = rounds.get(moment, no_rounds(plan.width, len(plan.action_ids)))
        if previous is not None and plans_sessions(previous.policies[moment]):
            policies[moment] = previous.policies[moment]
            notes[moment] = f"a network that plans sessions: kept from version {previous.policy.version}"
            continue
        before = _knowing(previous.policies[moment], kind) if previous is not None else None
        policies[moment] = _fit(kind, plan, logged, before, settings, target)
        if not len(logged):
            told = f"kept from version {previous.policy.version}" if previous and before else "nothing learned"
            notes[moment] = f"no rounds: {told}"
    treatments = _treatments(pack, kind, rounds, previous, settings, target)
    learned = {m: len(r) for m, r in rounds.items() if len(r) and not plans_sessions(policies[m])}
    return Learned(kind, policies, learned, notes, treatments=treatments)


def batches(rounds: int) -> list[int]:
    """Sizes of the batches in which `rounds` are played, growing; they sum to `rounds`, none is empty."""
    ends = rounds * np.cumsum(GROWTH ** np.arange(BATCHES)) / np.sum(GROWTH ** np.arange(BATCHES))
    return [int(size) for size in np.diff(np.rint(ends), prepend=0) if size]


def plans_sessions(policy: Policy) -> bool:
    """Whether the policy is a network that has learned whole sessions, which single rounds cannot teach."""
    return isinstance(policy, Network) and bool(policy.layers[-1].weights.any())


def check_target(kind: str, target: Target) -> None:
    """Raises SettingError where policies of this kind have no model that could be fitted on another target."""
    if target.method != "direct" and kind in KINDS and model_type(kind) is None:
        raise SettingError(
            f"{kind} has no model to fit on the target {target.method}",
            help="square_cb, epsilon_greedy and every MODEL+EXPLORER have one",
            field="target",
        )


def _knowing(policy: Policy, kind: str) -> Policy | None:
    """The policy where it has a model of values that this kind can build on, whichever kind explores by it."""
    wanted = model_type(kind)
    return policy if wanted is not None and type(getattr(policy, "model", None)) is wanted else None


def _treatments(
    pack: Pack,
    kind: str,
    rounds: Mapping[str, LoggedRounds],
    previous: Snapshot | None,
    settings: Settings | None,
    target: Target,
) -> dict[str, Policy]:
    """Policies of phrasings, in moments where something is known of them; a kind without a model chooses none."""
    policies = dict[str, Policy]()
    for moment, plan in plan_pack(pack).items():
        pairs = treatment_plan(plan)
        if pairs is None or model_type(kind) is None:
            continue
        told = rounds[moment].treated() if moment in rounds else no_rounds(plan.width, len(pairs.action_ids))
        known = previous.treatments.get(moment) if previous is not None else None
        before = _knowing(known, kind) if known is not None else None
        if len(told) or before is not None:
            policies[moment] = _fit(kind, pairs, told, before, settings, target)
    return policies


def _fit(
    kind: str,
    plan: MomentPlan,
    rounds: LoggedRounds,
    previous: Policy | None,
    settings: Settings | None,
    target: Target = DIRECT,
) -> Policy:
    if kind not in KINDS:
        raise UnknownKindError(f"unknown policy kind {kind!r}", help=f"known are {', '.join(KINDS)}", field="policy")
    learner: Any = KINDS[kind]
    known = options(KINDS[kind])
    wrong = next((name for name in settings or {} if name not in known), None)
    if wrong is not None:
        told = f"it has {', '.join(known)}" if known else "it has none"
        raise SettingError(f"{kind} has no setting {wrong!r}", help=told, field="set")
    own = dict(settings or {})
    if target.method == "direct":
        fitted: Policy = learner.fit(plan, rounds, previous, **own)
        return fitted
    check_target(kind, target)
    on = fitted_on(target, rounds, lambda half: learner.fit(plan, half, previous, **own).model)
    if "half_life" in own and len(rounds):
        own["half_life"] *= len(on.rounds) / len(rounds)  # it counts rounds, of which dr makes several rows each
    weighted: Policy = learner.fit(plan, on.rounds, previous, weights=on.weights, **own)
    return weighted
