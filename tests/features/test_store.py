from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pandas as pd
import pytest

from features.feast_store import open_store
from features.plan import FeatureStoreError, registry_path
from features.redis_server import RedisServer
from features.store import apply, historical, push, seed
from nba.errors import PackError, UnavailableError
from nba.home import Home
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.types import Value

from .conftest import NOW, Seeded, one_row

pytestmark = pytest.mark.system

HISTORY = {"purchases_90d": 2, "contacts_30d": 1, "open_cases": 0, "nps": 8.5}
COLUMN = "customer_history__purchases_90d"
DAY = timedelta(days=1)


@pytest.fixture
def url(fresh_home: Home) -> Iterator[str]:
    """The Redis of the fresh home, the support pack applied."""
    with RedisServer.start(fresh_home) as server:
        apply(fresh_home, [load_pack("support")], server.url)
        yield server.url


def online(home: Home, url: str, subject: str) -> dict[str, Value]:
    """What Feast has of a subject's history."""
    features = [f"customer_history:{name}" for name in HISTORY]
    found = open_store(home, url).get_online_features(features, [{"subject_id": subject}]).to_dict()
    return {name: found[name][0] for name in HISTORY}


def events(*rows: tuple[str, datetime]) -> pd.DataFrame:
    return pd.DataFrame({"subject_id": [s for s, _ in rows], "event_timestamp": [t for _, t in rows]})


def test_apply_says_what_changed_and_changes_nothing_twice(fresh_home: Home) -> None:
    pack = load_pack("support")
    views = [f"view customer_{what}" for what in ("device", "location", "time", "history", "value", "taste")]
    assert apply(fresh_home, [pack], "redis://127.0.0.1:1") == (*views, "service support_v1")
    before = registry_path(fresh_home).read_bytes()
    assert apply(fresh_home, [pack], "redis://127.0.0.1:1") == ()
    assert registry_path(fresh_home).read_bytes() == before


def test_a_new_version_of_a_pack_gets_a_service_beside_the_old_one(fresh_home: Home, url: str) -> None:
    second = msgspec.structs.replace(_without(load_pack("support"), "nps"), version=2)
    assert apply(fresh_home, [second], url) == ("service support_v2",)
    services = {service.name for service in open_store(fresh_home, url).list_feature_services()}
    assert services == {"support_v1", "support_v2"}


def test_a_released_service_never_changes(fresh_home: Home, url: str) -> None:
    before = registry_path(fresh_home).read_bytes()
    with pytest.raises(PackError, match=r"gone \['customer_history:nps'\](.|\n)*raise the pack's version"):
        apply(fresh_home, [_without(load_pack("support"), "nps")], url)
    assert registry_path(fresh_home).read_bytes() == before


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("customer_shoes:size", "no feature view 'customer_shoes'(.|\n)*customer_device, customer_location"),
        ("customer_history:shoe_size", "view 'customer_history' has no feature 'shoe_size'(.|\n)*it has purchases_90d"),
    ],
)
def test_what_the_repository_lacks_is_named(fresh_home: Home, feature: str, message: str) -> None:
    pack = load_pack("support")
    fields = pack.fields | {"nps": msgspec.structs.replace(pack.fields["nps"], feature=feature)}
    with pytest.raises(PackError, match=message) as refused:
        apply(fresh_home, [msgspec.structs.replace(pack, fields=fields)], "redis://127.0.0.1:1")
    assert refused.value.field == "fields.nps.feature"
    assert not registry_path(fresh_home).exists()


def test_a_damaged_registry_is_said_so(fresh_home: Home) -> None:
    fresh_home.features.mkdir()
    registry_path(fresh_home).write_bytes(b"garbage")
    with pytest.raises(FeatureStoreError, match=r"registry.db is damaged"):
        open_store(fresh_home, "redis://127.0.0.1:1")


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        ("customer_history:purchases_90d", 2.5),
        ("customer_history:purchases_90d", True),
        ("customer_history:purchases_90d", 2**63),
        ("customer_history:nps", "9"),
        ("customer_history:nps", float("inf")),
        ("customer_device:push_enabled", 1),
        ("customer_device:device_type", 1),
        ("customer_history:shoe_size", 1),
        ("nps", 1),
    ],
)
def test_a_value_of_another_type_is_not_stored(seeded: Seeded, feature: str, value: Value) -> None:
    with pytest.raises(FeatureStoreError, match=feature):
        seed(seeded.home, [("wrong", {feature: value})], seeded.url, NOW)
    assert set(online(seeded.home, seeded.url, "wrong").values()) == {None}


def test_a_redis_that_is_not_there_is_said_so(fresh_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)  # Feast's client waits between ten tries
    apply(fresh_home, [load_pack("support")], "redis://127.0.0.1:1")
    with pytest.raises(UnavailableError, match="Redis does not answer"):
        seed(fresh_home, [one_row("a", **HISTORY)], "redis://127.0.0.1:1", NOW)


def test_what_is_pushed_is_read_and_what_is_left_out_becomes_unknown(fresh_home: Home, url: str) -> None:
    seed(fresh_home, [one_row("a", **HISTORY)], url, NOW)
    assert push(fresh_home, [one_row("a", purchases_90d=3, nps=None)], url, NOW + DAY) == 1
    expected = {"purchases_90d": 3, "contacts_30d": None, "open_cases": None, "nps": None}
    assert online(fresh_home, url, "a") == expected


