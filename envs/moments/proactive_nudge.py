"""A parcel is late and the customer does not know yet."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, clock, gaps, locale
from envs.people import People, logistic
from envs.seen import Seen


def situation(people: People, rng: Generator) -> Made:
    """A delay is known at any hour: exp(5.2 + 1.4 noise) minutes (median three hours), missing 4 %.

    order_value = exp(3.8 - 0.3 thrift + 0.8 noise) EUR, missing 5 %
    """
    n = len(people)
    late = np.minimum(np.exp(5.2 + 1.4 * rng.standard_normal(n)).round(), 2_880.0)
    value = np.minimum(np.exp(3.8 - 0.3 * people.trait("thrift") + 0.8 * rng.standard_normal(n)).round(2), 500.0)
    return {
        "local_time": clock(people, rng, 0.2),
        "locale": locale(people),
        "minutes_late": gaps(late, rng, 0.04),
        "order_value": gaps(value, rng, 0.05),
    }


def logits(x: Seen) -> Logits:
    """A late parcel. Tell those who would worry, where they look, at an hour that suits; a voucher is dear.

    late    = log(1 + minutes) / log(2881) (missing: 0.5);   worry = logistic(14 (late - 0.68))
    suits   = cos(local time - active_hour) where known, else cos(local time - 15:00)
    reach   = for push 0.3 + 0.7 [mobile] [push on] + 0.7 suits;  mail 0.3 + 1.0 [desktop];  chat 0.3 + 0.35 contacts
    big     = min(1, order_value / 120) worry

    informed = 2.6 worry reach, for push_later 2.6 worry (0.8 + 0.4 [mobile]) (1 - 0.5 [late > 0.85]);
               voucher 2.6 worry reach(mail) + 3.6 big - 0.5 (1 - big)
    fuss     = (1 - worry) for any message
    satisfied = 1.6 - 3.4 worry + informed - 1.1 fuss
    inbound_contact = -2.6 + 2.6 worry + 0.2 contacts - 0.8 informed + 0.6 fuss
    annoyed = -3.2 + 1.2 fuss (silence - 9); push_now + 1.4 (1 - suits) + 2.5 night; push_later + 0.5; voucher + 0.4;
              regulars (purchases >= 5) - 0.5
    """
    late = np.log1p(x.number("minutes_late", 53.0)) / np.log(2_881.0)
    worry = logistic(14.0 * (late - 0.68))
    hour = x.number("active_hour", 15.0)
    suits, night = x.near("local_time", hour), x.night("local_time")
    mobile, contacts = x.among("device", "mobile"), x.number("contacts_30d", 1.0)
    push, mail = 0.3 + 0.7 * mobile * (x.column("push_enabled") > 0.5), 0.3 + 1.0 * x.among("device", "desktop")
    big = np.minimum(1.0, x.number("order_value", 45.0) / 120.0) * worry
    fuss, nothing = 1.0 - worry, np.zeros(len(x))
    informed = {
        "no_action": nothing,
        "push_now": 2.6 * worry * (push + 0.7 * suits),
        "push_later": 2.6 * worry * (0.8 + 0.4 * mobile) * (1.0 - 0.5 * (late > 0.85)),
        "mail_estimate": 2.6 * worry * mail,
        "chat_note": 2.6 * worry * (0.3 + 0.35 * contacts),
        "mail_voucher": 2.6 * worry * mail + 3.6 * big - 0.5 * (1.0 - big),
    }
    bother = {
        "no_action": nothing - 9.0,
        "push_now": 1.2 * fuss + 1.4 * (1.0 - suits) + 2.5 * night,
        "push_later": 1.2 * fuss + 0.5,
        "mail_estimate": 1.2 * fuss,
        "chat_note": 1.2 * fuss,
        "mail_voucher": 1.2 * fuss + 0.4,
    }
    fuss_of = {action: nothing if action == "no_action" else fuss for action in informed}
    regular = 0.5 * (x.number("purchases_90d", 1.0) > 4.5)
    return {
        "satisfied": {a: 1.6 - 3.4 * worry + informed[a] - 1.1 * fuss_of[a] for a in informed},
        "inbound_contact": {
            a: -2.6 + 2.6 * worry + 0.2 * contacts - 0.8 * informed[a] + 0.6 * fuss_of[a] for a in informed
        },
        "annoyed": {a: -3.2 + bother[a] - regular for a in informed},
    }
