from __future__ import annotations

import pytest

from nba.errors import PackError
from nba.moment_plan import plan_pack
from nba.pack_file import parse_pack
from nba.pack_skeleton import skeleton


def test_the_skeleton_is_a_sound_pack_of_its_name() -> None:
    pack = parse_pack(skeleton("my_shop").encode(), source="my_shop.yaml")
    assert pack.pack == "my_shop"
    assert plan_pack(pack)["abandoned_basket"].action_ids == ("no_action", "remind", "offer_help")


def test_what_the_skeleton_comments_out_is_sound_too() -> None:
    text = skeleton("my_shop")
    for line in ("# visits_30d: ", "# no_action: ", "# heterogeneous: "):
        assert text.count(line) == 1
        text = text.replace(line, line.removeprefix("# "))
    pack = parse_pack(text.encode(), source="my_shop.yaml")
    assert pack.fields["visits_30d"].feature == "customer_history:visits_30d"
    assert pack.moments["abandoned_basket"].heterogeneous


def test_every_section_of_a_pack_is_in_the_skeleton() -> None:
    text = skeleton("my_shop")
    assert all(f"\n{section}:" in text for section in ("fields", "moments", "actions", "guardrails", "outcomes"))


def test_a_name_that_no_pack_may_have_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(PackError, match=r"my_shop\.yaml:4: pack"):
        parse_pack(skeleton("My-Shop").encode(), source="my_shop.yaml")
