"""From a request to what is decided on: pack, consent, stored features, facts. Nothing here waits but the read."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from features.online import FeatureRow, Fetched, Lookup
from nba.decide import check_request
from nba.decision import DecisionRequest
from nba.facts import Field, read_facts
from nba.keyed import keyed_digest
from nba.pack import Pack
from nba.snapshot import Snapshot
from nba.types import Context
from serving.errors import InvalidError, NoPolicyError, UnknownPackError
from serving.wire import DecideBody

PERSONALIZATION = "personalization"  # the purpose without which nothing stored is read
STORED = "features"  # what `degraded` calls a decision that stored features were missing from
CONSENT = "consent"  # and one that was made on the request's own consent alone
NOTHING_STORED = FeatureRow({}, {})
NO_FIELDS: tuple[str, ...] = ()
_DEGRADED = {  # by whether stored features are missing, and whether consent is
    (True, True): (STORED, CONSENT),
    (True, False): (STORED,),
    (False, True): (CONSENT,),
    (False, False): (),
}
_canonical = msgspec.json.Encoder(order="deterministic").encode


class Features(Protocol):
    """Where stored consent and features are read."""

    async def fetch(self, subjects: Sequence[Lookup], deadline_s: float, *, now: datetime) -> Fetched:
        """One row a subject, in order; never later than the deadline, in seconds, and never an exception."""
        ...


class Champions(Protocol):
    """Where the policy that serves comes from."""

    def snapshot(self, pack: str) -> Snapshot | None:
        """The loaded champion of the pack; None before there is one."""
        ...


class Asked(Struct, frozen=True):
    """A request, understood: with the one snapshot it will be decided under."""

    body: DecideBody
    decision_id: str
    subject: str  # the keyed hash that stands for its subject
    snapshot: Snapshot
    fields: Mapping[str, Field]  # of the moment, without those whose purpose the request withholds
    reads_stored: bool  # whether the request lets stored features be read, and the moment has any
    heeds_consent: bool  # whether what the subject has agreed to can change anything
    views: frozenset[str]  # that the moment's fields come from

    @property
    def lookup(self) -> Lookup:
        """What has to be known of its subject."""
        return Lookup(self.body.subject_id, self.subject, self.reads_stored)

    @property
    def pack(self) -> str:
        """Name of its pack."""
        return self.snapshot.pack.pack


@dataclass(frozen=True, slots=True)
class _Known:
    """What every request about one moment is measured by."""

    fields: Mapping[str, Field]
    stored: bool  # whether any of them comes from the feature store
    heeds_consent: bool
    views: frozenset[str]  # that they come from


def _known(pack: Pack, moment: str) -> _Known:
    fields = pack.moment_fields(moment)
    stored = any(f.feature is not None for f in fields.values())
    heeds_consent = stored or any(f.purpose is not None for f in fields.values())
    return _Known(fields, stored, heeds_consent, _views(fields))


class Intake:
    """Understands requests for the packs that are served."""

    def __init__(self, packs: Mapping[str, Pack], champions: Champions, subject_secret: bytes) -> None:
        self._packs, self._champions, self._secret = packs, champions, subject_secret
        self._read_purposes = {name: read_purposes(pack) for name, pack in packs.items()}
        self._moments = {
            (name, moment): _known(pack, moment) for name, pack in packs.items() for moment in pack.moments
        }

    def ask(self, body: DecideBody) -> Asked:
        """The request with its pack, moment and its own consent, which can only narrow what is stored.

        Raises UnknownPackError, UnknownMomentError, InvalidError, NoPolicyError.
        """
        pack = self.pack_of(body.pack)
        pack.moment(body.moment)
        moment = self._moments[pack.pack, body.moment]
        snapshot = self._champions.snapshot(pack.pack)
        if snapshot is None:
            raise NoPolicyError(
                f"no policy of pack {pack.pack!r} is loaded yet",
                help="promote one (nba promote), or wait until it has been fetched",
                fallback_action=body.baseline_action,
            )
        withheld = {purpose for purpose, given in body.consent.items() if not given}
        fields = moment.fields
        if withheld:
            fields = {name: f for name, f in fields.items() if f.purpose not in withheld}
        return Asked(
            body=body,
            decision_id=body.decision_id or uuid.uuid4().hex,
            subject=self.subject(body.subject_id),
            snapshot=snapshot,
            fields=fields,
            reads_stored=moment.stored and withheld.isdisjoint(self._read_purposes[pack.pack]),
            heeds_consent=moment.heeds_consent,
            views=moment.views,
        )

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

        A field whose purpose the subject withholds is not used, wherever its value comes from. Where that could not be
        read, the request's own consent is all that counts, and the decision is degraded.
        Raises ContextError where the pack is strict and a fact of the request is wrong, UnknownActionError.
        """
        body, pack = asked.body, asked.snapshot.pack
        fields = asked.fields
        if stored.withheld:
            fields = {name: f for name, f in fields.items() if f.purpose not in stored.withheld}
        given = body.context
        if None in given.values():
            given = {name: value for name, value in given.items() if value is not None}
        report = read_facts(fields, given, strict=pack.strict, stored=stored.values)
        whole = asked.snapshot.plans[body.moment].encoder.fields
        values, views, withheld = report.values, asked.views, NO_FIELDS
        if fields.keys() != whole.keys():
            values = {name: report.values.get(name) for name in whole}
            withheld = tuple(name for name in whole if name not in fields)
            views = _views(fields)
        request = DecisionRequest(
            decision_id=asked.decision_id,
            context=Context(
                subject=asked.subject,
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
            degraded=_DEGRADED[degraded, stored.withheld is None],
        )
        check_request(asked.snapshot, request)
        return request

    def subject(self, subject_id: str) -> str:
        """The keyed hash that stands for a subject everywhere but in the feature read."""
        return keyed_digest(self._secret, subject_id.encode()).hex()[:32]

    def fingerprint(self, body: DecideBody) -> str:
        """Keyed hash of a request's body without its decision_id: same id, other fingerprint is a conflict.

        Keyed, because the body names the subject and could be guessed from a plain hash.
        """
        return keyed_digest(self._secret, _canonical(replace(body, decision_id=None))).hex()[:32]


def read_purposes(pack: Pack) -> frozenset[str]:
    """The purposes that stored features of the pack are read for.

    One read brings all of them, so that a single one withheld means that nothing stored may be read.
    """
    return frozenset({PERSONALIZATION, *(f.purpose for f in pack.fields.values() if f.feature and f.purpose)})


def _views(fields: Mapping[str, Field]) -> frozenset[str]:
    """The feature views that these come from."""
    return frozenset(f.feature.partition(":")[0] for f in fields.values() if f.feature is not None)
