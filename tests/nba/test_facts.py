from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba.errors import ContextError
from nba.facts import DAY, TIME_PARTS, Field, code_facts, finite_number, name_facts, read_facts, seconds

FIELDS = {
    "mood": Field(type="number", range=(-1.0, 1.0)),
    "device": Field(type="category", values=("mobile", "desktop"), default="desktop"),
    "member": Field(type="boolean"),
    "local_time": Field(type="time"),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["mobile", "2026-11-21", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(("text", "length"), [("90s", 90.0), ("15m", 900.0), ("24h", 86_400.0), ("7d", 604_800.0)])
def test_a_duration_is_its_seconds(text: str, length: float) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("mood", 0.25, 0.25),
        ("mood", -1, -1.0),
        ("mood", 1.0001, None),
        ("mood", math.nan, None),
        ("mood", math.inf, None),
        ("mood", 10**400, None),
        ("mood", True, None),
        ("mood", "0.5", None),
        ("device", "mobile", 0.0),
        ("device", "desktop", 1.0),
        ("device", "Mobile", None),
        ("device", ["mobile"], None),
        ("device", 0, None),
        ("member", True, 1.0),
        ("member", False, 0.0),
        ("member", 1, None),
        ("member", "true", None),
        ("local_time", "1970-01-02T01:00:00", 90_000.0),
        ("local_time", "1970-01-02T01:00:00+05:00", 90_000.0),
        ("local_time", "1970-01-02T01:00:00Z", 90_000.0),
        ("local_time", "1970-01-02", 86_400.0),
        ("local_time", 90_000, None),
        ("local_time", "soon", None),
        ("local_time", "2026-02-30T00:00:00", None),
        ("local_time", "1970-01-02T01:00:00" + " " * 300, None),
    ],
)
def test_a_value_has_the_code_of_its_field_or_none(name: str, value: object, code: float | None) -> None:
    """A time counts by the customer's own clock: its offset says where they are, not when."""
    assert FIELDS[name].code(value) == code


def test_a_missing_value_is_nan() -> None:
    assert all(math.isnan(field.code(None) or 0.0) for field in FIELDS.values())


@given(
    st.fixed_dictionaries(
        {
            "mood": st.floats(-1, 1),
            "device": st.sampled_from(["mobile", "desktop"]),
            "member": st.booleans(),
            "local_time": st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2070, 1, 1)).map(
                datetime.isoformat
            ),
        }
    )
)
def test_a_fact_comes_back_from_its_code(values: dict[str, Any]) -> None:
    assert name_facts(FIELDS, code_facts(FIELDS, [values])) == [values]


def test_missing_facts_are_left_out_when_named() -> None:
    assert name_facts(FIELDS, np.array([[np.nan, 1.0, np.nan, np.nan]])) == [{"device": "desktop"}]


def test_coded_facts_have_a_row_for_each_and_a_column_for_each_field() -> None:
    rows = [{"mood": 0.5, "member": True}, {"device": "mobile", "mood": "angry"}]
    expected = [[0.5, np.nan, 1.0, np.nan], [np.nan, 0.0, np.nan, np.nan]]
    np.testing.assert_array_equal(code_facts(FIELDS, rows), expected)


def test_no_rows_and_no_fields_keep_their_shape() -> None:
    assert code_facts(FIELDS, []).shape == (0, 4)
    assert code_facts({}, [{}, {}]).shape == (2, 0)


def test_a_lenient_pack_uses_the_default_and_says_so() -> None:
    report = read_facts(FIELDS, {"mood": 7, "device": "fridge", "member": True, "shoe": 42}, strict=False)
    assert report.values == {"mood": None, "device": "desktop", "member": True, "local_time": None}
    assert (report.missing, report.defaulted, report.ignored) == (("local_time",), ("mood", "device"), ("shoe",))


def test_a_strict_pack_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ContextError, match=r"context\.mood is 7, not a number in \[-1, 1\]") as caught:
        read_facts(FIELDS, {"mood": 7}, strict=True)
    assert caught.value.field == "context.mood"


def test_a_strict_pack_takes_a_missing_fact() -> None:
    assert read_facts(FIELDS, {"mood": None}, strict=True).missing == ("mood", "device", "member", "local_time")


@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), JSON))
def test_whatever_a_stranger_sends_the_facts_are_usable_and_survive_the_log(given: dict[str, Any]) -> None:
    values = read_facts(FIELDS, given, strict=False).values
    assert list(values) == list(FIELDS)
    assert all(field.code(values[name]) is not None for name, field in FIELDS.items())
    assert msgspec.json.decode(msgspec.json.encode(values)) == values


@given(st.dictionaries(st.sampled_from(list(FIELDS)), JSON))
def test_a_strict_pack_refuses_or_keeps_every_value_given(given: dict[str, Any]) -> None:
    try:
        values = read_facts(FIELDS, given, strict=True).values
    except ContextError:
        return
    assert all(values[name] == value for name, value in given.items() if value is not None)


def test_a_number_is_kept_as_a_float() -> None:
    """An integer beyond 64 bits could be written to the log and not be read again."""
    wide = {"size": Field(type="number", range=(0.0, 1e30))}
    value = read_facts(wide, {"size": 10**29}, strict=True).values["size"]
    assert type(value) is float


@pytest.mark.parametrize(("value", "found"), [(3, 3.0), (2.5, 2.5), (True, None), ("3", None), (9, None), (None, None)])
def test_a_finite_number_within_bounds(value: object, found: float | None) -> None:
    assert finite_number(value, (0.0, 5.0)) == found


def test_hours_and_weekdays_of_many_times_are_those_of_one_bit_for_bit() -> None:
    """Around midnights, of any sign and size, where the division rounds; NaN where missing."""
    days = np.arange(-3_000.0, 3_000.0) * 7.0 * DAY
    odd = np.array([0.0, -0.0, 5e-324, -5e-324, -1e-300, np.nan])
    times = np.concatenate([days, np.nextafter(days, -np.inf), np.nextafter(days, np.inf), days / 11.0, odd])
    hours, weekdays = (TIME_PARTS[part](times) for part in ("hour", "weekday"))
    assert hours.tobytes() == (times % DAY / 3_600.0).tobytes()
    assert weekdays.tobytes() == ((times // DAY + 3.0) % 7.0).tobytes()
    far = np.full(100, 1.7e308)  # too far for whole days to be exact
    assert TIME_PARTS["hour"](far).tobytes() == (far % DAY / 3_600.0).tobytes()
