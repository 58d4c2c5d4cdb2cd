from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nba.encoder import Encoder, action_features, joint_features
from nba.facts import code_facts
from nba.pack import Pack
from nba.pack_file import load_pack, parse_pack

SUPPORT = load_pack("support")
ENCODERS = [Encoder(SUPPORT, moment) for moment in SUPPORT.moments]
ANY_FACT = st.sampled_from([np.nan, np.inf, -np.inf, 1.7e308, -1.7e308, 5e-324, -1.0, 0.5, 1.0, 99.0]) | st.floats()
COLUMNS = (
    "1",
    *("mood", "member", "mood:missing"),
    *("device=mobile", "device=desktop"),
    *("local_time:hour_sin", "local_time:weekday_sin", "local_time:hour_cos", "local_time:weekday_cos"),
    *("rule:0", "rule:1"),
)


def encode(pack: Pack, **facts: object) -> dict[str, float]:
    encoder = Encoder(pack, "basket")
    (row,) = encoder.encode(code_facts(encoder.fields, [facts]))
    return dict(zip(encoder.columns, row.tolist(), strict=True))


def test_the_columns_have_names_in_a_fixed_order(shop: Pack) -> None:
    encoder = Encoder(shop, "basket")
    assert encoder.columns == COLUMNS
    assert encoder.width == 12
    assert encoder.first_rule == encoder.column("rule:0") == 10


def test_a_context_by_hand(shop: Pack) -> None:
    """Six in the morning of Thursday, day 3 of 7: the hour is a quarter turn, the weekday three sevenths."""
    found = encode(shop, mood=-0.75, device="desktop", member=True, local_time="2026-11-19T06:00:00")
    expected = (1, -0.75, 1, 0, 0, 1, 1, math.sin(6 / 7 * math.pi), 0, math.cos(6 / 7 * math.pi), 1, 1)
    assert list(found.values()) == pytest.approx(expected, abs=1e-6)


def test_a_context_of_which_nothing_is_known(shop: Pack) -> None:
    assert list(encode(shop).values()) == [1, 0, 0, 1, *[0] * 8]


def test_a_number_is_scaled_by_its_range(shop: Pack, shop_text: str) -> None:
    """In [10, 30] the middle is 20 and 25 is half of the way from there to the end."""
    text = shop_text.replace("mood < -0.5", "mood < 12").replace("mood < 0.5", "mood < 20")
    pack = parse_pack(text.replace("[-1, 1]", "[10, 30]").encode(), source="x")
    found = [encode(pack, mood=mood)["mood"] for mood in (10, 20, 25, 30)]
    assert found == [-1.0, 0.0, 0.5, 1.0]


def test_a_boolean_is_1_or_minus_1_and_0_where_missing(shop: Pack) -> None:
    assert [encode(shop, member=member)["member"] for member in (True, False, None)] == [1.0, -1.0, 0.0]


def test_hours_are_a_circle(shop: Pack) -> None:
    """A minute before midnight is near a minute after it, noon is far from both."""

    def point(time: str) -> np.ndarray:
        found = encode(shop, local_time=f"2026-11-19T{time}:00")
        return np.array([found["local_time:hour_sin"], found["local_time:hour_cos"]])

    late, early, noon = point("23:59"), point("00:01"), point("12:00")
    assert np.linalg.norm(late - early) < 0.01
    assert np.linalg.norm(late - noon) > 1.99


@pytest.mark.parametrize("encoder", ENCODERS, ids=list(SUPPORT.moments))
@given(data=st.data())
def test_contexts_are_finite_for_every_input(encoder: Encoder, data: st.DataObject) -> None:
    facts = data.draw(hnp.arrays(np.float64, (3, len(encoder.fields)), elements=ANY_FACT))
    contexts = encoder.encode(facts)
    assert contexts.dtype == np.float32
    assert contexts.shape == (3, encoder.width)
    assert (np.abs(contexts) <= 1.0).all()


