"""Contracts as tests. Call them from a test of your own policy: they raise AssertionError and say what is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nba.artefact import load_artefact, save_artefact
from nba.decide import thresholds
from nba.pack import Pack
from nba.types import ActionMask, Actions, Contexts, Distribution, Policy

MAX_Z = 5.0  # standard errors; chance passes it once in two million


def check_policy(
    policy: Policy,
    contexts: Contexts,
    mask: ActionMask,
    *,
    floor: float = 0.0,
    permuted: Callable[[NDArray[np.intp]], Policy] | None = None,
) -> None:
    """The contract of `nba.types.Policy`, on these contexts (n, d) and masks (n, k), and on extreme ones.

    `floor` is the probability the policy claims to share evenly among eligible actions (1: it is uniform).
    `permuted` makes the policy for actions in another order, given the old column of each new one: its
    probabilities must be the same in that order. A policy to which this means nothing leaves it out.
    """
    _check_inputs_kept(policy, contexts, mask)
    _check_distribution(policy, contexts, mask, floor)
    _check_distribution(policy, _extreme(contexts), mask, floor)
    only_no_action = np.zeros_like(mask)
    only_no_action[:, 0] = True
    _check_distribution(policy, contexts, only_no_action, 1.0)
    _check_rows_alone(policy, contexts, mask)
    if permuted is not None:
        _check_permutation(policy, permuted, contexts, mask)


def check_saved(pack: Pack, kind: str, policies: Mapping[str, Policy], folder: Path, *, rng: Generator) -> None:
    """Policies that were saved and loaded again answer with the same bits. `folder` is a new folder to write to."""
    digest = save_artefact(folder, pack, kind, policies)
    snapshot = load_artefact(folder, pack=pack)
    _require(snapshot.policy.digest == digest, "the loaded artefact has another digest than the saved one")
    for name, plan in snapshot.plans.items():
        contexts = rng.uniform(-1.0, 1.0, size=(64, plan.width)).astype(np.float32)
        mask = random_mask(64, len(plan.action_ids), rng)
        before, after = (p[name].distribution(contexts, mask) for p in (policies, snapshot.policies))
        _require(np.array_equal(before, after), f"the policy of {name!r} answers otherwise once saved and loaded")


def check_draws(actions: Actions, distributions: Distribution) -> None:
    """Actions (n,) that were taken are draws from the logged distributions (n, k).

    Each action comes as often as its probabilities say, and the mean importance weight of the uniform policy over
    the actions that had a chance is 1, both within MAX_Z standard errors. Logs of a softmax whose argmax was acted on
    fail it, and so do propensities from before a guardrail.
    """
    n, k = distributions.shape
    expected = distributions.sum(axis=0)
    spread = np.sqrt((distributions * (1.0 - distributions)).sum(axis=0))
    counted = np.bincount(actions, minlength=k)
    for action in range(k):
        off = abs(counted[action] - expected[action])
        _require(
            off <= MAX_Z * spread[action] + 1e-6 * n,
            f"action {action} came {counted[action]} times, its propensities say {expected[action]:.1f}",
        )
    propensities = distributions[np.arange(n), actions]
    _require(bool((propensities > 0.0).all()), "an action was taken that had no chance")
    weights = 1.0 / (distributions > 0.0).sum(axis=1) / propensities
    off = abs(weights.mean() - 1.0)
    _require(
        off <= MAX_Z * weights.std() / n**0.5 + 1e-6, f"the mean importance weight of uniform is {weights.mean():.4f}"
    )


def random_mask(n: int, k: int, rng: Generator) -> ActionMask:
    """Masks (n, k) to try a policy with: anything goes but column 0, which is always there; row 0 allows all."""
    mask = rng.random((n, k)) < rng.random((n, 1))
    mask[:, 0] = True
    mask[:1] = True
    return mask


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _check_distribution(policy: Policy, contexts: Contexts, mask: ActionMask, floor: float) -> None:
    distribution = policy.distribution(contexts, mask)
    _require(distribution.shape == mask.shape, f"shape {distribution.shape}, not {mask.shape}")
    _require(distribution.dtype == np.float64, f"dtype {distribution.dtype}, not float64")
    _require(bool(np.isfinite(distribution).all()), "a probability is not finite")
    _require(bool((distribution >= 0.0).all()), "a probability is negative")
    _require(bool((distribution[~mask] == 0.0).all()), "an action outside the mask has a chance")
    off = np.abs(distribution.sum(axis=1) - 1.0).max(initial=0.0)
    _require(bool(off < 1e-9), f"a row sums to 1 but for {off:g}")
    least = np.where(mask, floor / mask.sum(axis=1, keepdims=True), 0.0)
    _require(bool((distribution >= least - 1e-12).all()), f"an eligible action has less than its part of {floor:g}")
    drawn = thresholds(distribution) / 2.0**53
    _require(bool(np.abs(drawn - distribution).max(initial=0.0) < 1e-9), "what is drawn is not what was said")


def _check_inputs_kept(policy: Policy, contexts: Contexts, mask: ActionMask) -> None:
    given = contexts.copy(), mask.copy()
    first, second = policy.distribution(*given), policy.distribution(*given)
    _require(np.array_equal(first, second, equal_nan=True), "the same question was answered in two ways")
    _require(np.array_equal(given[0], contexts) and np.array_equal(given[1], mask), "the policy wrote to its inputs")


def _check_rows_alone(policy: Policy, contexts: Contexts, mask: ActionMask) -> None:
    together = policy.distribution(contexts, mask)
    for i in range(len(mask)):
        alone = policy.distribution(contexts[i : i + 1], mask[i : i + 1])
        _require(np.array_equal(alone[0], together[i]), f"row {i} alone differs from itself among others")


def _check_permutation(
    policy: Policy, permuted: Callable[[NDArray[np.intp]], Policy], contexts: Contexts, mask: ActionMask
) -> None:
    k = mask.shape[1]
    order = np.concatenate([[0], np.arange(k - 1, 0, -1)])
    expected = policy.distribution(contexts, mask)[:, order]
    found = permuted(order).distribution(contexts, np.ascontiguousarray(mask[:, order]))
    _require(np.allclose(found, expected, rtol=0.0, atol=1e-9), "probabilities depend on the order of the actions")


def _extreme(contexts: Contexts) -> Contexts:
    """As many rows of the largest, smallest and nought of float32, in turn."""
    limits = np.finfo(np.float32)
    values = np.array([limits.max, limits.min, limits.smallest_subnormal, 0.0], dtype=np.float32)
    n, d = contexts.shape
    row, column = np.arange(n)[:, None], np.arange(d)
    extreme: Contexts = values[(row + row % 3 * column) % len(values)]
    return extreme
