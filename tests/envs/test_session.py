"""Sessions as Gymnasium environments, one customer at a time and many at once."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

from envs import SESSION_IDS
from envs.batch_session import BatchSessionEnv
from envs.dynamics.drift import Drift
from envs.session import SessionEnv
from envs.session_vector import SessionVectorEnv
from nba.errors import ShapeError, UnknownMomentError
from nba.guardrails import action_mask
from nba.pack_file import load_pack


@pytest.mark.parametrize("name", SESSION_IDS)
def test_gymnasium_finds_nothing_to_complain_about(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(name).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("name", SESSION_IDS)
def test_one_session_of_the_batched_form_is_the_scalar_form(name: str) -> None:
    """Three hundred steps over many sessions: the same seed and actions give the same trajectory, bit for bit."""
    scalar, vector = gym.make(name), gym.make_vec(name, num_envs=1, vectorization_mode="vector_entry_point")
    (one, _), (many, _) = scalar.reset(seed=7), vector.reset(seed=7)
    actions = np.random.default_rng(0)
    over = False
    for _ in range(300):
        for part in ("observations", "action_mask"):
            np.testing.assert_array_equal(one[part], many[part][0])
        action = int(actions.integers(scalar.action_space.n))
        many, rewards, terminated, truncated, _ = vector.step(np.array([action]))
        if over:  # the batched form starts the next session with a step that pays nothing
            one, _ = scalar.reset()
            over = False
            assert rewards.tolist() == [0.0]
            continue
        one, reward, ended, cut, _ = scalar.step(np.int64(action))
        assert (reward, ended, cut) == (rewards[0], terminated[0], truncated[0])
        over = ended or cut


@pytest.mark.parametrize("name", SESSION_IDS)
def test_the_batched_form_has_the_law_of_the_scalar_form(name: str) -> None:
    """Mean return of 300 scalar sessions in silence within 4 standard errors of 4,000 batched ones."""
    env = gym.make(name)
    env.reset(seed=1)
    returns = []
    for _ in range(300):
        env.reset()
        total, over = 0.0, False
        while not over:
            _, reward, ended, cut, _ = env.step(np.int64(0))
            total, over = total + float(reward), ended or cut
        returns.append(total)
    vector = gym.make_vec(name, num_envs=4_000, vectorization_mode="vector_entry_point")
    vector.reset(seed=2)
    earned, live = np.zeros(4_000), np.ones(4_000, dtype=bool)
    while live.any():
        _, rewards, ended, cut, _ = vector.step(np.zeros(4_000, dtype=np.int64))
        earned += rewards * live
        live &= ~(ended | cut)
    spread = np.hypot(np.std(returns) / np.sqrt(300), earned.std() / np.sqrt(4_000))
    assert abs(np.mean(returns) - earned.mean()) < 4.0 * spread


@pytest.mark.parametrize("name", SESSION_IDS)
def test_masks_are_those_a_server_would_make_of_the_facts(name: str) -> None:
    env = gym.make(name).unwrapped
    plan, rng = env.core.env.plan, np.random.default_rng(3)
    sessions = env.core.env.start(500, rng)
    for _ in range(5):
        contexts, mask = env.core.env.observe(sessions)
        np.testing.assert_array_equal(contexts, plan.encoder.encode(sessions.facts))
        np.testing.assert_array_equal(mask, action_mask(plan.stages, sessions.facts, len(plan.action_ids)))
        assert mask[:, 0].all()
        low, high = plan.reward_range
        actions = (mask * rng.random(mask.shape)).argmax(axis=1)
        rewards = env.core.env.advance(sessions, actions, rng).rewards
        assert (rewards >= low - 1e-12).all()
        assert (rewards <= high + 1e-12).all()


def test_an_ineligible_action_counts_as_silence() -> None:
    env, twin = (SessionEnv("support", "service_conversation") for _ in range(2))
    seen = 0
    for seed in range(30):
        observation, _ = env.reset(seed=seed)
        twin.reset(seed=seed)
        barred = np.flatnonzero(observation["action_mask"] == 0.0)
        if barred.size:
            seen += 1
            _, reward, *_, told = env.step(barred[0])
            assert (told["ineligible"], told["action_id"]) == (True, "no_action")
            assert reward == twin.step(np.int64(0))[1]
    assert seen > 10


def test_a_delayed_reward_comes_late_and_whole() -> None:
    """Delay 3: the same sessions earn the same in all, nothing of it in the first three steps unless they end."""
    now = SessionVectorEnv("support", "service_conversation", num_envs=200)
    late = SessionVectorEnv("support", "service_conversation", num_envs=200, reward_delay=3)
    now.reset(seed=5)
    late.reset(seed=5)
    total = np.zeros((2, 200))
    live = np.ones(200, dtype=bool)
    for t in range(30):
        actions = np.full(200, 1)
        _, paid, ended, cut, _ = now.step(actions)
        _, paid_late, ended_late, _, _ = late.step(actions)
        np.testing.assert_array_equal(ended, ended_late)
        if t < 3:
            assert (paid_late[live & ~ended] == 0.0).all()
        total[0] += paid * live
        total[1] += paid_late * live
        live &= ~(ended | cut)
    np.testing.assert_allclose(total[0], total[1], atol=1e-12)


def test_drift_changes_what_comes_of_actions_and_nothing_else() -> None:
    still = SessionVectorEnv("support", "service_conversation", num_envs=500)
    drifting = SessionVectorEnv("support", "service_conversation", num_envs=500, drift=Drift("sudden", at=2, size=1.0))
    first, _ = still.reset(seed=9)
    other, _ = drifting.reset(seed=9)
    np.testing.assert_array_equal(first["observations"], other["observations"])
    actions = np.ones(500, dtype=np.int64)
    for t in range(4):
        before, rewards, *_ = still.step(actions)
        after, drifted, *_ = drifting.step(actions)
        if t < 2:
            np.testing.assert_array_equal(before["observations"], after["observations"])
            np.testing.assert_array_equal(rewards, drifted)
    assert not np.array_equal(rewards, drifted)


def test_a_mood_that_must_not_be_known_is_gone_from_every_step() -> None:
    env = BatchSessionEnv(load_pack("support"), "service_conversation")
    rng = np.random.default_rng(0)
    sessions = env.start(4_000, rng)
    people = env.population.people(sessions.customers)
    column = list(env.plan.encoder.fields).index("sentiment")
    for _ in range(3):
        np.testing.assert_array_equal(np.isnan(sessions.facts[:, column]), people.withholds("emotion"))
        env.advance(sessions, np.zeros(4_000, dtype=np.int64), rng)


def test_who_withdraws_consent_cannot_be_contacted_again() -> None:
    env = BatchSessionEnv(load_pack("media"), "month_of_contacts")
    rng, gone = np.random.default_rng(1), np.zeros(3_000, dtype=bool)
    sessions = env.start(3_000, rng)
    for _ in range(20):
        _, mask = env.observe(sessions)
        assert not mask[gone, 1:].any()
        happened = env.advance(sessions, (mask * rng.random(mask.shape)).argmax(axis=1), rng)
        gone |= np.array([event.name == "withdrew" for event in env.law.events])[happened.events]
    assert gone.sum() > 50


def test_a_session_that_is_over_must_be_reset() -> None:
    env = SessionEnv("support", "service_conversation")
    with pytest.raises(ResetNeeded):
        env.step(np.int64(0))
    with pytest.raises(ResetNeeded):
        SessionVectorEnv("support", "service_conversation", num_envs=2).step(np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize("seed", [-1, "7", 1.5, True])
def test_a_wrong_seed_is_refused(seed: object) -> None:
    for env in (SessionEnv("support", "service_conversation"), SessionVectorEnv("support", "service_conversation")):
        with pytest.raises(ShapeError, match="seed"):
            env.reset(seed=seed)  # type: ignore[arg-type]


def test_an_option_sets_the_steps_of_drift_and_others_are_refused() -> None:
    drift = Drift("sudden", at=10_000, size=1.0)
    still, late = (SessionVectorEnv("support", "service_conversation", num_envs=300, drift=drift) for _ in range(2))
    still.reset(seed=1)
    late.reset(seed=1, options={"step": 10_000})
    assert not np.array_equal(still.step(np.ones(300, dtype=int))[1], late.step(np.ones(300, dtype=int))[1])
    for options in ({"speed": 1}, {"step": -1}, {"step": 0.5}):
        with pytest.raises(ShapeError, match="option"):
            SessionEnv("support", "service_conversation").reset(options=options)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match="-1"):
        SessionVectorEnv("support", "service_conversation", num_envs=-1)
    with pytest.raises(ShapeError, match="a batch of -3"):
        BatchSessionEnv(load_pack("support"), "service_conversation").start(-3, np.random.default_rng())
    with pytest.raises(ShapeError, match="population of 0"):
        BatchSessionEnv(load_pack("support"), "service_conversation", customers=0)
    with pytest.raises(ShapeError, match="delay of -1"):
        SessionEnv("support", "service_conversation", reward_delay=-1)


def test_wrong_actions_are_refused() -> None:
    env = SessionVectorEnv("support", "service_conversation", num_envs=2)
    env.reset(seed=0)
    for actions in ([0], [0, 9], [0.5, 1.0], [-1, 0]):
        with pytest.raises(InvalidAction, match="2 columns"):
            env.step(np.array(actions))
    with pytest.raises(UnknownMomentError, match="tone_tuner"):
        SessionEnv("support", "tone_tuner")


def test_rendering_tells_the_session() -> None:
    env = SessionEnv("support", "service_conversation", render_mode="ansi")
    _, info = env.reset(seed=3)
    env.step(np.int64(0))
    told = env.render()
    assert told is not None
    assert info["subject_id"] in told
    assert "no_action: " in told
