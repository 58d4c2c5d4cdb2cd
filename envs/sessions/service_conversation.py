"""A service conversation: up to 30 turns to get a customer through a matter of three to six steps.

Answering pays at once but goes wrong where little is understood, and each step needs to be understood anew; a
clarification pays nothing now and everything later; empathy buys time, once. Whoever is tired of it leaves.
"""

from __future__ import annotations

import numpy as np

from envs.dynamics.capacity import Capacity
from envs.dynamics.frustration import CLARIFIED, MISUNDERSTOOD, SOOTHED, Frustration, ordered_start
from envs.session_law import NEVER, Event, EventLogits, Moves, SessionSpec, Space, State, Variable

PROGRESSED, RESOLVED, HANDED_OVER, LEFT = "progressed", "resolved", "handed_over", "left"
GETS_ON = (PROGRESSED, RESOLVED)
EMPATHY = "empathetic_reply_2"

FRUSTRATION = Frustration(
    mood_field="sentiment",
    mood=(0.35, 0.0, -0.35, -0.65, -0.9),
    episode_field="reformulations",
    episodes=(0.0, 1.0, 3.0),
    moved_on=GETS_ON,
)
AGENTS = Capacity("agents_free", (0.0, 1.0), taken_by=())


def variables(space: Space) -> tuple[Variable, ...]:
    """Understanding, temper, misunderstandings, steps left, free agents, acknowledgements since the last step.

    understanding U: clarified U + 1;  misunderstood U - 1 with chance 0.3;  a new step U - 1 with chance 0.5
    acknowledgements K: empathy K + 1;  a new step back to 0
    """
    skill = space.traits["skill"]
    understanding = (
        Moves(space, 4)
        .when(events=[CLARIFIED], by=1)
        .when(events=[MISUNDERSTOOD], by=-1, chance=0.3)
        .when(events=[PROGRESSED], by=-1, chance=0.5)
    )
    left = np.tile([0.0, 0.0, 0.15, 0.25, 0.35, 0.25], (space.types, 1))
    to_do = Moves(space, 6).when(events=[PROGRESSED], by=-1)
    kindness = Moves(space, 3).when(actions=[EMPATHY], by=1).when(events=[PROGRESSED], to=0)
    return (
        Variable("understanding", (0.2, 0.45, 0.65, 0.9), ordered_start(1.3 + 0.5 * skill, 4), understanding),
        FRUSTRATION.temper(space),
        FRUSTRATION.episode(space),
        Variable("task_steps_left", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), left, to_do),
        AGENTS.variable(space),
        Variable("acknowledgements", (0.0, 1.0, 2.0), np.tile([1.0, 0.0, 0.0], (space.types, 1)), kindness),
    )


def logits(x: State) -> EventLogits:
    """What comes of a turn; U, F, R, K are levels from 0, [last] holds when one step is left.

    gets on        answer -3.1 + 1.4 U - 0.25 F - 0.3 R;  summarise -2.0 + 0.6 U - 0.2 F
                   options -2.2 + 0.5 U - 0.1 F + 0.7 skill;  silence -3.4 + 0.5 U + 0.9 skill;  clarify, empathy -4
    misunderstood  answer 1.1 - 1.2 U;  summarise -0.2 - 0.7 U;  options -0.8 - 0.4 U - 0.3 skill;  silence -1.6
                   clarify -1.6;  empathy -2.6
    clarified      clarify 0.5 - 0.2 F - 3 [U is 3] - 0.3 skill;  options -1.1 - 0.2 F - 3 [U is 3] + 0.5 skill
                   silence -3.2 + 0.6 skill;  others -4
    soothed        empathy 1.5 - 1.6 K - 3 [F is 0] - 0.4 skill;  silence -3.2;  others -4
    left           -5.6 + 1.0 F + 0.3 R - 0.7 patience, empathy + 0.9 K, hand over - 2
    handed over    hand over 4;  others never
    """
    u, f, r, k = (x.level(name) for name in ("understanding", "sentiment", "reformulations", "acknowledgements"))
    skill, patience = x.trait("skill"), x.trait("patience")
    last, clear, calm = x.at("task_steps_left", 0), x.at("understanding", 3), x.at("sentiment", 0)
    gets_on = {
        "no_action": -3.4 + 0.5 * u + 0.9 * skill,
        "answer_directly": -3.1 + 1.4 * u - 0.25 * f - 0.3 * r,
        "clarify_two_way": -4.0 + 0.0 * u,
        "show_options": -2.2 + 0.5 * u - 0.1 * f + 0.7 * skill,
        EMPATHY: -4.0 + 0.0 * u,
        "summarise_steps": -2.0 + 0.6 * u - 0.2 * f,
        "hand_over": NEVER + 0.0 * u,
    }
    leaves = -5.6 + 1.0 * f + 0.3 * r - 0.7 * patience
    rare, never = np.full(1, -4.0), np.full(1, NEVER)
    return {
        PROGRESSED: {a: logit + NEVER * last for a, logit in gets_on.items()},
        RESOLVED: {a: logit + NEVER * (1.0 - last) for a, logit in gets_on.items()},
        MISUNDERSTOOD: {
            "no_action": -1.6 + 0.0 * u,
            "answer_directly": 1.1 - 1.2 * u,
            "clarify_two_way": -1.6 + 0.0 * u,
            "show_options": -0.8 - 0.4 * u - 0.3 * skill,
            EMPATHY: -2.6 + 0.0 * u,
            "summarise_steps": -0.2 - 0.7 * u,
            "hand_over": never,
        },
        CLARIFIED: dict.fromkeys(gets_on, rare)
        | {
            "no_action": -3.2 + 0.6 * skill,
            "clarify_two_way": 0.5 - 0.2 * f - 3.0 * clear - 0.3 * skill,
            "show_options": -1.1 - 0.2 * f - 3.0 * clear + 0.5 * skill,
            "hand_over": never,
        },
        SOOTHED: dict.fromkeys(gets_on, rare)
        | {
            "no_action": np.full(1, -3.2),
            EMPATHY: 1.5 - 1.6 * k - 3.0 * calm - 0.4 * skill,
            "hand_over": never,
        },
        LEFT: dict.fromkeys(gets_on, leaves) | {EMPATHY: leaves + 0.9 * k, "hand_over": leaves - 2.0},
        HANDED_OVER: dict.fromkeys(gets_on, never) | {"hand_over": np.full(1, 4.0)},
    }


SESSION = SessionSpec(
    moment="service_conversation",
    steps=30,
    traits=("patience", "skill"),
    events=(
        Event(PROGRESSED, {"step_done": 1.0}),
        Event(RESOLVED, {"step_done": 1.0, "resolved": 1.0}, ends=True),
        Event(MISUNDERSTOOD, {"misunderstood": 1.0}),
        Event(CLARIFIED, {"clarified": 1.0}),
        Event(SOOTHED),
        Event(LEFT, {"abandoned": 1.0}, ends=True),
        Event(HANDED_OVER, {"handed_over": 1.0}, ends=True),
    ),
    variables=variables,
    logits=logits,
)
