"""What targeting.py of hillstrom and learned.py of open_bandit work out, by hand and on a little data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nba.ope import Terms
from tests.experiments.loading import EXPERIMENTS, load

DATA = Path(os.environ.get("NBA_DATA_DIR", EXPERIMENTS.parents[1] / "shared" / "data"))
HILLSTROM, OPEN_BANDIT = DATA / "hillstrom.csv", DATA / "open-bandit"
targeting, learned = load("hillstrom", "targeting"), load("open_bandit", "learned")

needs_hillstrom = pytest.mark.skipif(not HILLSTROM.exists(), reason=f"{HILLSTROM} is not here: set NBA_DATA_DIR")
needs_open_bandit = pytest.mark.skipif(not OPEN_BANDIT.is_dir(), reason=f"{OPEN_BANDIT} is not here: set NBA_DATA_DIR")


def test_the_reward_is_the_outcome_less_the_cost_of_what_was_sent() -> None:
    """Nothing sent and a visit: 1. Sent and a visit: 1 - 0.2. Sent in vain: -0.2."""
    test = targeting.Test(
        plan=None,
        contexts=np.zeros((3, 2), dtype=np.float32),
        sent=np.array([0, 1, 2]),
        outcomes={"visit": np.array([1.0, 1.0, 0.0])},
    )
    rounds = test.rounds("visit", 0.2)
    assert rounds.rewards == pytest.approx([1.0, 0.8, -0.2])
    assert rounds.propensities.tolist() == [1 / 3] * 3


def test_terms_of_a_customer_are_averaged_over_the_splits_that_held_him_out() -> None:
    """Half sum to 1 over one split, half to 4 over two: 5 / 3. All alike, there is no interval: 2 and 2 / 1."""
    found = targeting.pooled(np.array([[1.0], [4.0]] * 20), np.array([1.0, 2.0] * 20))
    assert found[0]["value"] == pytest.approx(5 / 3, abs=1e-6)
    same = targeting.pooled(np.full((50, 1), 2.0), np.ones(50))[0]
    assert same == {"value": 2.0, "low": 2.0, "high": 2.0}


@needs_hillstrom
def test_a_cost_is_taken_off_everybody_who_is_mailed() -> None:
    """0.05 a mail: nobody's value does not change, everybody's falls by 0.05, that of sending evenly by two thirds."""
    test = targeting.read(HILLSTROM, rows=1_500)
    free, dear = (targeting.judge(test, "visit", cost, splits=1) for cost in (0.0, 0.05))
    for name, mailed in (("nobody", 0.0), ("everybody men's", 1.0), ("everybody women's", 1.0), ("evenly", 2 / 3)):
        assert dear[name]["mailed"] == pytest.approx(mailed, abs=1e-4)
        fallen = free[name]["value"]["value"] - dear[name]["value"]["value"]
        assert fallen == pytest.approx(0.05 * mailed, abs=2e-3), name
    assert free["best for all"]["lift"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_shrunk_weights_are_none_at_nought_and_themselves_at_infinity() -> None:
    """At lambda 4: 4 * 2 / (4 + 4) = 1."""
    weights = np.array([2.0])
    assert learned.shrunk(weights, 0.0).tolist() == [0.0]
    assert learned.shrunk(weights, 4.0).tolist() == [1.0]
    assert learned.shrunk(weights, float("inf")).tolist() == [2.0]


def terms(weights: list[float], rewards: list[float]) -> Terms:
    n = len(weights)
    return Terms(np.array(weights), np.array(rewards), np.full(n, 0.5), np.full(n, 0.5), np.arange(n, dtype=np.uint64))


def test_contributions_are_those_of_the_four_estimators() -> None:
    """w = (2, 0), r = (1, 0), q = 0.5: w r = (2, 0), and 0.5 + w (r - q) = (1.5, 0.5)."""
    added = learned.contributions(terms([2.0, 0.0], [1.0, 0.0]))
    assert added[:, 0].tolist() == added[:, 1].tolist() == [2.0, 0.0]
    assert added[:, 2].tolist() == [1.5, 0.5]


def test_where_the_model_leaves_nothing_over_no_shrinking_costs_anything() -> None:
    """r = q: the doubly robust value is the model's, whatever lambda."""
    added = learned.contributions(terms([3.0, 1.0, 0.0], [0.5, 0.5, 0.5]))
    assert added[:, 3].tolist() == [0.5, 0.5, 0.5]


def test_snips_divides_by_the_weights_of_all_splits() -> None:
    """IPS (2 + 0) / 2 = 1, SNIPS 2 / (2 + 0) = 1; a second split of w = (1, 1): (3 + 0) / 4 and 3 / 4."""
    pooled = learned.Pooled(2)
    at = np.arange(2)
    pooled.add(at, terms([2.0, 0.0], [1.0, 0.0]))
    pooled.add(at, terms([1.0, 1.0], [1.0, 0.0]))
    told = pooled.told()
    assert told["ips"]["value"] == told["snips"]["value"] == 0.75
    assert told["mean_weight"]["value"] == 1.0


@needs_open_bandit
def test_each_logged_policy_has_its_own_clicks_in_its_own_log_and_is_found_in_the_other() -> None:
    """46 and 69 clicks in 10,000; from the uniform log, every interval of the Thompson policy holds its own 0.0069."""
    own = learned.on_policy(OPEN_BANDIT)
    assert own["random, as logged"]["value"] == pytest.approx(0.0046)
    assert own["bts, as logged"]["value"] == pytest.approx(0.0069)
    found: Any = learned.judge(OPEN_BANDIT, 1, kinds=("linear+square_cb",))
    estimates = found["bts, as logged"]["random"]
    assert all(estimates[name]["low"] < 0.0069 < estimates[name]["high"] for name in learned.ESTIMATORS)
    assert found["random, as logged"]["random"]["mean_weight"]["value"] == pytest.approx(1.0, abs=1e-6)
