"""The read plan against Feast itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from features import compiler
from features.compiler import compile_plan
from features.feast_store import open_store
from features.feature_value import ValueType, read_timestamp, value_reader
from features.online import Lookup, OnlineReader, RowReader
from features.plan import SCHEMA, FeatureStoreError, PlannedFeature, ReadPlan, load_plan
from features.redis_server import RedisServer
from features.store import apply
from nba.errors import PackError, UnavailableError
from nba.home import Home
from nba.pack import Pack
from nba.types import Value

from .conftest import NOW, ODD_IDS, Seeded

pytestmark = pytest.mark.system


def fetch(seeded: Seeded, subjects: Sequence[str], now: datetime = NOW) -> list[dict[str, Value]]:
    async def main() -> list[dict[str, Value]]:
        reader = OnlineReader(load_plan(seeded.plan), seeded.url)
        fetched = await reader.fetch([Lookup(subject, "0a", features=True) for subject in subjects], 10.0, now=now)
        await reader.close()
        assert not fetched.degraded
        return [row.values for row in fetched.rows]

    return asyncio.run(main())


def feast_reads(seeded: Seeded, subjects: Sequence[str]) -> list[dict[str, Value]]:
    """What Feast gives, under the pack's names, without what is missing."""
    store = open_store(seeded.home, seeded.url)
    asked = [{"subject_id": subject} for subject in subjects]
    columns = store.get_online_features(store.get_feature_service("support_v1"), asked).to_dict()
    names = {field.feature.split(":")[1]: name for name, field in seeded.pack.fields.items() if field.feature}
    return [
        {field: columns[feature][i] for feature, field in names.items() if columns[feature][i] is not None}
        for i in range(len(subjects))
    ]


def test_the_reader_gives_what_feast_gives_for_every_subject(seeded: Seeded) -> None:
    subjects = [*seeded.rows, "nobody"]
    found = fetch(seeded, subjects)
    assert found == feast_reads(seeded, subjects)
    assert [[type(value) for value in row.values()] for row in found] == [
        [type(value) for value in row.values()] for row in feast_reads(seeded, subjects)
    ]
    assert found[1]["country"] == "AT"
    assert set(ODD_IDS) <= set(subjects)


def test_past_the_packs_max_age_feast_still_gives_values_and_the_reader_does_not(seeded: Seeded) -> None:
    """Counters may be 30 days old, the device 90; an NPS 365 by pack and by view."""
    subject = "sim-000001"
    assert set(fetch(seeded, [subject], NOW + timedelta(days=31))[0]) == {
        "device",
        "push_enabled",
        "country",
        "active_hour",
        "nps",
    }
    assert set(fetch(seeded, [subject], NOW + timedelta(days=91))[0]) == {"country", "nps"}
    assert fetch(seeded, [subject], NOW + timedelta(days=366)) == [{}]
    assert len(feast_reads(seeded, [subject])[0]) == 8


def test_a_views_ttl_shortens_what_the_pack_allows(seeded: Seeded, fresh_home: Home) -> None:
    lenient = _with_field(seeded.pack, "device", max_age="999d")
    with RedisServer.start(fresh_home) as server:
        apply(fresh_home, [lenient], server.url)
        plan = compile_plan(fresh_home, lenient, server.url)
    assert {f.field: f.max_age_s for f in plan.features}["device"] == timedelta(days=90).total_seconds()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_subjects_key_is_feasts_own(subject: str) -> None:
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value as Stored

    theirs = _redis_key("p", EntityKey(join_keys=["subject_id"], entity_values=[Stored(string_val=subject)]))
    prefix = b"\x01\0\0\0" + b"\x02\0\0\0" + b"\x0a\0\0\0subject_id" + b"\x02\0\0\0"
    plan = ReadPlan(
        schema=SCHEMA,
        pack="",
        pack_digest="",
        service="",
        fingerprint="",
        project="p",
        key_prefix=prefix,
        views=(),
        features=(),
    )
    assert RowReader(plan).key(subject) == theirs


