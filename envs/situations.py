"""What a moment brings along: the request-time facts of customers who come into it, gaps included.

Every number here is drawn around the customer's latent traits, so that who they are shows in what is seen: the
impatient write more angrily, the skilled are understood better and contact through the app.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import numpy as np
from numpy.random import Generator

from envs.people import Array, People, logistic, vocabulary
from nba.errors import PackError, UnknownMomentError
from nba.facts import DAY, EPOCH, Field
from nba.pack import Pack
from nba.types import Facts

YEAR_START = (datetime(2026, 1, 5) - EPOCH).total_seconds()  # a Monday; 52 weeks follow
CHANNELS = ("mail", "web", "chat", "app")
LOCALES = ("en", "de")
INTENTS = ("know", "go", "do", "buy")

Made = dict[str, Array]  # field -> its codes (n,), NaN is missing; categories as places in the names above
_NAMES = {"channel": CHANNELS, "locale": LOCALES, "intent": INTENTS}


class Situations:
    """Facts of one moment for customers in it. Raises PackError, UnknownMomentError where it knows no such facts."""

    def __init__(self, pack: Pack, moment: str) -> None:
        self.fields: Mapping[str, Field] = pack.moment_fields(moment)
        if moment not in _MOMENTS:
            raise UnknownMomentError(
                f"moment {moment!r} is not simulated", help=f"these are: {', '.join(_MOMENTS)}", field="moment"
            )
        self._make = _MOMENTS[moment]
        stored = [name for name, field in pack.fields.items() if field.feature is not None]
        self._stored = [(j, stored.index(name)) for j, name in enumerate(self.fields) if name in stored]
        self._brought = [(j, name) for j, name in enumerate(self.fields) if name not in stored]
        self._codes = {name: vocabulary(self.fields[name], _NAMES[name]) for _, name in self._brought if name in _NAMES}
        made = self._make(_nobody(len(stored)), np.random.default_rng(0))
        for _, name in self._brought:
            if name not in made:
                raise PackError(
                    f"moment {moment!r}: simulated customers bring no field {name!r}",
                    help=f"they bring {', '.join(made)}; give the field a feature, or leave it out",
                )

    def facts(self, people: People, rng: Generator) -> Facts:
        """Coded facts (n, f) as a decision would use them: what is missing and has a default takes it."""
        made = self._make(people, rng)
        facts = np.empty((len(people), len(self.fields)))
        for j, place in self._stored:
            facts[:, j] = people.stored[:, place]
        for j, name in self._brought:
            codes = made[name]
            facts[:, j] = self._codes[name][codes.astype(np.intp)] if name in self._codes else codes
        for j, field in enumerate(self.fields.values()):
            if field.range is not None:
                np.clip(facts[:, j], *field.range, out=facts[:, j])
            if field.default is not None:
                facts[np.isnan(facts[:, j]), j] = field.code(field.default)
        return facts


def _nobody(stored: int) -> People:
    return People(np.empty(0, np.int64), np.empty((0, 8)), np.empty(0), np.empty(0, np.bool_), np.empty((0, stored)))


def _gaps(codes: Array, rng: Generator, share: float) -> Array:
    """The codes with about this share of them missing."""
    codes[rng.random(len(codes)) < share] = np.nan
    return codes


def _clock(people: People, rng: Generator, own: float) -> Array:
    """Local time: this share of the moments comes about the customer's own hour (+- 3 h), the rest at any."""
    n = len(people)
    hour = np.where(rng.random(n) < own, people.active_hour + 3.0 * rng.standard_normal(n), rng.uniform(0.0, 24.0, n))
    return np.asarray(YEAR_START + DAY * rng.integers(0, 364, n) + np.floor(hour % 24.0 * 3_600.0))


def _channel(people: People, rng: Generator) -> Array:
    """The skilled come by app and chat, the others by mail and web."""
    ease = logistic(0.8 * people.trait("skill") + 1.4 * rng.standard_normal(len(people)))
    return np.searchsorted(np.array([0.14, 0.36, 0.62]), ease).astype(np.float64)


def _locale(people: People) -> Array:
    return people.german.astype(np.float64)


def _intent(people: People, rng: Generator) -> Array:
    """know 40 %, go 15 %, do 30 %, buy 15 %; one in ten is not recognised."""
    codes = np.searchsorted(np.array([0.40, 0.55, 0.85]), rng.random(len(people))).astype(np.float64)
    return np.where(rng.random(len(people)) < 0.1, len(INTENTS), codes)


def _steps(people: People, rng: Generator, rate: Array) -> Array:
    """A count (n,), geometric: floor of an exponential with this mean."""
    return np.floor(rng.standard_exponential(len(people)) * rate)


