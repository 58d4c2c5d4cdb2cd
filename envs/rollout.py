"""Playing a policy: rounds as the log would have them, and its exact expected value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from envs.batch import BatchMomentEnv
from envs.people import subject_hash
from nba.rounds import LoggedRounds
from nba.types import ActionMask, Actions, Contexts, Distribution, Policy

CHUNK = 8_192  # rounds that are played at once: their arrays stay in the cache


def rollout(policy: Policy, env: BatchMomentEnv, *, episodes: int, rng: Generator) -> LoggedRounds:
    """That many one-step episodes of the policy, with the propensities it sampled with."""
    sizes = [CHUNK] * (episodes // CHUNK) + [episodes % CHUNK]
    return LoggedRounds.concatenate([_play(policy, env, size, rng) for size in sizes])


def _play(policy: Policy, env: BatchMomentEnv, n: int, rng: Generator) -> LoggedRounds:
    batch = env.sample(n, rng)
    distribution = policy.distribution(batch.contexts, batch.mask)
    actions = sample_actions(distribution, rng)
    rewards = env.rewards(env.outcomes(batch, actions, rng), actions)
    propensities = distribution[np.arange(n), actions]
    return LoggedRounds(batch.contexts, batch.mask, actions, propensities, rewards, subject_hash(batch.customers))


def sample_actions(distribution: Distribution, rng: Generator) -> Actions:
    """One column a row of the distribution (n, k); never one of probability zero."""
    reached = distribution.cumsum(axis=1)
    u = rng.random(len(distribution)) * reached[:, -1]
    return np.asarray((reached <= np.minimum(u, np.nextafter(reached[:, -1], 0.0))[:, None]).sum(axis=1))


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """Mean expected reward a round over n contexts, and the standard error that their choice leaves."""

    value: float
    standard_error: float
    n: int


def value(policy: Policy, env: BatchMomentEnv, contexts: Contexts, mask: ActionMask) -> PolicyValue:
    """The policy's value on these contexts: mean of sum_a pi(a | x) E[r | x, a], free of the noise of outcomes."""
    each = (policy.distribution(contexts, mask) * env.expected_rewards(contexts)).sum(axis=1)
    n = len(each)
    return PolicyValue(float(each.mean()), float(each.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"), n)