STORED: dict[ValueType, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(),
    "float": st.floats(width=32),
    "bool": st.booleans(),
}


@given(st.data(), st.sampled_from(sorted(STORED)))
def test_a_value_that_feast_stored_reads_as_itself(drawer: st.DataObject, kind: ValueType) -> None:
    from feast.protos.feast.types.Value_pb2 import Value as Stored

    value = drawer.draw(STORED[kind])
    raw = Stored(**{f"{kind}_val": value}).SerializeToString()
    finite = not isinstance(value, float) or math.isfinite(value)
    assert value_reader(kind)(raw) == (value if finite else None)
    for other in STORED:
        if other != kind:
            assert value_reader(other)(raw) is None


@given(st.binary())
def test_no_bytes_at_all_make_a_reader_fail(raw: bytes) -> None:
    assert read_timestamp(raw) is None or isinstance(read_timestamp(raw), float)
    for kind in STORED:
        value_reader(kind)(raw)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_a_time_that_feast_stored_reads_as_itself(moment: datetime) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    stored = Timestamp()
    stored.FromDatetime(moment)
    raw = stored.SerializeToString()
    since = (moment - datetime(1970, 1, 1)).total_seconds()
    assert read_timestamp(raw) == (pytest.approx(since, abs=1e-6) if raw else None)


def test_the_check_leaves_nothing_behind(seeded: Seeded) -> None:
    with redis.Redis.from_url(seeded.url) as client:
        before = client.dbsize()
        compile_plan(seeded.home, seeded.pack, seeded.url)
        assert client.dbsize() == before


def test_a_plan_with_another_key_than_feasts_is_refused(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a later Feast wrote its entity keys in another way."""
    monkeypatch.setattr(compiler, "_key_prefix", lambda: b"elsewhere")
    with pytest.raises(FeatureStoreError, match=r"reads \[None, .*\] for a subject, Feast \['Zürich'"):
        compile_plan(seeded.home, seeded.pack, seeded.url)


def test_a_plan_with_another_field_than_feasts_is_refused(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a later Feast hashed one of its fields in another way."""

    def wrong(*given: Any) -> PlannedFeature:
        feature = planned(*given)
        return feature if feature.field != "nps" else msgspec.structs.replace(feature, redis_field=b"else")

    planned = compiler._planned
    monkeypatch.setattr(compiler, "_planned", wrong)
    with pytest.raises(FeatureStoreError, match=r"None\] for a subject, Feast"):
        compile_plan(seeded.home, seeded.pack, seeded.url)


def test_a_field_that_cannot_hold_its_feature_is_refused(seeded: Seeded) -> None:
    wrong = _with_field(seeded.pack, "nps", type="boolean", range=None)
    with pytest.raises(PackError, match=r"fields.nps.type: boolean, but customer_history:nps is stored as double"):
        compile_plan(seeded.home, wrong, seeded.url)


def test_a_pack_that_is_not_applied_is_named(seeded: Seeded) -> None:
    newer = msgspec.structs.replace(seeded.pack, version=99)
    with pytest.raises(FeatureStoreError, match=r"support_v99.*\n.*nba features apply"):
        compile_plan(seeded.home, newer, seeded.url)


def test_a_redis_that_is_not_there_is_said_so(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)  # Feast's client waits between ten tries
    with pytest.raises(UnavailableError, match="Redis does not answer"):
        compile_plan(seeded.home, seeded.pack, "redis://127.0.0.1:1/0")


def test_the_plan_is_what_the_hot_process_loads(seeded: Seeded) -> None:
    plan = load_plan(seeded.plan)
    assert (plan.pack, plan.pack_digest, plan.service) == ("support", seeded.pack.digest, "support_v1")
    assert [f.field for f in plan.features] == [name for name, f in seeded.pack.fields.items() if f.feature]


def _with_field(pack: Pack, name: str, **changes: Any) -> Pack:
    return msgspec.structs.replace(
        pack, fields=pack.fields | {name: msgspec.structs.replace(pack.fields[name], **changes)}
    )
