from __future__ import annotations

import copy
from typing import Any

import pytest

from nba import errors
from nba.errors import MAX_SHOWN, NbaError, PackError, shown

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, NbaError)]


def test_an_error_says_what_is_wrong_and_then_the_way_out() -> None:
    error = PackError("shop.yaml:3: version: 0", help="start at 1", field="version")
    assert str(error) == "shop.yaml:3: version: 0\nhelp: start at 1"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_being_copied_to_another_process(kind: type[NbaError]) -> None:
    """`copy` rebuilds it by the same protocol as a process boundary does."""
    twin = copy.copy(kind("what", help="way out", field="a.b"))
    assert (type(twin), twin.message, twin.help, twin.field) == (kind, "what", "way out", "a.b")


def test_every_kind_of_error_has_its_own_code() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "'a'"), (10**5000, "a int"), (nested(100_000), "a list"), ("x" * 500, "'" + "x" * (MAX_SHOWN - 2) + "…")],
    ids=["short", "many digits", "deep", "long"],
)
def test_any_value_can_be_shown(value: object, text: str) -> None:
    assert shown(value) == text
