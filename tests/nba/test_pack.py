from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from nba.errors import UnknownActionError, UnknownMomentError
from nba.pack import DO_NOTHING, Pack
from nba.pack_file import parse_pack


def changed(text: str, old: str, new: str) -> Pack:
    assert old in text
    return parse_pack(text.replace(old, new).encode(), source="shop.yaml")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pack: shop", "pack: shop\ntitle: Our shop\ndescription: A shop"),
        ("type: boolean", "type: boolean, description: pays monthly"),
        ("    window: 24h", "    title: Basket\n    description: left behind\n    window: 24h"),
        ("    window: 24h", "    window: 24h\n    heterogeneous: true"),
        ("warm: {en: Hi, de: Hallo}", "warm: {en: Hello}"),
        ("remove: [remind]", "remove: [remind], why: people sleep"),
        ("annoyed: {}", "annoyed: {description: complained}"),
        ("layer: emotional", "description: ten percent, layer: emotional"),
        ("[en, de]", "[en, de, fr]"),
        ("pack: shop", "pack: shop\nlocale_field: device"),
        ("pack: shop", "pack: shop\ncandidates: [epsilon_greedy]"),
        ("pack: shop", "pack: shop\nstrict: false"),
        ("trigger: always\n", "trigger: always\n    delay_ms: 0\n"),
    ],
)
def test_wording_candidates_claims_and_what_goes_without_saying_do_not_change_the_digest(
    shop: Pack, shop_text: str, old: str, new: str
) -> None:
    twin = changed(shop_text, old, new)
    assert twin.digest == shop.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pack: shop", "pack: shop2"),
        ("pack: shop", "pack: shop\nstrict: true"),
        ("version: 1\nrew", "version: 2\nrew"),
        ("reward_version: 1", "reward_version: 2"),
        ("[-1, 1]", "[-2, 1]"),
        ("[mobile, desktop]", "[desktop, mobile]"),
        ("type: boolean", "type: boolean, default: true"),
        ("type: boolean", "type: boolean, max_age: 1d"),
        ("type: boolean", 'type: boolean, feature: "customer:member"'),
        ("[mood, device, member, local_time]", "[device, mood, member, local_time]"),
        ("[greet, remind, offer]", "[remind, greet, offer]"),
        ("bought: 1.0", "bought: 1.1"),
        ("window: 24h", "window: 25h"),
        ("    window: 24h", "    window: 24h\n    default_reward: 0.1"),
        ("mood < -0.5", "mood < -0.4"),
        ("mood < 0.5", "mood < 0.6"),
        ("cost: 0.2", "cost: 0.3"),
        ("channel: push", "channel: mail"),
        ("layer: emotional", "layer: cognitive"),
        ("layer: emotional", "delay_ms: 300, layer: emotional"),
        ("warm: {en: Hi, de: Hallo}", "hearty: {en: Hi}"),
        (">= 22", ">= 23"),
        ("remove: [remind]", "remove: [remind, greet]"),
        ("remove: [remind]", "remove: [remind], moments: [basket]"),
        ("closes_window: true", "closes_window: false"),
        ("annoyed: {}", "annoyed: {aggregate: last}"),
        ("annoyed: {}", "annoyed: {range: [0, 2]}"),
    ],
)
def test_whatever_decides_or_teaches_changes_the_digest(shop: Pack, shop_text: str, old: str, new: str) -> None:
    assert changed(shop_text, old, new).digest != shop.digest


def test_a_field_named_like_wording_counts_for_the_digest(shop: Pack, shop_text: str) -> None:
    one = changed(shop_text, "  mood: {type", "  title: {type: boolean}\n  mood: {type")
    other = changed(shop_text, "  mood: {type", "  title: {type: time}\n  mood: {type")
    assert len({shop.digest, one.digest, other.digest}) == 3


def test_the_digest_of_a_pack_stays_what_it_is_from_one_release_to_the_next(shop: Pack) -> None:
    """Another figure here means that no policy learned so far can be loaded with its pack."""
    assert shop.digest == "87f5de9f585916ca5295ecc4af140b42f91f1091469b56d94bb81d0e29ee2843"


def test_the_digest_survives_the_way_through_json(shop: Pack) -> None:
    assert msgspec.json.decode(msgspec.json.encode(shop), type=Pack).digest == shop.digest


def test_the_order_of_fields_and_actions_in_the_file_does_not_matter(shop: Pack) -> None:
    """Their order in a moment does: it is the order of columns."""
    turned: dict[str, Any] = {name: dict(reversed(getattr(shop, name).items())) for name in ("fields", "actions")}
    assert replace(shop, **turned).digest == shop.digest


def test_no_action_is_column_0(shop: Pack) -> None:
    assert shop.moment("basket").action_ids == ("no_action", "greet", "remind", "offer")


def test_fields_of_a_moment_come_in_its_order(support: Pack) -> None:
    assert tuple(support.moment_fields("tone_tuner")) == support.moment("tone_tuner").fields


def test_the_window_in_seconds(shop: Pack) -> None:
    assert shop.moment("basket").window_s == 86_400.0


def test_the_reward_range_spans_all_outcomes_and_costs(shop: Pack) -> None:
    """Worst: annoyed alone, by the dearest action: -0.5 - 0.2. Best: bought, by the cheapest (no_action): 1 - 0."""
    assert shop.reward_range("basket") == (-0.7, 1.0)


def test_the_reward_range_knows_that_an_outcome_may_stay_away(shop: Pack, shop_text: str) -> None:
    """With stars from 1 to 5 beside `bought`, the best is 1 + 5 and the worst is neither: 0 - 0.2."""
    text = shop_text.replace("annoyed: {}", "stars: {range: [1, 5]}").replace("annoyed: -0.5", "stars: 1.0")
    assert parse_pack(text.encode(), source="x").reward_range("basket") == (-0.2, 6.0)


def test_the_reward_range_holds_the_default_reward(shop_text: str) -> None:
    pack = changed(shop_text, "    window: 24h", "    window: 24h\n    default_reward: -2")
    assert pack.reward_range("basket") == (-2.2, 1.0)


def test_an_unknown_moment_is_named_with_those_there_are(shop: Pack) -> None:
    with pytest.raises(UnknownMomentError, match="no moment 'baskets'\nhelp: its moments are basket"):
        shop.moment("baskets")


def test_an_unknown_action_is_named_with_those_there_are(shop: Pack) -> None:
    with pytest.raises(UnknownActionError, match="no action 'gret'\nhelp: its actions are greet, remind, offer"):
        shop.action("gret")


def test_no_action_costs_and_says_nothing_where_the_pack_does_not_describe_it(shop: Pack) -> None:
    assert shop.action("no_action") is DO_NOTHING
    assert (DO_NOTHING.cost, DO_NOTHING.treatments, DO_NOTHING.trigger) == (0.0, {}, "always")
