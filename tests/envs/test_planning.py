"""Planning: the optimum by hand and by brute force, and a bound that nobody passes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from envs.batch_session import BatchSessionEnv
from envs.planning import FORBIDDEN, StateReader, action_values, expected_next, optimal_value
from envs.session_law import SessionLaw
from envs.session_play import play, session_oracle, session_value
from nba.pack_file import load_pack
from nba.policies.uniform import Uniform
from tests.envs.small_session import small_law

SUPPORT = BatchSessionEnv(load_pack("support"), "service_conversation")
ORACLE = session_oracle(SUPPORT)


def test_the_last_step_is_worth_its_own_reward_by_hand() -> None:
    """Low: silence 0; warm 3/4 - 0.1 = 0.65. High: silence 9/12 * 1 + 2/12 * 0.5 = 0.83333; warm 9/10 - 0.1 = 0.8."""
    last = action_values(small_law())[1, 0]
    assert last.ravel().tolist() == pytest.approx([0.0, 0.65, 5.0 / 6.0, 0.8])


def test_the_step_before_adds_what_comes_next_by_hand() -> None:
    """V_1 = (0.65, 0.83333).

    Low, silence: nothing comes, stays low: 0.65. Low, warm: 0.65 + 1/4 (0.5 * 0.65 + 0.5 * 0.83333) + 3/4 * 0.65
    = 0.65 + 0.185417 + 0.4875 = 1.322917.
    High, silence: 0.83333 + 1/12 * 0.83333 + 9/12 * 0.65 (over ends it) = 1.390278.
    High, warm: 0.8 + 1/10 * 0.83333 + 9/10 * 0.65 = 1.468333.
    """
    first = action_values(small_law())[0, 0]
    assert first.ravel().tolist() == pytest.approx([0.65, 1.322917, 1.390278, 1.468333], abs=1e-5)


def test_the_optimum_is_the_mean_over_first_states() -> None:
    """0.75 * 1.322917 + 0.25 * 1.468333 = 1.359271."""
    law = small_law()
    assert optimal_value(law, action_values(law), np.ones(1)) == pytest.approx(1.359271, abs=1e-5)


def test_no_plan_at_all_beats_the_optimum() -> None:
    """Every deterministic plan of two steps in two states: 16 of them; the best is the optimum."""
    law = small_law()
    values = [plan_value(law, plan) for plan in itertools.product((0, 1), repeat=4)]
    assert max(values) == pytest.approx(optimal_value(law, action_values(law), np.ones(1)), abs=1e-6)
    assert min(values) < max(values) - 0.5


def plan_value(law: SessionLaw, plan: tuple[int, ...]) -> float:
    """A plan's value by walking every path: plan[2 t + s] is the action at step t in state s."""

    def onwards(t: int, s: int) -> float:
        if t == law.steps:
            return 0.0
        a, total = plan[2 * t + s], 0.0
        for e, p in enumerate(law.chances[0, s, a]):
            goes, target = law.variables[0].moves.chance[0, s, a, e], law.variables[0].moves.target[s, a, e]
            later = 0.0 if law.ends[e] else goes * onwards(t + 1, target) + (1.0 - goes) * onwards(t + 1, s)
            total += p * (law.rewards[a, e] + later)
        return total

    return sum(p * onwards(0, s) for s, p in enumerate(law.variables[0].start[0]))


def test_a_forbidden_action_is_never_planned() -> None:
    law = small_law(trigger="mood >= 0.5")
    q = action_values(law)
    assert (q[:, 0, 0, 1] == FORBIDDEN).all()
    assert q[0, 0, 0, 0] == pytest.approx(0.0)  # silence on low: nothing comes, and the mood stays low


def test_the_expected_next_value_is_that_of_many_draws() -> None:
    """A random value function over the states of a conversation: within 4.5 standard errors of 50,000 draws."""
    rng, n = np.random.default_rng(1), 50_000
    law = SUPPORT.law
    value = rng.normal(size=law.chances.shape[:2])
    expected = expected_next(law, value)
    for _ in range(5):
        sessions = SUPPORT.start(n, rng)
        c, a = int(rng.integers(law.space.types)), int(rng.integers(len(law.space.actions)))
        levels = [int(rng.integers(size)) for size in law.levels]
        sessions.types[:], sessions.levels[:] = c, np.array(levels)[:, None]
        happened = SUPPORT.advance(sessions, np.full(n, a), rng)
        got = value[c, np.ravel_multi_index(tuple(sessions.levels), law.levels)] * ~happened.terminated
        s = int(np.ravel_multi_index(levels, law.levels))
        assert abs(got.mean() - expected[c, s, a]) < 4.5 * got.std() / np.sqrt(n) + 1e-9


def test_states_and_steps_are_read_back_from_contexts_exactly() -> None:
    rng = np.random.default_rng(2)
    sessions = SUPPORT.start(500, rng)
    for _ in range(3):
        SUPPORT.advance(sessions, np.zeros(500, dtype=np.int64), rng)
    seen = ~sessions.hidden.any(axis=1)
    contexts, _ = SUPPORT.observe(sessions)
    reader, law = StateReader(SUPPORT.law), SUPPORT.law
    states = np.ravel_multi_index(tuple(sessions.levels), law.levels)
    np.testing.assert_array_equal(reader.states(contexts)[seen], states[seen])
    assert set(reader.step(contexts, law.steps - 1).tolist()) == {3}


def test_the_planner_comes_near_the_bound_and_not_above() -> None:
    """4,000 conversations: at least 90 % of the bound, at most 3 standard errors above it."""
    value = session_value(ORACLE.planner, SUPPORT, sessions=4_000, rng=np.random.default_rng(4))
    assert 0.9 * ORACLE.bound < value.value < ORACLE.bound + 3.0 * value.standard_error


def test_looking_one_step_ahead_earns_clearly_less() -> None:
    rng = np.random.default_rng(5)
    plans, myopic = (
        session_value(policy, SUPPORT, sessions=3_000, rng=rng) for policy in (ORACLE.planner, ORACLE.myopic)
    )
    assert myopic.value + 3.0 * myopic.standard_error < 0.9 * plans.value


def test_beliefs_about_types_are_shares_that_fit_the_population() -> None:
    contexts, _ = SUPPORT.observe(SUPPORT.start(5_000, np.random.default_rng(6)))
    shares = ORACLE.planner.belief.shares(contexts)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-9)
    np.testing.assert_allclose(shares.mean(axis=0), SUPPORT.type_shares, atol=0.05)


def test_rewards_to_go_add_up_from_the_end() -> None:
    """The first step's reward to go is the session's return, the last one's its own reward."""
    played = play(Uniform(), SUPPORT, sessions=200, rng=np.random.default_rng(7))
    to_go = played.to_go()
    np.testing.assert_allclose(to_go[played.step == 0], played.returns[played.session[played.step == 0]])
    last = np.array([played.step[played.session == s].max() for s in range(200)])[played.session] == played.step
    np.testing.assert_allclose(to_go[last], played.rounds.rewards[last], atol=1e-12)
