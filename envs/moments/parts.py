"""What moments are made of: the facts that many of them bring, drawn around the customers' traits."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from envs.people import Array, People, logistic
from nba.facts import DAY, EPOCH

YEAR_START = (datetime(2026, 1, 5) - EPOCH).total_seconds()  # a Monday; 52 weeks follow
CHANNELS = ("mail", "web", "chat", "app")
LOCALES = ("en", "de")
INTENTS = ("know", "go", "do", "buy")

Made: TypeAlias = dict[str, Array]  # field -> its codes (n,), NaN is missing; categories as places in NAMES
Logits: TypeAlias = dict[str, dict[str, Array]]  # outcome -> action -> (n,)
NAMES: dict[str, tuple[str, ...]] = {"channel": CHANNELS, "locale": LOCALES, "intent": INTENTS}


def gaps(codes: Array, rng: Generator, share: float) -> Array:
    """The codes with about this share of them missing, beside what is withheld (`envs.situations`)."""
    codes[rng.random(len(codes)) < share] = np.nan
    return codes


def clock(people: People, rng: Generator, own: float) -> Array:
    """Local time: this share of the moments comes about the customer's own hour (+- 3 h), the rest at any."""
    n = len(people)
    hour = np.where(rng.random(n) < own, people.active_hour + 3.0 * rng.standard_normal(n), rng.uniform(0.0, 24.0, n))
    return np.asarray(YEAR_START + DAY * rng.integers(0, 364, n) + np.floor(hour % 24.0 * 3_600.0))


def channel(people: People, rng: Generator) -> Array:
    """The skilled come by app and chat, the others by mail and web."""
    ease = logistic(0.8 * people.trait("skill") + 1.4 * rng.standard_normal(len(people)))
    return np.searchsorted(np.array([0.14, 0.36, 0.62]), ease).astype(np.float64)


def locale(people: People) -> Array:
    """The language they prefer."""
    return people.german.astype(np.float64)


def intent(people: People, rng: Generator) -> Array:
    """know 40 %, go 15 %, do 30 %, buy 15 % of all; one in ten is not recognised.

    softmax of know 0.93 + 0.4 analytic + 0.4 curiosity, go 0, do 0.63 - 0.5 skill, buy -0.06 + 0.3 thrift + 0.3 loyalty
    """
    z, drawn = people.trait, rng.random(len(people))
    know = np.exp(0.93 + 0.4 * z("analytic") + 0.4 * z("curiosity"))
    do, buy = np.exp(0.63 - 0.5 * z("skill")), np.exp(-0.06 + 0.3 * z("thrift") + 0.3 * z("loyalty"))
    reached = np.stack([know, know + 1.0, know + 1.0 + do]) / (know + 1.0 + do + buy)
    codes = (drawn > reached).sum(axis=0).astype(np.float64)
    return np.where(rng.random(len(people)) < 0.1, len(INTENTS), codes)


def steps(people: People, rng: Generator, rate: Array) -> Array:
    """A count (n,), geometric: floor of an exponential of mean `rate`; its own mean is 1 / (exp(1 / rate) - 1)."""
    return np.floor(rng.standard_exponential(len(people)) * rate)
