"""What is there comes and goes, and is used up."""

from __future__ import annotations

import pytest

from envs.dynamics.capacity import Capacity
from envs.session_law import NOTHING, Space

SPACE = Space(("no_action", "hand_over"), (NOTHING,), {})


def test_one_comes_and_goes_by_itself() -> None:
    variable = Capacity("free", (0.0, 1.0), arrival=0.3, taken=0.1).variable(SPACE)
    assert variable.moves.target[:, 0, 0].tolist() == [1, 0]
    assert variable.moves.chance[0, :, 0, 0].tolist() == [0.3, 0.1]
    assert variable.start[0].tolist() == pytest.approx([0.25, 0.75])  # as often as in the long run


def test_between_none_and_all_the_likelier_way_is_taken() -> None:
    more = Capacity("free", (0.0, 1.0, 2.0), arrival=0.4, taken=0.2).variable(SPACE).moves
    less = Capacity("free", (0.0, 1.0, 2.0), arrival=0.1, taken=0.2).variable(SPACE).moves
    assert (more.target[1, 0, 0], more.chance[0, 1, 0, 0]) == (2, pytest.approx(0.4))
    assert (less.target[1, 0, 0], less.chance[0, 1, 0, 0]) == (0, pytest.approx(0.2))


def test_an_action_of_ours_uses_one_up() -> None:
    moves = Capacity("free", (0.0, 1.0, 2.0), taken_by=("hand_over",)).variable(SPACE).moves
    assert moves.target[:, 1, 0].tolist() == [0, 0, 1]
    assert moves.chance[0, :, 1, 0].tolist() == [1.0, 1.0, 1.0]


def test_by_default_an_agent_is_free_two_thirds_of_the_time() -> None:
    """0.35 / (0.35 + 0.18) = 0.66."""
    assert Capacity("free", (0.0, 1.0)).variable(SPACE).start[0, 1] == pytest.approx(0.66, abs=0.005)
