"""Evaluations against the truth and against arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from nba.errors import EmptyLogError
from nba.pack import Pack
from tests.training.conftest import played, snapshot, uniform
from training.evaluate import evaluate, true_values
from training.learn import from_rounds, from_simulator
from training.truth import SimulatedMoment, no_rounds

Simulated = dict[str, SimulatedMoment]


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_the_uniform_policy_on_its_own_log_is_worth_its_mean_reward(pack: Pack, simulated: Simulated) -> None:
    """Every weight is 1, so ips and snips are the plain mean, and the lift over itself is exactly 0."""
    rounds = played(simulated, uniform(pack), each=300, seed=2)
    told = evaluate(uniform(pack), uniform(pack), rounds, rng=rng())
    mean = np.mean(np.concatenate([part.rewards for part in rounds.values()]))
    assert told.overall.logged == pytest.approx(mean)
    assert told.overall.ips.value == pytest.approx(mean)
    assert told.overall.snips.value == pytest.approx(mean)
    assert told.overall.mean_weight.value == pytest.approx(1.0)
    assert told.overall.rounds == 1_500
    assert told.overall.effective_n == pytest.approx(1_500)
    assert told.overall.lift is not None
    assert (told.overall.lift.value, told.overall.lift.low, told.overall.lift.high) == pytest.approx((0.0, 0.0, 0.0))


def test_the_whole_is_the_rounds_of_all_moments_alike(pack: Pack, simulated: Simulated) -> None:
    """900 rounds of one moment and 100 of another: 0.9 of the first mean and 0.1 of the second."""
    rounds = played(simulated, uniform(pack), each=900, seed=2)
    some = {"tone_tuner": rounds["tone_tuner"], "instant_clarifier": rounds["instant_clarifier"].take(np.arange(100))}
    told = evaluate(uniform(pack), None, some, rng=rng())
    weighted = 0.9 * told.moments["tone_tuner"].ips.value + 0.1 * told.moments["instant_clarifier"].ips.value
    assert told.overall.ips.value == pytest.approx(weighted)
    assert set(told.moments) == set(some)


def test_the_interval_holds_the_true_lift(pack: Pack, simulated: Simulated) -> None:
    better = from_simulator(pack, "square_cb", simulated, rounds=3_000, seed=1)
    challenger = snapshot(pack, dict(better.policies), kind="square_cb", version="2")
    told = evaluate(
        challenger,
        uniform(pack),
        played(simulated, uniform(pack), each=4_000, seed=9),
        rng=rng(),
        simulated=simulated,
    )
    gained = [true.challenger - true.champion for true in told.truth.values() if true.champion is not None]
    assert told.overall.lift is not None
    assert told.overall.lift.low < np.mean(gained) < told.overall.lift.high
    assert told.overall.lift.low > 0.1
    for name in ("ips", "snips", "doubly_robust"):
        estimate = getattr(told.overall, name)
        assert estimate.low < np.mean([true.challenger for true in told.truth.values()]) < estimate.high


def test_without_a_champion_there_is_no_lift(pack: Pack, simulated: Simulated) -> None:
    told = evaluate(uniform(pack), None, played(simulated, uniform(pack), each=50, seed=2), rng=rng())
    assert told.champion is None
    assert (told.overall.lift, told.overall.champion, told.overall.champion_weight) == (None, None, None)
    assert told.overall.effective_n == pytest.approx(250)
    assert not any(name.startswith(("lift", "champion")) for name in told.metrics())


def test_bounds_are_metrics_of_their_own(pack: Pack, simulated: Simulated) -> None:
    rounds = played(simulated, uniform(pack), each=50, seed=2)
    told = evaluate(uniform(pack), uniform(pack), rounds, rng=rng(), simulated=simulated)
    metrics = told.metrics()
    robust = told.moments["tone_tuner"].doubly_robust
    bounds = [metrics[f"doubly_robust{end}/tone_tuner"] for end in ("_low", "", "_high")]
    assert bounds == [robust.low, robust.value, robust.high]
    assert metrics["rounds"] == 250.0
    assert metrics["true_oracle/tone_tuner"] == simulated["tone_tuner"].yardsticks.oracle


def test_no_rounds_are_no_judgement(pack: Pack) -> None:
    for rounds in ({}, {"tone_tuner": no_rounds(30, 7)}):
        with pytest.raises(EmptyLogError, match="no rounds to judge by"):
            evaluate(uniform(pack), None, rounds, rng=rng())


def test_the_truth_sets_challenger_beside_champion(pack: Pack, simulated: Simulated) -> None:
    rules = snapshot(pack, dict(from_rounds(pack, "rules", {}).policies), kind="rules", version="2")
    for true in true_values(rules, uniform(pack), simulated).values():
        assert true.challenger == true.yardsticks.rules
        assert true.champion == true.yardsticks.uniform
