"""A full cart is left behind: who comes back by themselves, who for a reason, and who for a discount only?"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, clock, gaps, intent, locale, steps
from envs.people import Array, People
from envs.seen import Seen

TOGETHER = ("discount_redeemed",)


def situation(people: People, rng: Generator) -> Made:
    """The cart has lain for exp(3.9 + 1.6 noise) minutes (median 50), missing 3 % beside consent.

    basket_value = exp(4.2 - 0.25 thrift + 0.7 noise) EUR, missing 3 %;  margin_rate = 0.30 + 0.11 noise, missing 6 %
    The thrifty look at more alternatives. Two in five share where they are; the nearest store is exp(1.2 + 1.1 noise)
    km away.
    """
    n = len(people)
    noise, thrift = rng.standard_normal((4, n)), people.trait("thrift")
    idle, value = np.exp(3.9 + 1.6 * noise[0]), np.exp(4.2 - 0.25 * thrift + 0.7 * noise[1])
    near = np.exp(1.2 + 1.1 * noise[2])
    return {
        "local_time": clock(people, rng, 0.6),
        "locale": locale(people),
        "intent": intent(people, rng),
        "minutes_idle": gaps(np.minimum(idle.round(), 2_880.0), rng, 0.03),
        "basket_value": gaps(np.minimum(value.round(2), 500.0), rng, 0.03),
        "margin_rate": gaps((0.30 + 0.11 * noise[3]).round(2), rng, 0.06),
        "alternatives_viewed": np.minimum(steps(people, rng, np.maximum(0.4, 1.8 + 0.4 * thrift)), 10.0),
        "store_km": gaps(np.minimum(near.round(1), 50.0), rng, 0.6),
    }


def logits(x: Seen) -> Logits:
    """A cart left behind. Sure buyers need nothing, the persuadable need the right reason, lost causes stay away.

    cold     = idle / (idle + 120) (missing: 0.3);       lapsed = 4 cold (1 - cold)            gone, but not for good
    regular  = purchases / (purchases + 3);              torn = alternatives / (alternatives + 2)     (missing: 1 each)
    dear     = value / (value + 150) (missing: 0.35);    thrift = discount_share (missing: 0.35)
    price    = thrift (0.4 + 1.4 dear);  carriage = thrift (1 - dear)            what it costs; what shipping costs
    near     = 1 / (1 + (km / 2)^2) (missing: 0)
    suits    = cos(local time - active_hour) where known, else cos(local time - 19:00)
    want     = 2.4 [buy] + 0.7 [go] - 0.6 [know] + 1.8 regular - 1.6 cold

    bought: silence = -0.9 + want - 1.8 price - 1.0 carriage - 1.2 torn;  all others - 0.2 - 1.2 [buy] (1 - cold), and
      push       + lapsed (0.5 + 0.5 [mobile] + 0.5 suits) - 0.4 (1 - cold)
      mail       + lapsed (0.5 + 0.7 [desktop]) - 0.4 (1 - cold)
      reviews    + 2.4 (1 - torn) (1 - regular) ([know] + 0.3) (0.3 + 0.7 [detailed])
      comparison + 2.2 torn (0.2 + 1.2 variety) - 0.5 (1 - torn)              variety missing: 0.4
      advice     + 4.0 dear^2 (1 - regular) + 0.4 torn - 0.5 [brief]
      reserve    + 2.6 near (0.3 + 0.7 [go or buy]) (0.6 + 0.4 [mobile])
      shipping   + 2.6 carriage
      discount   + 3.4 price
    discount_redeemed = bought with the discount; never without (-40)
    annoyed: silence -9;  all others -4.2 + 0.8 [open case], and
      push + 1.2 (1 - cold) + 0.9 (1 - suits) + 2 night;  mail + 0.6 (1 - cold);  advice + 1.2 [brief]

    So a discount is wasted on who would buy anyway: it adds little to a high chance and takes its price off all of it.
    Set so that one cart in five is bought later without a word, that a reminder brings 2 to 4 in a hundred more where
    it may be sent (some 70 % of all carts are abandoned, and 3 to 10 % of those are said to come back by a reminder),
    that half of the discounts that may be given are wasted, and that 2 to 6 % complain of a message.
    """
    idle, alternatives = x.number("minutes_idle", 51.4), x.number("alternatives_viewed", 1.0)
    value, thrift = x.number("basket_value", 80.8), x.number("discount_share", 0.35)
    bought_before, km = x.number("purchases_90d", 1.0), x.number("store_km", 1e6)
    cold, dear = idle / (idle + 120.0), value / (value + 150.0)
    warm, lapsed = 1.0 - cold, 4.0 * cold * (1.0 - cold)
    torn, regular = alternatives / (alternatives + 2.0), bought_before / (bought_before + 3.0)
    price, carriage = thrift * (0.4 + 1.4 * dear), thrift * (1.0 - dear)
    know, go, buy = (x.among("intent", name) for name in ("know", "go", "buy"))
    brief, detailed = x.among("style", "brief"), x.among("style", "detailed")
    mobile, desktop = x.among("device", "mobile"), x.among("device", "desktop")
    suits = x.near("local_time", x.number("active_hour", 19.0))
    silent = -0.9 + 2.4 * buy + 0.7 * go - 0.6 * know + 1.8 * regular - 1.6 * cold
    silent -= 1.8 * price + 1.0 * carriage + 1.2 * torn
    lift: dict[str, Array] = {
        "remind_push": lapsed * (0.5 + 0.5 * mobile + 0.5 * suits) - 0.4 * warm,
        "remind_mail": lapsed * (0.5 + 0.7 * desktop) - 0.4 * warm,
        "show_reviews": 2.4 * (1.0 - torn) * (1.0 - regular) * (know + 0.3) * (0.3 + 0.7 * detailed),
        "compare_items": 2.2 * torn * (0.2 + 1.2 * x.number("variety", 0.4)) - 0.5 * (1.0 - torn),
        "offer_advice": 4.0 * np.square(dear) * (1.0 - regular) + 0.4 * torn - 0.5 * brief,
        "reserve_nearby": 2.6 / (1.0 + np.square(km / 2.0)) * (0.3 + 0.7 * (go + buy)) * (0.6 + 0.4 * mobile),
        "free_shipping": 2.6 * carriage,
        "discount_10": 3.4 * price,
    }
    disturbed = silent - 0.2 - 1.2 * buy * warm
    bought = {"no_action": silent} | {action: disturbed + more for action, more in lift.items()}
    bother = -4.2 + 0.8 * (x.number("open_cases", 0.0) > 0.5)
    annoyed = dict.fromkeys(bought, bother) | {
        "no_action": np.full(len(x), -9.0),
        "remind_push": bother + 1.2 * warm + 0.9 * (1.0 - suits) + 2.0 * x.night("local_time"),
        "remind_mail": bother + 0.6 * warm,
        "offer_advice": bother + 1.2 * brief,
    }
    redeemed = dict.fromkeys(bought, np.full(len(x), -40.0)) | {"discount_10": bought["discount_10"]}
    return {"bought": bought, "discount_redeemed": redeemed, "annoyed": annoyed}
