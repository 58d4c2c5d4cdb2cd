"""What the feature store knows of simulated customers: made from their traits with noise and gaps.

So each feature explains its customer in part, and some are missing more often for some customers than for others.
Values survive a float32 exactly, so that every store keeps them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from envs.circumstances import COUNTRIES, active_hour, country
from envs.draws import Array, Draw, logistic

DEVICES = ("mobile", "desktop", "tablet")
STYLES = ("brief", "detailed")

Made: TypeAlias = tuple[Array, tuple[str, ...]]  # codes (n,), NaN missing; names of the codes, empty but for categories


def newcomer(draw: Draw) -> NDArray[np.bool_]:
    """7 %: customers without any history."""
    return draw.uniform(0) < 0.07


def purchases(draw: Draw) -> Array:
    """Orders in 90 days (n,): the loyal buy more, the thrifty less."""
    return np.floor(np.exp(0.6 + 0.7 * draw.z["loyalty"] - 0.25 * draw.z["thrift"] + 0.5 * draw.normal(4)))


def contacts(draw: Draw) -> Array:
    """Service contacts in 30 days (n,): the skilled and the patient need fewer."""
    worry = -0.1 - 0.5 * draw.z["skill"] - 0.35 * draw.z["patience"] + 0.6 * draw.normal(1)
    return np.clip(np.floor(np.exp(worry)), 0.0, 10.0)


def _gaps(codes: Array, missing: NDArray[np.bool_]) -> Array:
    return np.where(missing, np.nan, codes)


def _share(logit: Array) -> Array:
    """A share (n,) in 64ths."""
    return np.round(logistic(logit) * 64.0) / 64.0


def _device(draw: Draw) -> Made:
    handy = 0.6 * draw.z["push"] + 0.3 * draw.z["skill"] + 0.8 * draw.normal(2) > -0.2
    codes = np.where(draw.uniform(3) < 0.08, 2.0, np.where(handy, 0.0, 1.0))
    return _gaps(codes, draw.uniform(4) < 0.04), DEVICES


def _push_enabled(draw: Draw) -> Made:
    on = 0.9 * draw.z["push"] - 0.7 * draw.z["annoyance"] + 0.7 * draw.normal(3) > -0.3
    return _gaps(on.astype(np.float64), draw.uniform(4) < 0.04), ()


def _country(draw: Draw) -> Made:
    return _gaps(country(draw).astype(np.float64), draw.uniform(5) < 0.03), COUNTRIES


def _active_hour(draw: Draw) -> Made:
    """Not known of newcomers and of a further 18 %."""
    return _gaps(active_hour(draw), newcomer(draw) | (draw.uniform(6) < 0.18)), ()


def _purchases(draw: Draw) -> Made:
    return _gaps(purchases(draw), newcomer(draw)), ()


def _contacts(draw: Draw) -> Made:
    return _gaps(contacts(draw), newcomer(draw)), ()


def _open_cases(draw: Draw) -> Made:
    """P(at least one) = logistic(-2.4 + 0.5 contacts); a fifth of those have two."""
    chance, u = logistic(-2.4 + 0.5 * contacts(draw)), draw.uniform(7)
    return _gaps((u < chance).astype(np.float64) + (u < 0.2 * chance), newcomer(draw)), ()


def _nps(draw: Draw) -> Made:
    """60 % never answered, and those who like us answer more often: missing is not at random."""
    z = draw.z
    answer = np.round(6.6 + 1.6 * z["loyalty"] + 0.7 * z["patience"] - 0.3 * contacts(draw) + 1.3 * draw.normal(5))
    silent = draw.uniform(8) < logistic(0.4 - 0.5 * z["loyalty"])
    return _gaps(np.clip(answer, 0.0, 10.0), newcomer(draw) | silent), ()


def _discount_share(draw: Draw) -> Made:
    """logistic(-0.6 + 0.8 thrift + 0.7 noise), a third in the median; not known of newcomers."""
    return _gaps(_share(-0.6 + 0.8 * draw.z["thrift"] + 0.7 * draw.normal(6)), newcomer(draw)), ()


def _tenure_months(draw: Draw) -> Made:
    """exp(2.6 + 0.6 loyalty + 0.8 noise) whole months, at most 120: median a year, one in twenty above five.

    0 for newcomers; never missing.
    """
    months = np.floor(np.exp(2.6 + 0.6 * draw.z["loyalty"] + 0.8 * draw.normal(7)))
    return np.where(newcomer(draw), 0.0, np.minimum(months, 120.0)), ()


def _variety(draw: Draw) -> Made:
    """logistic(-0.4 + 0.8 curiosity + 0.7 noise); not known where no order of the last 90 days is: 31 %."""
    unknown = newcomer(draw) | (purchases(draw) < 1.0)
    return _gaps(_share(-0.4 + 0.8 * draw.z["curiosity"] + 0.7 * draw.normal(8)), unknown), ()


def _style(draw: Draw) -> Made:
    """Detailed where analytic + 0.9 noise > 0. Half are not known, the analytic least: they say how they want it."""
    detailed = draw.z["analytic"] + 0.9 * draw.normal(9) > 0.0
    silent = draw.uniform(9) < logistic(-0.2 - 0.6 * draw.z["analytic"])
    return _gaps(detailed.astype(np.float64), newcomer(draw) | silent), STYLES


STORED: dict[str, Callable[[Draw], Made]] = {
    "customer_device:device_type": _device,
    "customer_device:push_enabled": _push_enabled,
    "customer_location:country": _country,
    "customer_time:active_hour": _active_hour,
    "customer_history:purchases_90d": _purchases,
    "customer_history:contacts_30d": _contacts,
    "customer_history:open_cases": _open_cases,
    "customer_history:nps": _nps,
    "customer_value:discount_share": _discount_share,
    "customer_value:tenure_months": _tenure_months,
    "customer_taste:variety": _variety,
    "customer_taste:style": _style,
}
