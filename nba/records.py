"""What the log holds: one record a fact, never edited (law 6)."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime
from functools import cached_property
from typing import TypeAlias

import msgspec
from msgspec import Struct

from nba.decision import Decision
from nba.errors import LogError

VERSION = 1  # of the record's layout
YEARS = range(1970, 3000)  # of a time that a client tells: its offset and a reward window may be added to it


def check_year(at: datetime, name: str) -> None:
    """Raises ValueError for a time so far away that another one cannot be reckoned from it."""
    if at.year not in YEARS:
        raise ValueError(f"wrong field `{name}`: year {at.year} is not in {YEARS[0]} to {YEARS[-1]}")


class Shown(Struct, frozen=True, kw_only=True):
    """What the app was told to do, in the words it was told: with the decision, the whole stored answer."""

    layer: str
    channel: str
    message: str | None
    delay_ms: int
    closes_at: datetime  # end of the reward window
    default_reward: float  # before the action's cost, where no outcome comes


class DecisionRecord(Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision", dict=True):
    """A decision was made. The canonical one of an id is the first of its highest epoch."""

    decision: Decision
    shown: Shown
    fingerprint: str  # of the request's body: same id, other body is a conflict
    epoch: int  # of the state store when it was claimed; 0 where it was not
    version: int = VERSION

    @property
    def decision_id(self) -> str:
        """Whose fact this is."""
        return self.decision.decision_id

    @property
    def rank(self) -> tuple[int, datetime, bytes]:
        """Of several records of one id the least is canonical: the first of the highest epoch.

        Of records of one time by content, never by where they stand, so that any order of the log gives the same.
        """
        digest = hashlib.blake2b(_encode(self), digest_size=16).digest()
        return -self.epoch, self.decision.decided_at, digest

    @cached_property
    def encoded(self) -> bytes:
        """The record as JSON, made once: the claim holds it and the log. Raises LogError as `encode_record`."""
        return _encode(self)


class ActivationRecord(Struct, frozen=True, kw_only=True, tag_field="kind", tag="activation"):
    """The action was shown to the customer."""

    decision_id: str
    activated_at: datetime

    def __post_init__(self) -> None:
        check_year(self.activated_at, "activated_at")


class RewardRecord(Struct, frozen=True, kw_only=True, tag_field="kind", tag="reward"):
    """An outcome came back."""

    decision_id: str
    outcome: str
    value: float
    observed_at: datetime
    idempotency_key: str
    received_at: datetime

    def __post_init__(self) -> None:
        check_year(self.observed_at, "observed_at")


class OverrideRecord(Struct, frozen=True, kw_only=True, tag_field="kind", tag="override"):
    """A person chose another action than the one decided."""

    decision_id: str
    action_id: str
    actor: str
    overridden_at: datetime

    def __post_init__(self) -> None:
        check_year(self.overridden_at, "overridden_at")


class ConsentRecord(Struct, frozen=True, kw_only=True, tag_field="kind", tag="consent"):
    """A customer granted or withheld purposes. What holds of a purpose is what was observed last."""

    subject: str  # keyed hash
    purposes: dict[str, bool]  # False: withheld
    source: str | None  # who says so, such as a form
    observed_at: datetime  # where it was told without: when it came, but after all that was known then
    recorded_at: datetime

    def __post_init__(self) -> None:
        check_year(self.observed_at, "observed_at")


Record: TypeAlias = DecisionRecord | ActivationRecord | RewardRecord | OverrideRecord | ConsentRecord

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """The record as JSON; floats keep every bit.

    Raises LogError for a number that JSON cannot hold: it would be written as null and never be read again.
    """
    return record.encoded if isinstance(record, DecisionRecord) else _encode(record)


def _encode(record: Record) -> bytes:
    if isinstance(record, DecisionRecord | RewardRecord) and not all(map(math.isfinite, _numbers(record))):
        raise LogError(
            f"a number of {record.decision_id!r} is not finite", help="check outcome values and feature ages on entry"
        )
    return _encoder.encode(record)


def _numbers(record: DecisionRecord | RewardRecord) -> list[float]:
    if isinstance(record, RewardRecord):
        return [record.value]
    return [*record.decision.request.age_s.values(), *record.decision.distribution]


def decode_record(payload: bytes | memoryview) -> Record:
    """The record in these bytes. Raises msgspec.DecodeError (of which msgspec.ValidationError is one)."""
    try:
        return _decoder.decode(payload)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None
