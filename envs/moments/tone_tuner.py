"""A text lands, three in four of them cross."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, channel, clock, gaps, locale, steps
from envs.people import Array, People, logistic
from envs.seen import Seen


def situation(people: People, rng: Generator) -> Made:
    """A text lands, three in four of them cross.

    sentiment = tanh(-0.4 + 0.3 patience - 0.15 reformulations + 0.6 noise), missing 2 % beside consent
    """
    n = len(people)
    again = np.minimum(steps(people, rng, np.exp(-0.4 - 0.3 * people.trait("skill"))), 5.0)
    mood = np.tanh(-0.4 + 0.3 * people.trait("patience") - 0.15 * again + 0.6 * rng.standard_normal(n))
    heard = logistic(1.2 + 0.3 * people.trait("skill") - 0.4 * again + rng.standard_normal(n))
    return {
        "local_time": clock(people, rng, 0.7),
        "channel": channel(people, rng),
        "locale": locale(people),
        "sentiment": gaps(mood.round(3), rng, 0.02),
        "understanding": gaps(heard.round(3), rng, 0.08),
        "reformulations": again,
    }


def logits(x: Seen) -> Logits:
    """A cross text. Empathy has to match the signal; too much of it hurts more than too little.

    cross   = max(0, -sentiment) (missing: 0.25)
    wanted  = cross (1 - 0.05 contacts) + 0.15 [nps <= 5] - 0.15 [mail]        intensity that would fit
    given   = 0, .25, .4, .65, .95 for neutral, warm, empathetic 1 to 3
    miss    = 3.0 (wanted - given)^2 where too little, 7.0 (given - wanted)^2 where too much
    sober   = [mail] + 0.6 [de] [desktop] + 0.25 [nps known] [nps >= 9]       likes it formal
    smooth  = [sentiment > 0] understanding (missing: 0.6)                     nothing is wrong

    resolved: silence -0.6 + 2.6 smooth - 1.6 cross;  formal 0.2 + 1.1 sober - 2.2 wanted - 0.8 smooth
              all others 1.1 - miss - 0.5 sober [given > 0.2] - 0.9 smooth - 0.12 reformulations
    escalated = -2.2 - 0.5 resolved + 1.4 cross + 0.3 open_cases;   repeat_contact = -1.0 - 0.7 resolved
    """
    mood, nps = x.number("sentiment", -0.25), x.number("nps", 6.0)
    cross, mail = np.maximum(0.0, -mood), x.among("channel", "mail")
    wanted = cross * (1.0 - 0.05 * x.number("contacts_30d", 1.0)) + 0.15 * (nps <= 5.5) - 0.15 * mail
    sober = mail + 0.6 * x.among("locale", "de") * x.among("device", "desktop") + 0.25 * (nps >= 8.5)
    smooth = (mood > 0.0) * x.number("understanding", 0.6)
    tired = 0.12 * x.number("reformulations", 0.0)

    def reply(given: float) -> Array:
        gap = wanted - given
        miss = np.where(gap > 0.0, 3.0, 7.0) * np.square(gap)
        return 1.1 - miss - (0.5 * sober if given > 0.2 else 0.0) - 0.9 * smooth - tired

    resolved = {
        "no_action": -0.6 + 2.6 * smooth - 1.6 * cross,
        "neutral_reply": reply(0.0),
        "warm_reply": reply(0.25),
        "empathetic_reply_1": reply(0.4),
        "empathetic_reply_2": reply(0.65),
        "empathetic_reply_3": reply(0.95),
        "formal_reply": 0.2 + 1.1 * sober - 2.2 * wanted - 0.8 * smooth,
    }
    fury = -2.2 + 1.4 * cross + 0.3 * x.number("open_cases", 0.0)
    return {
        "resolved": resolved,
        "repeat_contact": {action: -1.0 - 0.7 * logit for action, logit in resolved.items()},
        "escalated": {action: fury - 0.5 * logit for action, logit in resolved.items()},
    }
