from __future__ import annotations

import pytest
from msgspec.structs import replace

from nba.errors import PackError
from nba.pack import Moment, Pack
from nba.pack_checks import check_pack, suggest
from nba.pack_yaml import Document

STORED = Document("pack.json", None)


def test_a_sound_pack_passes(shop: Pack, support: Pack) -> None:
    check_pack(shop, STORED)
    check_pack(support, STORED)


@pytest.mark.parametrize(
    "change",
    [
        {"fields": ("nothing",)},
        {"actions": ("nothing",)},
        {"reward": {"nothing": 1.0}},
        {"fields": ("device",)},  # its rules read `mood`
    ],
)
def test_a_pack_that_did_not_come_from_yaml_is_checked_alike(shop: Pack, change: dict[str, object]) -> None:
    moment: Moment = replace(shop.moment("basket"), **change)
    with pytest.raises(PackError, match=r"^pack\.json:1: "):
        check_pack(replace(shop, moments={"basket": moment}), STORED)


def test_the_nearest_name_is_suggested_and_all_are_told() -> None:
    assert suggest("remnid", ("greet", "remind")) == "did you mean 'remind'? known are greet, remind"


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert suggest("zzz", ("greet", "remind")) == "known are greet, remind"
    assert suggest("zzz", ()) == "known are none"
