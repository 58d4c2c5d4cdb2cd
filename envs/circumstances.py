"""Where simulated customers live, what they speak, when they are about, and what they agree to.

It holds whether anybody knows it or not; what the feature store knows is in `envs.stored`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.draws import Array, Draw

COUNTRIES = ("DE", "AT", "CH", "GB", "US")
_COUNTRY_SHARE = (0.45, 0.10, 0.10, 0.15, 0.20)
_GERMAN_SHARE = (0.95, 0.97, 0.70, 0.03, 0.04)  # by country
_OFFSETS = (1, 1, 1, 0, -5)  # hours ahead of UTC by country in winter, which is never left
_WESTWARD = (0.48, 0.77, 0.84)  # of the US: 48 % at -5, 29 % at -6, 7 % at -7, 16 % at -8

# What a customer may withhold, and which share agrees where traits have their usual means.
PURPOSES = ("personalization", "emotion", "behavioural_timing", "proactive_contact")
CONSENT_SHARE = (0.92, 0.85, 0.80, 0.75)
_REFUSED = (-1.405072, -1.036433, -0.841621, -0.674490)  # standard normal quantiles of what is left to 1


def country(draw: Draw) -> NDArray[np.intp]:
    """Where they live (n,): places in COUNTRIES."""
    return np.searchsorted(np.cumsum(_COUNTRY_SHARE)[:-1], draw.uniform(1))


def german(draw: Draw) -> NDArray[np.bool_]:
    """Who prefers German to English (n,)."""
    return draw.uniform(2) < np.array(_GERMAN_SHARE)[country(draw)]


def time_zone(draw: Draw) -> NDArray[np.int64]:
    """Hours ahead of UTC (n,): 1 in DE, AT and CH, 0 in GB, -5 to -8 in the US."""
    home = country(draw)
    west = np.searchsorted(_WESTWARD, draw.uniform(10))
    return np.array(_OFFSETS)[home] - np.where(home == COUNTRIES.index("US"), west, 0)


def active_hour(draw: Draw) -> Array:
    """Hour of day about which they are awake to messages (n,).

    Early birds about 8:30, owls about 19:30; quarters of an hour, so that every store keeps it exactly.
    """
    hour = 14.0 + 5.5 * np.tanh(1.5 * draw.z["chronotype"]) + 1.2 * draw.normal(0)
    return np.round(hour * 4.0) / 4.0 % 24.0


def consent(draw: Draw) -> NDArray[np.bool_]:
    """Who agrees (n, p), in the order of PURPOSES: 92 %, 85 %, 80 % and 75 %.

        agrees where 0.35 loyalty - 0.35 annoyance + 0.5 noise (one for all) + 0.657 noise (its own) > its quantile

    Variance 0.1225 (2 + 2 * 0.3) + 0.25 + 0.4315 = 1: the loyal agree, the easily annoyed refuse, and who refuses one
    purpose is likelier to refuse another.
    """
    willing = 0.35 * (draw.z["loyalty"] - draw.z["annoyance"]) + 0.5 * draw.normal(10)
    own = [draw.normal(11 + p) for p in range(len(PURPOSES))]
    return np.stack([willing + 0.6568866 * noise > least for noise, least in zip(own, _REFUSED, strict=True)], axis=1)
