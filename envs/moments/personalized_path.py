"""Somewhere in a task: which guidance gets this customer through it?"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, channel, clock, gaps, intent, locale, steps
from envs.people import People, logistic
from envs.seen import Seen


def situation(people: People, rng: Generator) -> Made:
    """Somewhere in a task: mean four steps left; hesitation exp(2 - 0.4 skill + 0.3 patience + 0.9 noise) s.

    Steps are missing in 3 %, hesitation in 2 % beside consent.
    """
    n = len(people)
    idle = np.exp(2.0 - 0.4 * people.trait("skill") + 0.3 * people.trait("patience") + 0.9 * rng.standard_normal(n))
    left = np.minimum(1.0 + steps(people, rng, np.full(n, 3.5)), 10.0)
    return {
        "local_time": clock(people, rng, 0.7),
        "channel": channel(people, rng),
        "locale": locale(people),
        "intent": intent(people, rng),
        "task_steps_left": gaps(left, rng, 0.03),
        "hesitation_s": gaps(np.minimum(idle.round(1), 60.0), rng, 0.02),
    }


def logits(x: Seen) -> Logits:
    """A way through a task. Guidance has to come from the history that matters here; who flows is left alone.

    long    = steps / 10 (missing: 0.4);  stuck = logistic((hesitation - 14) / 4) (missing: 0.35)
    flow    = (1 - stuck) (1 - long)
    bought  = 1 - exp(-purchases / 3);    helped = 1 - exp(-(contacts + 2 open_cases) / 2)

    completed: base = 0.4 - 1.6 long - 1.2 stuck
      silence         base + 1.6 flow
      by purchases    base + 2.4 bought ([buy] + 0.45 [other]) - 0.6 flow
      by support      base + 2.2 helped ([do] + 0.35 [other]) + 0.5 [open case] - 0.6 flow
      by browsing     base + 1.5 ([know or go] + 0.3) [web or app] - 0.5 flow
      offer choice    base + 6.0 stuck (1 - stuck) + 0.8 stuck - 0.5 [mobile] - 0.9 flow
      summarise       base + 5.2 stuck long - 0.5 - 0.6 [mobile] - 0.8 flow
    abandoned = -1.0 - 0.9 completed + 0.6 night
    """
    steps, idle = x.number("task_steps_left", 4.0), x.number("hesitation_s", 11.5)
    long, stuck = steps / 10.0, logistic((idle - 14.0) / 4.0)
    flow, mobile = (1.0 - stuck) * (1.0 - long), x.among("device", "mobile")
    cases = x.number("open_cases", 0.0)
    bought = 1.0 - np.exp(-x.number("purchases_90d", 1.0) / 3.0)
    helped = 1.0 - np.exp(-(x.number("contacts_30d", 1.0) + 2.0 * cases) / 2.0)
    buy, do, look = x.among("intent", "buy"), x.among("intent", "do"), x.among("intent", "know", "go")
    base = 0.4 - 1.6 * long - 1.2 * stuck
    completed = {
        "no_action": base + 1.6 * flow,
        "guide_by_purchases": base + 2.4 * bought * (buy + 0.45 * (1.0 - buy)) - 0.6 * flow,
        "guide_by_support": base + 2.2 * helped * (do + 0.35 * (1.0 - do)) + 0.5 * (cases > 0.5) - 0.6 * flow,
        "guide_by_browsing": base + 1.5 * (look + 0.3) * x.among("channel", "web", "app") - 0.5 * flow,
        "offer_choice": base + 6.0 * stuck * (1.0 - stuck) + 0.8 * stuck - 0.5 * mobile - 0.9 * flow,
        "summarise_steps": base + 5.2 * stuck * long - 0.5 - 0.6 * mobile - 0.8 * flow,
    }
    late = -1.0 + 0.6 * x.night("local_time")
    return {
        "completed": completed,
        "abandoned": {action: late - 0.9 * logit for action, logit in completed.items()},
    }
