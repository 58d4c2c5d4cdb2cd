"""The decision: facts, funnel, distribution, draw. Pure, and deterministic in decision_id (laws 1, 2, 5)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count

import numpy as np
from numpy.typing import NDArray

from nba.decision import Decision, DecisionRequest, Mode
from nba.errors import UnknownActionError
from nba.facts import code_facts
from nba.guardrails import run_funnel
from nba.keyed import keyed_digest
from nba.moment_plan import MomentPlan
from nba.snapshot import Snapshot
from nba.treatments import treatment_mask
from nba.types import NO_ACTION, ActionMask, Contexts, Distribution, Policy

DRAW_BITS = 53  # every multiple of 2**-53 in [0, 1] is a float64, so integer thresholds and propensities are equal
_WHOLE = 1 << DRAW_BITS
logger = logging.getLogger(__name__)


def decide(snapshot: Snapshot, request: DecisionRequest, *, now: datetime, secret: bytes) -> Decision:
    """The decision for one request. Raises UnknownMomentError, UnknownActionError."""
    return decide_many(snapshot, [request], now=now, secret=secret)[0]


def decide_many(
    snapshot: Snapshot, requests: Sequence[DecisionRequest], *, now: datetime, secret: bytes
) -> list[Decision]:
    """One decision a request, in order, each to the bit what `decide` makes of it alone.

    Those of one moment share their arithmetic. Raises UnknownMomentError, UnknownActionError.
    """
    by_moment: dict[str, list[int]] = {}
    for i, request in enumerate(requests):
        check_request(snapshot, request)
        by_moment.setdefault(request.context.moment, []).append(i)
    decisions: dict[int, Decision] = {}
    for moment, places in by_moment.items():
        made = _decide_moment(snapshot, snapshot.plans[moment], [requests[i] for i in places], now, secret)
        decisions.update(zip(places, made, strict=True))
    return [decisions[i] for i in range(len(requests))]


def check_request(snapshot: Snapshot, request: DecisionRequest) -> None:
    """Raises UnknownMomentError or UnknownActionError where the request names what its moment does not have."""
    moment = snapshot.pack.moment(request.context.moment)
    if request.actions is None and not request.exclude and request.baseline_action is None:
        return  # as most do
    known = moment.action_ids
    baseline = () if request.baseline_action is None else (request.baseline_action,)
    named = (("actions", request.actions or ()), ("exclude", request.exclude), ("baseline_action", baseline))
    for field, action_ids in named:
        for action_id in action_ids:
            if action_id not in known:
                raise UnknownActionError(
                    f"{field} names {action_id!r}, which moment {request.context.moment!r} does not have",
                    help=f"its actions are {', '.join(known)}",
                    field=field,
                )
    if request.baseline_action in request.exclude:
        raise UnknownActionError(
            f"baseline_action {request.baseline_action!r} is excluded",
            help="drop it from `exclude`, or name another baseline",
            field="baseline_action",
        )


def _decide_moment(
    snapshot: Snapshot, plan: MomentPlan, requests: Sequence[DecisionRequest], now: datetime, secret: bytes
) -> list[Decision]:
    facts = code_facts(plan.encoder.fields, [request.context.values for request in requests])
    mask, funnels = run_funnel(plan.stages, facts, _requested(requests, plan.action_ids), plan.action_ids)
    contexts = plan.encoder.encode(facts)
    distribution, sound = safe_distribution(snapshot.policies[plan.name], contexts, mask)
    is_sound = sound.tolist()
    for i, request in enumerate(requests):
        if not is_sound[i]:
            distribution[i] = _certain(_fallback(plan, request, mask[i]), len(plan.action_ids))
        elif not request.explore:
            distribution[i] = _certain(int(distribution[i].argmax()), len(plan.action_ids))
    counts = thresholds(distribution)
    draws = [draw_bits(secret, request.decision_id, snapshot.bundle_id) for request in requests]
    columns = (counts.cumsum(axis=1) > np.array(draws)[:, None]).argmax(axis=1).tolist()  # the first above the draw
    shares = (counts / _WHOLE).tolist()  # exact
    phrasings = _phrasings(snapshot, plan, requests, contexts, columns)
    pack, pack_digest, ids = snapshot.pack.pack, snapshot.pack.digest, plan.action_ids
    decisions = []
    for i, request in enumerate(requests):
        column, share, funnel = columns[i], shares[i], funnels[i]
        action_id, propensity = ids[column], share[column]
        treatments = phrasings.get(i, {})
        treatment_id, treatment_propensity = _treatment(snapshot, request, action_id, treatments, secret)
        certain = not request.explore or (propensity == 1.0 and funnel.counts["suppressed"] > 1)
        mode: Mode = "fallback" if not is_sound[i] else "deterministic" if certain else "online"
        decisions.append(
            Decision(
                request=request,
                pack=pack,
                pack_digest=pack_digest,
                bundle_id=snapshot.bundle_id,
                policy=snapshot.policy,
                candidates=ids,
                funnel=funnel.counts,
                removed=funnel.removed,
                distribution=tuple(share),
                draw=draws[i],
                action_id=action_id,
                propensity=propensity,
                treatment_id=treatment_id,
                treatment_propensity=treatment_propensity,
                treatment_distribution={name: n / _WHOLE for name, n in treatments.items()} if treatments else {},
                mode=mode,
                learnable=mode == "online",
                degraded=request.degraded + _failed(snapshot, plan, is_sound[i], treatment_id, treatments),
                decided_at=now,
            )
        )
    return decisions


def _requested(requests: Sequence[DecisionRequest], ids: tuple[str, ...]) -> ActionMask:
    """What each request allows, (n, k); no_action always (law 5)."""
    mask = np.ones((len(requests), len(ids)), dtype=np.bool_)
    for i, request in enumerate(requests):
        if request.actions is not None or request.exclude:
            wanted = set(ids if request.actions is None else request.actions).difference(request.exclude)
            mask[i] = [action_id in wanted or action_id == NO_ACTION for action_id in ids]
    return mask


def safe_distribution(policy: Policy, contexts: Contexts, mask: ActionMask) -> tuple[Distribution, NDArray[np.bool_]]:
    """The policy's distribution (n, k), a copy, and which of its rows may be sampled from (n,).

    A policy that fails makes a degraded decision, never an error (law 9); a row on which it fails spoils no other.
    """
    try:
        return ask(policy, contexts, mask)
    except Exception:  # whatever a policy does wrong, the customer still gets an answer
        if len(mask) > 1:
            rows = [safe_distribution(policy, contexts[i : i + 1], mask[i : i + 1]) for i in range(len(mask))]
            return np.concatenate([row for row, _ in rows]), np.concatenate([sound for _, sound in rows])
        logger.exception("policy failed; falling back")
        return np.zeros(mask.shape), np.zeros(len(mask), dtype=np.bool_)


def ask(policy: Policy, contexts: Contexts, mask: ActionMask) -> tuple[Distribution, NDArray[np.bool_]]:
    """As `safe_distribution`, but what the policy raises goes through, and a wrong shape is a ValueError."""
    for given in (contexts, mask):
        given.setflags(write=False)  # a policy must not widen the mask that it is checked against
    distribution = np.array(policy.distribution(contexts, mask), dtype=np.float64, order="C")
    if distribution.shape != mask.shape:
        raise ValueError(f"distribution has shape {distribution.shape}, not {mask.shape}")
    with np.errstate(invalid="ignore"):
        sums_to_one = np.abs(distribution.sum(axis=1) - 1.0) < 1e-9
    # Written so that NaN is False.
    within = (distribution >= 0.0) & (mask | (distribution <= 0.0))
    return distribution, sums_to_one & within.all(axis=1)


def thresholds(distribution: Distribution) -> NDArray[np.int64]:
    """Probabilities (n, k) in units of 2**-53, each row summing to exactly 2**53; the likeliest takes the rounding."""
    counts = np.rint(distribution * float(_WHOLE)).astype(np.int64)
    likeliest = counts.argmax(axis=1)[:, None] == np.arange(counts.shape[1])
    counts += likeliest * (_WHOLE - counts.sum(axis=1, keepdims=True))
    return counts


def draw_bits(secret: bytes, seed: str, purpose: str) -> int:
    """An integer in [0, 2**53) by HMAC-SHA256: for a decision the seed is its id and the purpose its bundle."""
    digest = keyed_digest(secret, f"{seed}\0{purpose}".encode())
    return int.from_bytes(digest[:8], "big") >> (64 - DRAW_BITS)


def _fallback(plan: MomentPlan, request: DecisionRequest, mask: NDArray[np.bool_]) -> int:
    """Column of the app's own baseline where it survived the funnel, else of no_action."""
    if request.baseline_action is None:
        return 0
    column = plan.action_ids.index(request.baseline_action)
    return column if mask[column] else 0


