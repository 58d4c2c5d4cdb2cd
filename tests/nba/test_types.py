from __future__ import annotations

import msgspec
import pytest

from nba.policies import KINDS
from nba.types import NO_ACTION, Context, Policy


def test_no_action_has_the_name_that_the_contract_gives_it() -> None:
    assert NO_ACTION == "no_action"


def test_a_context_keeps_number_truth_text_and_nothing_apart_in_json() -> None:
    facts = b'{"a":1.0,"b":true,"c":"1","d":null}'
    raw = b'{"subject":"s","moment":"m","values":%b,"observed_at":"2026-11-21T12:00:00Z"}' % facts
    values = msgspec.json.decode(raw, type=Context).values
    assert [type(value) for value in values.values()] == [float, bool, str, type(None)]


def test_a_context_cannot_be_changed() -> None:
    raw = b'{"subject":"s","moment":"m","values":{},"observed_at":"2026-11-21T12:00:00Z"}'
    context = msgspec.json.decode(raw, type=Context)
    with pytest.raises(AttributeError):
        context.subject = "another"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_policy_has_the_one_method(kind: str) -> None:
    asked = {name for name in vars(Policy) if not name.startswith("_")}
    assert asked == {"distribution"} <= set(dir(KINDS[kind]))
