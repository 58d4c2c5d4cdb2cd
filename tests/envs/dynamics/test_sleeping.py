"""Actions that are away for reasons that no context shows."""

from __future__ import annotations

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from envs.dynamics.sleeping import put_to_sleep
from nba.errors import ShapeError
from nba.pack_file import load_pack

PACK = load_pack("support")


def test_each_action_sleeps_by_itself_with_its_chance() -> None:
    """40,000 rounds of 3 actions, q = 0.25: each awake in 75 % +- 4 * 0.22 %, two of them together in 9 / 16."""
    mask = np.ones((40_000, 4), dtype=np.bool_)
    put_to_sleep(mask, 0.25, np.random.default_rng(0))
    assert mask[:, 0].all()
    assert (np.abs(mask[:, 1:].mean(axis=0) - 0.75) < 0.0087).all()
    assert abs((mask[:, 1] & mask[:, 2]).mean() - 9.0 / 16.0) < 0.01


def test_what_a_guardrail_took_away_stays_away() -> None:
    """The same seed, awake and asleep: the mask of the sleeping one is within the other's."""
    awake, asleep = (
        BatchMomentEnv(PACK, "proactive_nudge", sleeping=q).sample(2_000, np.random.default_rng(1)) for q in (0.0, 0.3)
    )
    np.testing.assert_array_equal(awake.contexts, asleep.contexts)
    assert not (asleep.mask & ~awake.mask).any()
    assert asleep.mask.sum() < 0.85 * awake.mask.sum()
    assert asleep.mask[:, 0].all()


def test_where_everything_sleeps_only_silence_is_left() -> None:
    batch = BatchMomentEnv(PACK, "tone_tuner", sleeping=1.0).sample(50, np.random.default_rng(0))
    assert batch.mask.sum(axis=1).tolist() == [1] * 50


def test_where_nothing_sleeps_nothing_is_drawn() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    put_to_sleep(np.ones((3, 3), dtype=np.bool_), 0.0, rng)
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_a_chance_that_is_none_is_refused(q: float) -> None:
    with pytest.raises(ShapeError, match="sleep with chance"):
        BatchMomentEnv(PACK, "tone_tuner", sleeping=q)
