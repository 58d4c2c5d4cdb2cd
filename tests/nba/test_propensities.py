"""The logged propensity is the probability of what was done: shown on 200,000 decisions of one context.

Each customer has another decision_id, so another draw; everything else is the same. The same test is run on a server
that is wrong on purpose: it acts on the best action and logs the softmax it was taken from. A quarter is enough there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import chisquare

from nba.decide import decide_many
from nba.decision import DecisionRequest, PolicyRef
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.policies import SquareCB
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.testing import check_draws
from nba.types import ActionMask, Actions, Context, Contexts, Distribution

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
N = 200_000
CHUNK = 1_000
MIN_P = 1e-4


class Softmax:
    """Softmax of a learned model's values: what the wrong server logs."""

    def __init__(self, learned: SquareCB) -> None:
        self._model = learned.model

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        weights = np.exp(4.0 * self._model.values(contexts)) * mask
        probabilities: Distribution = weights / weights.sum(axis=1, keepdims=True)
        return probabilities


class Logged(NamedTuple):
    """What the log says: the column taken (n,) and the distribution (n, k)."""

    actions: Actions
    distributions: Distribution


@pytest.fixture(scope="module")
def learned(support: Pack, make_rounds: Callable[..., LoggedRounds]) -> SquareCB:
    plan = plan_moment(support, "tone_tuner")
    return SquareCB.fit(plan, make_rounds(plan, 60), scale=3.0)


def decided(pack: Pack, policy: SquareCB | Softmax, n: int) -> Logged:
    """n decisions of one context, as they would be logged."""
    ref = PolicyRef(name="support", version="1", kind="square_cb", digest="d")
    snapshot = Snapshot.of(pack, ref, dict.fromkeys(pack.moments, policy))
    values = {"sentiment": -0.3, "device": "mobile", "local_time": "2026-11-21T08:30:00"}
    context = Context(subject="s", moment="tone_tuner", values=values, observed_at=NOW)
    ids, actions = snapshot.plans["tone_tuner"].action_ids, []
    said: set[tuple[float, ...]] = set()
    for start in range(0, n, CHUNK):
        requests = [DecisionRequest(decision_id=f"d-{i}", context=context) for i in range(start, start + CHUNK)]
        for decision in decide_many(snapshot, requests, now=NOW, secret=b"s" * 32):
            actions.append(ids.index(decision.action_id))
            said.add(decision.distribution)
            assert decision.propensity == decision.distribution[actions[-1]]
    (row,) = said  # one context, one distribution
    return Logged(np.array(actions), np.broadcast_to(row, (n, len(row))))


def p_of_frequencies(logged: Logged) -> float:
    """Chance of frequencies as far from the logged propensities as these, by the chi-square test."""
    row = logged.distributions[0]
    possible = row > 0.0
    counts = np.bincount(logged.actions, minlength=len(row))
    assert not counts[~possible].any()
    return float(chisquare(counts[possible], row[possible] * len(logged.actions)).pvalue)


def weights_of_uniform(logged: Logged) -> np.ndarray:
    """Importance weights (n,) of the policy that is uniform over what was eligible."""
    eligible = (logged.distributions > 0.0).sum(axis=1)
    return 1.0 / eligible / logged.distributions[np.arange(len(logged.actions)), logged.actions]


def test_frequencies_match_the_logged_propensities_and_weights_have_a_mean_of_1(
    support: Pack, learned: SquareCB
) -> None:
    logged = decided(support, learned, N)
    assert (logged.distributions[0] > 0.0).sum() == 6  # the strongest empathy is not eligible on so mild a complaint
    assert p_of_frequencies(logged) > MIN_P
    weights = weights_of_uniform(logged)
    assert abs(weights.mean() - 1.0) < 3.9 * weights.std() / N**0.5  # 1 decision in 10,000 is outside by chance
    check_draws(logged.actions, logged.distributions)


def test_a_server_that_acts_on_the_best_and_logs_the_softmax_is_caught(support: Pack, learned: SquareCB) -> None:
    """The bug, on purpose: same log, but what was done is the argmax of the logged distribution."""
    honest = decided(support, Softmax(learned), N // 4)
    assert p_of_frequencies(honest) > MIN_P
    check_draws(honest.actions, honest.distributions)

    wrong = Logged(honest.distributions.argmax(axis=1), honest.distributions)
    assert p_of_frequencies(wrong) < MIN_P
    weights = weights_of_uniform(wrong)
    assert abs(weights.mean() - 1.0) > 0.1
    with pytest.raises(AssertionError, match="its propensities say"):
        check_draws(wrong.actions, wrong.distributions)
