from __future__ import annotations

import math
import struct

import pytest

from features.feature_value import ValueType, read_timestamp, value_reader
from nba.types import Value


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("string", b"\x12\x02DE", "DE"),  # field 2, two bytes
        ("string", b"\x12\x00", ""),
        ("string", b"\x12\xac\x02" + b"x" * 300, "x" * 300),  # 300 = 0x2c + 2 * 128
        ("int32", b"\x18\x07", 7),
        ("int64", b"\x20\x96\x01", 150),  # 0x16 + 1 * 128
        ("int64", b"\x20" + b"\xff" * 9 + b"\x01", -1),  # 64 ones
        ("double", b"\x29" + struct.pack("<d", 0.1), 0.1),
        ("float", b"\x35" + struct.pack("<f", -2.5), -2.5),
        ("bool", b"\x38\x01", True),
        ("bool", b"\x38\x00", False),
    ],
)
def test_a_stored_value_reads_as_itself(kind: ValueType, raw: bytes, value: Value) -> None:
    found = value_reader(kind)(raw)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("string", None),  # no such field in the hash
        ("string", b""),  # a value that is not set
        ("int64", b"\x98\x01\x00"),  # null_val
        ("int64", b"\x12\x01\x37"),  # the string "7"
        ("double", b"\x20\x07"),  # an integer
        ("double", b"\x29" + struct.pack("<d", math.nan)),
        ("double", b"\x29" + struct.pack("<d", math.inf)),
        ("double", b"\x29\x00"),  # cut short
        ("string", b"\x12\x05abc"),
        ("string", b"\x12"),
        ("string", b"\x12\x02\xff\xfe"),  # not UTF-8
        ("int64", b"\x20\x80"),  # a number without an end
        ("int64", b"\x20" + b"\x80" * 20),
        ("int64", b"\x20\x07\x07"),  # something after it
        ("bool", b"\x38\x01\x00"),
    ],
)
def test_what_is_no_value_of_the_type_is_missing(kind: ValueType, raw: bytes | None) -> None:
    assert value_reader(kind)(raw) is None


def test_a_time_is_seconds_and_nanoseconds() -> None:
    """Seconds 300 = 0x2c + 2 * 128 in field 1; 500,000,000 ns in field 2 = 0x00 + 0x65*2^7 + 0x35*2^14 + ..."""
    half = 500_000_000
    nanos = bytes((half >> 7 * i) & 0x7F | (0x80 if i < 4 else 0) for i in range(5))
    assert read_timestamp(b"\x08\xac\x02\x10" + nanos) == 300.5


@pytest.mark.parametrize("raw", [None, b"", b"\x08", b"\x08\x80", b"\x12\x01a", b"\x08\x01\x08\x02", b"rubbish"])
def test_a_damaged_time_is_none(raw: bytes | None) -> None:
    assert read_timestamp(raw) is None
