"""A moment with as many actions as one likes, whose truth is known: the Tone-Tuner's situations, other answers to them.

    resolved(a | x) = -0.5 + f(x)' (shared[layer of a] + shared[channel of a] + own[a]),   every number ~ N(0, scale^2)

f(x) is a constant, mood, understanding, contacts and reformulations, each of about unit size. Three layers and eight
channels share half of the variance of what an action does, so that there is something to learn from one action about
another, and something that is an action's alone. Silence is as any other action, but costs nothing.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from envs.batch import BatchMomentEnv
from envs.moments import MOMENTS, MomentLaw, tone_tuner
from envs.moments.parts import NAMES, Logits
from envs.seen import Seen
from nba.pack import Action
from nba.pack_file import load_pack
from nba.types import NO_ACTION

NAME = "many_actions"
LAYERS = ("cognitive", "emotional", "procedural")
CHANNELS = tuple(f"channel_{i}" for i in range(8))
SHARED, OWN = 0.4, 0.56  # standard deviations, logits: 2 x 0.4^2 is about 0.56^2
SEED = 1


def many_actions(actions: int) -> BatchMomentEnv:
    """The moment with so many actions, no_action counted, all of them always eligible."""
    ids = (NO_ACTION, *(f"action_{i:04d}" for i in range(1, actions)))
    pack, layer, channel = load_pack("support"), _layer, _channel
    MOMENTS[NAME] = MomentLaw(tone_tuner.situation, _Answers(ids), NAMES)
    made = {
        a: Action(layer=LAYERS[layer(i)], channel=CHANNELS[channel(i)], trigger="always", cost=0.01 * (i > 0))  # type: ignore[arg-type]
        for i, a in enumerate(ids)
    }
    moment = msgspec.structs.replace(pack.moment("tone_tuner"), actions=ids[1:], rules=())
    return BatchMomentEnv(msgspec.structs.replace(pack, actions=made, moments={NAME: moment}, guardrails={}), NAME)


def _layer(action: int) -> int:
    return action % len(LAYERS)


def _channel(action: int) -> int:
    return action // len(LAYERS) % len(CHANNELS)


class _Answers:
    """The equations; the first actions of a larger moment answer as those of a smaller one."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self._ids = ids
        rng = np.random.default_rng(SEED)
        layers, channels = (SHARED * rng.standard_normal((len(of), 5)) for of in (LAYERS, CHANNELS))
        own = OWN * rng.standard_normal((len(ids), 5))
        at = range(len(ids))
        self._weights: NDArray[np.float64] = layers[[_layer(i) for i in at]] + channels[[_channel(i) for i in at]] + own

    def __call__(self, x: Seen) -> Logits:
        mood = x.number("sentiment", -0.25)
        seen = (
            np.ones_like(mood),
            1.5 * mood,
            3.0 * (x.number("understanding", 0.6) - 0.6),
            0.5 * (x.number("contacts_30d", 1.0) - 1.0),
            x.number("reformulations", 0.0) - 0.5,
        )
        resolved = dict(zip(self._ids, np.clip(-0.5 + self._weights @ np.stack(seen), -4.0, 4.0), strict=True))
        return {
            "resolved": resolved,
            "repeat_contact": {action: -1.0 - 0.7 * logit for action, logit in resolved.items()},
            "escalated": {action: -2.2 - 0.5 * logit for action, logit in resolved.items()},
        }
