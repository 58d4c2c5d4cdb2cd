"""Facts by name and what may be said about them: the fields a pack declares, and how each is coded.

Coded facts (n, f) are what the simulator emits, conditions read and the encoder encodes: a number as it is,
a category as its place in the vocabulary, a boolean as 0 or 1, a time as local seconds since 1970, missing as NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

from nba.errors import ContextError
from nba.types import Facts, Value

EPOCH = datetime(1970, 1, 1)
DAY = 86_400.0  # seconds
MAX_TEXT = 256  # characters of one fact

TIME_PARTS: dict[str, Callable[[Any], Any]] = {
    "hour": lambda seconds: seconds % DAY / 3_600.0,
    "weekday": lambda seconds: (seconds // DAY + 3) % 7,  # 1970-01-01 was a Thursday
}


Duration = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,5}(s|m|h|d)$")]  # 90s, 15m, 24h, 7d


def seconds(duration: Duration) -> float:
    """A duration such as `24h` in seconds."""
    return float(duration[:-1]) * {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY}[duration[-1]]


class Field(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fact a pack may use: its type, what it may be, where it comes from and how old it may get."""

    type: Literal["number", "category", "boolean", "time"]
    description: str = ""
    range: tuple[float, float] | None = None  # of a number; also what scales it
    values: tuple[str, ...] = ()  # vocabulary of a category
    default: float | bool | str | None = None  # None: stays missing
    feature: str | None = None  # "view:feature" in the feature store; None: the request brings it
    max_age: Duration | None = None  # older is treated as missing
    purpose: str | None = None  # consent purpose it needs

    def code(self, value: object) -> float | None:
        """The value as a number, NaN for None, None where it is not a value of this field."""
        if value is None:
            return math.nan
        if self.type == "number":
            return _finite_in(value, self.range)
        if self.type == "boolean":
            return float(value) if isinstance(value, bool) else None
        if self.type == "category":
            return float(self.values.index(value)) if value in self.values else None
        return _local_seconds(value)

    def name(self, code: float) -> Value:
        """The value that has this code: the inverse of `code`, up to a time's offset."""
        if math.isnan(code):
            return None
        if self.type == "boolean":
            return bool(code)
        if self.type == "category":
            return self.values[int(code)]
        if self.type == "time":
            return (EPOCH + timedelta(seconds=code)).isoformat()
        return float(code)

    def describe(self) -> str:
        """What a value must be, for an error message."""
        match self.type:
            case "number":
                return (
                    "a finite number" if self.range is None else f"a number in [{self.range[0]:g}, {self.range[1]:g}]"
                )
            case "category":
                return f"one of {', '.join(self.values)}"
            case "boolean":
                return "true or false"
        return "an ISO 8601 time such as 2026-11-21T08:30:00+01:00"


def _finite_in(value: object, bounds: tuple[float, float] | None) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        return None
    return float(value)


def _local_seconds(value: object) -> float | None:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return None
    try:
        return (datetime.fromisoformat(value).replace(tzinfo=None) - EPOCH).total_seconds()
    except (ValueError, OverflowError):
        return None


class FactsReport(Struct, frozen=True):
    """The facts as they will be used, and what had to be done to them."""

    values: dict[str, Value]  # every field of the moment
    missing: tuple[str, ...]  # no value given
    defaulted: tuple[str, ...]  # a value given that could not be used
    ignored: tuple[str, ...]  # keys the moment does not know


def read_facts(fields: Mapping[str, Field], given: Mapping[str, object], *, strict: bool) -> FactsReport:
    """The facts of a request against the fields of its moment.

    A missing value takes the field's default; one of a wrong type, range or vocabulary too, named in `defaulted`.
    Raises ContextError for the latter where `strict`.
    """
    values: dict[str, Value] = {}
    missing, defaulted = [], []
    for name, field in fields.items():
        value = given.get(name)
        if value is None:
            missing.append(name)
            values[name] = field.default
        elif field.code(value) is None:
            if strict:
                shown = repr(value)[:80]
                raise ContextError(
                    f"context.{name} is {shown}, not {field.describe()}",
                    help=f"send {field.describe()}, or leave it out",
                    field=f"context.{name}",
                )
            defaulted.append(name)
            values[name] = field.default
        else:
            values[name] = value  # type: ignore[assignment]  # `code` accepted it
    ignored = tuple(sorted(name for name in given if name not in fields))
    return FactsReport(values, tuple(missing), tuple(defaulted), ignored)


def code_facts(fields: Mapping[str, Field], rows: Sequence[Mapping[str, Value]]) -> Facts:
    """Rows of named facts as coded facts (n, f), columns in the order of `fields`; unusable values as missing."""
    facts = np.full((len(rows), len(fields)), np.nan)
    for j, (name, field) in enumerate(fields.items()):
        for i, row in enumerate(rows):
            code = field.code(row.get(name))
            if code is not None:
                facts[i, j] = code
    return facts


def name_facts(fields: Mapping[str, Field], facts: Facts) -> list[dict[str, Value]]:
    """Coded facts (n, f) as rows of named facts; missing ones are left out."""
    named = [(j, name, field) for j, (name, field) in enumerate(fields.items())]
    return [{name: field.name(row[j]) for j, name, field in named if not math.isnan(row[j])} for row in facts]
