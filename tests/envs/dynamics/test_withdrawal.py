"""Consent that is taken back stays so."""

from __future__ import annotations

import numpy as np
import pytest

from envs.dynamics.withdrawal import WITHDREW, Withdrawal
from envs.session_law import NOTHING, Space

SPACE = Space(("no_action", "push"), (NOTHING, WITHDREW), {})


def test_once_withdrawn_it_never_comes_back() -> None:
    variable = Withdrawal("may_contact").variable(SPACE)
    assert variable.shown == (False, True)
    assert variable.moves.target[:, 1, 1].tolist() == [0, 0]
    assert (variable.moves.chance[:, 0, :, 0] == 0.0).all()
    assert (variable.moves.chance[:, :, :, 1] == 1.0).all()


def test_the_tired_withdraw_twenty_times_as_often() -> None:
    """Rested 1 / (1 + e^6) = 0.0025; on level 4 -6 + 3.2 = -2.8: 0.0573."""
    logits = Withdrawal("may_contact").logit(np.array([0.0, 4.0]), np.zeros(2))
    assert (1.0 / (1.0 + np.exp(-logits))).tolist() == pytest.approx([0.00247, 0.05732], abs=1e-4)
