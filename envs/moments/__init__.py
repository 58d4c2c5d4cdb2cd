"""Moments that simulated customers play, one a file: what it brings (`situation`) and how they respond (`logits`).

Every number of a situation is drawn around the customer's latent traits, so that who they are shows in what is seen:
the impatient write more angrily, the skilled are understood better and contact through the app.

An equation reads `x`, the context in the units of its fields (`envs.seen`); [a] is 1 where a holds, else 0. All
constants are chosen, not fitted: they are set so that no action is best everywhere, so that silence is best where
nothing is wrong, and so that the outcomes' overall rates are of the size that practice reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from numpy.random import Generator

from envs.moments import (
    abandoned_cart,
    balance_check,
    disruption,
    evening_pick,
    followup_whisper,
    instant_clarifier,
    personalized_path,
    proactive_nudge,
    symptom_search,
    tone_tuner,
)
from envs.moments.parts import NAMES, Logits, Made
from envs.people import People
from envs.seen import Seen
from nba.errors import UnknownMomentError

Situation: TypeAlias = Callable[[People, Generator], Made]


@dataclass(frozen=True, slots=True)
class MomentLaw:
    """The two laws of a moment, and the names behind the codes of the categories it brings."""

    situation: Situation
    logits: Callable[[Seen], Logits]
    names: Mapping[str, tuple[str, ...]]  # field -> the categories that its codes count
    together: tuple[str, ...] = ()  # outcomes that come only with the one that closes the window


_FILES = (
    instant_clarifier,
    tone_tuner,
    proactive_nudge,
    personalized_path,
    followup_whisper,
    abandoned_cart,
    disruption,
    balance_check,
    symptom_search,
    evening_pick,
)
MOMENTS = {
    file.__name__.rpartition(".")[2]: MomentLaw(
        file.situation, file.logits, NAMES | getattr(file, "NAMES", {}), getattr(file, "TOGETHER", ())
    )
    for file in _FILES
}


def moment_law(name: str) -> MomentLaw:
    """The laws of the moment of that name, whichever pack it stands in. Raises UnknownMomentError."""
    try:
        return MOMENTS[name]
    except KeyError:
        raise UnknownMomentError(
            f"moment {name!r} is not simulated", help=f"these are: {', '.join(MOMENTS)}", field="moment"
        ) from None
