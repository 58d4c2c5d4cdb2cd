"""The decision: facts, funnel, distribution, draw. Pure, and deterministic in decision_id (laws 1, 2, 5)."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from nba.decision import Decision, DecisionRequest, Mode
from nba.errors import UnknownActionError
from nba.facts import code_facts
from nba.guardrails import Funnel, run_funnel
from nba.moment_plan import MomentPlan
from nba.snapshot import Snapshot
from nba.types import NO_ACTION, ActionMask, Contexts, Distribution, Policy

DRAW_BITS = 53  # every multiple of 2**-53 in [0, 1] is a float64, so integer thresholds and propensities are equal
_WHOLE = 1 << DRAW_BITS
_log = logging.getLogger(__name__)


def decide(snapshot: Snapshot, request: DecisionRequest, *, now: datetime, secret: bytes) -> Decision:
    """The decision for one request. Raises UnknownMomentError, UnknownActionError."""
    return decide_many(snapshot, [request], now=now, secret=secret)[0]


def decide_many(
    snapshot: Snapshot, requests: Sequence[DecisionRequest], *, now: datetime, secret: bytes
) -> list[Decision]:
    """One decision a request, in order; those of one moment share their matrix arithmetic."""
    by_moment = defaultdict[str, list[int]](list)
    for i, request in enumerate(requests):
        check_request(snapshot, request)
        by_moment[request.context.moment].append(i)
    decisions: dict[int, Decision] = {}
    for moment, places in by_moment.items():
        made = _decide_moment(snapshot, moment, [requests[i] for i in places], now, secret)
        decisions.update(zip(places, made, strict=True))
    return [decisions[i] for i in range(len(requests))]


def check_request(snapshot: Snapshot, request: DecisionRequest) -> None:
    """Raises UnknownMomentError or UnknownActionError where the request names what its moment does not have."""
    snapshot.pack.moment(request.context.moment)
    known = snapshot.plans[request.context.moment].action_ids
    baseline = () if request.baseline_action is None else (request.baseline_action,)
    for field, named in (
        ("actions", request.actions or ()),
        ("exclude", request.exclude),
        ("baseline_action", baseline),
    ):
        for action_id in named:
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
    snapshot: Snapshot, moment: str, requests: Sequence[DecisionRequest], now: datetime, secret: bytes
) -> list[Decision]:
    plan = snapshot.plans[moment]
    facts = code_facts(plan.encoder.fields, [request.context.values for request in requests])
    requested = _requested(requests, plan.action_ids)
    mask, funnels = run_funnel(plan.stages, facts, requested, plan.action_ids)
    distribution, sound = _distribution(snapshot.policies[moment], plan.encoder.encode(facts), mask)
    return [
        _draw(snapshot, plan, request, funnels[i], mask[i], distribution[i], bool(sound[i]), now, secret)
        for i, request in enumerate(requests)
    ]


def _requested(requests: Sequence[DecisionRequest], ids: tuple[str, ...]) -> ActionMask:
    """What each request allows, (n, k); no_action always (law 5)."""
    mask = np.ones((len(requests), len(ids)), dtype=np.bool_)
    for i, request in enumerate(requests):
        if request.actions is not None or request.exclude:
            wanted = ids if request.actions is None else request.actions
            mask[i] = [a == NO_ACTION or (a in wanted and a not in request.exclude) for a in ids]
    return mask


def _distribution(policy: Policy, contexts: Contexts, mask: ActionMask) -> tuple[Distribution, NDArray[np.bool_]]:
    """The policy's distribution (n, k), and which rows of it may be sampled from (n,).

    A policy that fails is a degraded decision, never an error (law 9).
    """
    try:
        distribution = np.asarray(policy.distribution(contexts, mask), dtype=np.float64)
        if distribution.shape != mask.shape:
            raise ValueError(f"shape {distribution.shape}, not {mask.shape}")
    except Exception:  # whatever a policy does wrong, the customer still gets an answer
        _log.exception("policy failed; falling back")
        return np.zeros(mask.shape), np.zeros(len(mask), dtype=np.bool_)
    sums_to_one = np.abs(distribution.sum(axis=1) - 1.0) < 1e-9
    sound = sums_to_one & (distribution >= 0.0).all(axis=1) & ~((distribution > 0.0) & ~mask).any(axis=1)
    return distribution, sound


def thresholds(distribution: NDArray[np.float64]) -> NDArray[np.int64]:
    """Probabilities (k,) in units of 2**-53, summing to exactly 2**53; the likeliest action takes the rounding."""
    counts = np.rint(distribution * float(_WHOLE)).astype(np.int64)
    counts[counts.argmax()] += _WHOLE - int(counts.sum())
    return counts


def draw_bits(secret: bytes, decision_id: str, bundle_id: str) -> tuple[int, int]:
    """Two independent integers in [0, 2**53) from the decision's id and its bundle, by HMAC-SHA256."""
    digest = hmac.digest(secret, f"{decision_id}\0{bundle_id}".encode(), hashlib.sha256)
    first, second = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")
    return first >> (64 - DRAW_BITS), second >> (64 - DRAW_BITS)


def _draw(
    snapshot: Snapshot,
    plan: MomentPlan,
    request: DecisionRequest,
    funnel: Funnel,
    mask: NDArray[np.bool_],
    distribution: NDArray[np.float64],
    sound: bool,
    now: datetime,
    secret: bytes,
) -> Decision:
    draw, _ = draw_bits(secret, request.decision_id, snapshot.bundle_id)
    mode: Mode = "online"
    if not sound:
        mode, distribution = "fallback", _certain(_fallback(plan, request, mask), len(mask))
    elif not request.explore:
        mode, distribution = "deterministic", _certain(int(distribution.argmax()), len(mask))
    counts = thresholds(distribution)
    if mode == "online" and counts.max() == _WHOLE and mask.sum() > 1:
        mode = "deterministic"
    column = int(np.searchsorted(np.cumsum(counts), draw, side="right"))
    action_id = plan.action_ids[column]
    treatment_id, treatment_propensity = _treatment(snapshot, request, action_id, secret)
    return Decision(
        request=request,
        pack=snapshot.pack.pack,
        pack_digest=snapshot.pack.digest,
        bundle_id=snapshot.bundle_id,
        policy=snapshot.policy,
        candidates=plan.action_ids,
        funnel=funnel.counts,
        removed=funnel.removed,
        distribution=tuple((counts / _WHOLE).tolist()),
        draw=draw,
        action_id=action_id,
        propensity=float(counts[column] / _WHOLE),
        treatment_id=treatment_id,
        treatment_propensity=treatment_propensity,
        mode=mode,
        learnable=mode == "online",
        degraded=request.degraded if sound else (*request.degraded, "policy"),
        decided_at=now,
    )


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


def _treatment(snapshot: Snapshot, request: DecisionRequest, action_id: str, secret: bytes) -> tuple[str | None, float]:
    """The phrasing, drawn evenly, and its probability. One session keeps its draw, so a persona stays the same."""
    treatments = sorted(snapshot.pack.action(action_id).treatments)
    if not treatments:
        return None, 1.0
    seed = request.context.session_id or request.decision_id
    _, bits = draw_bits(secret, seed, snapshot.bundle_id)
    return treatments[bits * len(treatments) >> DRAW_BITS], 1.0 / len(treatments)
