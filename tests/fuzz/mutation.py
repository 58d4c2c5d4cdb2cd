"""Bytes changed at random: flipped, cut, doubled, moved, and with words of the format put in."""

from __future__ import annotations

import random
from collections.abc import Sequence

NUMBERS = (b"0", b"-1", b"1e999", b"-1e999", b"1e-999", b"NaN", b"Infinity", b"9" * 5_000, b"18446744073709551616")
TIMES = (b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-14:00", b"2026-11-21T08:30:00", b"2026-02-30T25:61:61Z")
JSON = (
    *NUMBERS,
    *(b'"%s"' % time for time in TIMES),
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\\u0000"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'{"a":1,"a":2}',
    b'{"a":1,"\\u0061":2}',
    b"[" * 3_000,
    b'{"a":' * 3_000,
    b'"' + b"x" * 100_000 + b'"',
    b"//",
    b"\xef\xbb\xbf",
)


def mutated(data: bytes, rng: random.Random, words: Sequence[bytes] = ()) -> bytes:
    """The data with one to six changes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        _change(changed, rng, words)
    return bytes(changed)


def _change(data: bytearray, rng: random.Random, words: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 4, 16, 64, 1_024)))
    kind = rng.randrange(7 if words else 5)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at:end] = b""
    elif kind == 2:
        data[at:at] = data[at:end] * rng.choice((1, 1, 2, 100))
    elif kind == 3:
        other = rng.randrange(len(data) + 1)
        data[at:at] = data[other : other + rng.randrange(64)]
    elif kind == 4:
        data[at:end] = rng.randbytes(end - at)
    elif kind == 5:
        data[at:at] = rng.choice(words)
    else:
        data[at:end] = rng.choice(words)


def regrown(value: object, rng: random.Random, words: Sequence[object]) -> object:
    """A value decoded from JSON, with one of the values in it replaced, taken out or put in twice as deep."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: regrown(value[key], rng, words)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        return [*value[:i], regrown(value[i], rng, words), *value[i + 1 :]]
    return rng.choice((rng.choice(words), [value], {"a": value}))
