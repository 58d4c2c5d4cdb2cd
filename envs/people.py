"""Simulated customers. Customer i of a population is the same for every process that asks, in any order.

Everything about a customer is a function of (population seed, i, stream): a counter-based hash, so a million of them
cost one array pass and nothing is kept. Latent traits are standard normal and correlated; what the feature store
knows is made from them with noise and gaps, so it explains the customer in part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from envs.circumstances import PURPOSES, active_hour, consent, german, time_zone
from envs.draws import Array, Customers, Draw, logistic, normals, subject_hash, uniforms
from envs.stored import STORED, Made
from nba.errors import PackError, ShapeError
from nba.facts import Field
from nba.pack import Pack
from nba.types import Facts, Value

__all__ = [
    "PURPOSES",
    "TRAITS",
    "Array",
    "Customers",
    "People",
    "Population",
    "correlation",
    "logistic",
    "normals",
    "subject_hash",
    "subject_id",
    "uniforms",
    "vocabulary",
]

# warmth: likes an emotional tone. push: likes quick channels. annoyance: how easily contact annoys; recovery: how fast
# that fades. analytic: wants to know before acting. curiosity: wants variety.
TRAITS = (
    "patience",
    "skill",
    "warmth",
    "push",
    "thrift",
    "annoyance",
    "loyalty",
    "chronotype",
    "recovery",
    "analytic",
    "curiosity",
)
_CORRELATED = {
    ("skill", "push"): 0.5,
    ("patience", "annoyance"): -0.5,
    ("push", "annoyance"): -0.4,
    ("loyalty", "annoyance"): -0.3,
    ("patience", "loyalty"): 0.3,
    ("patience", "warmth"): 0.2,
    ("thrift", "loyalty"): -0.2,
    ("skill", "chronotype"): 0.2,
    ("patience", "recovery"): 0.4,
    ("annoyance", "recovery"): -0.4,
    ("skill", "analytic"): 0.3,
    ("warmth", "analytic"): -0.3,
    ("analytic", "curiosity"): 0.2,
    ("loyalty", "curiosity"): -0.3,
    ("push", "curiosity"): 0.2,
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


def _traits(customers: Customers, seed: int) -> Array:
    """Traits (n, t). Summed term by term: a matrix product rounds a customer's traits by who stands beside."""
    z = [normals(customers, seed, i) for i in range(len(TRAITS))]
    return np.stack([sum(_MIX[t, i] * z[i] for i in range(t + 1)) for t in range(len(TRAITS))], axis=1)


def _trait_means(shifts: Mapping[str, float]) -> Array:
    """Means (t,) in the order of TRAITS. Raises ShapeError."""
    for trait, mean in shifts.items():
        if trait not in TRAITS:
            raise ShapeError(f"trait_means has {trait!r}, which is no trait", help=f"traits are {', '.join(TRAITS)}")
        if not np.isfinite(mean):
            raise ShapeError(f"trait_means: {trait} is {mean}", help="give a finite number of standard deviations")
    return np.array([float(shifts.get(trait, 0.0)) for trait in TRAITS])


@dataclass(frozen=True, slots=True)
class People:
    """n customers: what they are like, what they agree to, and what the feature store holds of them."""

    customers: Customers
    traits: Array  # (n, t) standard normal, in the order of TRAITS
    active_hour: Array  # (n,) hour of day around which they are awake to messages, known or not
    german: NDArray[np.bool_]  # (n,) prefers German to English
    time_zone: NDArray[np.int64]  # (n,) hours that their clock is ahead of UTC
    consent: NDArray[np.bool_]  # (n, p) whether they agree, in the order of PURPOSES
    stored: Facts  # (n, s) coded facts, columns in the order of the pack's stored fields; NaN is missing

    def __len__(self) -> int:
        return len(self.customers)

    def trait(self, name: str) -> Array:
        """One trait (n,)."""
        return self.traits[:, TRAITS.index(name)]

    def withholds(self, purpose: str) -> NDArray[np.bool_]:
        """Who withholds this purpose (n,): nobody where it is none of PURPOSES, which they were never asked about."""
        if purpose not in PURPOSES:
            return np.zeros(len(self), dtype=np.bool_)
        return ~self.consent[:, PURPOSES.index(purpose)]

    def take(self, rows: NDArray[np.int64]) -> People:
        """The customers in these rows, one a row, repeated where a row is."""
        return People(*(getattr(self, column.name).take(rows, axis=0) for column in fields(self)))


class Population:
    """Customers for the stored fields of a pack.

    `trait_means` shifts the means of some traits from 0, in their standard deviations: what a calibration found.
    Raises PackError where a field is one it cannot fill, ShapeError for a shift of no trait, or of no finite number.
    """

    def __init__(self, pack: Pack, seed: int = 0, *, trait_means: Mapping[str, float] | None = None) -> None:
        self.seed = seed
        self._means = _trait_means(trait_means or {})
        self.fields: dict[str, Field] = {name: f for name, f in pack.fields.items() if f.feature is not None}
        for name, field in self.fields.items():
            if field.feature not in STORED:
                raise PackError(
                    f"field {name!r}: simulated customers have no feature {field.feature!r}",
                    help=f"they have {', '.join(STORED)}",
                    field=f"fields.{name}.feature",
                )

    def people(self, customers: Customers) -> People:
        """The customers with these indices (n,). Raises ShapeError where one is negative."""
        customers = np.asarray(customers, dtype=np.int64)
        if customers.size and customers.min() < 0:
            raise ShapeError(f"customer {customers.min()}", help="customers are counted from 0")
        traits = _traits(customers, self.seed) + self._means
        draw = Draw(customers, self.seed, dict(zip(TRAITS, traits.T, strict=True)))
        stored = np.full((len(customers), len(self.fields)), np.nan)
        for j, field in enumerate(self.fields.values()):
            stored[:, j] = _coded(field, STORED[str(field.feature)](draw))
        return People(customers, traits, active_hour(draw), german(draw), time_zone(draw), consent(draw), stored)

    def stored_features(self, customers: Customers) -> list[dict[str, Value]]:
        """What the feature store holds of these customers: for each a value or None by "view:feature".

        Consent does not change it: it decides what is read.
        """
        fields = [(str(field.feature), field) for field in self.fields.values()]
        rows = self.people(customers).stored.tolist()
        return [{key: field.name(code) for (key, field), code in zip(fields, row, strict=True)} for row in rows]


def _coded(field: Field, made: Made) -> Array:
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
