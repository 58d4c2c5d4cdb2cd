"""Compiles a pack's feature service into a read plan, and checks the plan against Feast itself.

The layout in Redis is taken from Feast's own functions; the check shows that reading by the plan gives, for a
subject made up for it, for some that are there and for one that is not, exactly what `get_online_features` gives.
"""

from __future__ import annotations

import contextlib
import math
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from features.feast_store import answering, open_store, value_type
from features.feature_value import ValueType, value_reader
from features.online import RowReader
from features.plan import SCHEMA, FeatureStoreError, PlannedFeature, ReadPlan, fingerprint
from nba.errors import PackError
from nba.facts import Field, seconds
from nba.home import Home
from nba.pack import Pack
from nba.types import Value

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

SAMPLE = 5  # subjects found in Redis that the check compares, at most
_SCANS, _SCANNED = 20, 500  # steps of looking for them, and keys a step, about
_LENGTH = struct.Struct("<I")
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_PROBE: Mapping[ValueType, Value] = {  # a value of each type that no default could be taken for
    "string": "Zürich",
    "int32": -7,
    "int64": -(2**40),
    "double": 0.1,
    "float": -2.5,
    "bool": True,
}
_FITS: Mapping[str, frozenset[ValueType]] = {  # type of a pack's field -> stored types it can be read from
    "number": frozenset({"int32", "int64", "double", "float"}),
    "boolean": frozenset({"bool"}),
    "category": frozenset({"string"}),
    "time": frozenset({"string"}),
}


def compile_plan(home: Home, pack: Pack, redis_url: str) -> ReadPlan:
    """The read plan of the pack's feature service, checked.

    Raises FeatureStoreError where the service is not applied or Feast reads something else than the plan,
    PackError where a field cannot hold its feature, UnavailableError where Redis does not answer.
    """
    from features.repository.services import service_name

    store = open_store(home, redis_url)
    wanted = {name: field for name, field in pack.fields.items() if field.feature is not None}
    services = {service.name: service for service in store.list_feature_services()}
    name = service_name(pack)
    if name not in services:
        raise FeatureStoreError(f"feature service {name!r} is not in the registry", help="run: nba features apply")
    features = tuple(_planned(store, pack, name, field) for name, field in wanted.items())
    plan = ReadPlan(
        schema=SCHEMA,
        pack=pack.pack,
        pack_digest=pack.digest,
        service=name,
        fingerprint=fingerprint(home),
        project=store.project,
        key_prefix=_key_prefix(),
        views=tuple(dict.fromkeys(feature.view for feature in features)),
        features=features,
    )
    _check(store, services[name], plan, redis_url)
    return plan


def _planned(store: FeatureStore, pack: Pack, name: str, field: Field) -> PlannedFeature:
    from feast.infra.online_stores.helpers import _mmh3

    view_name, _, feature = (field.feature or "").partition(":")
    view = store.get_feature_view(view_name)
    kind = next(value_type(column) for column in view.features if column.name == feature)
    if kind not in _FITS[field.type]:
        where = f"fields.{name}.type"
        raise PackError(
            f"pack {pack.pack!r}: {where}: {field.type}, but {field.feature} is stored as {kind}",
            help=f"a {field.type} is read from {' or '.join(sorted(_FITS[field.type]))}",
            field=where,
        )
    limits = [seconds(field.max_age)] if field.max_age is not None else []
    limits += [view.ttl.total_seconds()] if view.ttl else []
    return PlannedFeature(
        field=name,
        view=view_name,
        feature=feature,
        redis_field=_mmh3(f"{view_name}:{feature}"),
        value_type=kind,
        max_age_s=min(limits, default=None),
    )


def _entity_key(subject_id: str) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value as StoredValue

    return EntityKey(join_keys=["subject_id"], entity_values=[StoredValue(string_val=subject_id)])


def _key_prefix() -> bytes:
    """What Feast writes before the length of a subject id."""
    from feast.infra.key_encoding_utils import serialize_entity_key

    return bytes(serialize_entity_key(_entity_key(""), entity_key_serialization_version=3)[: -_LENGTH.size])


def _check(store: FeatureStore, service: FeatureService, plan: ReadPlan, redis_url: str) -> None:
    """Raises FeatureStoreError where reading by the plan does not give what Feast gives."""
    rows, readers = RowReader(plan), [value_reader(feature.value_type) for feature in plan.features]
    probed = [_PROBE[feature.value_type] for feature in plan.features]
    with answering(), _client(redis_url) as client, _probe(store, plan, client, rows) as probe:
        subjects = [probe, f"{probe}-unknown", *_some_subjects(client, plan)]
        theirs = _feast_reads(store, service, plan, subjects)
        for subject, expected in zip(subjects, theirs, strict=True):
            stored = client.hmget(rows.key(subject), rows.redis_fields)
            found = [read(raw) for read, raw in zip(readers, stored, strict=False)]
            if found != expected or (subject == probe and found != probed):
                raise FeatureStoreError(
                    f"the plan of {plan.service!r} reads {found} for a subject, Feast {expected}",
                    help="this version of Feast stores features in another way than the one this was written for",
                )


@contextlib.contextmanager
def _client(redis_url: str) -> Iterator[Any]:  # redis-py's own types do not tell its two kinds of client apart
    retry = Retry(NoBackoff(), 0)
    client = redis.Redis.from_url(redis_url, socket_timeout=5.0, socket_connect_timeout=5.0, retry=retry)
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def _probe(store: FeatureStore, plan: ReadPlan, client: Any, rows: RowReader) -> Iterator[str]:
    """A subject that Feast has written a value of every feature for, gone again afterwards."""
    subject = f"nba-probe-{uuid.uuid4().hex}"
    for name in plan.views:
        view = store.get_feature_view(name)
        values = {column.name: _stored(value_type(column)) for column in view.features}
        written: list[Any] = [(_entity_key(subject), values, _LONG_AGO, _LONG_AGO)]
        store.provider.online_write_batch(store.config, view, written, None)
    try:
        yield subject
    finally:
        client.delete(rows.key(subject))


def _stored(kind: ValueType) -> Any:
    from feast.protos.feast.types.Value_pb2 import Value as StoredValue

    fields: dict[str, Any] = {f"{kind}_val": _PROBE[kind]}
    return StoredValue(**fields)


def _some_subjects(client: Any, plan: ReadPlan) -> list[str]:
    """A few subjects that Redis holds, found without walking through all of a large one."""
    project, skipped = plan.project.encode(), len(plan.key_prefix) + _LENGTH.size
    found: list[str] = []
    cursor = 0
    for _ in range(_SCANS):
        cursor, keys = client.scan(cursor, match=plan.key_prefix + b"*" + project, count=_SCANNED)
        found += [key[skipped : -len(project)].decode() for key in keys]
        if cursor == 0 or len(found) >= SAMPLE:
            break
    return found[:SAMPLE]


def _feast_reads(
    store: FeatureStore, service: FeatureService, plan: ReadPlan, subjects: Sequence[str]
) -> list[list[Value]]:
    """What Feast gives for these subjects, the plan's features in order; a number that is not finite as missing."""
    asked = [{"subject_id": subject} for subject in subjects]
    columns = store.get_online_features(service, asked, full_feature_names=True).to_dict()
    ordered = [columns[f"{feature.view}__{feature.feature}"] for feature in plan.features]
    return [[_finite(column[i]) for column in ordered] for i in range(len(subjects))]


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
