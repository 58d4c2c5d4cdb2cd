"""Somebody searches for a symptom: is it one for a person, for an appointment, for a few lines, or for nobody?"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from envs.moments.parts import Logits, Made, clock, gaps, locale, steps
from envs.people import Array, People
from envs.seen import Seen

PATIENTS = ("adult", "child", "senior")
NAMES = {"patient": PATIENTS}


def situation(people: People, rng: Generator) -> Made:
    """severity = 3.2 - 0.4 patience + 2.2 noise, in whole points; for exp(1.1 + 1.1 noise) days; missing 10 % each.

    red_flag: 2 %, and 12 % where severity is 7 or more; in 1 % the check did not run
    worry = 0.42 - 0.10 patience + 0.04 (severity - 3.2) + 0.22 noise, missing 20 % (a single word does not tell)
    understanding = 0.66 + 0.08 skill + 0.20 noise, missing 6 %
    searches_today: a count from an exponential of mean 0.3 + 1.2 worry;  patient: adult 70 %, child 17 %, senior 13 %
    The next slot is exp(3.3 + 1.0 noise) hours away (median 27), missing 15 % (no diary is connected); a nurse is free
    in exp(2.3 + 0.9 noise) minutes (median 10), missing 4 %.
    """
    n = len(people)
    noise, chance, patience = rng.standard_normal((6, n)), rng.random((2, n)), people.trait("patience")
    severity = np.floor(3.7 - 0.4 * patience + 2.2 * noise[0])
    worry = 0.42 - 0.10 * patience + 0.04 * (severity - 3.2) + 0.22 * noise[1]
    heard = 0.66 + 0.08 * people.trait("skill") + 0.20 * noise[2]
    return {
        "local_time": clock(people, rng, 0.4),
        "locale": locale(people),
        "red_flag": gaps((chance[0] < np.where(severity >= 7.0, 0.12, 0.02)).astype(np.float64), rng, 0.01),
        "severity": gaps(severity, rng, 0.1),
        "duration_days": gaps(np.exp(1.1 + 1.1 * noise[3]).round(), rng, 0.1),
        "worry": gaps(worry.round(2), rng, 0.2),
        "understanding": gaps(heard.round(2), rng, 0.06),
        "searches_today": steps(people, rng, np.maximum(0.1, 0.3 + 1.2 * worry)),
        "patient": 1.0 * (chance[1] > 0.70) + (chance[1] > 0.87),
        "hours_to_slot": gaps(np.exp(3.3 + 1.0 * noise[4]).round(), rng, 0.15),
        "nurse_wait_min": gaps(np.exp(2.3 + 0.9 * noise[5]).round(), rng, 0.04),
    }


def logits(x: Seen) -> Logits:
    """A symptom is searched for. Most need a few lines or nothing; some a doctor, soon; a red flag a person, now.

    red      = 1 where there is a red flag, 0.5 where nobody checked;    frail = [child or senior]
    acute    = clip((severity + frail - 3) / 5, 0, 1) (missing: 3);      lasting = days / (days + 7) (missing: 3)
    need     = min(1, acute + lasting / 2);   mild = 1 - need;    unclear = 1 - understanding (missing: 0.4)
    afraid   = worry (1 + 0.15 searches (at most 4)) (worry missing: 0.4)
    soon     = 24 / (24 + hours_to_slot) (missing: 0.25);         free = 15 / (15 + nurse_wait) (missing: 0.5)
    known    = min(1, tenure / 36) (missing: 14 months)

    well_cared_for: silence = 2.0 - 2.8 need - 1.2 afraid - 0.8 unclear - 4.0 red
      help, which is added, less 1.2 mild (1 - worry): nobody well and calm wants to be asked, taught or called
      hand over    acute (1.6 + 2.4 free) + 1.2 afraid need - 0.8 mild + 6.5 red
      questions    3.4 unclear (1 - 0.4 [brief]) - 1.0 understanding
      self-care    mild (0.9 + 0.9 [brief] + 0.5 [mobile]) - 1.4 need - 0.8 worry
      explain      (0.4 + 1.5 [detailed]) (1 - acute) understanding - 1.2 afraid^2
      reassure     2.8 afraid (1 - acute) - 1.2 (1 - worry) - 1.2 acute
      video        need (1.4 + 0.8 [mobile] + 0.7 frail) + 0.4 afraid - 0.6 mild
      appointment  lasting (1.2 + 1.0 known) + need (2.0 soon - 0.3) - 0.8 mild
      check-in     7.5 need mild (1 - acute) - 0.6                            wait and see: neither well nor ill
    searched_again = -1.6 + 1.8 afraid + 0.8 unclear - 0.6 help;   worsened = -4.6 + 2.4 need + 4.8 red - 0.5 help

    To read too much frightens the frightened. Silence at a red flag: 2 in 100 are well cared for and 3 in 4 get worse;
    with a person it is 9 in 10 and 1 in 10.
    Set so that without a word half are well cared for, two in five search again and one in twenty gets worse, and that
    after the right answer it is three in four, one in four and one in fifty. (Of the triage advice of symptom checkers
    57 % was right: Semigran et al. 2015, https://doi.org/10.1136/bmj.h3480.)
    """
    severity, days = x.number("severity", 3.0), x.number("duration_days", 3.0)
    worry, understood = x.number("worry", 0.4), x.number("understanding", 0.6)
    red = 0.5 + 0.5 * x.column("red_flag")
    frail = x.among("patient", "child", "senior")
    acute = np.minimum(np.maximum((severity + frail - 3.0) / 5.0, 0.0), 1.0)
    lasting = days / (days + 7.0)
    need = np.minimum(1.0, acute + lasting / 2.0)
    mild, unclear = 1.0 - need, 1.0 - understood
    afraid = worry * (1.0 + 0.15 * np.minimum(x.number("searches_today", 0.0), 4.0))
    soon = 24.0 / (24.0 + x.number("hours_to_slot", 72.0))
    free = 15.0 / (15.0 + x.number("nurse_wait_min", 15.0))
    known = np.minimum(1.0, x.number("tenure_months", 14.0) / 36.0)
    brief, detailed = x.among("style", "brief"), x.among("style", "detailed")
    mobile = x.among("device", "mobile")
    helps: dict[str, Array] = {
        "hand_over": acute * (1.6 + 2.4 * free) + 1.2 * afraid * need - 0.8 * mild + 6.5 * red,
        "ask_questions": 3.4 * unclear * (1.0 - 0.4 * brief) - 1.0 * understood,
        "self_care_steps": mild * (0.9 + 0.9 * brief + 0.5 * mobile) - 1.4 * need - 0.8 * worry,
        "explain_symptom": (0.4 + 1.5 * detailed) * (1.0 - acute) * understood - 1.2 * np.square(afraid),
        "reassure": 2.8 * afraid * (1.0 - acute) - 1.2 * (1.0 - worry) - 1.2 * acute,
        "offer_video": need * (1.4 + 0.8 * mobile + 0.7 * frail) + 0.4 * afraid - 0.6 * mild,
        "book_appointment": lasting * (1.2 + 1.0 * known) + need * (2.0 * soon - 0.3) - 0.8 * mild,
        "check_in_4h": 7.5 * need * mild * (1.0 - acute) - 0.6,
    }
    silent = 2.0 - 2.8 * need - 1.2 * afraid - 0.8 * unclear - 4.0 * red
    meddling = 1.2 * mild * (1.0 - worry)
    given = {"no_action": np.zeros(len(x))} | {action: more - meddling for action, more in helps.items()}
    again = -1.6 + 1.8 * afraid + 0.8 * unclear
    worse = -4.6 + 2.4 * need + 4.8 * red
    return {
        "well_cared_for": {action: silent + more for action, more in given.items()},
        "searched_again": {action: again - 0.6 * more for action, more in given.items()},
        "worsened": {action: worse - 0.5 * more for action, more in given.items()},
    }
