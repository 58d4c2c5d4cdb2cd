"""Pack files changed at random: a pack, or an error that says where. No aliases, no time without end."""

from __future__ import annotations

import contextlib
import random
import time

import pytest

from nba.errors import PackError
from nba.moment_plan import plan_pack
from nba.pack_file import parse_pack
from nba.pack_skeleton import skeleton
from nba.pack_yaml import MAX_BYTES
from tests.fuzz.conftest import Effort
from tests.fuzz.mutation import NUMBERS, mutated

YAML = (
    *NUMBERS,
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!python/object/apply:os.system [true]",
    b"!!binary aGk=",
    b"!!int x",
    b"!!timestamp x",
    b"? ",
    b"? [a]\n: b\n",
    b"- ",
    b": ",
    b"\n",
    b"\t",
    b"    ",
    b"|\n",
    b">-\n",
    b"%YAML 1.1\n---\n",
    b"---\n",
    b"...\n",
    b".inf",
    b".nan",
    b"0x" + b"f" * 5_000,
    b"1:30:00",
    b"2026-11-21",
    b"0001-01-01 00:00:00 +23:59",
    b"yes",
    b"~",
    b"\xff",
    b"\0",
    b"\xc2\x85",
    b"[" * 2_000,
    b"{a: " * 2_000,
    b'"\\ud800"',
    b"(" * 500 + b"mood" + b")" * 500,
    b"not " * 5_000,
    b" and mood < 1" * 2_000,
    b"-1",
    b"99999999999d",
    b"1e308d",
)
SLOWEST_S = 20.0  # of one file, on a machine that does much else


def test_a_changed_pack_is_a_pack_or_an_error_of_packs(effort: Effort) -> None:
    good = skeleton("shop").encode()
    for rng in effort.tries(60):
        raw = mutated(good, rng, YAML)
        started = time.thread_time()
        with contextlib.suppress(PackError):
            plan_pack(parse_pack(raw, source="shop.yaml"))
        assert time.thread_time() - started < SLOWEST_S


@pytest.mark.parametrize(
    "raw",
    [
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("j"))),
        b"a: &a [*a]",
        b"[" * 100_000,
        b"- " * 100_000,
        b"? " * 100_000,
        b"{" * 100_000,
        b"a: " * 300_000,
        b"x" * (MAX_BYTES + 1),
        b"a: " + b"9" * 100_000,
        b"%" * 100_000,
        b"&" + b"a" * 900_000,
    ],
    ids=["laughs", "itself", "lists", "dashes", "questions", "maps", "keys", "large", "digits", "percents", "anchor"],
)
def test_what_is_made_to_take_for_ever_is_refused_at_once(raw: bytes) -> None:
    started = time.thread_time()
    with pytest.raises(PackError):
        parse_pack(raw, source="shop.yaml")
    assert time.thread_time() - started < SLOWEST_S


def test_lines_shuffled_are_a_pack_or_an_error(effort: Effort) -> None:
    lines = skeleton("shop").encode().splitlines(keepends=True)
    for rng in effort.tries(60):
        raw = b"".join(_shuffled(lines, rng))
        with contextlib.suppress(PackError):
            plan_pack(parse_pack(raw, source="shop.yaml"))


def _shuffled(lines: list[bytes], rng: random.Random) -> list[bytes]:
    moved = list(lines)
    for _ in range(rng.choice((1, 2, 8))):
        line = moved.pop(rng.randrange(len(moved)))
        moved.insert(rng.randrange(len(moved) + 1), b" " * rng.choice((0, 0, 2, 4)) + line)
    return moved
