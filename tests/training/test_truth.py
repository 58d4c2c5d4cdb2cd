"""What the simulator knows: values in the order they must have."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from envs.oracle import Oracle
from nba.pack import Pack
from tests.training.conftest import uniform
from training.truth import SimulatedMoment, no_rounds, simulate


def test_every_moment_is_simulated_and_nothing_beats_the_oracle(
    pack: Pack, simulated: dict[str, SimulatedMoment]
) -> None:
    assert list(simulated) == list(pack.moments)
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


def test_a_pack_nobody_plays_has_no_truth(pack: Pack) -> None:
    strange = replace(pack, moments={"unheard_of": pack.moments["tone_tuner"]})
    assert simulate(strange) == {}


def test_no_rounds_has_the_shapes_but_no_rows() -> None:
    nothing = no_rounds(3, 2)
    assert (len(nothing), nothing.contexts.shape, nothing.mask.shape) == (0, (0, 3), (0, 2))
