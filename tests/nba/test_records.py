from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba.decide import decide
from nba.decision import DecisionRequest
from nba.errors import LogError
from nba.pack import Pack
from nba.policies import Uniform
from nba.records import (
    ActivationRecord,
    ConsentRecord,
    DecisionRecord,
    OverrideRecord,
    Record,
    RewardRecord,
    Shown,
    decode_record,
    encode_record,
)
from nba.snapshot import Snapshot

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
REWARD = RewardRecord(
    decision_id="d-1", outcome="bought", value=1.0, observed_at=NOW, idempotency_key="r-1", received_at=NOW
)


@pytest.fixture
def make_record(
    shop: Pack, make_snapshot: Callable[..., Snapshot], make_request: Callable[..., DecisionRequest]
) -> Callable[..., DecisionRecord]:
    def made(**rest: object) -> DecisionRecord:
        request = make_request(values={"mood": 0.1 + 0.2, "device": "mobile", "member": None}, **rest)
        decision = decide(make_snapshot(shop, Uniform()), request, now=NOW, secret=b"s" * 32)
        shown = Shown(
            layer="emotional", channel="chat", message="Hallöchen 👋", delay_ms=0, closes_at=NOW, default_reward=0.0
        )
        return DecisionRecord(decision=decision, shown=shown, fingerprint="f", epoch=3)

    return made


def test_a_decision_record_comes_back_as_it_was(make_record: Callable[..., DecisionRecord]) -> None:
    record = make_record(age_s={"history": 1 / 3})
    assert decode_record(encode_record(record)) == record
    assert record.decision_id == "d-1"


@pytest.mark.parametrize(
    "record",
    [
        REWARD,
        ActivationRecord(decision_id="d-1", activated_at=NOW),
        OverrideRecord(decision_id="d-1", action_id="greet", actor="agent-7", overridden_at=NOW),
        ConsentRecord(subject="0a", purposes={"emotion": False}, source="form", observed_at=NOW, recorded_at=NOW),
    ],
    ids=lambda record: type(record).__name__,
)
def test_every_kind_of_record_comes_back_as_what_it_was(record: Record) -> None:
    assert decode_record(memoryview(encode_record(record))) == record


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_keeps_every_bit(value: float) -> None:
    back = decode_record(encode_record(msgspec.structs.replace(REWARD, value=value)))
    assert isinstance(back, RewardRecord)
    assert math.copysign(1.0, back.value) == math.copysign(1.0, value)
    assert back.value.hex() == value.hex()


@given(
    st.datetimes(
        datetime(1970, 1, 2),
        datetime(2999, 12, 30),
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
    )
)
def test_a_time_keeps_its_microsecond_and_offset(time: datetime) -> None:
    back = decode_record(encode_record(msgspec.structs.replace(REWARD, observed_at=time)))
    assert isinstance(back, RewardRecord)
    assert back.observed_at == time
    assert back.observed_at.utcoffset() == time.utcoffset()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_hold_is_refused_and_not_written_as_null(
    value: float, make_record: Callable[..., DecisionRecord]
) -> None:
    for record in (msgspec.structs.replace(REWARD, value=value), make_record(age_s={"history": value})):
        with pytest.raises(LogError, match="a number of 'd-1' is not finite"):
            encode_record(record)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'{"kind": "decision"}',
        b'{"kind": "wish", "decision_id": "d"}',
        b'{"decision_id": "d"}',
        encode_record(REWARD).replace(b"1.0", b"null"),
        encode_record(REWARD).replace(b"1.0", b'"1"'),
        encode_record(REWARD)[:-5],
        encode_record(REWARD).replace(b"bought", b"b\xffught"),
        b'{"kind": "reward", "x": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_record(raw)


def test_a_later_field_does_not_make_a_record_unreadable() -> None:
    """A newer server may have written it."""
    raw = encode_record(REWARD)[:-1] + b',"currency":"EUR"}'
    assert decode_record(raw) == REWARD