def test_a_view_that_a_row_gives_no_value_of_stays_as_it_was(fresh_home: Home, url: str) -> None:
    seed(fresh_home, [one_row("a", **HISTORY)], url, NOW)
    seed(fresh_home, [("a", {"customer_location:country": "DE", "customer_history:nps": None})], url, NOW + DAY)
    assert online(fresh_home, url, "a") == HISTORY


def test_an_older_or_equally_old_push_changes_nothing(fresh_home: Home, url: str) -> None:
    push(fresh_home, [one_row("a", **HISTORY)], url, NOW)
    push(fresh_home, [one_row("a", purchases_90d=9)], url, NOW)
    push(fresh_home, [one_row("a", purchases_90d=9)], url, NOW - DAY)
    assert online(fresh_home, url, "a") == HISTORY


def test_many_rows_are_pushed_at_once(fresh_home: Home, url: str) -> None:
    assert push(fresh_home, [one_row(str(i), purchases_90d=i) for i in range(500)], url, NOW) == 500
    assert online(fresh_home, url, "499")["purchases_90d"] == 499


def test_a_push_takes_only_what_its_source_feeds(seeded: Seeded) -> None:
    with pytest.raises(FeatureStoreError, match="customer_device:device_type"):
        push(seeded.home, [("a", {"customer_device:device_type": "mobile"})], seeded.url, NOW)
    with pytest.raises(FeatureStoreError, match="no push source 'elsewhere'"):
        push(seeded.home, [one_row("a", **HISTORY)], seeded.url, NOW, source="elsewhere")


def test_a_training_set_has_as_many_rows_as_were_asked_for(fresh_home: Home, url: str) -> None:
    """Expired, unknown, before anything was known, twice the same, two at one instant: Feast's default store drops
    some of these. 2 of `a` on day 0 and 3 on day 10; the history's TTL is 365 days."""
    seed(fresh_home, [one_row("a", purchases_90d=2), one_row("b", purchases_90d=7)], url, NOW)
    seed(fresh_home, [one_row("a", purchases_90d=2)], url, NOW)  # the same again
    seed(fresh_home, [one_row("a", purchases_90d=3)], url, NOW + 10 * DAY)
    asked = events(
        ("b", NOW + DAY),
        ("a", NOW + 400 * DAY),
        ("a", NOW),
        ("nobody", NOW),
        ("a", NOW - DAY),
        ("a", NOW + 9 * DAY),
        ("a", NOW + 10 * DAY),
        ("a", NOW + 10 * DAY),
    ).assign(reward=range(8))
    found = historical(fresh_home, asked, "support_v1")
    assert found["reward"].tolist() == list(range(8))
    assert found["subject_id"].tolist() == asked["subject_id"].tolist()
    assert [None if pd.isna(v) else v for v in found[COLUMN]] == [7, None, 2, None, None, 2, 3, 3]


def test_a_late_backfill_does_not_leak_into_training(fresh_home: Home, url: str) -> None:
    """Written on day 10 about day 1: at day 5 nobody knew it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    seed(fresh_home, [one_row("a", purchases_90d=2)], url, NOW)
    folder = fresh_home.features / "offline" / "customer_history"
    written = next(table for table in map(pq.read_table, folder.glob("*.parquet")) if table.num_rows)
    late = written.to_pylist()[0] | {"purchases_90d": 9, "event_timestamp": NOW + DAY, "created": NOW + 10 * DAY}
    pq.write_table(pa.Table.from_pylist([late], written.schema), folder / "late.parquet")
    found = historical(fresh_home, events(("a", NOW + 5 * DAY), ("a", NOW + 11 * DAY)), "support_v1")
    assert found[COLUMN].tolist() == [2, 9]


def test_a_training_set_can_be_had_before_anything_is_known(fresh_home: Home, url: str) -> None:
    found = historical(fresh_home, events(("a", NOW)), "support_v1")
    assert found[COLUMN].isna().tolist() == [True]


def test_an_unknown_service_is_named(seeded: Seeded) -> None:
    with pytest.raises(FeatureStoreError, match=r"no feature service 'support_v7'(.|\n)*known are support_v1"):
        historical(seeded.home, events(("a", NOW)), "support_v7")


def test_two_homes_in_one_process_keep_their_files_apart(fresh_home: Home, url: str, seeded: Seeded) -> None:
    seed(fresh_home, [one_row("only-here", **HISTORY)], url, NOW)
    here = historical(fresh_home, events(("only-here", NOW)), "support_v1")
    there = historical(seeded.home, events(("only-here", NOW)), "support_v1")
    assert (here[COLUMN].tolist(), there[COLUMN].isna().tolist()) == ([2], [True])


def test_feast_leaves_nothing_in_the_environment(fresh_home: Home) -> None:
    """Child processes would inherit a Prometheus folder that is removed when this process ends, and a password."""
    code = f"""
import os
before = dict(os.environ)
from pathlib import Path
from features.store import apply
from nba.home import Home
from nba.pack_file import load_pack
apply(Home(Path({str(fresh_home.path)!r})), [load_pack("support")], "redis://:secret@127.0.0.1:1")
assert dict(os.environ) == before, set(os.environ) ^ set(before)
from prometheus_client.values import ValueClass
assert "Mutex" in ValueClass.__qualname__, ValueClass
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _without(pack: Pack, field: str) -> Pack:
    """The pack with one of its stored fields asked of the request instead."""
    changed: Any = msgspec.structs.replace(pack.fields[field], feature=None, max_age=None)
    return msgspec.structs.replace(pack, fields=pack.fields | {field: changed})
