"""The monitors of a policy that learns while it serves: silent where all is well, loud where it is not."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace as changed

from nba.decision import Decision
from nba.pack import Pack
from tests.training.conftest import NOW, history, uniform
from training.monitors import Limits, Monitors, sharpened_weight
from training.pending import Closed, Pending
from training.truth import SimulatedMoment

MOMENT = "tone_tuner"


@pytest.fixture(scope="module")
def closed(pack: Pack, simulated: dict[str, SimulatedMoment]) -> Closed:
    """400 rounds of the uniform policy, version 1."""
    pending = Pending(pack)
    for record in history(uniform(pack), simulated[MOMENT], 400, np.random.default_rng(1)):
        pending.add(record)
    return pending.closed(NOW)


def test_the_weight_of_a_sound_log_is_one_on_average(closed: Closed) -> None:
    """sum_a d(a) w(a) = sum_a d(a) (1 + d(a) - sum d^2) = 1, and no weight is above 2."""
    decision = changed(closed.decisions[MOMENT][0], distribution=(0.7, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0))
    weights = [
        sharpened_weight(changed(decision, action_id=decision.candidates[a], propensity=p))
        for a, p in enumerate((0.7, 0.2, 0.1))
    ]
    assert weights == pytest.approx([1.16, 0.66, 0.56])
    assert 0.7 * weights[0] + 0.2 * weights[1] + 0.1 * weights[2] == pytest.approx(1.0)


def test_a_sound_log_and_a_policy_as_good_raise_no_alarm(pack: Pack, closed: Closed) -> None:
    monitors = Monitors.of(pack).after(closed, uniform(pack), {"1"})
    assert list(monitors.alarms(Limits(floor=-2.0))) == []
    assert monitors.weight == pytest.approx(1.0)
    assert monitors.value == pytest.approx(float(closed.rounds[MOMENT].rewards.mean()))
    assert monitors.harm.mean == pytest.approx(1.0)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_propensities_that_are_not_what_was_drawn_with_are_found(pack: Pack, closed: Closed, factor: float) -> None:
    def poisoned(decision: Decision) -> Decision:
        return changed(decision, propensity=decision.propensity * factor)

    wrong = {moment: tuple(map(poisoned, decisions)) for moment, decisions in closed.decisions.items()}
    monitors = Monitors.of(pack).after(replace(closed, decisions=wrong), uniform(pack), set())
    (alarm,) = monitors.alarms(Limits())
    assert alarm == f"the log is biased: the mean importance weight is {1 / factor:.3f} where it must be 1"


def test_a_value_surely_below_the_floor_is_told(pack: Pack, closed: Closed) -> None:
    monitors = Monitors.of(pack).after(closed, uniform(pack), {"1"})
    (alarm,) = monitors.alarms(Limits(floor=2.0))
    assert alarm.endswith("surely below the floor of 2")
    assert list(Monitors.of(pack).after(closed, uniform(pack), set()).alarms(Limits(floor=2.0))) == []


def test_too_many_degraded_decisions_are_told(pack: Pack, closed: Closed) -> None:
    """50 of 150 is 33 % give or take 4 % thrice: above 20 %, not above 25 %. The first 99 say nothing."""
    sound = closed.decisions[MOMENT][0]
    failed = changed(sound, degraded=("features",))
    monitors = Monitors.of(pack)
    for i in range(150):
        monitors = monitors.seen(failed if i % 3 == 0 else sound)
        if i < 99:
            assert list(monitors.alarms(Limits())) == []
    assert list(monitors.alarms(Limits(max_degraded=0.2))) == ["33% of its decisions are degraded, at most 20% may be"]
    assert list(monitors.alarms(Limits(max_degraded=0.25))) == []


def test_they_go_through_json_unchanged(pack: Pack, closed: Closed) -> None:
    monitors = Monitors.of(pack).after(closed, uniform(pack), {"1"})
    assert msgspec.json.decode(msgspec.json.encode(monitors), type=Monitors) == monitors
