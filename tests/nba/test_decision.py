from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from nba.decide import decide
from nba.decision import Decision, DecisionRequest
from nba.pack import Pack
from nba.policies import Uniform
from nba.snapshot import Snapshot

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def decision(
    shop: Pack, make_snapshot: Callable[..., Snapshot], make_request: Callable[..., DecisionRequest]
) -> Decision:
    request = make_request("d-9", values={"mood": 0.1}, age_s={"history": 0.1 + 0.2}, missing=("member",))
    return decide(make_snapshot(shop, Uniform()), request, now=NOW, secret=b"s" * 32)


def test_a_decision_goes_through_json_and_back_without_losing_a_bit(decision: Decision) -> None:
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


def test_a_decision_knows_its_id_and_context(decision: Decision) -> None:
    assert decision.decision_id == "d-9"
    assert decision.context.values == {"mood": 0.1}


def test_a_decision_cannot_be_changed(decision: Decision) -> None:
    with pytest.raises(AttributeError):
        decision.propensity = 1.0  # type: ignore[misc]


def test_a_mode_that_does_not_exist_is_refused(decision: Decision) -> None:
    raw = msgspec.json.encode(decision).replace(b'"mode":"online"', b'"mode":"guessed"')
    with pytest.raises(msgspec.ValidationError, match="mode"):
        msgspec.json.decode(raw, type=Decision)


def test_a_request_asks_for_all_actions_and_exploration_unless_told_otherwise(
    make_request: Callable[..., DecisionRequest],
) -> None:
    request = make_request()
    assert (request.actions, request.exclude, request.explore, request.defer_activation) == (None, (), True, False)
