from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nba.facts import code_facts
from nba.guardrails import FUNNEL, Bar, Stage, action_mask, eligibility, run_funnel
from nba.pack import Pack
from nba.pack_file import load_pack, parse_pack
from nba.types import ActionMask, Facts

IDS = ("no_action", "greet", "remind", "offer")
SUPPORT = load_pack("support")


def facts_of(pack: Pack, *rows: dict[str, object]) -> Facts:
    return code_facts(pack.moment_fields("basket"), rows)


def all_requested(n: int) -> ActionMask:
    return np.ones((n, len(IDS)), dtype=np.bool_)


def always(facts: Facts) -> np.ndarray:
    return np.ones(len(facts), dtype=np.bool_)


def test_a_funnel_by_hand(shop: Pack) -> None:
    """`remind` needs a mood below 0.5; `offer` was not asked for: 4 in the catalogue, 3 requested, 2 eligible."""
    requested = np.array([[True, True, True, False]])
    mask, (funnel,) = run_funnel((eligibility(shop, "basket"),), facts_of(shop, {"mood": 0.8}), requested, IDS)
    assert mask.tolist() == [[True, True, False, False]]
    assert funnel.counts == {"catalogue": 4, "requested": 3, "consent": 3, "eligible": 2, "caps": 2, "suppressed": 2}
    assert funnel.removed == {"remind": "trigger", "offer": "not_requested"}


def test_every_row_has_its_own_account(shop: Pack) -> None:
    """Calm by day: all four. Late at night: `remind` goes by the guardrail. Mood unknown: it goes by its trigger."""
    day, night = "2026-11-21T12:00:00", "2026-11-21T23:00:00"
    rows = ({"mood": 0.0, "local_time": day}, {"mood": 0.0, "local_time": night}, {"local_time": day})
    mask, funnels = run_funnel((eligibility(shop, "basket"),), facts_of(shop, *rows), all_requested(3), IDS)
    assert mask.sum(axis=1).tolist() == [4, 3, 3]
    assert [funnel.removed for funnel in funnels] == [{}, {"remind": "night"}, {"remind": "trigger"}]
    assert [funnel.counts["eligible"] for funnel in funnels] == [4, 3, 3]


def test_the_first_reason_is_the_one_that_is_told(shop: Pack) -> None:
    """Neither the trigger nor the guardrail lets `remind` through; the trigger comes first."""
    late = facts_of(shop, {"mood": 0.9, "local_time": "2026-11-21T23:00:00"})
    _, (funnel,) = run_funnel((eligibility(shop, "basket"),), late, all_requested(1), IDS)
    assert funnel.removed == {"remind": "trigger"}


def test_further_stages_slot_in_in_the_order_of_the_funnel(shop: Pack) -> None:
    """Given in any order: consent takes `greet` first, caps take `offer` later."""
    caps = Stage("caps", (Bar("cap_chat", np.array([1, 3]), always),))
    consent = Stage("consent", (Bar("no_consent", np.array([1]), always),))
    stages = (caps, eligibility(shop, "basket"), consent)
    mask, (funnel,) = run_funnel(stages, facts_of(shop, {"mood": 0.0}), all_requested(1), IDS)
    assert mask.tolist() == [[True, False, True, False]]
    assert funnel.counts == {"catalogue": 4, "requested": 4, "consent": 3, "eligible": 3, "caps": 2, "suppressed": 2}
    assert funnel.removed == {"greet": "no_consent", "offer": "cap_chat"}


def test_a_stage_that_the_funnel_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="stage 'cap' is not one of consent, eligible, caps, suppressed"):
        Stage("cap", ())


def test_a_guardrail_keeps_to_its_moments(shop_text: str) -> None:
    """Two moments with the same action, the guardrail named for one of them."""
    start, end = shop_text.index("  basket:"), shop_text.index("actions:\n  greet")
    text = shop_text[:end] + shop_text[start:end].replace("basket", "search") + shop_text[end:]
    text = text.replace("remove: [remind]", "remove: [remind], moments: [search]")
    pack = parse_pack(text.encode(), source="x")
    assert [bar.reason for bar in eligibility(pack, "basket").bars] == ["trigger"]
    assert [bar.reason for bar in eligibility(pack, "search").bars] == ["trigger", "night"]


def test_what_the_request_was_given_is_not_changed(shop: Pack) -> None:
    requested = all_requested(1)
    run_funnel((eligibility(shop, "basket"),), facts_of(shop, {}), requested, IDS)
    assert requested.all()


@pytest.mark.parametrize("moment", sorted(SUPPORT.moments))
@given(data=st.data())
def test_no_action_is_never_removed_and_both_ways_agree(moment: str, data: st.DataObject) -> None:
    ids, k = SUPPORT.moment(moment).action_ids, len(SUPPORT.moment(moment).action_ids)
    stages = (eligibility(SUPPORT, moment),)
    facts = data.draw(
        hnp.arrays(
            np.float64,
            (3, len(SUPPORT.moment_fields(moment))),
            elements=st.sampled_from([np.nan, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 30.0, 1e3, 1.7e9]),
        )
    )
    mask, funnels = run_funnel(stages, facts, np.ones((3, k), dtype=np.bool_), ids)
    assert mask[:, 0].all()
    assert (mask == action_mask(stages, facts, k)).all()
    for row, funnel in zip(mask, funnels, strict=True):
        assert set(funnel.removed) == {ids[a] for a in np.flatnonzero(~row)}
        assert tuple(funnel.counts) == FUNNEL
        assert funnel.counts["suppressed"] == row.sum()
