"""Facts by name and what may be said about them: the fields a pack declares, and how each is coded.

Coded facts (n, f) are what the simulator emits, conditions read and the encoder encodes: a number as it is,
a category as its place in the vocabulary, a boolean as 0 or 1, a time as local seconds since 1970, missing as NaN.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

from nba.errors import ContextError, shown
from nba.types import Facts, Value

EPOCH = datetime(1970, 1, 1)
DAY = 86_400.0  # seconds
MAX_TEXT = 256  # characters of a time
NOTHING: Mapping[str, Value] = {}

_FEW = 64  # times that the processor's own remainder is quick enough for
_EXACT = 2.0**52  # seconds; beyond, a product of whole days is rounded


def _hour(seconds: Any) -> Any:
    split = _split(seconds)
    return (seconds % DAY if split is None else split[1]) / 3_600.0


def _weekday(seconds: Any) -> Any:
    split = _split(seconds)
    if split is None:
        return (seconds // DAY + 3.0) % 7.0
    days = split[0] + 3.0  # 1970-01-01 was a Thursday
    return days - 7.0 * np.floor(days / 7.0)


def _split(seconds: Any) -> tuple[Any, Any] | None:
    """Whole days and the seconds after, bit for bit those of // and % at a quarter of their time; None: use them."""
    if seconds.size < _FEW:
        return None
    days = np.floor(seconds / DAY)
    if (np.abs(seconds) > _EXACT).any():
        return None
    rest = seconds - days * DAY
    if (early := rest < 0.0).any():  # the division was rounded up to the next day
        days, rest = days - early, np.where(early, rest + DAY, rest)
    return days, rest


# Of local seconds since 1970, a NumPy number or an array of them.
TIME_PARTS: dict[str, Callable[[Any], Any]] = {"hour": _hour, "weekday": _weekday}


Duration = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,5}(s|m|h|d)$")]  # 90s, 15m, 24h, 7d


@functools.lru_cache(1_024)  # every decision asks for its window
def seconds(duration: Duration) -> float:
    """A duration such as `24h` in seconds."""
    return float(duration[:-1]) * {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY}[duration[-1]]


class Field(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One fact a pack may use: its type, what it may be, where it comes from and how old it may get."""

    type: Literal["number", "category", "boolean", "time"]
    description: str = ""
    range: tuple[float, float] | None = None  # of a number; also what scales it
    values: tuple[str, ...] = ()  # vocabulary of a category
    default: float | bool | str | None = None  # None: stays missing
    feature: str | None = None  # "view:feature" in the feature store; None: the request brings it
    max_age: Duration | None = None  # older is treated as missing
    purpose: str | None = None  # consent purpose it needs

    @cached_property
    def _places(self) -> dict[str, float]:
        return {value: float(place) for place, value in enumerate(self.values)}

    def code(self, value: object) -> float | None:
        """The value as a number, NaN for None, None where it is not a value of this field."""
        return self.coder(value)

    @cached_property
    def coder(self) -> Callable[[object], float | None]:
        """`code`, as a function of its own: a decision calls it for every fact."""
        match self.type:
            case "category":
                places = self._places
                return lambda v: places.get(v) if isinstance(v, str) else math.nan if v is None else None
            case "number":
                low, high = self.range or (-sys.float_info.max, sys.float_info.max)
                bounds = self.range
                # A comparison with NaN is False, so that only what needs no more questions takes the short way.
                return lambda v: v if type(v) is float and low <= v <= high else _number(v, bounds)
            case "boolean":
                return lambda v: float(v) if isinstance(v, bool) else math.nan if v is None else None
        return lambda v: math.nan if v is None else _local_seconds(v)

    def name(self, code: float) -> Value:
        """The value that has this code: the inverse of `code`, to the microsecond and without a time's offset."""
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
                if self.range is None:
                    return "a finite number"
                return f"a number in [{self.range[0]:g}, {self.range[1]:g}]"
            case "category":
                return f"one of {', '.join(self.values)}"
            case "boolean":
                return "true or false"
        return "an ISO 8601 time such as 2026-11-21T08:30:00+01:00"


def _number(value: object, bounds: tuple[float, float] | None) -> float | None:
    return math.nan if value is None else finite_number(value, bounds)


def finite_number(value: object, bounds: tuple[float, float] | None = None) -> float | None:
    """The value as a float where it is a finite number within the bounds, else None. A boolean is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):  # a union takes three times as long
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer above 1.8e308
        return None
    if not math.isfinite(number) or (bounds is not None and not bounds[0] <= number <= bounds[1]):
        return None
    return number


def _local_seconds(value: object) -> float | None:
    return _read_time(value) if isinstance(value, str) and len(value) <= MAX_TEXT else None


@functools.lru_cache(1_024)  # a decision codes each time twice, and the customers of a minute share it
def _read_time(value: str) -> float | None:
    try:
        return (datetime.fromisoformat(value).replace(tzinfo=None) - EPOCH).total_seconds()
    except ValueError:
        return None


class FactsReport(Struct, frozen=True):
    """The facts as they will be used, and what had to be done to them."""

    values: dict[str, Value]  # every field of the moment
    missing: tuple[str, ...]  # no value given
    defaulted: tuple[str, ...]  # a value given that could not be used
    ignored: tuple[str, ...]  # keys the moment does not know


def read_facts(
    fields: Mapping[str, Field], given: Mapping[str, object], *, strict: bool, stored: Mapping[str, Value] = NOTHING
) -> FactsReport:
    """The facts of a request against the fields of its moment, `stored` ones where it has none; numbers as floats.

    A missing value takes the field's default; one of a wrong type, range or vocabulary too, named in `defaulted`.
    Raises ContextError for the latter where `strict`. A stored value that is none of its field's is missing: a store's
    mistake must not be the caller's.
    """
    values: dict[str, Value] = {}
    missing, defaulted = [], []
    for name, field in fields.items():
        value = given.get(name)
        was_given = value is not None
        if not was_given:
            value = stored.get(name)
        code = None if value is None else field.coder(value)
        if code is None and not was_given:
            missing.append(name)
            values[name] = field.default
        elif code is None:
            if strict:
                raise ContextError(
                    f"context.{name} is {shown(value)}, not {field.describe()}",
                    help=f"send {field.describe()}, or leave it out",
                    field=f"context.{name}",
                )
            defaulted.append(name)
            values[name] = field.default
        else:
            # `code` accepted it. An integer beyond 64 bits would not survive the log, so numbers become floats.
            values[name] = code if field.type == "number" else value  # type: ignore[assignment]
    ignored = tuple(sorted(given.keys() - fields.keys()))
    return FactsReport(values, tuple(missing), tuple(defaulted), ignored)


def code_facts(fields: Mapping[str, Field], rows: Sequence[Mapping[str, Value]]) -> Facts:
    """Rows of named facts as coded facts (n, f), columns in the order of `fields`; unusable values as missing."""
    coders = [(name, field.coder) for name, field in fields.items()]
    codes = [[code(row.get(name)) for name, code in coders] for row in rows]
    return np.array(codes, dtype=np.float64).reshape(len(rows), len(coders))  # None becomes NaN


def name_facts(fields: Mapping[str, Field], facts: Facts) -> list[dict[str, Value]]:
    """Coded facts (n, f) as rows of named facts; missing ones are left out."""
    named = [(j, name, field) for j, (name, field) in enumerate(fields.items())]
    return [{name: field.name(row[j]) for j, name, field in named if not math.isnan(row[j])} for row in facts.tolist()]
