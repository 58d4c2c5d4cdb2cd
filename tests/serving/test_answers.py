from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from nba.pack import Pack
from nba.records import decode_record, encode_record
from serving.answers import answer, error_answer, shown, without_claim
from serving.errors import UnavailableNowError, UnknownPackError


def test_a_stored_record_gives_the_same_answer_byte_for_byte(decision_record: Any) -> None:
    record = decision_record("d")
    again = decode_record(encode_record(record))
    told = [msgspec.json.encode(answer(r, replayed=True)) for r in (record, again)]  # type: ignore[arg-type]
    assert told[0] == told[1]


def test_what_had_no_chance_is_not_in_the_distribution(decision_record: Any) -> None:
    record = decision_record("d")
    decision = replace(record.decision, candidates=("no_action", "a", "b"), distribution=(0.25, 0.0, 0.75))
    assert answer(replace(record, decision=decision), replayed=False).distribution == {"no_action": 0.25, "b": 0.75}


def test_the_window_and_the_words_come_from_the_pack(support: Pack, decision_record: Any) -> None:
    decision = decision_record("d").decision
    context = replace(decision.context, moment="tone_tuner", values={"locale": "de"})
    decision = replace(
        decision,
        request=replace(decision.request, context=context),
        action_id="empathetic_reply_1",
        treatment_id="empathetic",
    )
    told = shown(support, decision)
    assert told.message == "Ich verstehe, dass das lästig ist."
    assert (told.layer, told.channel, told.delay_ms) == ("emotional", "chat", 400)
    assert told.closes_at - decision.decided_at == timedelta(hours=24)
    other = replace(context, values={"locale": "fr"})
    foreign = replace(decision, request=replace(decision.request, context=other))
    assert shown(support, foreign).message == "I can see that this is a nuisance."


def test_without_a_claim_a_decision_says_so_and_teaches_nothing(decision_record: Any) -> None:
    decision = without_claim(replace(decision_record("d").decision, degraded=("features",), learnable=True))
    assert (decision.degraded, decision.learnable) == (("features", "claims"), False)


def test_only_503_names_a_fallback() -> None:
    plain = msgspec.to_builtins(error_answer(UnknownPackError("no pack", help="name one")))
    assert plain == {"error": {"code": "unknown_pack", "message": "no pack", "help": "name one"}}
    down = msgspec.to_builtins(error_answer(UnavailableNowError("down", help="wait", fallback_action="a")))
    assert down["fallback_action"] == "a"
