"""Messages tire, rest restores."""

from __future__ import annotations

import numpy as np
import pytest

from envs.dynamics.fatigue import Fatigue
from envs.session_law import NOTHING, Space

SPACE = Space(("no_action", "push", "answer"), (NOTHING, "watched"), {"annoyance": np.array([-1.0, 0.0, 1.0])})
FATIGUE = Fatigue("pressure", (0.0, 0.5, 1.0), {"push": 0.6}, recovery=0.4, slope=0.5)


def test_a_message_tires_the_easily_annoyed_more() -> None:
    """0.6 exp(0.35 annoyance): 0.4228, 0.6, 0.8514; the top level stays."""
    moves = FATIGUE.variable(SPACE).moves
    assert moves.chance[:, 0, 1, 0].tolist() == pytest.approx([0.42281, 0.6, 0.85144], abs=1e-4)
    assert moves.target[:, 1, 0].tolist() == [1, 2, 2]


def test_silence_restores_and_what_is_no_message_does_nothing() -> None:
    """Recovery 0.4; the session does not tell the trait `recovery` apart, so it is 0 for all."""
    moves = FATIGUE.variable(SPACE).moves
    assert moves.target[:, 0, 1].tolist() == [0, 0, 1]
    assert moves.chance[:, 1, 0, 1].tolist() == [0.4, 0.4, 0.4]
    assert (moves.chance[:, :, 2] == 0.0).all()


def test_a_chance_never_passes_one() -> None:
    eager = Fatigue("pressure", (0.0, 1.0), {"push": 0.9})
    assert eager.variable(SPACE).moves.chance.max() == 1.0


def test_each_level_costs_its_slope() -> None:
    assert FATIGUE.effect(np.array([0.0, 2.0])).tolist() == [0.0, -1.0]


def test_a_tired_customer_has_a_sixth_of_the_odds() -> None:
    """Slope 0.45 on level 4: exp(-1.8) = 0.165."""
    assert np.exp(Fatigue("p", (0.0,) * 5, {}).effect(np.array([4.0])))[0] == pytest.approx(0.165, abs=0.001)
