"""How customers respond: for each moment the logits of each outcome after each action, as equations.

    P(outcome | context, action) = logistic(logit)

An equation reads `x`, the context in the units of its fields (`envs.seen`); [a] is 1 where a holds, else 0. All
constants are chosen, not fitted: they are set so that no action is best everywhere, so that silence is best where
nothing is wrong, and so that the outcomes' overall rates are of the size that practice reports.

Outcomes of one round share one latent quality of the experience, u uniform on (0, 1): the outcome that closes the
window happens where u < P, every other one where u > 1 - P. What is good and what is bad thus exclude each other
wherever their probabilities allow it, and each keeps its own probability exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.people import Array, logistic
from envs.seen import Seen
from nba.errors import PackError, UnknownMomentError
from nba.moment_plan import MomentPlan
from nba.types import ActionValues, Contexts

Probabilities = NDArray[np.float64]  # (n, k, o)
Logits = dict[str, dict[str, Array]]  # outcome -> action -> (n,)


@dataclass(frozen=True, slots=True)
class Response:
    """The truth of one moment: k actions and o outcomes in the pack's order."""

    plan: MomentPlan
    outcomes: tuple[str, ...]  # o
    weights: Array  # (o,) reward units, the pack's formula
    closing: NDArray[np.bool_]  # (o,) which outcome closes the window
    equations: Callable[[Seen], Logits]

    @classmethod
    def of(cls, plan: MomentPlan) -> Response:
        """The response to a plan's actions. Raises PackError, UnknownMomentError where an equation is missing."""
        equations = MOMENTS.get(plan.name)
        if equations is None:
            raise UnknownMomentError(
                f"moment {plan.name!r} is not simulated", help=f"these are: {', '.join(MOMENTS)}", field="moment"
            )
        formula = plan.pack.moment(plan.name).reward
        closing = np.array([plan.pack.outcomes[outcome].closes_window for outcome in formula])
        response = cls(plan, tuple(formula), np.array(list(formula.values())), closing, equations)
        response.probabilities(np.zeros((1, plan.width), dtype=np.float32))
        return response

    def probabilities(self, contexts: Contexts) -> Probabilities:
        """P(outcome | context, action), (n, k, o)."""
        logits = self.equations(Seen(contexts, self.plan.encoder))
        table = np.empty((len(self.outcomes), len(self.plan.action_ids), len(contexts)))
        for o, outcome in enumerate(self.outcomes):
            for a, action in enumerate(self.plan.action_ids):
                table[o, a] = _logit(logits, outcome, action, self.plan.name)
        return logistic(table).transpose(2, 1, 0)

    def expected_rewards(self, contexts: Contexts) -> ActionValues:
        """Exact expected reward of each action, its cost taken off, (n, k)."""
        return self.probabilities(contexts) @ self.weights - self.plan.costs

    def happened(self, probabilities: NDArray[np.float64], quality: Array) -> NDArray[np.float64]:
        """Outcomes (..., o), 0 or 1, from their probabilities (..., o) and the rounds' quality u (...)."""
        u = quality[..., None]
        return np.where(self.closing, u < probabilities, u > 1.0 - probabilities).astype(np.float64)


def _logit(logits: Logits, outcome: str, action: str, moment: str) -> Array:
    try:
        return logits[outcome][action]
    except KeyError:
        raise PackError(
            f"moment {moment!r}: simulated customers have no response {outcome!r} to {action!r}",
            help=f"they know outcomes {', '.join(logits)} and actions {', '.join(next(iter(logits.values())))}",
        ) from None


def instant_clarifier(x: Seen) -> Logits:
    """A jumbled phrase. Clarify where understanding is doubtful; do not disturb who finds the way alone.

    clear    = logistic(12 (understanding - 0.62))             was the intent understood (missing: 0.5)
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


def tone_tuner(x: Seen) -> Logits:
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


def proactive_nudge(x: Seen) -> Logits:
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


def personalized_path(x: Seen) -> Logits:
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


def followup_whisper(x: Seen) -> Logits:
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


MOMENTS: dict[str, Callable[[Seen], Logits]] = {
    "instant_clarifier": instant_clarifier,
    "tone_tuner": tone_tuner,
    "proactive_nudge": proactive_nudge,
    "personalized_path": personalized_path,
    "followup_whisper": followup_whisper,
}
