"""Somebody looks at their balance: out of habit, out of worry, or with a plan that needs money?"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, clock, gaps, intent, locale, steps
from envs.people import Array, People
from envs.seen import Seen


def situation(people: People, rng: Generator) -> Made:
    """income_monthly = exp(7.75 + 0.15 skill + 0.4 noise) EUR (median 2,320), missing 10 % (paid elsewhere).

    means (latent) = 0.35 patience + 0.25 thrift + 0.9 noise;  balance = income (0.55 + 0.7 means + 0.25 means^2) - 300
    debt_ratio = exp(-1.75 - 0.5 means + 0.6 noise), missing 12 % (debts elsewhere are not known)
    overdrafts_90d: floor of an exponential of mean exp(-0.5 - 1.1 means)
    checks_today: floor of one of mean 0.7, more for the impatient
    planned_payments = income exp(-1.6 + 0.7 noise), missing 8 %;  payday in 0 to 30 days
    One in six has looked at loans this week, and two in five of those whose means are low.
    """
    n, patience = len(people), people.trait("patience")
    noise, chance = rng.standard_normal((4, n)), rng.random((2, n))
    means = 0.35 * patience + 0.25 * people.trait("thrift") + 0.9 * noise[0]
    income = np.exp(7.75 + 0.15 * people.trait("skill") + 0.4 * noise[1])
    balance = income * (0.55 + 0.7 * means + 0.25 * means * means) - 300.0
    debt = np.minimum(np.exp(-1.75 - 0.5 * means + 0.6 * noise[2]), 1.5)
    planned = income * np.exp(-1.6 + 0.7 * noise[3])
    return {
        "local_time": clock(people, rng, 0.5),
        "locale": locale(people),
        "intent": intent(people, rng),
        "balance": np.clip(balance.round(), -5_000.0, 20_000.0),
        "income_monthly": gaps(np.minimum(income.round(), 10_000.0), rng, 0.1),
        "debt_ratio": gaps(debt.round(2), rng, 0.12),
        "planned_payments": gaps(np.minimum(planned.round(), 5_000.0), rng, 0.08),
        "days_to_payday": np.floor(31.0 * chance[0]),
        "overdrafts_90d": np.minimum(steps(people, rng, np.exp(-0.5 - 1.1 * means)), 20.0),
        "checks_today": np.minimum(steps(people, rng, np.maximum(0.2, 0.7 - 0.4 * patience)), 10.0),
        "loan_viewed": (chance[1] < np.where(means < -0.8, 0.4, 0.12)).astype(np.float64),
    }


def logits(x: Seen) -> Logits:
    """A look at the balance. Most want to see it and go; the worried want to know, the short want a way out.

    gap      = clip((planned + 20 days - balance) / 1000, 0, 1)       will it last until payday (planned missing: 450)
    spare    = clip((balance - planned - 1000) / 3000, 0, 1)
    worry    = checks / (checks + 2);   burden = debt_ratio / 0.4, at most 2 (missing: 0.5)
    plan     = [loan viewed] + 0.7 [buy];   old = min(1, tenure / 60) (missing: 0.3)

    settled: silence = 2.1 - 2.6 gap - 2.0 worry - 1.9 plan + 0.3 [go];  all others - 0.4 - 0.6 (1 - trouble), and
      trouble = min(1, gap + worry + plan / 2)
      outlook      + 2.8 worry (1 - 0.6 gap) + 0.9 [know] (0.3 + 0.7 [detailed])
      spending     + 1.7 [detailed] (0.3 + 0.5 worry) + 1.3 gap (1 - worry) - 0.4 [brief]
      alert        + 1.6 gap (1 - 0.3 overdrafts (at most 3)) + 0.7 [push on] - 0.3
      saving       + 2.6 spare (0.4 + 0.6 variety) - 0.8 gap                             variety missing: 0.4
      eligibility  + plan (1.8 + 1.2 [detailed]) (1 - 0.3 burden) - 0.2
      loan         + [loan viewed] (3.2 + 0.6 [brief] - 1.6 spare) + 1.6 gap - 0.7
      debt advice  + 2.6 gap min(1, burden) + 0.35 overdrafts (at most 4) - 0.9 (1 - gap)
      advisor      + old (3.4 plan + 1.2 spare) - 0.3
    overdrawn = -4.0 + 3.8 gap + 0.25 overdrafts (at most 4), and
      outlook - 0.5 gap;  spending - 0.4 gap;  alert - 1.3 gap;  loan - 2.2 gap;  debt advice - 0.9 gap
    annoyed: silence -9;  all others -4.4 + 1.2 [open case], and saving, eligibility, loan + 0.8 + 1.6 gap;
      alert + 1.8 night [push on]

    A loan helps whoever is short, for now: it settles the visit and fills the account, most of all for those who can
    carry it least. What becomes of it shows after the window, so that no reward here speaks against it. That is why
    suitability stands in the pack's guardrails and is not left to learning.
    Set so that six visits in ten are settled without a word, that one account in seven is overdrawn before payday,
    and that an offer of credit annoys four times as many as a forecast.
    """
    balance, planned = x.number("balance", 900.0), x.number("planned_payments", 450.0)
    overdrafts, checks = x.number("overdrafts_90d", 0.0), x.number("checks_today", 0.0)
    ahead = balance - planned
    gap = np.minimum(np.maximum((20.0 * x.number("days_to_payday", 15.0) - ahead) / 1_000.0, 0.0), 1.0)
    spare = np.minimum(np.maximum((ahead - 1_000.0) / 3_000.0, 0.0), 1.0)
    worry, burden = checks / (checks + 2.0), np.minimum(2.0, x.number("debt_ratio", 0.2) / 0.4)
    viewed = (x.column("loan_viewed") > 0.5).astype(np.float64)
    plan = viewed + 0.7 * x.among("intent", "buy")
    brief, detailed = x.among("style", "brief"), x.among("style", "detailed")
    old = np.minimum(1.0, x.number("tenure_months", 18.0) / 60.0)
    push = x.column("push_enabled") > 0.5
    silent = 2.1 - 2.6 * gap - 2.0 * worry - 1.9 * plan + 0.3 * x.among("intent", "go")
    disturbed = silent - 1.0 + 0.6 * np.minimum(1.0, gap + worry + 0.5 * plan)
    lift: dict[str, Array] = {
        "show_outlook": 2.8 * worry * (1.0 - 0.6 * gap) + 0.9 * x.among("intent", "know") * (0.3 + 0.7 * detailed),
        "summarise_spending": 1.7 * detailed * (0.3 + 0.5 * worry) + 1.3 * gap * (1.0 - worry) - 0.4 * brief,
        "set_alert": 1.6 * gap * (1.0 - 0.3 * np.minimum(overdrafts, 3.0)) + 0.7 * push - 0.3,
        "suggest_saving": 2.6 * spare * (0.4 + 0.6 * x.number("variety", 0.4)) - 0.8 * gap,
        "check_eligibility": plan * (1.8 + 1.2 * detailed) * (1.0 - 0.3 * burden) - 0.2,
        "offer_loan": viewed * (3.2 + 0.6 * brief - 1.6 * spare) + 1.6 * gap - 0.7,
        "debt_advice": 2.6 * gap * np.minimum(1.0, burden) + 0.35 * np.minimum(overdrafts, 4.0) - 0.9 * (1.0 - gap),
        "book_advisor": old * (3.4 * plan + 1.2 * spare) - 0.3,
    }
    settled = {"no_action": silent} | {action: disturbed + more for action, more in lift.items()}
    drained = -4.0 + 3.8 * gap + 0.25 * np.minimum(overdrafts, 4.0)
    overdrawn = dict.fromkeys(settled, drained) | {
        "show_outlook": drained - 0.5 * gap,
        "summarise_spending": drained - 0.4 * gap,
        "set_alert": drained - 1.3 * gap,
        "offer_loan": drained - 2.2 * gap,
        "debt_advice": drained - 0.9 * gap,
    }
    bother = -4.4 + 1.2 * (x.number("open_cases", 0.0) > 0.5)
    pushy = bother + 0.8 + 1.6 * gap
    annoyed = dict.fromkeys(settled, bother) | {
        "no_action": np.full(len(x), -9.0),
        "set_alert": bother + 1.8 * x.night("local_time") * push,
        "suggest_saving": pushy,
        "check_eligibility": pushy,
        "offer_loan": pushy,
    }
    return {"settled": settled, "overdrawn": overdrawn, "annoyed": annoyed}
