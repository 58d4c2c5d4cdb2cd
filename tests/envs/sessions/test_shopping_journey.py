"""What sells now and what sells later, and for whom a discount is wasted."""

from __future__ import annotations

import pytest

from tests.envs.sessions.solved import Solved

SHOP = Solved.of("retail", "shopping_journey")


def test_a_sale_by_hand() -> None:
    """I 3, no doubt, one item, silence, average customer: bought -3.4 + 1.05 + 0.3 = -2.05, e^-2.05 = 0.128735.

    added -2.6 + 1.35 = -1.25, 0.286505; convinced never; bored -2.2, 0.110803; left -3.9 - 1.35 = -5.25, 0.005248;
    nothing 1: 0.128735 / 1.531291 = 0.08407.
    """
    state = {"interest": 3, "basket_items": 1}
    assert SHOP.chance("bought_full", "no_action", **state) == pytest.approx(0.08407, abs=1e-5)
    assert SHOP.chance("bought_small", "no_action", **state) == 0.0


def test_a_sale_uses_the_discount_in_force() -> None:
    state = {"interest": 3, "basket_items": 1, "discount_in_force": 2}
    assert SHOP.chance("bought_full", "no_action", **state) == 0.0
    assert SHOP.chance("bought_large", "no_action", **state) > 2.0 * SHOP.chance(
        "bought_full", "no_action", interest=3, basket_items=1
    )


def test_nothing_is_bought_without_a_basket() -> None:
    assert SHOP.chance("bought_full", "discount_15", interest=4) == 0.0


def test_doubt_is_met_with_reviews_before_anything_is_sold() -> None:
    assert SHOP.best(interest=3, doubt=2) == "surface_reviews"
    assert SHOP.best(interest=3, doubt=2, basket_items=1) == "surface_reviews"


def test_a_discount_is_for_the_thrifty_and_the_spoiled_only() -> None:
    sure = {"interest": 3, "basket_items": 2}
    assert SHOP.best(traits=(-1.0, 0.0), **sure) == "no_action"
    assert SHOP.best(traits=(1.0, 0.0), **sure) == "discount_5"
    assert SHOP.best(traits=(-1.0, 0.0), discounts_expected=2, **sure) == "discount_5"


def test_looking_one_step_ahead_gives_it_to_everybody() -> None:
    assert SHOP.best(ahead=False, traits=(-1.0, 0.0), interest=3, basket_items=2) == "discount_5"


def test_who_looks_around_happily_is_left_alone() -> None:
    assert SHOP.best(interest=4) == "no_action"


def test_interruptions_drive_customers_out() -> None:
    rested, worn = (SHOP.chance("left", "no_action", interest=2, interruptions=level) for level in (0, 3))
    assert worn > 3.0 * rested
