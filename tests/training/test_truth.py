"""What the simulator knows: values in the order they must have."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from envs.calibration.parameters import Calibration, CalibrationError, ResponseParameters, save_calibration
from envs.oracle import Oracle
from envs.sessions import SESSIONS
from nba.pack import Pack
from tests.training.conftest import uniform
from training.truth import SimulatedMoment, SimulatedSession, no_rounds, simulate


def test_every_moment_is_simulated_and_nothing_beats_the_oracle(
    pack: Pack, simulated: dict[str, SimulatedMoment]
) -> None:
    assert list(simulated) == [moment for moment in pack.moments if moment not in SESSIONS]
    for playground in simulated.values():
        told = playground.yardsticks
        assert told.uniform < told.context_free < told.oracle
        assert told.rules < told.oracle
        assert playground.value(Oracle(playground.env.response)) == told.oracle


def test_a_value_is_the_mean_of_what_is_expected(pack: Pack, simulated: dict[str, SimulatedMoment]) -> None:
    """The uniform policy's value by hand: the mean over rounds of the mean over eligible actions."""
    playground = simulated["tone_tuner"]
    batch = playground.env.sample(2_000, np.random.default_rng([0, 1]))
    expected = playground.env.expected_rewards(batch.contexts)
    by_hand = np.mean([row[allowed].mean() for row, allowed in zip(expected, batch.mask, strict=True)])
    assert playground.value(uniform(pack).policies["tone_tuner"]) == pytest.approx(by_hand)


def test_a_session_is_measured_by_whole_sessions_and_learned_from_by_what_steps_led_to(pack: Pack) -> None:
    playground = simulate(pack, contexts=100)["service_conversation"]
    assert isinstance(playground, SimulatedSession)
    told = playground.yardsticks
    assert max(told.uniform, told.rules, told.context_free) < told.oracle
    policy = uniform(pack).policies["service_conversation"]
    rounds = playground.play(policy, 3_000, np.random.default_rng(0))
    assert 1_000 < len(rounds) < 6_000
    first = rounds.contexts[:, playground.plan.encoder.column("step")] == -1.0
    assert rounds.rewards[first].mean() == pytest.approx(playground.value(policy), abs=0.2)


def test_a_calibration_changes_the_customers_and_must_be_of_the_pack(tmp_path: Path, pack: Pack) -> None:
    """Resolved never by a neutral reply (offset -9): the truth of it falls; another pack's file is refused."""
    path = tmp_path / "support.json"
    parameters = ResponseParameters(offsets={"resolved": {"neutral_reply": -9.0}}, slopes={})
    fitted_to = {"as_of": datetime(2026, 1, 1, tzinfo=UTC), "rounds": 1, "digest": "d"}
    moments = {"tone_tuner": parameters}
    calibration = Calibration(pack="support", pack_digest=pack.digest, moments=moments, trait_means={}, **fitted_to)
    save_calibration(path, calibration)
    plain, fitted = (simulate(pack, contexts=500, calibration=c)["tone_tuner"] for c in (None, path))
    assert fitted.yardsticks.uniform < plain.yardsticks.uniform - 0.05
    with pytest.raises(CalibrationError):
        simulate(replace(pack, version=9), contexts=10, calibration=path)


def test_a_pack_nobody_plays_has_no_truth(pack: Pack) -> None:
    strange = replace(pack, moments={"unheard_of": pack.moments["tone_tuner"]})
    assert simulate(strange) == {}


def test_no_rounds_has_the_shapes_but_no_rows() -> None:
    nothing = no_rounds(3, 2)
    assert (len(nothing), nothing.contexts.shape, nothing.mask.shape) == (0, (0, 3), (0, 2))
