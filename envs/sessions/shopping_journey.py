"""A shopping journey: up to 40 page views of a customer in a shop, with a basket, doubts and an eye on the price.

Reviews and advice earn nothing now and turn doubt into a sale later; a discount sells now, teaches to wait for the
next one, and is wasted on who would have bought anyway; every interruption tires.
"""

from __future__ import annotations

import numpy as np

from envs.dynamics.capacity import Capacity
from envs.dynamics.fatigue import Fatigue
from envs.dynamics.frustration import ordered_start
from envs.dynamics.subsidy import Subsidy
from envs.session_law import NEVER, Event, EventLogits, Moves, SessionSpec, Space, State, Variable
from nba.types import NO_ACTION

ADDED, CONVINCED, BORED, LEFT = "added", "convinced", "bored", "left"
BOUGHT = ("bought_full", "bought_small", "bought_large")  # by the discount in force
ADVICE = ("surface_reviews", "chat_advice", "recommend_similar")
DISCOUNTS = ("discount_5", "discount_15")

FATIGUE = Fatigue(
    field="interruptions",
    shown=(0.0, 0.33, 0.67, 1.0),
    weights={"surface_reviews": 0.3, "chat_advice": 0.6, "recommend_similar": 0.45, "low_stock_note": 0.6}
    | dict.fromkeys(DISCOUNTS, 0.35),
    recovery=0.3,
    slope=0.3,
    start=(1.0,),
)
SUBSIDY = Subsidy(
    offer_field="discount_in_force",
    offers=(0.0, 0.05, 0.15),
    expectation_field="discounts_expected",
    expectations=(0.0, 1.0, 2.0),
    sizes=DISCOUNTS,
    bought=BOUGHT,
)
STOCK = Capacity("stock_low", (False, True), arrival=0.05, taken=0.15)


def variables(space: Space) -> tuple[Variable, ...]:
    """Interest, doubt, basket, discount in force, expectation, interruptions, low stock.

    interest I: bored I - 1;  added I + 1 with chance 0.5;  bought I - 1 with chance 0.8
    doubt D:    convinced D - 1;  added D + 1 with chance 0.25;      basket B: added B + 1;  bought back to 0
    """
    interest = (
        Moves(space, 5)
        .when(events=[BORED], by=-1)
        .when(events=[ADDED], by=1, chance=0.5)
        .when(events=BOUGHT, by=-1, chance=0.8)
    )
    doubt = Moves(space, 3).when(events=[CONVINCED], by=-1).when(events=[ADDED], by=1, chance=0.25)
    basket = Moves(space, 3).when(events=[ADDED], by=1).when(events=BOUGHT, to=0)
    curious = space.traits["curiosity"]
    return (
        Variable("interest", (0.0, 0.25, 0.5, 0.75, 1.0), ordered_start(2.0 + 0.5 * curious, 5), interest),
        Variable("doubt", (0.0, 0.5, 1.0), np.tile([0.15, 0.35, 0.5], (space.types, 1)), doubt),
        Variable("basket_items", (0.0, 1.0, 2.0), np.tile([0.6, 0.3, 0.1], (space.types, 1)), basket),
        SUBSIDY.in_force(space),
        SUBSIDY.expectation(space),
        FATIGUE.variable(space),
        STOCK.variable(space),
    )


def logits(x: State) -> EventLogits:
    """What comes of a page view; I, D, B, T are levels from 0 (interest, doubt, basket, interruptions).

    bought     with a basket only: -3.4 + 0.35 I - 0.9 D + 0.3 B + discount and waiting (`envs.dynamics.subsidy`);
               stock note + 0.8 - 0.3 T;  discounts + 0.3;  advice, reviews, similar - 0.3
    added      -2.6 + 0.45 I - 0.3 T, with a full basket never;  similar + 0.8 + 0.3 curiosity;  advice + 0.2
    convinced  -3.5;  reviews + 2.3 - 0.3 T;  advice + 3.0 - 0.5 T;  never without doubt
    bored      -2.2 + 0.3 T;  similar + 0.3;  stock note + 0.5;  reviews + 0.2
    left       -3.9 - 0.45 I + 0.45 T + 0.25 D
    """
    interest, doubt, basket, tired = (x.level(name) for name in ("interest", "doubt", "basket_items", "interruptions"))
    offer, expected = x.level("discount_in_force"), x.level("discounts_expected")
    fatigue, thrift = FATIGUE.effect(tired), x.trait("thrift")
    full, empty, sure = x.at("basket_items", 2), x.at("basket_items", 0), x.at("doubt", 0)
    sale = -3.4 + 0.35 * interest - 0.9 * doubt + 0.3 * basket + SUBSIDY.effect(offer, expected, thrift)
    buys = {
        NO_ACTION: sale,
        **dict.fromkeys(ADVICE, sale - 0.3),
        "low_stock_note": sale + 0.8 + fatigue,
        **dict.fromkeys(DISCOUNTS, sale + 0.3),
    }
    adds = -2.6 + 0.45 * interest + fatigue + NEVER * full
    convinces = -3.5 + NEVER * sure
    bores = -2.2 + 0.3 * tired
    leaves = -3.9 - 0.45 * interest + 0.45 * tired + 0.25 * doubt
    sales = {
        event: {a: logit + NEVER * empty + NEVER * (offer != size) for a, logit in buys.items()}
        for size, event in enumerate(BOUGHT)
    }
    return {
        **sales,
        ADDED: dict.fromkeys(buys, adds)
        | {"recommend_similar": adds + 0.8 + 0.3 * x.trait("curiosity"), "chat_advice": adds + 0.2},
        CONVINCED: dict.fromkeys(buys, convinces)
        | {"surface_reviews": convinces + 2.3 + fatigue, "chat_advice": convinces + 3.0 - 0.5 * tired},
        BORED: dict.fromkeys(buys, bores)
        | {"recommend_similar": bores + 0.3, "low_stock_note": bores + 0.5, "surface_reviews": bores + 0.2},
        LEFT: dict.fromkeys(buys, leaves),
    }


SESSION = SessionSpec(
    moment="shopping_journey",
    steps=40,
    traits=("thrift", "curiosity"),
    events=(
        Event(BOUGHT[0], {"bought": 1.0}),
        Event(BOUGHT[1], {"bought": 1.0, "price_off": 0.05}),
        Event(BOUGHT[2], {"bought": 1.0, "price_off": 0.15}),
        Event(ADDED, {"added_to_basket": 1.0}),
        Event(CONVINCED),
        Event(BORED),
        Event(LEFT, {"left_shop": 1.0}, ends=True),
    ),
    variables=variables,
    logits=logits,
)
