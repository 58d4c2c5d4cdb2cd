"""Feast's stored bytes as plain values: protocol buffers read by hand, for the few types a pack can use.

Feast keeps each feature as a `feast.types.Value`, a message with one field that is set, and each view's event time
as a `google.protobuf.Timestamp`. Feast's own classes for them cannot be had without importing all of Feast.
Source: protos/feast/types/Value.proto of Feast, https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Mapping
from typing import Literal

from nba.types import Value

ValueType = Literal["string", "int32", "int64", "double", "float", "bool"]
_Bytes = bytes | None
_KEPT = 2_048  # values of a feature that were read last


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number that starts at this byte, seven bits a byte, lowest first; and where the next thing starts."""
    number = raw[at]
    if number < 0x80:
        return number, at + 1
    number &= 0x7F
    for place, byte in enumerate(raw[at + 1 : at + 10], 1):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + 1 + place
    raise ValueError("a number without an end")


def _string(raw: bytes) -> Value:
    size, start = _varint(raw, 1)
    return raw[start:].decode() if len(raw) == start + size else None


def _integer(raw: bytes) -> Value:
    number, end = _varint(raw, 1)
    return _signed(number) if end == len(raw) else None


def _boolean(raw: bytes) -> Value:
    number, end = _varint(raw, 1)
    return bool(number) if end == len(raw) else None


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _real(form: struct.Struct) -> Callable[[bytes], Value]:
    def read(raw: bytes) -> Value:
        number = float(form.unpack(raw)[1])
        return number if math.isfinite(number) else None

    return read


# First byte: field number of the type in `Value`, times 8, plus the wire type (0 varint, 1 eight bytes, 2 a length
# and as many bytes, 5 four bytes).
_READERS: Mapping[ValueType, tuple[int, Callable[[bytes], Value]]] = {
    "string": (2 * 8 + 2, _string),
    "int32": (3 * 8 + 0, _integer),
    "int64": (4 * 8 + 0, _integer),
    "double": (5 * 8 + 1, _real(struct.Struct("<Bd"))),
    "float": (6 * 8 + 5, _real(struct.Struct("<Bf"))),
    "bool": (7 * 8 + 0, _boolean),
}


def value_reader(value_type: ValueType) -> Callable[[_Bytes], Value]:
    """What reads stored values of this type; None for one absent, unset, null, not finite or of another type."""
    tag, read = _READERS[value_type]

    @functools.lru_cache(_KEPT)  # customers share most values: counts, countries, yes and no
    def reader(raw: _Bytes) -> Value:
        if not raw or raw[0] != tag:
            return None
        try:
            return read(raw)
        except (ValueError, IndexError, struct.error):  # cut short, or not UTF-8
            return None

    return reader


@functools.lru_cache(4096)  # what a batch job wrote bears one time for everybody
def read_timestamp(raw: _Bytes) -> float | None:
    """Seconds since 1970 of a stored event time; None for one absent or damaged."""
    if not raw:
        return None
    seconds = nanos = at = 0  # a part that is zero is not stored
    try:
        if raw[0] == 1 * 8:
            seconds, at = _varint(raw, 1)
        if at < len(raw) and raw[at] == 2 * 8:
            nanos, at = _varint(raw, at + 1)
    except (ValueError, IndexError):
        return None
    return _signed(seconds) + nanos / 1e9 if at == len(raw) else None
