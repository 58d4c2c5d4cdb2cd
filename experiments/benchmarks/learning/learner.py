"""One policy that starts without knowledge and learns from its own decisions, and what each decision lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.batch import BatchMomentEnv
from envs.dynamics.delays import Delays
from envs.people import subject_hash
from envs.rollout import sample_actions
from nba.policies import KINDS
from nba.rounds import LoggedRounds
from nba.types import ActionMask, ActionValues, Distribution, Policy
from training.truth import no_rounds

FIRST = 50  # decisions before a policy first learns
MORE = 0.25  # it learns again when it has this much more
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom: intervals over a few seeds.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True, slots=True)
class Course:
    """How a policy must live: what comes back how late, and how often it learns."""

    delays: Delays | None = None  # which outcomes come in time; None: all, at once
    lag: int = 0  # decisions made before a round's window has closed and it may be learned from
    most: int | None = None  # decisions between two updates at most; None: a quarter of those made


@dataclass(slots=True)
class Run:
    """What was lost at each decision to the eligible action of the highest expected reward, exactly."""

    lost: NDArray[np.float64]  # (n,) reward units: oracle's expected reward minus the policy's
    best: NDArray[np.float64]  # (n,) the oracle's expected reward
    at: dict[int, Policy] = field(default_factory=dict)  # decisions made -> the policy learned from them

    def regret(self, stop: int, start: int = 0) -> float:
        """Mean regret over decisions `start` to `stop`, as a share of what the oracle earns in them."""
        return float(self.lost[start:stop].sum() / self.best[start:stop].sum())


def updates(decisions: int, marks: Sequence[int] = (), most: int | None = None) -> Iterator[tuple[int, int]]:
    """Begin and end of the decisions between two updates; every mark is an end."""
    start = 0
    while start < decisions:
        stop = min(start + max(FIRST, int(MORE * start)), decisions, start + (most or decisions))
        stop = min([stop, *(mark for mark in marks if start < mark)])
        yield start, stop
        start = stop


def learn(
    kind: str,
    env: BatchMomentEnv,
    decisions: int,
    *,
    rng: Generator,
    marks: Sequence[int] = (),
    settings: Mapping[str, Any] | None = None,
    course: Course = Course(),
) -> Run:
    """A policy of this kind over so many decisions of its own; those learned at the marks are kept.

    The truth of a drifting environment is that of the step at which a batch of decisions begins.
    """
    plan, learner = env.plan, KINDS[kind]
    nothing = no_rounds(plan.width, len(plan.action_ids))
    policy: Any = learner.fit(plan, nothing, None, **(settings or {}))
    run, waiting, learned = Run(np.empty(decisions), np.empty(decisions)), nothing, 0
    for start, stop in updates(decisions, marks, course.most):
        then = env.at(start)
        heard, run.lost[start:stop], run.best[start:stop] = play(policy, then, stop - start, rng, course.delays)
        waiting = LoggedRounds.concatenate([waiting, heard])
        closed = max(0, stop - course.lag - learned)
        if closed:
            now = np.arange(len(waiting)) < closed
            policy = learner.fit(plan, waiting.take(now), policy, **(settings or {}))
            waiting, learned = waiting.take(~now), learned + closed
        if stop in marks:
            run.at[stop] = policy
    return run


def play(
    policy: Policy, env: BatchMomentEnv, n: int, rng: Generator, delays: Delays | None = None
) -> tuple[LoggedRounds, NDArray[np.float64], NDArray[np.float64]]:
    """n decisions: the rounds as a log has them, what each lost in expectation (n,), and the oracle's reward (n,)."""
    batch = env.sample(n, rng)
    distribution = policy.distribution(batch.contexts, batch.mask)
    actions = sample_actions(distribution, rng)
    outcomes = env.outcomes(batch, actions, rng)
    if delays is not None:
        outcomes = outcomes * delays.in_window(delays.draw(n, rng))
    lost, best = regret(distribution, env.expected_rewards(batch.contexts), batch.mask)
    propensities = distribution[np.arange(n), actions]
    subjects = subject_hash(batch.customers)
    rounds = LoggedRounds(batch.contexts, batch.mask, actions, propensities, env.rewards(outcomes, actions), subjects)
    return rounds, lost, best


def regret(
    distribution: Distribution, expected: ActionValues, mask: ActionMask
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a distribution (n, k) loses in each round (n,), and what the best eligible action is worth (n,)."""
    best = np.where(mask, expected, -np.inf).max(axis=1)
    return best - (distribution * expected).sum(axis=1), best


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over seeds with its 95 % interval by Student's t; NaN ends where there is one seed.

    From the tenth seed on the quantile of nine degrees of freedom is kept, which is a little too wide.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, float("nan"), float("nan")
    half = _T[min(n - 2, len(_T) - 1)] * float(np.std(values, ddof=1)) / n**0.5
    return mean, mean - half, mean + half


def worth(policy: Policy, env: BatchMomentEnv, contexts: NDArray[np.float32], mask: ActionMask) -> float:
    """The policy's value on these contexts, as a share of the oracle's: exact, free of the noise of outcomes."""
    lost, best = regret(policy.distribution(contexts, mask), env.expected_rewards(contexts), mask)
    return 1.0 - float(lost.sum() / best.sum())