@pytest.mark.parametrize("encoder", ENCODERS, ids=list(SUPPORT.moments))
@given(data=st.data())
def test_a_row_alone_is_encoded_as_among_others(encoder: Encoder, data: st.DataObject) -> None:
    facts = data.draw(hnp.arrays(np.float64, (4, len(encoder.fields)), elements=ANY_FACT))
    contexts = encoder.encode(facts)
    for i in range(4):
        assert encoder.encode(facts[i : i + 1])[0].tobytes() == contexts[i].tobytes()


@pytest.mark.parametrize("encoder", ENCODERS, ids=list(SUPPORT.moments))
def test_a_row_alone_is_encoded_as_among_thousands(encoder: Encoder) -> None:
    """5,000 rows are encoded in blocks, and in columns; whichever way they lie in memory."""
    rng = np.random.default_rng(0)
    odd = np.array([np.nan, np.inf, -1.7e308, 5e-324, -0.0, 0.0, 1.0, 86_399.99999999999, 86_400.0, 1.8e9])
    facts = np.where(
        rng.random((5_000, len(encoder.fields))) < 0.5,
        rng.normal(size=(5_000, len(encoder.fields))) * 1e9,
        odd[rng.integers(0, len(odd), (5_000, len(encoder.fields)))],
    )
    contexts = encoder.encode(facts)
    assert encoder.encode(np.asfortranarray(facts)).tobytes() == contexts.tobytes()
    for i in range(0, 5_000, 97):
        assert encoder.encode(facts[i : i + 1])[0].tobytes() == contexts[i].tobytes()


@pytest.mark.parametrize("code", [-1.0, 2.0, 0.5, 1e300, np.inf, np.nan])
def test_a_code_outside_the_vocabulary_is_no_category(shop: Pack, code: float) -> None:
    encoder = Encoder(shop, "basket")
    row = encoder.encode(np.array([[0.0, code, 0.0, 0.0]]))[0]
    assert row[encoder.column("device=mobile")] == row[encoder.column("device=desktop")] == 0.0


def test_facts_are_not_changed(shop: Pack) -> None:
    facts = np.array([[np.inf, 0.0, 1.0, 0.0]])
    Encoder(shop, "basket").encode(facts)
    assert facts.tolist() == [[np.inf, 0.0, 1.0, 0.0]]


def test_a_moment_without_fields_or_rules_is_a_constant(shop_text: str) -> None:
    text = shop_text.replace("[mood, device, member, local_time]", "[]").replace("mood < 0.5", "always")
    rules, guardrails = (
        text[text.index("    rules:") : text.index("actions:\n  greet")],
        text[text.index("guardrails:") :],
    )
    text = text.replace(rules, "").replace(guardrails, "outcomes: {bought: {}, annoyed: {}}")
    encoder = Encoder(parse_pack(text.encode(), source="x"), "basket")
    assert encoder.encode(np.empty((2, 0))).tolist() == [[1.0], [1.0]]


def test_no_rows_give_no_contexts(shop: Pack) -> None:
    assert Encoder(shop, "basket").encode(np.empty((0, 4))).shape == (0, 12)


def test_action_features_are_what_actions_share_and_each_its_own(shop: Pack) -> None:
    """Columns: 1 | cognitive, emotional, procedural | chat, none, push | no_action, greet, remind, offer."""
    features = action_features([(a, shop.action(a)) for a in shop.moment("basket").action_ids])
    assert features.tolist() == [
        [1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0],
        [1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0],
        [1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1],
    ]


def test_joint_features_are_the_outer_product() -> None:
    """z = (1, 2), x = (3, 5): 1 * (3, 5) and 2 * (3, 5)."""
    found = joint_features(np.array([[3, 5]], dtype=np.float32), np.array([[1.0, 2.0]]))
    assert found.tolist() == [[3.0, 5.0, 6.0, 10.0]]
