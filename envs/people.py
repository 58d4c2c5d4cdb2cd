"""Simulated customers. Customer i of a population is the same for every process that asks, in any order.

Everything about a customer is a function of (population seed, i, stream): a counter-based hash, so a million of them
cost one array pass and nothing is kept. Latent traits are standard normal and correlated; what the feature store
knows is made from them with noise and gaps, so it explains the customer in part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nba.errors import PackError, ShapeError
from nba.facts import Field
from nba.pack import Pack
from nba.types import Facts, Value

Array = NDArray[np.float64]
Customers = NDArray[np.int64]  # (n,) index of each customer in the population

# warmth: likes an emotional tone. push: likes quick channels. annoyance: how easily contact annoys.
TRAITS = ("patience", "skill", "warmth", "push", "thrift", "annoyance", "loyalty", "chronotype")
_CORRELATED = {
    ("skill", "push"): 0.5,
    ("patience", "annoyance"): -0.5,
    ("push", "annoyance"): -0.4,
    ("loyalty", "annoyance"): -0.3,
    ("patience", "loyalty"): 0.3,
    ("patience", "warmth"): 0.2,
    ("thrift", "loyalty"): -0.2,
    ("skill", "chronotype"): 0.2,
}


def correlation() -> Array:
    """Correlation matrix of the traits (t, t), in the order of TRAITS."""
    matrix = np.eye(len(TRAITS))
    for (one, other), r in _CORRELATED.items():
        i, j = TRAITS.index(one), TRAITS.index(other)
        matrix[i, j] = matrix[j, i] = r
    return matrix


_MIX = np.linalg.cholesky(correlation())


def subject_id(customer: int) -> str:
    """The id under which a server knows the customer."""
    return f"sim-{customer:06d}"


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele, Lea and Flood 2014, https://doi.org/10.1145/2714064.2660195)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def subject_hash(customers: Customers, seed: int = 0, stream: int = 0) -> NDArray[np.uint64]:
    """64 well-mixed bits (n,) of (seed, customer, stream)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    state = np.full(1, seed & 0xFFFF_FFFF_FFFF_FFFF, dtype=np.uint64)
    state = _mixed((state + golden) * golden + np.uint64(stream))
    return _mixed(_mixed(state + (customers.astype(np.uint64) + np.uint64(1)) * golden))


