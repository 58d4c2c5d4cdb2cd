"""Discounts: in force until something is bought, wasted on the sure, and taught to be waited for."""

from __future__ import annotations

import numpy as np
import pytest

from envs.dynamics.subsidy import Subsidy
from envs.session_law import NOTHING, Space

SPACE = Space(("no_action", "five", "fifteen"), (NOTHING, "bought"), {"thrift": np.array([-1.0, 0.0, 1.0])})
SUBSIDY = Subsidy("off", (0.0, 0.05, 0.15), "expected", (0.0, 1.0, 2.0), ("five", "fifteen"), ("bought",))


def test_an_offer_is_in_force_until_something_is_bought() -> None:
    moves = SUBSIDY.in_force(SPACE).moves
    assert moves.target[:, 2, 0].tolist() == [2, 2, 2]
    assert moves.target[:, 0, 1].tolist() == [0, 0, 0]
    assert (moves.chance[:, :, 0, 0] == 0.0).all()


def test_a_smaller_offer_does_not_take_a_larger_one_back() -> None:
    assert SUBSIDY.in_force(SPACE).moves.target[:, 1, 0].tolist() == [1, 1, 2]


def test_offers_teach_to_wait_and_it_fades() -> None:
    moves = SUBSIDY.expectation(SPACE).moves
    assert moves.target[:, 1, 0].tolist() == [1, 2, 2]
    assert moves.target[:, 0, 0].tolist() == [0, 0, 1]
    assert moves.chance[0, 1, 0, 0] == pytest.approx(0.1)


def test_the_thrifty_come_spoiled_more_often() -> None:
    """0.25 + 0.15 thrift: 0.1, 0.25, 0.4."""
    assert SUBSIDY.expectation(SPACE).start[:, 1].tolist() == pytest.approx([0.1, 0.25, 0.4])


def test_a_discount_lifts_the_thrifty_more_and_waiting_costs_where_there_is_none() -> None:
    """Large: 1.1 (1 + 0.5) = 1.65 for thrift 1; no discount, two expected: -0.8; with one in force waiting is over."""
    offer, expected, thrift = np.array([2.0, 0.0, 1.0]), np.array([0.0, 2.0, 2.0]), np.array([1.0, 0.0, 0.0])
    assert SUBSIDY.effect(offer, expected, thrift).tolist() == pytest.approx([1.65, -0.8, 0.5])
