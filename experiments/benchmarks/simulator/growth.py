"""How the cost of a step grows: with the environments side by side, with the population, with the actions.

The simulator's equations name their actions, so more of them than a pack has need a law of their own: here, a moment
whose every action answers the Tone-Tuner's situations with another empathy, and a session of two variables.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from envs.moment_vector import MomentVectorEnv
from envs.moments import MOMENTS, MomentLaw, tone_tuner
from envs.moments.parts import NAMES, Logits
from envs.seen import Seen
from envs.session_law import Event, EventLogits, Moves, SessionSpec, Space, State, Variable
from envs.session_vector import SessionVectorEnv
from envs.sessions import SESSIONS
from nba.pack import Action, Moment, Pack
from nba.pack_file import load_pack
from nba.types import NO_ACTION

MANY, MANY_SESSION = "many_actions", "many_actions_session"
WIDE = 1_024  # environments, where actions are what grows


def moment_of(environments: int, **settings: Any) -> MomentVectorEnv:
    """The Tone-Tuner."""
    return MomentVectorEnv("support", "tone_tuner", num_envs=environments, **settings)


def session_of(environments: int, **settings: Any) -> SessionVectorEnv:
    """The service conversation."""
    return SessionVectorEnv("support", "service_conversation", num_envs=environments, **settings)


def some_actions(actions: int) -> MomentVectorEnv:
    """The Tone-Tuner with the first so many of its actions, no_action counted."""
    pack = load_pack("support")
    moment = pack.moment("tone_tuner")
    fewer = msgspec.structs.replace(moment, actions=moment.actions[: actions - 1], rules=())
    return MomentVectorEnv(_with(pack, "tone_tuner", fewer), "tone_tuner", num_envs=WIDE)


def many_actions(actions: int) -> MomentVectorEnv:
    """A moment with so many actions, no_action counted, all of them always eligible."""
    ids, pack = _ids(actions), load_pack("support")
    MOMENTS[MANY] = MomentLaw(tone_tuner.situation, _ManyLogits(ids), NAMES)
    moment = msgspec.structs.replace(pack.moment("tone_tuner"), actions=ids[1:], rules=())
    return MomentVectorEnv(_with(pack, MANY, moment), MANY, num_envs=WIDE)


class _ManyLogits:
    """Resolved 1.1 - 3 (wanted - given)^2, given from 0 to 1; the others as the Tone-Tuner's."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self.given = dict(zip(ids, np.linspace(0.0, 1.0, len(ids)), strict=True))

    def __call__(self, x: Seen) -> Logits:
        mood = x.number("sentiment", -0.25)
        cross = np.maximum(0.0, -mood)
        wanted, fury = cross * (1.0 - 0.05 * x.number("contacts_30d", 1.0)), -2.2 + 1.4 * cross
        resolved = {action: 1.1 - 3.0 * np.square(wanted - given) for action, given in self.given.items()}
        return {
            "resolved": resolved,
            "repeat_contact": {action: -1.0 - 0.7 * logit for action, logit in resolved.items()},
            "escalated": {action: fury - 0.5 * logit for action, logit in resolved.items()},
        }


def many_actions_session(actions: int) -> SessionVectorEnv:
    """A session of ten steps with so many actions, no_action counted, all of them always eligible."""
    ids, pack = _ids(actions), load_pack("support")
    SESSIONS[MANY_SESSION] = SessionSpec(
        MANY_SESSION,
        steps=10,
        traits=("skill",),
        events=(Event("progressed", {"step_done": 1.0}), Event("resolved", {"resolved": 1.0}, ends=True)),
        variables=_variables,
        logits=lambda x: _event_logits(x, ids),
    )
    fields = ("step", "channel", "locale", "understanding", "task_steps_left", "device", "contacts_30d", "nps")
    moment = msgspec.structs.replace(pack.moment("service_conversation"), fields=fields, actions=ids[1:], rules=())
    return SessionVectorEnv(_with(pack, MANY_SESSION, moment), MANY_SESSION, num_envs=WIDE)


def _variables(space: Space) -> tuple[Variable, ...]:
    understanding = Moves(space, 4).when(events=["progressed"], by=1, chance=0.5)
    left = Moves(space, 6).when(events=["progressed"], by=-1)
    return (
        Variable("understanding", (0.2, 0.45, 0.65, 0.9), np.full((space.types, 4), 0.25), understanding),
        Variable("task_steps_left", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), np.full((space.types, 6), 1.0 / 6.0), left),
    )


def _event_logits(x: State, ids: tuple[str, ...]) -> EventLogits:
    level, skill = x.level("understanding"), x.trait("skill")
    quality = np.linspace(-1.0, 1.0, len(ids))
    return {
        "progressed": {a: q + 0.3 * level + 0.2 * skill for a, q in zip(ids, quality, strict=True)},
        "resolved": {a: q - 2.0 - x.level("task_steps_left") for a, q in zip(ids, quality, strict=True)},
    }


def _ids(actions: int) -> tuple[str, ...]:
    return (NO_ACTION, *(f"action_{i:03d}" for i in range(1, actions)))


def _with(pack: Pack, name: str, moment: Moment) -> Pack:
    plain = Action(layer="cognitive", channel="chat", trigger="always", cost=0.01)
    actions = pack.actions | {a: pack.actions.get(a, plain) for a in moment.actions}
    return msgspec.structs.replace(pack, actions=actions, moments={name: moment}, guardrails={})


def fitted(sizes: list[int], microseconds: list[float]) -> dict[str, Any]:
    """How the cost of a call grows with a size: the exponent on log-log, over all sizes, the larger half, the last two.

    A fixed cost a call bends the curve at small sizes, so the last exponent names the growth: `flat` below 0.1,
    `linear` from 0.9 to 1.1.
    """
    x, y = np.log(sizes), np.log(microseconds)
    half = min(len(sizes) // 2, len(sizes) - 2)
    whole, upper, last = (float(np.polyfit(x[at:], y[at:], 1)[0]) for at in (0, half, len(sizes) - 2))
    verdict = "flat" if last < 0.1 else "below linear" if last < 0.9 else "linear" if last <= 1.1 else "above linear"
    return {
        "sizes": sizes,
        "us_a_call": [float(f"{value:.4g}") for value in microseconds],
        "exponent": round(whole, 3),
        "exponent_of_the_larger_half": round(upper, 3),
        "exponent_at_the_end": round(last, 3),
        "growth": verdict,
    }
