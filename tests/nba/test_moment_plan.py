from __future__ import annotations

import numpy as np
import pytest

from nba.errors import UnknownMomentError
from nba.moment_plan import plan_moment, plan_pack
from nba.pack import Pack
from nba.pack_file import parse_pack


def test_a_plan_holds_the_moment_in_column_order(shop: Pack) -> None:
    plan = plan_moment(shop, "basket")
    assert plan.action_ids == ("no_action", "greet", "remind", "offer")
    assert plan.costs.tolist() == [0.0, 0.1, 0.0, 0.2]
    assert plan.rule_actions.tolist() == [3, 2]  # offer, then remind
    assert plan.reward_range == (-0.7, 1.0)
    assert plan.width == plan.encoder.width == 12
    assert [stage.name for stage in plan.stages] == ["eligible"]
    assert plan.action_features[:, -4:].tolist() == np.eye(4).tolist()


def test_the_cost_of_a_described_no_action_counts(shop_text: str) -> None:
    mine = "  no_action: {layer: procedural, channel: none, trigger: always, cost: 0.05}\nguardrails:"
    plan = plan_moment(parse_pack(shop_text.replace("guardrails:", mine).encode(), source="x"), "basket")
    assert plan.costs.tolist() == [0.05, 0.1, 0.0, 0.2]


def test_a_rule_may_choose_no_action(shop_text: str) -> None:
    plan = plan_moment(
        parse_pack(shop_text.replace("action: offer}", "action: no_action}").encode(), source="x"), "basket"
    )
    assert plan.rule_actions.tolist() == [0, 2]


def test_a_pack_has_a_plan_for_every_moment(support: Pack) -> None:
    assert list(plan_pack(support)) == list(support.moments)


def test_an_unknown_moment_is_refused(shop: Pack) -> None:
    with pytest.raises(UnknownMomentError):
        plan_moment(shop, "nothing")