def _certain(column: int, k: int) -> NDArray[np.float64]:
    distribution = np.zeros(k)
    distribution[column] = 1.0
    return distribution


def _phrasings(
    snapshot: Snapshot, plan: MomentPlan, requests: Sequence[DecisionRequest], contexts: Contexts, columns: list[int]
) -> dict[int, dict[str, int]]:
    """Place of a request -> treatment -> probability in units of 2**-53, where a policy chooses phrasings.

    Where that policy fails the phrasing is drawn evenly: the action was chosen all the same.
    """
    policy = snapshot.treatments.get(plan.name)
    if policy is None:
        return {}
    pairs = snapshot.treatment_plans[plan.name]
    mask = treatment_mask(plan, pairs, np.array(columns, dtype=np.int64))
    asked = np.flatnonzero(mask.any(axis=1))
    distribution, sound = safe_distribution(policy, contexts[asked], mask[asked])
    for row, place in enumerate(asked.tolist()):
        if sound[row] and not requests[place].explore:
            distribution[row] = _certain(int(distribution[row].argmax()), len(pairs.action_ids))
    counts = thresholds(np.where(sound[:, None], distribution, 0.0))
    told = {}
    for row in np.flatnonzero(sound).tolist():
        here = np.flatnonzero(mask[asked[row]]).tolist()
        told[int(asked[row])] = {pairs.action_ids[c].split("/")[1]: int(counts[row, c]) for c in here}
    return told


