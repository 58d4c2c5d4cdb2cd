"""The response changes while contexts and masks do not."""

from __future__ import annotations

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from envs.dynamics.drift import Drift, pattern
from envs.oracle import Oracle
from envs.rollout import value
from nba.errors import ShapeError
from nba.pack_file import load_pack

PACK = load_pack("support")
SUDDEN = Drift("sudden", at=10, size=1.0)


@pytest.mark.parametrize(
    ("kind", "phases"),
    [
        ("gradual", [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]),
        ("sudden", [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("seasonal", [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]),
    ],
)
def test_phases_by_hand(kind: str, phases: list[float]) -> None:
    """From step 10 over 8: at 9, 10, 12 (a quarter), 14 (a half), 18 (all), 20 (a quarter more)."""
    drift = Drift(kind, at=10, over=8)  # type: ignore[arg-type]  # the kind is a parameter
    assert [drift.phase(step) for step in (9, 10, 12, 14, 18, 20)] == pytest.approx(phases, abs=1e-12)


def test_logits_move_by_size_times_phase_times_pattern() -> None:
    """Half way of a gradual drift of size 2: each logit moves by 1 times its own number of the pattern."""
    outcomes, actions = ("resolved", "escalated"), ("no_action", "warm_reply")
    drift = Drift("gradual", at=0, over=10, size=2.0, seed=4)
    moved = drift.at_step(5).logits(outcomes, actions, np.zeros((2, 2, 3)))
    np.testing.assert_allclose(moved, np.repeat(pattern(4, outcomes, actions)[:, :, None], 3, axis=2))


def test_the_pattern_of_an_action_depends_on_names_and_seed_only() -> None:
    one = pattern(0, ("a", "b"), ("x", "y", "z"))
    other = pattern(0, ("b",), ("z", "x"))
    assert other.tolist() == [[one[1, 2], one[1, 0]]]
    assert pattern(1, ("a", "b"), ("x", "y", "z")).tolist() != one.tolist()


def test_the_pattern_is_standard_normal() -> None:
    """10,000 names: mean within 4 standard errors of 0 (0.04), variance of 1 (4 sqrt(2 / 10,000) = 0.057)."""
    drawn = pattern(0, tuple(f"o{i}" for i in range(100)), tuple(f"a{i}" for i in range(100)))
    assert abs(drawn.mean()) < 0.04
    assert abs(drawn.var() - 1.0) < 0.057


@pytest.mark.parametrize("moment", ["tone_tuner", "followup_whisper"])
def test_drift_changes_the_truth_and_nothing_else(moment: str) -> None:
    still, drifting = BatchMomentEnv(PACK, moment), BatchMomentEnv(PACK, moment, drift=SUDDEN).at(10)
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(2):  # what is drawn for outcomes does not change who comes next
        batch, same = still.sample(100, one), drifting.sample(100, two)
        for column in ("customers", "facts", "contexts", "mask"):
            np.testing.assert_array_equal(getattr(batch, column), getattr(same, column))
        still.outcomes(batch, np.zeros(100, dtype=np.int64), one)
        drifting.outcomes(same, np.zeros(100, dtype=np.int64), two)
    moved = still.expected_rewards(batch.contexts) - drifting.expected_rewards(same.contexts)
    assert (np.abs(moved).max(axis=0) > 1e-3).all()  # of every action, no_action too


def test_before_it_begins_the_truth_is_as_without_it() -> None:
    still, drifting = (BatchMomentEnv(PACK, "tone_tuner", drift=drift) for drift in (None, SUDDEN))
    contexts = still.sample(100, np.random.default_rng(0)).contexts
    for step in (0, 9):
        np.testing.assert_array_equal(still.expected_rewards(contexts), drifting.at(step).expected_rewards(contexts))


def test_an_environment_at_a_step_shares_the_population_and_leaves_the_other_as_it_was() -> None:
    env = BatchMomentEnv(PACK, "tone_tuner", drift=SUDDEN)
    contexts = env.sample(50, np.random.default_rng(0)).contexts
    before, later = env.expected_rewards(contexts), env.at(10)
    assert later.population is env.population
    np.testing.assert_array_equal(env.expected_rewards(contexts), before)
    np.testing.assert_array_equal(later.at(0).expected_rewards(contexts), before)
    np.testing.assert_array_equal(later.at(20).expected_rewards(contexts), later.expected_rewards(contexts))


def test_the_oracle_of_yesterday_is_not_the_best_after_a_drift() -> None:
    env = BatchMomentEnv(PACK, "tone_tuner", drift=SUDDEN)
    batch, later = env.sample(5_000, np.random.default_rng(0)), env.at(10)
    stale, fresh = (value(Oracle(e.response), later, batch.contexts, batch.mask).value for e in (env, later))
    assert stale < fresh - 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sideways", "at": 0}, "kinds are gradual, sudden, seasonal"),
        ({"kind": "sudden", "at": -1}, "begins at step -1"),
        ({"kind": "gradual", "at": 0, "over": 0}, "over 0 steps"),
        ({"kind": "sudden", "at": 0, "size": float("nan")}, "size nan"),
        ({"kind": "sudden", "at": 0, "size": -1.0}, "size -1.0"),
    ],
)
def test_a_drift_without_sense_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Drift(**settings)  # type: ignore[arg-type]  # that is the point


def test_steps_are_counted_from_0() -> None:
    with pytest.raises(ShapeError, match="step -1"):
        SUDDEN.phase(-1)
    for drift in (None, SUDDEN):
        with pytest.raises(ShapeError, match="step -1"):
            BatchMomentEnv(PACK, "tone_tuner", drift=drift).at(-1)