def uniforms(customers: Customers, seed: int, stream: int) -> Array:
    """One number in (0, 1) for each customer (n,), independent between streams."""
    return ((subject_hash(customers, seed, stream) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def normals(customers: Customers, seed: int, stream: int) -> Array:
    """One standard normal number for each customer (n,), by Box and Muller; uses streams 2s and 2s + 1 of 1,000 on."""
    first, second = (uniforms(customers, seed, 1_000 + 2 * stream + half) for half in (0, 1))
    return np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)


def _traits(customers: Customers, seed: int) -> Array:
    """Traits (n, t). Summed term by term: a matrix product rounds a customer's traits by who stands beside."""
    z = [normals(customers, seed, i) for i in range(len(TRAITS))]
    return np.stack([sum(_MIX[t, i] * z[i] for i in range(t + 1)) for t in range(len(TRAITS))], axis=1)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


@dataclass(frozen=True, slots=True)
class People:
    """n customers: what they are like, and what the feature store knows of them."""

    customers: Customers
    traits: Array  # (n, t) standard normal, in the order of TRAITS
    active_hour: Array  # (n,) hour of day around which they are awake to messages, known or not
    german: NDArray[np.bool_]  # (n,) prefers German to English
    stored: Facts  # (n, s) coded facts, columns in the order of the pack's stored fields; NaN is missing

    def __len__(self) -> int:
        return len(self.customers)

    def trait(self, name: str) -> Array:
        """One trait (n,)."""
        return self.traits[:, TRAITS.index(name)]

    def take(self, rows: NDArray[np.int64]) -> People:
        """The customers in these rows, one a row, repeated where a row is."""
        return People(
            self.customers[rows], self.traits[rows], self.active_hour[rows], self.german[rows], self.stored[rows]
        )


class Population:
    """Customers for the stored fields of a pack. Raises PackError where a field is one it cannot fill."""

    def __init__(self, pack: Pack, seed: int = 0) -> None:
        self.seed = seed
        self.fields: dict[str, Field] = {name: f for name, f in pack.fields.items() if f.feature is not None}
        for name, field in self.fields.items():
            if field.feature not in _STORED:
                raise PackError(
                    f"field {name!r}: simulated customers have no feature {field.feature!r}",
                    help=f"they have {', '.join(_STORED)}",
                    field=f"fields.{name}.feature",
                )

    def people(self, customers: Customers) -> People:
        """The customers with these indices (n,). Raises ShapeError where one is negative."""
        customers = np.asarray(customers, dtype=np.int64)
        if customers.size and customers.min() < 0:
            raise ShapeError(f"customer {customers.min()}", help="customers are counted from 0")
        traits = _traits(customers, self.seed)
        draw = _Draw(customers, self.seed, dict(zip(TRAITS, traits.T, strict=True)))
        stored = np.full((len(customers), len(self.fields)), np.nan)
        for j, field in enumerate(self.fields.values()):
            stored[:, j] = _coded(field, _STORED[str(field.feature)](draw))
        return People(customers, traits, draw.active_hour(), draw.german(), stored)

    def stored_features(self, customers: Customers) -> list[dict[str, Value]]:
        """What the feature store holds of these customers: for each a value or None by "view:feature"."""
        fields = [(str(field.feature), field) for field in self.fields.values()]
        rows = self.people(customers).stored.tolist()
        return [{key: field.name(code) for (key, field), code in zip(fields, row, strict=True)} for row in rows]


def _coded(field: Field, made: tuple[Array, tuple[str, ...]]) -> Array:
    """What a stored feature's maker gave, in the field's own code and range."""
    codes, names = made
    if names:
        return vocabulary(field, names)[np.where(np.isnan(codes), len(names), codes).astype(np.intp)]
    return codes if field.range is None else np.clip(codes, *field.range)


def vocabulary(field: Field, names: tuple[str, ...]) -> Array:
    """The field's code of each name, then NaN. Raises PackError where the pack has no such value."""
    unknown = [name for name in names if name not in field.values]
    if unknown:
        raise PackError(
            f"simulated customers have {unknown[0]!r}, which is not one of {', '.join(field.values)}",
            help="add the value to the field's vocabulary",
        )
    return np.array([*(float(field.values.index(name)) for name in names), np.nan])


DEVICES = ("mobile", "desktop", "tablet")
COUNTRIES = ("DE", "AT", "CH", "GB", "US")
_COUNTRY_SHARE = (0.45, 0.10, 0.10, 0.15, 0.20)
_GERMAN_SHARE = (0.95, 0.97, 0.70, 0.03, 0.04)  # by country


@dataclass(frozen=True, slots=True)
class _Draw:
    """The traits of some customers and the noise from which their stored features are made."""

    customers: Customers
    seed: int
    z: Mapping[str, Array]  # trait -> (n,)

    def uniform(self, stream: int) -> Array:
        return uniforms(self.customers, self.seed, stream)

    def normal(self, stream: int) -> Array:
        return normals(self.customers, self.seed, 100 + stream)

    def newcomer(self) -> NDArray[np.bool_]:
        """7 %: customers without any history."""
        return self.uniform(0) < 0.07

    def country(self) -> NDArray[np.intp]:
        return np.searchsorted(np.cumsum(_COUNTRY_SHARE)[:-1], self.uniform(1))

    def german(self) -> NDArray[np.bool_]:
        return self.uniform(2) < np.array(_GERMAN_SHARE)[self.country()]

    def active_hour(self) -> Array:
        """Early birds about 8:30, owls about 19:30; quarters of an hour, so that every store keeps it exactly."""
        hour = 14.0 + 5.5 * np.tanh(1.5 * self.z["chronotype"]) + 1.2 * self.normal(0)
        return np.round(hour * 4.0) / 4.0 % 24.0

    def contacts(self) -> Array:
        worry = -0.1 - 0.5 * self.z["skill"] - 0.35 * self.z["patience"] + 0.6 * self.normal(1)
        return np.clip(np.floor(np.exp(worry)), 0.0, 10.0)


_Made = tuple[Array, tuple[str, ...]]  # codes (n,), NaN missing; names of the codes, empty for numbers and booleans


def _gaps(codes: Array, missing: NDArray[np.bool_]) -> Array:
    return np.where(missing, np.nan, codes)


def _device(draw: _Draw) -> _Made:
    handy = 0.6 * draw.z["push"] + 0.3 * draw.z["skill"] + 0.8 * draw.normal(2) > -0.2
    codes = np.where(draw.uniform(3) < 0.08, 2.0, np.where(handy, 0.0, 1.0))
    return _gaps(codes, draw.uniform(4) < 0.04), DEVICES


def _push_enabled(draw: _Draw) -> _Made:
    on = 0.9 * draw.z["push"] - 0.7 * draw.z["annoyance"] + 0.7 * draw.normal(3) > -0.3
    return _gaps(on.astype(np.float64), draw.uniform(4) < 0.04), ()


def _country(draw: _Draw) -> _Made:
    return _gaps(draw.country().astype(np.float64), draw.uniform(5) < 0.03), COUNTRIES


def _active_hour(draw: _Draw) -> _Made:
    """Not known of newcomers and of a further 18 %."""
    return _gaps(draw.active_hour(), draw.newcomer() | (draw.uniform(6) < 0.18)), ()


def _purchases(draw: _Draw) -> _Made:
    taste = 0.6 + 0.7 * draw.z["loyalty"] - 0.25 * draw.z["thrift"] + 0.5 * draw.normal(4)
    return _gaps(np.floor(np.exp(taste)), draw.newcomer()), ()


def _contacts(draw: _Draw) -> _Made:
    return _gaps(draw.contacts(), draw.newcomer()), ()


def _open_cases(draw: _Draw) -> _Made:
    """P(at least one) = logistic(-2.4 + 0.5 contacts); a fifth of those have two."""
    chance, u = logistic(-2.4 + 0.5 * draw.contacts()), draw.uniform(7)
    return _gaps((u < chance).astype(np.float64) + (u < 0.2 * chance), draw.newcomer()), ()


def _nps(draw: _Draw) -> _Made:
    """60 % never answered, and those who like us answer more often: missing is not at random."""
    z = draw.z
    answer = np.round(6.6 + 1.6 * z["loyalty"] + 0.7 * z["patience"] - 0.3 * draw.contacts() + 1.3 * draw.normal(5))
    silent = draw.uniform(8) < logistic(0.4 - 0.5 * z["loyalty"])
    return _gaps(np.clip(answer, 0.0, 10.0), draw.newcomer() | silent), ()


_STORED: dict[str, Callable[[_Draw], _Made]] = {
    "customer_device:device_type": _device,
    "customer_device:push_enabled": _push_enabled,
    "customer_location:country": _country,
    "customer_time:active_hour": _active_hour,
    "customer_history:purchases_90d": _purchases,
    "customer_history:contacts_30d": _contacts,
    "customer_history:open_cases": _open_cases,
    "customer_history:nps": _nps,
}
