"""Misunderstandings anger and open an episode; clarification closes it."""

from __future__ import annotations

import numpy as np
import pytest

from envs.dynamics.frustration import CLARIFIED, MISUNDERSTOOD, SOOTHED, Frustration, ordered_start
from envs.session_law import NOTHING, Space

SPACE = Space(
    ("no_action",), (NOTHING, MISUNDERSTOOD, CLARIFIED, SOOTHED, "solved"), {"patience": np.array([-1.0, 0.0, 1.0])}
)
FRUSTRATION = Frustration("mood", (0.5, 0.0, -0.5), "again", (0.0, 1.0, 3.0), ("solved",))


def test_a_misunderstanding_angers_the_impatient_more() -> None:
    """0.75 - 0.15 patience: 0.9, 0.75, 0.6; from level 0 to 1."""
    moves = FRUSTRATION.temper(SPACE).moves
    assert moves.chance[:, 0, 0, 1].tolist() == pytest.approx([0.9, 0.75, 0.6])
    assert moves.target[:, 0, 1].tolist() == [1, 2, 2]


def test_soothing_helps_for_sure_and_getting_on_now_and_then() -> None:
    moves = FRUSTRATION.temper(SPACE).moves
    assert moves.target[:, 0, 3].tolist() == moves.target[:, 0, 4].tolist() == [0, 0, 1]
    assert moves.chance[1, 2, 0, 2:].tolist() == pytest.approx([0.35, 1.0, 0.35])


def test_an_episode_opens_and_is_closed_by_a_clarification() -> None:
    moves = FRUSTRATION.episode(SPACE).moves
    assert moves.target[:, 0, 1].tolist() == [1, 2, 2]
    assert moves.target[:, 0, 2].tolist() == [0, 0, 0]
    assert (moves.chance[:, :, 0, 1:3] == 1.0).all()
    assert (moves.chance[:, :, 0, 0] == 0.0).all()


def test_a_conversation_starts_without_an_open_episode() -> None:
    assert FRUSTRATION.episode(SPACE).start.tolist() == [[1.0, 0.0, 0.0]] * 3


def test_a_start_is_ordered_around_its_middle() -> None:
    """Middle 1 of three levels: below 0.5 logistic(-1) = 0.2689, above 1.5 the same."""
    start = ordered_start(np.array([1.0, 5.0]), 3)
    assert start[0].tolist() == pytest.approx([0.26894, 0.46212, 0.26894], abs=1e-4)
    assert start[1].argmax() == 2
    assert start.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
