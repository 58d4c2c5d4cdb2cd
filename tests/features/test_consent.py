"""Consent against a real Redis: what is kept of it, and that a read of features asks for it first."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations
from typing import Any, TypeVar

import pytest
import redis

from features import consent
from features.consent import RESTORE, Consent, ConsentChange, ConsentStore, PurposeState, restore_words
from features.epoch import EPOCH_KEY, run_id
from features.online import AT_ONCE, UNKNOWN, FeatureRow, Fetched, Lookup, OnlineReader, RowReader
from features.plan import SCHEMA, PlannedFeature, ReadPlan
from features.redis_link import REST_S
from nba.errors import UnavailableError
from nba.records import ConsentRecord

from .conftest import refilled

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
T = TypeVar("T")
PLAN = ReadPlan(
    schema=SCHEMA,
    pack="p",
    pack_digest="",
    service="p_v1",
    fingerprint="",
    project="project",
    key_prefix=b"prefix",
    views=("history",),
    features=(
        PlannedFeature(
            field="nps", view="history", feature="nps", redis_field=b"nps", value_type="double", max_age_s=None
        ),
    ),
)
KNOWN = FeatureRow({"nps": 9.5}, {"history": 0.0})


def using(url: str, job: Callable[[ConsentStore], Awaitable[T]]) -> T:
    async def main() -> T:
        store = ConsentStore(url, timeout_s=5.0)
        try:
            return await job(store)
        finally:
            await store.close()

    return asyncio.run(main())


def said(at: datetime = NOW, subject: str = "0a", **purposes: bool) -> ConsentRecord:
    return ConsentRecord(subject=subject, purposes=purposes, source="form", observed_at=at, recorded_at=NOW)


def state(url: str, at: datetime = NOW, *, subject: str = "0a", **purposes: bool) -> Consent:
    return using(url, lambda store: store.state(said(at, subject, **purposes)))


def restore(url: str, *statements: ConsentRecord) -> Consent:
    """What is stored once these are taken from the log."""
    keys, arguments = restore_words(statements)
    with redis.Redis.from_url(url) as client:
        client.eval(RESTORE.text.decode(), len(keys), *keys, *arguments)
    return read(url)


def read(url: str, subject: str = "0a") -> Consent:
    return using(url, lambda store: store.read(subject))


def change(purpose: str, granted: bool, since: datetime) -> ConsentChange:
    return ConsentChange(purpose=purpose, granted=granted, since=since, source="form")


def test_nothing_is_known_of_a_subject_who_never_spoke(redis_url: str) -> None:
    assert read(redis_url) == Consent(purposes={}, history=[])


def test_what_is_stated_is_stored_and_its_history_kept_newest_first(redis_url: str) -> None:
    state(redis_url, emotion=False, personalization=True)
    stated = state(redis_url, NOW + HOUR, emotion=True)
    assert stated == read(redis_url)
    assert stated.purposes == {
        "emotion": PurposeState(granted=True, since=NOW + HOUR),
        "personalization": PurposeState(granted=True, since=NOW),
    }
    assert [(c.purpose, c.granted, c.since) for c in stated.history] == [
        ("emotion", True, NOW + HOUR),
        ("personalization", True, NOW),
        ("emotion", False, NOW),
    ]
    assert read(redis_url, "0b") == Consent(purposes={}, history=[])


def test_the_same_statement_again_leaves_no_trace(redis_url: str) -> None:
    first = state(redis_url, emotion=False)
    assert state(redis_url, NOW + HOUR, emotion=False) == first


def test_a_word_that_comes_late_does_not_undo_a_newer_one(redis_url: str) -> None:
    """Withheld at 10:30; then it arrives that it was granted at 9:30, and that it was granted at 11:30."""
    state(redis_url, NOW + 2 * HOUR, emotion=False)
    late = state(redis_url, NOW + HOUR, emotion=True)
    assert late.purposes["emotion"] == PurposeState(granted=False, since=NOW + 2 * HOUR)
    newer = state(redis_url, NOW + 3 * HOUR, emotion=True)
    assert newer.history == [change("emotion", True, NOW + 3 * HOUR), change("emotion", False, NOW + 2 * HOUR)]


def test_a_word_that_was_repeated_counts_from_when_it_was_last_said(redis_url: str) -> None:
    """Granted at 8:30 and again at 10:30: that it was withheld at 9:30 comes too late."""
    state(redis_url, NOW, emotion=True)
    state(redis_url, NOW + 2 * HOUR, emotion=True)
    late = state(redis_url, NOW + HOUR, emotion=False)
    assert late.purposes["emotion"] == PurposeState(granted=True, since=NOW)


@pytest.mark.parametrize("first", [True, False])
def test_of_two_words_of_one_moment_the_one_that_withholds_holds(redis_url: str, first: bool) -> None:
    state(redis_url, emotion=first)
    assert not state(redis_url, emotion=not first).purposes["emotion"].granted


def test_when_a_subject_spoke_last_is_known(redis_url: str) -> None:
    assert using(redis_url, lambda store: store.last_said("0a")) is None
    state(redis_url, NOW + HOUR, emotion=True)
    state(redis_url, NOW, personalization=False)
    assert using(redis_url, lambda store: store.last_said("0a")) == NOW + HOUR


def test_statements_of_the_log_leave_what_they_left_when_they_were_made(redis_url: str) -> None:
    made = [said(NOW + i * HOUR, emotion=i == 2, surveys=i > 0) for i in range(4)]
    for statement in made:
        left = state(redis_url, statement.observed_at, **statement.purposes)
    with redis.Redis.from_url(redis_url) as client:
        client.delete("nba:c:0a", "nba:ch:0a")
    assert restore(redis_url, *made) == left
    assert restore(redis_url, *made) == left  # once more leaves no trace
    assert len(left.history) == 5


def test_statements_in_any_order_leave_the_same_state(redis_url: str) -> None:
    """Four statements about one purpose, two of them of one moment, in 24 orders: the withholding of that moment."""
    made = [said(NOW + hours * HOUR, emotion=granted) for hours, granted in ((0, False), (1, True), (2, True))]
    found = []
    for order in permutations([*made, said(NOW + 2 * HOUR, emotion=False)]):
        with redis.Redis.from_url(redis_url) as client:
            client.delete("nba:c:0a", "nba:ch:0a")
        found.append(restore(redis_url, *order, *order[:2]).purposes["emotion"].granted)
    assert found == [False] * 24


def test_the_history_is_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "HISTORY", 3)
    for i in range(5):
        stated = state(redis_url, NOW + i * HOUR, emotion=i % 2 == 0)
    assert [c.since for c in stated.history] == [NOW + 4 * HOUR, NOW + 3 * HOUR, NOW + 2 * HOUR]


def test_statements_made_at_once_leave_a_history_without_holes(redis_url: str) -> None:
    """200 contradicting statements by two replicas: every change in the history differs from the one before it."""

    async def main() -> Consent:
        stores = [ConsentStore(redis_url, timeout_s=5.0) for _ in range(2)]
        await asyncio.gather(*(stores[i % 2].state(said(NOW + i * HOUR, emotion=i % 3 == 0)) for i in range(200)))
        found = await stores[0].read("0a")
        for store in stores:
            await store.close()
        return found

    found = asyncio.run(main())
    states = [c.granted for c in found.history]
    assert states[0] == found.purposes["emotion"].granted
    assert all(one is not other for one, other in pairwise(states))


def test_only_the_hash_of_a_subject_is_in_redis(redis_url: str) -> None:
    state(redis_url, emotion=False)
    with redis.Redis.from_url(redis_url) as client:
        assert sorted(client.keys("*")) == [b"nba:c:0a", b"nba:ch:0a", EPOCH_KEY]


def test_a_dead_redis_and_rubbish_are_said_so(own_redis: Any) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.set("nba:c:0a", "rubbish")
    with pytest.raises(UnavailableError, match="WRONGTYPE"):
        read(own_redis.url)
    own_redis.kill()
    with pytest.raises(UnavailableError, match="no answer"):
        state(own_redis.url, emotion=False)


def write(url: str, *subjects: str) -> None:
    """Stores an answer of 9.5 for these subjects."""
    seconds = int(NOW.timestamp())
    varint = bytes((seconds >> 7 * i & 0x7F) | (0x80 if i < 4 else 0) for i in range(5))
    with redis.Redis.from_url(url) as client:
        for subject in subjects:
            row = {"nps": struct.pack("<Bd", 0x29, 9.5), "_ts:history": b"\x08" + varint}
            client.hset(RowReader(PLAN).key(subject), mapping=row)


def fetch(url: str | None, *asked: Lookup, plan: ReadPlan | None = PLAN, purposes: Sequence[str] = ()) -> Fetched:
    async def main() -> Fetched:
        reader = OnlineReader(plan, url, purposes=("personalization", *purposes))
        try:
            return await reader.fetch(asked, 5.0, now=NOW)
        finally:
            await reader.close()

    return asyncio.run(main())


def about(subject: str, features: bool = True) -> Lookup:
    return Lookup(subject, f"0{subject}", features)


def feature_reads(url: str) -> int:
    """How often Redis was asked for values since this was asked last."""
    with redis.Redis.from_url(url) as client:
        asked = client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]
        client.config_resetstat()
    return int(asked)


def test_features_come_with_what_is_withheld(redis_url: str) -> None:
    write(redis_url, "a", "b")
    state(redis_url, emotion=False, personalization=True)
    found = fetch(redis_url, about("a"), about("b"), about("nobody"))
    assert found == Fetched(
        [FeatureRow(KNOWN.values, KNOWN.age_s, frozenset({"emotion"})), KNOWN, FeatureRow({}, {})], degraded=False
    )


@pytest.mark.parametrize("purpose", ["personalization", "surveys"])
def test_redis_is_not_even_asked_for_the_features_of_who_withholds_a_purpose_of_theirs(
    redis_url: str, purpose: str
) -> None:
    write(redis_url, "a", "b")
    state(redis_url, **{purpose: False, "emotion": False})
    feature_reads(redis_url)
    found = fetch(redis_url, about("a"), purposes=["surveys"])
    assert found == Fetched([FeatureRow({}, {}, frozenset({purpose, "emotion"}))], degraded=False)
    assert feature_reads(redis_url) == 0
    assert fetch(redis_url, about("b"), about("a"), purposes=["surveys"]).rows[0] == KNOWN
    assert feature_reads(redis_url) == 1


def test_features_that_were_not_asked_for_are_not_read_and_consent_is(redis_url: str) -> None:
    write(redis_url, "a")
    state(redis_url, emotion=False)
    feature_reads(redis_url)
    assert fetch(redis_url, about("a", features=False)).rows == [FeatureRow({}, {}, frozenset({"emotion"}))]
    assert feature_reads(redis_url) == 0


def test_a_change_counts_in_the_very_next_read(redis_url: str) -> None:
    write(redis_url, "a")
    for i, granted in enumerate((False, True, False)):
        state(redis_url, NOW + i * HOUR, personalization=granted)
        assert bool(fetch(redis_url, about("a")).rows[0].values) is granted


def test_many_subjects_keep_their_order_and_their_consent(redis_url: str) -> None:
    n = 2 * AT_ONCE + 50
    write(redis_url, *map(str, range(n)))
    for i in range(0, n, 7):
        state(redis_url, subject=f"0{i}", personalization=False)
    rows = fetch(redis_url, *(about(str(i)) for i in range(n))).rows
    assert [i for i, row in enumerate(rows) if not row.values] == list(range(0, n, 7))
    assert [i for i, row in enumerate(rows) if row.withheld] == list(range(0, n, 7))


def test_without_a_plan_consent_is_read_all_the_same(redis_url: str) -> None:
    """Degraded where features would have been read, unless nobody may."""
    state(redis_url, emotion=False)
    state(redis_url, subject="0b", personalization=False)
    assert fetch(redis_url, about("a"), plan=None) == Fetched([FeatureRow({}, {}, frozenset({"emotion"}))], True)
    assert not fetch(redis_url, about("a", features=False), plan=None).degraded
    assert not fetch(redis_url, about("b"), plan=None).degraded


def test_rubbish_in_one_key_makes_that_alone_unknown(redis_url: str) -> None:
    write(redis_url, "a", "c")
    state(redis_url, subject="0b", emotion=False)
    with redis.Redis.from_url(redis_url) as client:
        client.set("nba:c:0a", "rubbish")
        client.set(RowReader(PLAN).key("b"), "rubbish")
    found = fetch(redis_url, about("a"), about("b"), about("c"))
    assert found == Fetched([UNKNOWN, FeatureRow({}, {}, frozenset({"emotion"})), KNOWN], degraded=True)


def test_consent_is_unknown_where_the_store_does_not_answer(own_redis: Any) -> None:
    own_redis.kill()
    for url in (own_redis.url, None):
        assert fetch(url, about("a")) == Fetched([UNKNOWN], degraded=True)
        assert fetch(url, about("a", features=False)) == Fetched([UNKNOWN], degraded=False)


@pytest.mark.parametrize("held", [None, "1:", "1", ":x", "1:another"])
def test_a_store_that_was_not_refilled_is_not_read_and_takes_what_is_stated(redis_url: str, held: str | None) -> None:
    """Nothing is known of the consent of anybody, and Redis is not asked for one feature."""
    write(redis_url, "a")
    with redis.Redis.from_url(redis_url) as client:
        client.delete(EPOCH_KEY) if held is None else client.set(EPOCH_KEY, held)
    for ask in (lambda: read(redis_url), lambda: state(redis_url, personalization=False)):
        with pytest.raises(UnavailableError, match="being restored from the log"):
            ask()
    feature_reads(redis_url)
    assert fetch(redis_url, about("a")) == Fetched([UNKNOWN], degraded=True)
    assert fetch(redis_url, about("a", features=False)) == Fetched([UNKNOWN], degraded=False)
    assert feature_reads(redis_url) == 0
    refilled(redis_url)
    assert not read(redis_url).purposes["personalization"].granted


def test_a_store_that_was_emptied_or_restarted_is_noticed_on_a_connection_that_was_good(own_redis: Any) -> None:
    """The restarted one has the epoch key of the process before it, as from its disk."""

    def again(client: redis.Redis, held: bytes) -> None:
        own_redis.kill()
        own_redis.start()
        client.set(EPOCH_KEY, held)

    async def main() -> list[Fetched]:
        reader, found = OnlineReader(PLAN, own_redis.url, purposes=("personalization",)), []
        with redis.Redis.from_url(own_redis.url) as client:
            for lose in (lambda client, _: client.flushall(), again):
                refilled(own_redis.url)
                write(own_redis.url, "a")
                found.append(await reader.fetch([about("a")], 5.0, now=NOW))
                lose(client, client.get(EPOCH_KEY))
                write(own_redis.url, "a")
                found.append(await reader.fetch([about("a")], 5.0, now=NOW))
        await asyncio.sleep(REST_S)
        found.append(await reader.fetch([about("a")], 5.0, now=NOW))
        await reader.close()
        return found

    unknown = Fetched([UNKNOWN], degraded=True)
    assert asyncio.run(main()) == [Fetched([KNOWN], False), unknown, Fetched([KNOWN], False), unknown, unknown]


def test_a_server_that_does_not_tell_its_run_id_has_none() -> None:
    assert run_id(b"# Server\r\nrun_id:a1\r\n") == b"a1"
    assert run_id(b"run_id:\r\n") == run_id(None) == b""