def instant_clarifier(people: People, rng: Generator) -> Made:
    """A jumbled phrase: understanding falls with each reformulation, and the mood with it.

    understanding = logistic(0.7 + 0.4 skill - 0.5 reformulations + 1.2 noise), missing 8 %
    sentiment = tanh(0.1 + 0.3 patience - 0.25 reformulations + 0.45 noise), missing 15 %
    """
    n = len(people)
    again = np.minimum(_steps(people, rng, np.exp(-0.1 - 0.3 * people.trait("skill"))), 5.0)
    heard = logistic(0.7 + 0.4 * people.trait("skill") - 0.5 * again + 1.2 * rng.standard_normal(n))
    mood = np.tanh(0.1 + 0.3 * people.trait("patience") - 0.25 * again + 0.45 * rng.standard_normal(n))
    return {
        "local_time": _clock(people, rng, 0.7),
        "channel": _channel(people, rng),
        "locale": _locale(people),
        "intent": _intent(people, rng),
        "reformulations": again,
        "understanding": _gaps(heard.round(3), rng, 0.08),
        "sentiment": _gaps(mood.round(3), rng, 0.15),
    }


def tone_tuner(people: People, rng: Generator) -> Made:
    """A text lands, two in three of them cross.

    sentiment = tanh(-0.4 + 0.3 patience - 0.15 reformulations + 0.6 noise), missing 6 %
    """
    n = len(people)
    again = np.minimum(_steps(people, rng, np.exp(-0.4 - 0.3 * people.trait("skill"))), 5.0)
    mood = np.tanh(-0.4 + 0.3 * people.trait("patience") - 0.15 * again + 0.6 * rng.standard_normal(n))
    heard = logistic(1.2 + 0.3 * people.trait("skill") - 0.4 * again + rng.standard_normal(n))
    return {
        "local_time": _clock(people, rng, 0.7),
        "channel": _channel(people, rng),
        "locale": _locale(people),
        "sentiment": _gaps(mood.round(3), rng, 0.06),
        "understanding": _gaps(heard.round(3), rng, 0.08),
        "reformulations": again,
    }


def proactive_nudge(people: People, rng: Generator) -> Made:
    """A delay is known at any hour: exp(5.2 + 1.4 noise) minutes (median three hours), missing 4 %.

    order_value = exp(3.8 - 0.3 thrift + 0.8 noise) EUR, missing 5 %
    """
    n = len(people)
    late = np.minimum(np.exp(5.2 + 1.4 * rng.standard_normal(n)).round(), 2_880.0)
    value = np.minimum(np.exp(3.8 - 0.3 * people.trait("thrift") + 0.8 * rng.standard_normal(n)).round(2), 500.0)
    return {
        "local_time": _clock(people, rng, 0.2),
        "locale": _locale(people),
        "minutes_late": _gaps(late, rng, 0.04),
        "order_value": _gaps(value, rng, 0.05),
    }


def personalized_path(people: People, rng: Generator) -> Made:
    """Somewhere in a task: mean four steps left; hesitation exp(2 - 0.4 skill + 0.3 patience + 0.9 noise) s.

    Steps are missing in 3 %, hesitation in 20 % (it needs its own consent).
    """
    n = len(people)
    idle = np.exp(2.0 - 0.4 * people.trait("skill") + 0.3 * people.trait("patience") + 0.9 * rng.standard_normal(n))
    left = np.minimum(1.0 + _steps(people, rng, np.full(n, 3.5)), 10.0)
    return {
        "local_time": _clock(people, rng, 0.7),
        "channel": _channel(people, rng),
        "locale": _locale(people),
        "intent": _intent(people, rng),
        "task_steps_left": _gaps(left, rng, 0.03),
        "hesitation_s": _gaps(np.minimum(idle.round(1), 60.0), rng, 0.2),
    }


def followup_whisper(people: People, rng: Generator) -> Made:
    """A case was closed 8 h ago on average; sentiment = tanh(0.25 + 0.3 patience + 0.2 loyalty + 0.5 noise).

    Sentiment is missing in 25 %.
    """
    n = len(people)
    ago = np.minimum((rng.standard_exponential(n) * 8.0).round(1), 72.0)
    mood = np.tanh(0.25 + 0.3 * people.trait("patience") + 0.2 * people.trait("loyalty") + 0.5 * rng.standard_normal(n))
    return {
        "local_time": _clock(people, rng, 0.5),
        "locale": _locale(people),
        "hours_since_resolved": ago,
        "sentiment": _gaps(mood.round(3), rng, 0.25),
    }


_MOMENTS: dict[str, Callable[[People, Generator], Made]] = {
    "instant_clarifier": instant_clarifier,
    "tone_tuner": tone_tuner,
    "proactive_nudge": proactive_nudge,
    "personalized_path": personalized_path,
    "followup_whisper": followup_whisper,
}
