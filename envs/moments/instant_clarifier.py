"""A jumbled phrase arrives: what is needed?"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, channel, clock, gaps, intent, locale, steps
from envs.people import People, logistic
from envs.seen import Seen


def situation(people: People, rng: Generator) -> Made:
    """A jumbled phrase: understanding falls with each reformulation, and the mood with it.

    understanding = logistic(0.7 + 0.4 skill - 0.5 reformulations + 1.2 noise), missing 8 %
    sentiment = tanh(0.1 + 0.3 patience - 0.25 reformulations + 0.45 noise), missing 3 % beside consent
    """
    n = len(people)
    again = np.minimum(steps(people, rng, np.exp(-0.1 - 0.3 * people.trait("skill"))), 5.0)
    heard = logistic(0.7 + 0.4 * people.trait("skill") - 0.5 * again + 1.2 * rng.standard_normal(n))
    mood = np.tanh(0.1 + 0.3 * people.trait("patience") - 0.25 * again + 0.45 * rng.standard_normal(n))
    return {
        "local_time": clock(people, rng, 0.7),
        "channel": channel(people, rng),
        "locale": locale(people),
        "intent": intent(people, rng),
        "reformulations": again,
        "understanding": gaps(heard.round(3), rng, 0.08),
        "sentiment": gaps(mood.round(3), rng, 0.03),
    }


def logits(x: Seen) -> Logits:
    """A jumbled phrase. Clarify where understanding is doubtful; do not disturb who finds the way alone.

    clear    = logistic(12 (understanding - 0.62))             was the intent understood (understanding missing: 0.5)
    doubt    = exp(-((understanding - 0.5) / 0.22)^2)          a question with two options would hit
    alone    = [no reformulation] ([app] + [web] + 0.4) [know or go] + 0.5 [sentiment > 0.2]
    cross    = max(0, -sentiment), tired = reformulations / 5

    resolved: silence -2.4 + 2.2 alone clear + 1.0 alone;  answer -2.3 + 4.4 clear - 1.5 tired - 0.5 alone
              clarify -1.4 + 2.8 doubt + 0.8 [desktop] - 1.8 tired - 2.4 cross [not mail] - 1.5 [mail]
              options -0.7 + 1.2 (1 - clear) + 0.9 [buy or do] - 0.8 [mobile] - 1.0 cross
              hand over 0.4 + 1.8 tired + 1.4 cross - 2.4 night
    repeat_contact = -0.9 - 0.8 resolved + 0.12 contacts + 0.6 [answer] (1 - clear) - 0.05 nps
    """
    again = x.number("reformulations", 0.0)
    heard, mood = x.number("understanding", 0.5), x.number("sentiment", 0.0)
    clear, doubt = logistic(12.0 * (heard - 0.62)), np.exp(-np.square((heard - 0.5) / 0.22))
    cross, tired, mail = np.maximum(0.0, -mood), again / 5.0, x.among("channel", "mail")
    alone = (again < 0.5) * (x.among("channel", "app", "web") + 0.4) * x.among("intent", "know", "go")
    alone += 0.5 * (mood > 0.2)
    resolved = {
        "no_action": -2.4 + 2.2 * alone * clear + 1.0 * alone,
        "answer_directly": -2.3 + 4.4 * clear - 1.5 * tired - 0.5 * alone,
        "clarify_two_way": -1.4
        + 2.8 * doubt
        + 0.8 * x.among("device", "desktop")
        - 1.8 * tired
        - 2.4 * cross * (1.0 - mail)
        - 1.5 * mail,
        "show_options": -0.7
        + 1.2 * (1.0 - clear)
        + 0.9 * x.among("intent", "buy", "do")
        - 0.8 * x.among("device", "mobile")
        - 1.0 * cross,
        "hand_over": 0.4 + 1.8 * tired + 1.4 * cross - 2.4 * x.night("local_time"),
    }
    nuisance = -0.9 + 0.12 * x.number("contacts_30d", 1.0) - 0.05 * x.number("nps", 6.0)
    repeat = {action: nuisance - 0.8 * logit for action, logit in resolved.items()}
    repeat["answer_directly"] = repeat["answer_directly"] + 0.6 * (1.0 - clear)
    return {"resolved": resolved, "repeat_contact": repeat}
