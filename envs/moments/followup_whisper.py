"""A case was closed: is it solved, and may one ask?"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, clock, gaps, locale
from envs.people import People, logistic
from envs.seen import Seen


def situation(people: People, rng: Generator) -> Made:
    """A case was closed 8 h ago on average; sentiment = tanh(0.25 + 0.3 patience + 0.2 loyalty + 0.5 noise).

    Sentiment is missing in 12 % beside consent: not all have said a word at the end.
    """
    n = len(people)
    ago = np.minimum((rng.standard_exponential(n) * 8.0).round(1), 72.0)
    mood = np.tanh(0.25 + 0.3 * people.trait("patience") + 0.2 * people.trait("loyalty") + 0.5 * rng.standard_normal(n))
    return {
        "local_time": clock(people, rng, 0.5),
        "locale": locale(people),
        "hours_since_resolved": ago,
        "sentiment": gaps(mood.round(3), rng, 0.12),
    }


def logits(x: Seen) -> Logits:
    """A case is closed. Ask when it has sunk in, not too late, and not those who have had enough of us.

    fresh   = exp(-hours / 3);  stale = logistic((hours - 20) / 4)
    suits   = cos(local time - active_hour) where known, else cos(local time - 15:00)
    suits4  = the same four hours later;   fond = (nps - 5) / 5 (missing: 0.1), mood = sentiment (missing: 0.1)
    weary   = contacts / 3 + 1.5 open_cases

    survey_answered: silence -4.5
      short now    0.3 + 1.3 suits + 0.7 mood - 2.0 fresh - 1.4 stale
      long now    -0.2 + 0.9 fond + 0.9 mood - 1.4 fresh - 1.2 stale - 0.8 [mobile]
      in 4 h      -0.5 + 1.2 suits4 + 0.4 mood - 0.2 fresh - 1.8 stale
      in 24 h     -1.0 + 0.5 suits + 0.4 fond + 1.5 fresh - 2.2 stale
    annoyed: silence -6;  all others -2.5 + 1.5 weary + 1.2 stale - 1.3 mood - 0.6 fond, and
      short now + 1.0 fresh + 0.9 (1 - suits) + 2 night [push on];  long now + 0.5;  in 4 h - 0.2;  in 24 h - 0.5
    """
    hours, hour = x.number("hours_since_resolved", 8.0), x.number("active_hour", 15.0)
    fresh, stale = np.exp(-hours / 3.0), logistic((hours - 20.0) / 4.0)
    suits, suits4 = x.near("local_time", hour), x.near("local_time", hour - 4.0)
    mood, fond = x.number("sentiment", 0.1), (x.number("nps", 5.5) - 5.0) / 5.0
    weary = x.number("contacts_30d", 1.0) / 3.0 + 1.5 * x.number("open_cases", 0.0)
    never = np.zeros(len(x))
    push = x.column("push_enabled") > 0.5
    pester = -2.5 + 1.5 * weary + 1.2 * stale - 1.3 * mood - 0.6 * fond
    return {
        "survey_answered": {
            "no_action": never - 4.5,
            "ask_now_short": 0.3 + 1.3 * suits + 0.7 * mood - 2.0 * fresh - 1.4 * stale,
            "ask_now_long": -0.2
            + 0.9 * fond
            + 0.9 * mood
            - 1.4 * fresh
            - 1.2 * stale
            - 0.8 * x.among("device", "mobile"),
            "ask_in_4h": -0.5 + 1.2 * suits4 + 0.4 * mood - 0.2 * fresh - 1.8 * stale,
            "ask_in_24h": -1.0 + 0.5 * suits + 0.4 * fond + 1.5 * fresh - 2.2 * stale,
        },
        "annoyed": {
            "no_action": never - 6.0,
            "ask_now_short": pester + 1.0 * fresh + 0.9 * (1.0 - suits) + 2.0 * x.night("local_time") * push,
            "ask_now_long": pester + 0.5,
            "ask_in_4h": pester - 0.2,
            "ask_in_24h": pester - 0.5,
        },
    }
