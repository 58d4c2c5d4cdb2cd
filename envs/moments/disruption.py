"""A journey is disrupted: does this traveller need a seat, a bed, a meal, an answer or a kind word?"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, clock, gaps, locale, steps
from envs.people import Array, People
from envs.seen import Seen

TRIPS = ("business", "leisure", "weekend", "family")
FARES = ("saver", "standard", "flex")
NAMES = {"trip": TRIPS, "fare": FARES}


def situation(people: People, rng: Generator) -> Made:
    """One departure in five is cancelled and has no delay; the others leave exp(3.9 + 1.1 noise) minutes late.

    trip: business 25 %, leisure 35 %, weekend 22 %, family 18 %; families are three or more. The thrifty fly saver.
    A third have a connection, exp(4.3 + 0.6 noise) minutes after arrival (no connection: missing). A new delay is not
    known yet in 6 %, seats on the next departure (mean 8.5) in 8 %; that leaves 6.5 h later on average.
    sentiment = tanh(-0.1 + 0.35 patience - 0.3 [cancelled] + 0.5 noise), missing 45 % (silent) beside consent
    """
    n = len(people)
    noise, chance = rng.standard_normal((4, n)), rng.random((2, n))
    cancelled = chance[0] < 0.2
    trip = np.searchsorted(np.array([0.25, 0.60, 0.82]), chance[1]).astype(np.float64)
    late = np.minimum(np.exp(3.9 + 1.1 * noise[0]).round(), 1_440.0)
    slack = np.minimum(np.exp(4.3 + 0.6 * noise[1]).round(), 300.0)
    mood = np.tanh(-0.1 + 0.35 * people.trait("patience") - 0.3 * cancelled + 0.5 * noise[2])
    party = np.where(trip == TRIPS.index("family"), 3.0, 1.0) + steps(people, rng, np.where(trip == 0.0, 0.3, 0.8))
    fare = np.searchsorted(np.array([-0.1, 1.1]), noise[3] - 0.6 * people.trait("thrift")).astype(np.float64)
    return {
        "local_time": clock(people, rng, 0.0),
        "locale": locale(people),
        "trip": trip,
        "fare": fare,
        "cancelled": cancelled.astype(np.float64),
        "delay_minutes": gaps(np.where(cancelled, np.nan, late), rng, 0.06),
        "connection_minutes": gaps(slack, rng, 0.67),
        "hours_to_next": np.minimum((0.5 + rng.standard_exponential(n) * 6.0).round(1), 48.0),
        "seats_next": gaps(np.minimum(steps(people, rng, np.full(n, 9.0)), 50.0), rng, 0.08),
        "travellers": np.minimum(party, 9.0),
        "sentiment": gaps(mood.round(3), rng, 0.45),
    }


def logits(x: Seen) -> Logits:
    """A disrupted journey. Who is stranded needs to get on, who merely waits needs to know, who is hurt a kind word.

    late     = delay / (delay + 120) (missing: 1/3)
    missed   = clip((delay - connection) / 60 + 0.5, 0, 1) where there is a connection
    stuck    = 1 where cancelled, else missed;             trouble = max(stuck, 1.15 late - 0.15)
    hurry    = 1, 0.3, 0.8, 0.4 for business, leisure, weekend, family
    fits     = min(1, seats / travellers) (seats missing: 4);   wait = hours_to_next / (hours_to_next + 8)
    hurt     = max(0, -sentiment) (missing: 0.2)
    choosy   = 0.5 + 0.5 [detailed] - 0.4 [brief] + 0.4 [flex]                    would rather decide than be told
    bed      = stuck clip((hours_to_next - 4) / 6, 0, 1);   meal = (1 - stuck) clip((delay - 90) / 120, 0, 1)

    satisfied: silence = 2.0 - 4.0 trouble - 0.8 hurt + 0.4 loyal;  loyal = min(1, tenure / 48) (missing: 0.3)
      relief, which is added:
      status     1.4 (1 - stuck) late (1 + 0.5 [mobile]) - 0.5 (1 - late)
      options    2.6 stuck choosy (1 - 0.4 hurry) + 0.6 late (1 - stuck) - 0.5 (1 - trouble)
      rebook     stuck fits (1.2 + 2.2 hurry) (1 - 0.7 wait) - 1.6 (1 - stuck)
      kind word  2.4 hurt (1 - stuck) - 0.6 (1 - hurt)
      meal       (2.7 + 0.3 [saver]) meal - 0.5
      care       0.9 rebook + 0.7 stuck + 2.2 hurt stuck - 0.6 [business]         rebooked, a voucher and a kind word
      hotel      4.2 bed - 0.6
      hand over  stuck (0.9 + 0.45 travellers (at most 4)) + 1.0 hurt - 1.0 night - 0.6 (1 - trouble)
    called = -2.4 + 2.4 trouble + 0.2 contacts - 0.7 relief;   complained = -3.6 + 1.8 trouble + 1.4 hurt - 0.6 relief,
      and status + 1.5 night;  kind word + 0.8 stuck

    Set so that without a word 55 % are satisfied, a quarter call and one in ten complains, and that the right answer
    saves half of the calls. Of all flights a fifth to a quarter is late and one or two in a hundred are cancelled;
    what is a disruption here starts well above the 15 minutes that count as late.
    """
    delay, next_hours = x.number("delay_minutes", 60.0), x.number("hours_to_next", 6.0)
    late, wait = delay / (delay + 120.0), next_hours / (next_hours + 8.0)
    slack = x.number("connection_minutes", 1e6)
    cancelled = x.column("cancelled") > 0.5
    missed = np.minimum(np.maximum((delay - slack) / 60.0 + 0.5, 0.0), 1.0)
    stuck = np.where(cancelled, 1.0, missed)
    trouble = np.maximum(stuck, 1.15 * late - 0.15)
    waits, calm = 1.0 - stuck, 1.0 - trouble
    business, party = x.among("trip", "business"), x.number("travellers", 1.0)
    hurry = (
        business + 0.3 * x.among("trip", "leisure") + 0.8 * x.among("trip", "weekend") + 0.4 * x.among("trip", "family")
    )
    fits = np.minimum(1.0, x.number("seats_next", 4.0) / np.maximum(party, 1.0))
    hurt = np.maximum(0.0, -x.number("sentiment", -0.2))
    brief, detailed = x.among("style", "brief"), x.among("style", "detailed")
    choosy = 0.5 + 0.5 * detailed - 0.4 * brief + 0.4 * x.among("fare", "flex")
    bed = stuck * np.minimum(np.maximum((next_hours - 4.0) / 6.0, 0.0), 1.0)
    meal = waits * np.minimum(np.maximum((delay - 90.0) / 120.0, 0.0), 1.0)
    night = x.night("local_time")
    rebook = stuck * fits * (1.2 + 2.2 * hurry) * (1.0 - 0.7 * wait) - 1.6 * waits
    relief: dict[str, Array] = {
        "no_action": np.zeros(len(x)),
        "status_update": 1.4 * waits * late * (1.0 + 0.5 * x.among("device", "mobile")) - 0.5 * (1.0 - late),
        "offer_options": 2.6 * stuck * choosy * (1.0 - 0.4 * hurry) + 0.6 * late * waits - 0.5 * calm,
        "rebook_next": rebook,
        "kind_word": 2.4 * hurt * waits - 0.6 * (1.0 - hurt),
        "meal_voucher": (2.7 + 0.3 * x.among("fare", "saver")) * meal - 0.5,
        "care_package": 0.9 * rebook + 0.7 * stuck + 2.2 * hurt * stuck - 0.6 * business,
        "hotel_night": 4.2 * bed - 0.6,
        "hand_over": stuck * (0.9 + 0.45 * np.minimum(party, 4.0)) + 1.0 * hurt - 1.0 * night - 0.6 * calm,
    }
    silent = 2.0 - 4.0 * trouble - 0.8 * hurt + 0.4 * np.minimum(1.0, x.number("tenure_months", 14.4) / 48.0)
    calls = -2.4 + 2.4 * trouble + 0.2 * x.number("contacts_30d", 1.0)
    claims = -3.6 + 1.8 * trouble + 1.4 * hurt
    complained = {action: claims - 0.6 * more for action, more in relief.items()}
    complained["status_update"] = complained["status_update"] + 1.5 * night
    complained["kind_word"] = complained["kind_word"] + 0.8 * stuck
    return {
        "satisfied": {action: silent + more for action, more in relief.items()},
        "called": {action: calls - 0.7 * more for action, more in relief.items()},
        "complained": complained,
    }
