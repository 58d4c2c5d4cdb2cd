"""Logged sessions as columns: nothing crosses from one session to the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.batch_session import BatchSessionEnv
from envs.session_play import play
from nba.errors import EmptyLogError, RewardError, ShapeError
from nba.pack_file import load_pack
from nba.policies.uniform import Uniform
from nba.rounds import LoggedRounds
from training.offline.episodes import LoggedEpisodes


def three_steps(ended: tuple[bool, bool] = (True, True)) -> LoggedEpisodes:
    """Two sessions: rewards 1 and 2, then 4."""
    rounds = LoggedRounds(
        contexts=np.zeros((3, 1), dtype=np.float32),
        mask=np.ones((3, 2), dtype=np.bool_),
        actions=np.zeros(3, dtype=np.int64),
        propensities=np.full(3, 0.5),
        rewards=np.array([1.0, 2.0, 4.0]),
        subjects=np.array([1, 1, 2], dtype=np.uint64),
    )
    return LoggedEpisodes(rounds, np.array([0, 2, 3]), np.array(ended), np.ones(3, dtype=np.bool_))


def test_reward_to_go_stays_in_its_session() -> None:
    """1 + 2 and 2; then 4 alone."""
    assert three_steps().to_go().tolist() == [3.0, 2.0, 4.0]


def test_a_cut_session_has_no_reward_to_go_and_its_last_step_is_no_transition() -> None:
    cut = three_steps((False, True))
    assert np.isnan(cut.to_go()).tolist() == [True, True, False]
    assert cut.transitions.tolist() == [True, False, True]


def test_a_split_by_customer_cuts_through_no_session() -> None:
    first, second = three_steps().split(0.5)
    assert sorted([*np.diff(first.offsets), *np.diff(second.offsets)]) == [1, 2]
    assert len(first.rounds) + len(second.rounds) == 3


def test_played_sessions_lie_one_after_another() -> None:
    """Returns of the sessions are those that were played; steps count up from 0 in each."""
    played = play(Uniform(), BatchSessionEnv(load_pack("media"), "month_of_contacts"), sessions=20, rng=_rng())
    episodes = LoggedEpisodes.of_played(played)
    assert np.allclose(episodes.to_go()[episodes.offsets[:-1]], played.returns)
    assert len(episodes.rounds) == len(played.rounds)
    assert episodes.transitions.all()


def test_no_session_is_an_error() -> None:
    with pytest.raises(EmptyLogError, match="no session to learn from"):
        three_steps().take(np.zeros(2, dtype=np.bool_)).check()


def test_a_reward_that_is_not_a_number_is_named() -> None:
    episodes = three_steps()
    episodes.rounds.rewards[1] = np.nan
    with pytest.raises(RewardError, match="round 1 has a reward"):
        episodes.check()


def test_offsets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="3 offsets"):
        replace(three_steps(), offsets=np.array([0, 2, 2]))


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)
