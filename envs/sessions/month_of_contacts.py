"""A month of contacts: 30 days, each with at most one message to a subscriber of a streaming service.

A message lifts the chance that something is watched today, tires for the days to come, and may be the last one: who
withdraws consent cannot be reached any more. Variety costs a little today and keeps the interest alive.
"""

from __future__ import annotations

import numpy as np

from envs.dynamics.capacity import Capacity
from envs.dynamics.fatigue import Fatigue
from envs.dynamics.frustration import ordered_start
from envs.dynamics.withdrawal import WITHDREW, Withdrawal
from envs.session_law import NEVER, Event, EventLogits, Moves, SessionSpec, Space, State, Variable
from nba.types import NO_ACTION

WATCHED, CANCELLED = "watched", "cancelled"
SAME, NEW = ("push_favourites", "mail_digest"), ("push_discovery", "premiere_invite")
CONTACTS = (*SAME, *NEW)

FATIGUE = Fatigue(
    field="contact_pressure",
    shown=(0.0, 0.25, 0.5, 0.75, 1.0),
    weights={"push_favourites": 0.75, "push_discovery": 0.75, "mail_digest": 0.4, "premiere_invite": 0.6},
    recovery=0.4,
    slope=0.4,
)
WITHDRAWAL = Withdrawal("may_contact")
PREMIERE = Capacity("premiere_on", (False, True), arrival=0.12, taken=0.3)


def variables(space: Space) -> tuple[Variable, ...]:
    """Engagement, contact pressure, consent, sameness of what was offered, whether a premiere is on.

    engagement E: watched E + 1 with chance 0.4;  else E - 1 with chance 0.08, after an offer of the same kind 0.14
    sameness S:   more of the same S + 1 with chance 0.6;  something new S - 1;  in silence S - 1 with chance 0.05
    """
    engagement = (
        Moves(space, 5)
        .when(by=-1, chance=0.08)
        .when(actions=SAME, by=-1, chance=0.14)
        .when(events=[WATCHED], by=1, chance=0.4)
    )
    sameness = (
        Moves(space, 3)
        .when(actions=SAME, by=1, chance=0.6)
        .when(actions=NEW, by=-1)
        .when(actions=[NO_ACTION], by=-1, chance=0.05)
    )
    loyal = space.traits["loyalty"]
    return (
        Variable("engagement", (0.0, 0.25, 0.5, 0.75, 1.0), ordered_start(1.8 + 0.6 * loyal, 5), engagement),
        FATIGUE.variable(space),
        WITHDRAWAL.variable(space),
        Variable("sameness", (0.0, 0.5, 1.0), np.tile([0.5, 0.3, 0.2], (space.types, 1)), sameness),
        PREMIERE.variable(space),
    )


def logits(x: State) -> EventLogits:
    """What comes of a day; E, P, S are levels from 0 (engagement, contact pressure, sameness).

    watched    silence -2.2 + 0.55 E;  favourites + 1.2 - 0.5 S - 0.4 P;  digest + 0.7 - 0.3 S - 0.4 P
               discovery + 0.6 + 0.5 S - 0.4 P;  premiere + 1.4 + 0.3 S - 0.4 P
    withdrew   -6.0 + 0.8 P + 0.5 annoyance after a push or the premiere, digest - 0.7;  silence never
    cancelled  -5.0 - 0.6 E + 0.35 S - 0.3 loyalty, after a contact + 0.35 P
    """
    e, p, s = x.level("engagement"), x.level("contact_pressure"), x.level("sameness")
    annoyance, tired = x.trait("annoyance"), FATIGUE.effect(p)
    silence = -2.2 + 0.55 * e
    withdrawing = WITHDRAWAL.logit(p, annoyance)
    cancels = -5.0 - 0.6 * e + 0.35 * s - 0.3 * x.trait("loyalty")
    return {
        WATCHED: {
            NO_ACTION: silence,
            "push_favourites": silence + 1.2 - 0.5 * s + tired,
            "mail_digest": silence + 0.7 - 0.3 * s + tired,
            "push_discovery": silence + 0.6 + 0.5 * s + tired,
            "premiere_invite": silence + 1.4 + 0.3 * s + tired,
        },
        WITHDREW: dict.fromkeys(CONTACTS, withdrawing)
        | {"mail_digest": withdrawing - 0.7, NO_ACTION: np.full(1, NEVER)},
        CANCELLED: dict.fromkeys(CONTACTS, cancels + 0.35 * p) | {NO_ACTION: cancels},
    }


SESSION = SessionSpec(
    moment="month_of_contacts",
    steps=30,
    traits=("annoyance", "loyalty"),
    events=(
        Event(WATCHED, {"watched": 1.0}),
        Event(WITHDREW, {"withdrew": 1.0}),
        Event(CANCELLED, {"cancelled": 1.0}, ends=True),
    ),
    variables=variables,
    logits=logits,
)
