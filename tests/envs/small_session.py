"""A session small enough to solve by hand: one mood of two levels, silence and one warm word, two steps."""

from __future__ import annotations

import msgspec
import numpy as np

from envs.session_law import NEVER, Event, EventLogits, Moves, SessionLaw, SessionSpec, Space, State, Variable
from nba.moment_plan import plan_moment
from nba.pack_file import parse_pack

PACK = parse_pack(
    b"""
pack: small
version: 1
reward_version: 1
fields:
  step: {type: number, range: [0, 10], default: 0}
  mood: {type: number, range: [0, 1]}
  age: {type: number, range: [0, 10]}
moments:
  talk:
    fields: [step, mood, age]
    actions: [warm]
    reward: {done: 1.0, ended: 0.5}
    window: 1h
actions:
  warm: {layer: emotional, channel: chat, trigger: always, cost: 0.1}
outcomes:
  done: {closes_window: true}
  ended: {}
""",
    source="small.yaml",
)


def _variables(space: Space) -> tuple[Variable, ...]:
    """The mood rises with chance 0.5 after a warm word of which nothing came; `good` lets it fall to 0."""
    moves = Moves(space, 2).when(actions=["warm"], by=1, chance=0.5).when(events=["good"], to=0)
    return (Variable("mood", (0.0, 1.0), np.array([[0.75, 0.25]]), moves),)


def _logits(x: State) -> EventLogits:
    """good: log 3 after a warm word, in a good mood log 9 after either. over: log 2 in silence in a good mood."""
    mood = x.at("mood", 1)
    never = np.full(1, NEVER)
    return {
        "good": {"no_action": NEVER * (1.0 - mood) + np.log(9.0) * mood, "warm": np.log(3.0) + np.log(3.0) * mood},
        "over": {"no_action": NEVER * (1.0 - mood) + np.log(2.0) * mood, "warm": never},
    }


SMALL = SessionSpec(
    moment="talk",
    steps=2,
    traits=(),
    events=(Event("good", {"done": 1.0}), Event("over", {"ended": 1.0}, ends=True)),
    variables=_variables,
    logits=_logits,
)


def small_law(trigger: str = "always") -> SessionLaw:
    """Its law, the warm word under this trigger."""
    warm = msgspec.structs.replace(PACK.actions["warm"], trigger=trigger)
    return SessionLaw.of(plan_moment(msgspec.structs.replace(PACK, actions={"warm": warm}), "talk"), SMALL)