def _failed(
    snapshot: Snapshot, plan: MomentPlan, sound: bool, treatment_id: str | None, treatments: Mapping[str, int]
) -> tuple[str, ...]:
    """Which of the two policies failed: `policy`, `treatments`."""
    evenly = treatment_id is not None and not treatments and plan.name in snapshot.treatments
    if sound and not evenly:
        return ()
    return (*(() if sound else ("policy",)), *(("treatments",) if evenly else ()))


def _treatment(
    snapshot: Snapshot, request: DecisionRequest, action_id: str, counts: Mapping[str, int], secret: bytes
) -> tuple[str | None, float]:
    """The phrasing and its probability given the action; evenly where there are no `counts` in units of 2**-53.

    Each session has its own order of preference over phrasings, so that a persona stays the same through it,
    whichever phrasings the next action offers and whichever policy serves by then.
    """
    treatments = snapshot.pack.action(action_id).treatments
    if not treatments:
        return None, 1.0
    seed = request.context.session_id or request.decision_id
    if counts:
        treatment = draw_alike(secret, seed, snapshot.treatment_names, counts)
        return treatment, counts[treatment] / _WHOLE
    ranks = {treatment: draw_bits(secret, seed, f"treatment:{treatment}") for treatment in treatments}
    return min(ranks, key=lambda treatment: (ranks[treatment], treatment)), 1.0 / len(ranks)


def draw_alike(secret: bytes, seed: str, names: Sequence[str], counts: Mapping[str, int]) -> str:
    """One of `names`, each exactly as likely as its count in units of 2**-53, and mostly the same for the same seed.

    A seed has one list of tries, a name and a height each; the first whose height is below its name's count is
    taken. A try is taken with probability sum(counts) / 2^(53 + bits) whatever the counts, and by a name in
    proportion to its own, so no rounding comes in. For counts p and q in place of each other the name stays the
    same with at least probability (1 - d) / (1 + d), d half the sum of |p - q|.
    Source: correlated sampling, Holenstein (2007), Parallel repetition: simplifications and the no-signaling case.
    """
    bits = (len(names) - 1).bit_length()
    for i in count():
        place = draw_bits(secret, seed, f"name:{i}") >> (DRAW_BITS - bits)
        if place < len(names) and draw_bits(secret, seed, f"height:{i}") < counts.get(names[place], 0):
            return names[place]
    raise AssertionError("a list of tries has no end")
