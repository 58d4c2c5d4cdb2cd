"""From a request to what is decided on: pack, consent, stored features, facts. Nothing here waits but the read."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec.structs import replace

from features.online import FeatureRow, Fetched
from nba.decide import check_request
from nba.decision import DecisionRequest
from nba.facts import Field, read_facts
from nba.pack import Pack
from nba.snapshot import Snapshot
from nba.types import Context, Value
from serving.errors import InvalidError, NoPolicyError, UnknownPackError
from serving.wire import DecideBody

PERSONALIZATION = "personalization"  # the purpose without which nothing stored is read
STORED = "features"  # what `degraded` calls a decision that stored features were missing from
NOTHING_STORED = FeatureRow({}, {})
_canonical = msgspec.json.Encoder(order="deterministic").encode


class Features(Protocol):
    """Where stored features are read."""

    async def fetch(self, subject_ids: Sequence[str], deadline_s: float, *, now: datetime) -> Fetched:
        """One row a subject, in order; never later than the deadline, in seconds, and never an exception."""
        ...


class Champions(Protocol):
    """Where the policy that serves comes from."""

    def snapshot(self, pack: str) -> Snapshot | None:
        """The loaded champion of the pack; None before there is one."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, understood: with the one snapshot it will be decided under."""

    body: DecideBody
    decision_id: str
    snapshot: Snapshot
    fields: Mapping[str, Field]  # of the moment, without those whose purpose is withheld
    reads_stored: bool  # whether the feature store may be asked about this subject, and has anything to say

    @property
    def pack(self) -> str:
        """Name of its pack."""
        return self.snapshot.pack.pack


class Intake:
    """Understands requests for the packs that are served."""

    def __init__(self, packs: Mapping[str, Pack], champions: Champions, subject_secret: bytes) -> None:
        self._packs, self._champions, self._secret = packs, champions, subject_secret

    def ask(self, body: DecideBody) -> Asked:
        """The request with its pack, moment and consent.

        Raises UnknownPackError, UnknownMomentError, InvalidError, NoPolicyError.
        """
        pack = self.pack_of(body.pack)
        moment_fields = pack.moment_fields(body.moment)
        snapshot = self._champions.snapshot(pack.pack)
        if snapshot is None:
            raise NoPolicyError(
                f"no policy of pack {pack.pack!r} is loaded yet",
                help="promote one (nba promote), or wait until it has been fetched",
                fallback_action=body.baseline_action,
            )
        withheld = {purpose for purpose, given in body.consent.items() if not given}
        fields = {name: f for name, f in moment_fields.items() if f.purpose not in withheld}
        stored = [f for f in moment_fields.values() if f.feature is not None]
        # One read brings everything stored, so a single withheld purpose among it means that nothing may be read.
        allowed = PERSONALIZATION not in withheld and not any(f.purpose in withheld for f in stored)
        decision_id = body.decision_id or uuid.uuid4().hex
        return Asked(body, decision_id, snapshot, fields, allowed and bool(stored))

    def pack_of(self, name: str | None) -> Pack:
        """The pack of that name; the only one where none is named. Raises UnknownPackError, InvalidError."""
        if name is None:
            if len(self._packs) > 1:
                known = ", ".join(self._packs)
                raise InvalidError("pack is missing", help=f"this server has several: {known}", field="pack")
            return next(iter(self._packs.values()))
        try:
            return self._packs[name]
        except KeyError:
            raise UnknownPackError(
                f"no pack {name!r} is served", help=f"known are {', '.join(self._packs)}", field="pack"
            ) from None

    def request(self, asked: Asked, stored: FeatureRow, *, degraded: bool, now: datetime) -> DecisionRequest:
        """What is decided on: the request's own facts first, stored ones where it has none.

        Raises ContextError where the pack is strict and a fact of the request is wrong, UnknownActionError.
        """
        body, pack = asked.body, asked.snapshot.pack
        given = {name: value for name, value in body.context.items() if value is not None}
        report = read_facts(asked.fields, {**_usable(stored.values, asked.fields), **given}, strict=pack.strict)
        whole = pack.moment_fields(body.moment)
        values: dict[str, Value] = {name: report.values.get(name) for name in whole}
        withheld = tuple(name for name in whole if name not in asked.fields)
        views = {f.feature.partition(":")[0] for f in asked.fields.values() if f.feature is not None}
        request = DecisionRequest(
            decision_id=asked.decision_id,
            context=Context(
                subject=self.subject(body.subject_id),
                moment=body.moment,
                session_id=body.session_id,
                values=values,
                observed_at=now,
            ),
            actions=body.actions,
            exclude=body.exclude,
            baseline_action=body.baseline_action,
            explore=body.explore,
            defer_activation=body.defer_activation,
            missing=(*report.missing, *withheld),
            defaulted=report.defaulted,
            ignored=tuple(name for name in report.ignored if name not in whole),
            age_s={view: age for view, age in stored.age_s.items() if view in views},
            degraded=(STORED,) if degraded else (),
        )
        check_request(asked.snapshot, request)
        return request

    def subject(self, subject_id: str) -> str:
        """The keyed hash that stands for a subject everywhere but in the feature read."""
        return hmac.digest(self._secret, subject_id.encode(), hashlib.sha256).hex()[:32]

    def fingerprint(self, body: DecideBody) -> str:
        """Keyed hash of a request's body without its decision_id: same id, other fingerprint is a conflict.

        Keyed, because the body names the subject and could be guessed from a plain hash.
        """
        return hmac.digest(self._secret, _canonical(replace(body, decision_id=None)), hashlib.sha256).hex()[:32]


def _usable(stored: Mapping[str, Value], fields: Mapping[str, Field]) -> dict[str, Value]:
    """Stored values that are values of their fields: a store's mistake must not be the caller's 422."""
    return {name: v for name, v in stored.items() if name in fields and fields[name].code(v) is not None}
