"""Events against a real Redis: by a plan written by hand where only counting matters, else against Feast itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import events
from features.epoch import EPOCH_KEY
from features.events import CONTACTS, LONGEST, PURCHASES, Event, EventName, EventStore, Taken
from features.feast_store import open_store
from features.feature_value import read_timestamp, value_reader
from features.online import Lookup, OnlineReader, feature_key
from features.plan import SCHEMA, FeatureStoreError, ReadPlan, load_plan
from features.store import push, seed
from nba.errors import UnavailableError
from nba.types import Value

from .conftest import NOW, Seeded, one_row

DAY, SECOND, MICROSECOND = timedelta(days=1), timedelta(seconds=1), timedelta(microseconds=1)
PREFIX, PROJECT = b"prefix", b"project"
PLAN = ReadPlan(
    schema=SCHEMA,
    pack="p",
    pack_digest="",
    service="p_v1",
    fingerprint="",
    project="project",
    key_prefix=PREFIX,
    views=(),
    features=(),
)
HISTORY = ("purchases_90d", "contacts_30d", "open_cases", "nps")
UNKNOWN = (None, None, None, None)
T = TypeVar("T")


def happened(event: EventName, at: datetime = NOW, event_id: str | None = None, **more: Any) -> Event:
    return Event(subject_id="a", subject="0a", event=event, occurred_at=at, event_id=event_id, **more)


def answered(value: float, at: datetime = NOW, event_id: str | None = None) -> Event:
    return happened("nps", at, event_id, value=value)


def using(url: str | None, job: Callable[[EventStore], Awaitable[T]], plan: ReadPlan | None = PLAN) -> T:
    async def main() -> T:
        store = EventStore(plan, url, timeout_s=5.0)
        try:
            return await job(store)
        finally:
            await store.close()

    return asyncio.run(main())


def take(url: str, *told: Event, now: datetime = NOW) -> Taken:
    return using(url, lambda store: store.take(told, now))


def history(url: str, subject: str = "a") -> tuple[Value, ...]:
    """What the row says: purchases, contacts, open cases, answer."""
    with redis.Redis.from_url(url) as client:
        stored = client.hmget(feature_key(PREFIX, PROJECT, subject), [events._redis_field(name) for name in HISTORY])
    kinds = ("int64", "int64", "int64", "double")
    return tuple(value_reader(kind)(raw) for kind, raw in zip(kinds, stored, strict=True))  # type: ignore[arg-type]


def row_time(url: str, subject: str = "a") -> datetime:
    with redis.Redis.from_url(url) as client:
        at = read_timestamp(client.hget(feature_key(PREFIX, PROJECT, subject), "_ts:customer_history"))
    assert at is not None
    return datetime.fromtimestamp(at, UTC)


def bulk(url: str, at: datetime, *, subject: str = "a", **values: Value) -> None:
    """Writes a row as a batch job does, in Feast's layout."""
    import struct

    mapping: dict[bytes, bytes] = {b"_ts:customer_history": stamp(at)}
    for name in HISTORY:
        value = values.get(name)
        raw = (
            b"" if value is None else struct.pack("<Bd", 0x29, value) if name == "nps" else b"\x20" + varint(int(value))
        )
        mapping[events._redis_field(name)] = raw
    with redis.Redis.from_url(url) as client:
        client.hset(feature_key(PREFIX, PROJECT, subject), mapping=mapping)  # type: ignore[arg-type]


def varint(number: int) -> bytes:
    head = bytes((number >> 7 * i & 0x7F) | 0x80 for i in range((max(number.bit_length(), 1) - 1) // 7))
    return head + bytes([number >> 7 * len(head)])


def stamp(at: datetime) -> bytes:
    us = (at - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND
    seconds, nanos = us // 1_000_000, us % 1_000_000 * 1_000
    return b"\x08" + varint(seconds) + (b"\x10" + varint(nanos) if nanos else b"")


def test_each_event_moves_its_own_feature_and_the_others_stay_unknown(redis_url: str) -> None:
    assert take(redis_url, happened("purchase")) == Taken(1, 0)
    assert history(redis_url) == (1, None, None, None)
    take(redis_url, happened("contact"), happened("contact"), now=NOW + SECOND)
    take(redis_url, happened("case_opened"), answered(8.5), now=NOW + 2 * SECOND)
    assert history(redis_url) == (1, 2, 1, 8.5)


def test_an_event_that_came_before_is_a_duplicate_and_changes_nothing(redis_url: str) -> None:
    assert take(redis_url, happened("contact", event_id="e-1"), happened("contact", event_id="e-1")) == Taken(1, 1)
    before = row_time(redis_url)
    assert take(redis_url, happened("contact", event_id="e-1"), now=NOW + DAY) == Taken(0, 1)
    assert (history(redis_url), row_time(redis_url)) == ((None, 1, None, None), before)


def test_an_id_is_of_one_customer(redis_url: str) -> None:
    other = Event(subject_id="b", subject="0b", event="contact", occurred_at=NOW, event_id="e-1")
    assert take(redis_url, happened("contact", event_id="e-1"), other) == Taken(2, 0)
    assert (history(redis_url)[1], history(redis_url, "b")[1]) == (1, 1)


def test_a_late_report_counts_by_its_own_time(redis_url: str) -> None:
    """Told on day 20 about day 0: on day 29 there are two contacts in 30 days, on day 30 the first is out."""
    take(redis_url, happened("contact", NOW), happened("contact", NOW + 19 * DAY), now=NOW + 20 * DAY)
    assert history(redis_url)[1] == 2
    take(redis_url, answered(5, NOW + 29 * DAY), now=NOW + 30 * DAY - MICROSECOND)
    assert history(redis_url)[1] == 2
    take(redis_url, answered(5, NOW + 30 * DAY), now=NOW + 30 * DAY)
    assert history(redis_url)[1] == 1
    take(redis_url, answered(5, NOW + 50 * DAY), now=NOW + 50 * DAY)
    assert history(redis_url)[1] == 0


def test_events_add_to_what_was_seeded_until_its_own_window_has_passed(redis_url: str) -> None:
    """3 purchases seeded at day 0 and one on day 10: 4 up to day 90, then 1, and from day 100 on 0."""
    bulk(redis_url, NOW, purchases_90d=3, contacts_30d=2, open_cases=1, nps=7.0)
    take(redis_url, happened("purchase", NOW + 10 * DAY), now=NOW + 10 * DAY)
    assert history(redis_url) == (4, 2, 1, 7.0)
    for day, purchases, contacts in ((89, 4, 0), (90, 1, 0), (100, 0, 0)):
        take(redis_url, happened("case_opened", NOW), happened("case_resolved", NOW), now=NOW + day * DAY)
        assert history(redis_url)[:2] == (purchases, contacts)


def test_a_newer_bulk_row_stands_for_all_that_was_reported_before_it(redis_url: str) -> None:
    """Two purchases, then a nightly job that knows of 5, then one more; one that comes late was not in the job."""
    take(redis_url, happened("purchase"), happened("purchase"), happened("case_opened"))
    bulk(redis_url, NOW + DAY, purchases_90d=5, open_cases=0)
    take(redis_url, happened("purchase", NOW + 2 * DAY), happened("purchase", NOW), now=NOW + 2 * DAY)
    assert history(redis_url) == (7, None, 0, None)


def test_a_bulk_row_keeps_the_events_that_are_newer_than_it(redis_url: str) -> None:
    take(redis_url, happened("purchase", NOW), happened("purchase", NOW + DAY), answered(9, NOW + DAY), now=NOW + DAY)
    bulk(redis_url, NOW + DAY / 2, purchases_90d=5, nps=2.0)
    take(redis_url, happened("purchase", NOW + DAY), now=NOW + DAY)
    assert history(redis_url) == (7, None, None, 9.0)


@pytest.mark.parametrize("at", [NOW + DAY, datetime(1970, 1, 1, tzinfo=UTC)])
def test_a_row_from_the_future_or_of_no_time_is_no_baseline(redis_url: str, at: datetime) -> None:
    bulk(redis_url, at, purchases_90d=5)
    if at.year == 1970:
        with redis.Redis.from_url(redis_url) as client:
            client.hset(feature_key(PREFIX, PROJECT, "a"), "_ts:customer_history", b"rubbish")
    take(redis_url, happened("purchase"))
    assert history(redis_url) == (1, None, None, None)
    assert row_time(redis_url) == NOW


def test_rubbish_in_a_row_is_unknown(redis_url: str) -> None:
    bulk(redis_url, NOW, contacts_30d=4)
    with redis.Redis.from_url(redis_url) as client:
        key = feature_key(PREFIX, PROJECT, "a")
        rubbish = (b"\x20" + b"\xff" * 9 + b"\x01", b"\x20", b"\x12\x013", b"\x29\x00")  # -1, cut short, "3", cut short
        for name, raw in zip(HISTORY, rubbish, strict=True):
            client.hset(key, events._redis_field(name), raw)
    take(redis_url, happened("purchase", NOW + DAY), now=NOW + DAY)
    assert history(redis_url) == (1, None, None, None)


def test_cases_are_counted_in_order_of_time_however_they_come(redis_url: str) -> None:
    """Resolved is heard of first: 0; then that it was opened before: still 0, where 0 - 1 -> 0, + 1 would give 1."""
    take(redis_url, happened("case_resolved", NOW))
    assert history(redis_url)[2] == 0
    take(redis_url, happened("case_opened", NOW - DAY), now=NOW + SECOND)
    assert history(redis_url)[2] == 0
    take(redis_url, happened("case_opened", NOW + SECOND), now=NOW + SECOND)
    assert history(redis_url)[2] == 1


def test_open_cases_stay_open_when_their_events_are_a_year_old(redis_url: str) -> None:
    take(redis_url, happened("case_opened"), happened("case_opened", NOW + DAY), now=NOW + DAY)
    take(redis_url, happened("purchase", NOW + 400 * DAY), now=NOW + 400 * DAY)
    assert history(redis_url)[2] == 2
    with redis.Redis.from_url(redis_url) as client:
        assert client.zcard("nba:e:0a:case") == 0


def test_the_last_answer_is_the_one_given_last_and_holds_a_year(redis_url: str) -> None:
    take(redis_url, answered(9, NOW), answered(3, NOW - DAY))
    assert history(redis_url)[3] == 9.0
    take(redis_url, happened("contact", NOW + 365 * DAY), now=NOW + 365 * DAY)
    assert history(redis_url)[3] is None


def test_a_row_is_always_newer_than_the_one_before(redis_url: str) -> None:
    """Within one microsecond, and where this replica's clock is a second behind the other's."""
    times = []
    for now in (NOW, NOW, NOW - SECOND):
        take(redis_url, happened("contact", NOW - DAY), now=now)
        times.append(row_time(redis_url))
    assert times == [NOW, NOW + MICROSECOND, NOW + 2 * MICROSECOND]


def test_a_customers_state_is_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 5)
    monkeypatch.setattr(events, "KEPT_CASES", 3)
    told = [happened("contact", NOW - i * SECOND, f"e-{i}") for i in range(20)]
    take(redis_url, *told, *(happened("case_opened", NOW - i * SECOND) for i in range(20)))
    assert history(redis_url)[1:3] == (5, 20)
    with redis.Redis.from_url(redis_url) as client:
        assert [client.zcard(f"nba:e:0a:{kept}") for kept in ("ids", "contact", "case")] == [5, 5, 3]
        assert client.zrange("nba:e:0a:ids", -1, -1) == [b"=e-0"]  # the newest are kept
        assert all(0 < client.ttl(key) <= 365 * 86_400 for key in client.keys("nba:e:*"))


def test_replicas_may_take_the_same_events_at_once(redis_url: str) -> None:
    """1,000 events in calls of 10, each call sent by three replicas: each event counts once."""
    calls = [[happened("contact", NOW - SECOND, f"e-{i}") for i in range(j, j + 10)] for j in range(0, 1_000, 10)]

    async def main() -> list[Taken]:
        stores = [EventStore(PLAN, redis_url, timeout_s=5.0) for _ in range(3)]
        found = await asyncio.gather(*(store.take(call, NOW) for call in calls for store in stores))
        for store in stores:
            await store.close()
        return list(found)

    taken = asyncio.run(main())
    assert (sum(t.accepted for t in taken), sum(t.duplicates for t in taken)) == (1_000, 2_000)
    assert history(redis_url)[1] == 1_000


def test_a_call_that_cannot_be_taken_whole_leaves_nothing(redis_url: str) -> None:
    """The row of the last customer is no row: nothing is written for the first either."""
    with redis.Redis.from_url(redis_url) as client:
        client.set(feature_key(PREFIX, PROJECT, "z"), "not a hash")
        wrong = Event(subject_id="z", subject="0z", event="contact", occurred_at=NOW)
        with pytest.raises(UnavailableError, match="WRONGTYPE"):
            take(redis_url, happened("contact"), wrong)
        assert set(client.keys("*")) == {feature_key(PREFIX, PROJECT, "z"), EPOCH_KEY}


def test_without_redis_or_a_feature_store_nothing_is_taken(own_redis: Any) -> None:
    async def job(store: EventStore) -> None:
        await store.take([happened("contact", event_id="e")], NOW)
        own_redis.kill()
        for _ in range(2):  # found dead, then left alone
            with pytest.raises(UnavailableError, match="no answer"):
                await store.take([happened("contact", event_id="f")], NOW)

    using(own_redis.url, job)
    with pytest.raises(UnavailableError, match="no feature store"):
        using("redis://127.0.0.1:1", lambda store: store.take([happened("contact")], NOW), plan=None)
    with pytest.raises(FeatureStoreError):
        EventStore(PLAN, "http://localhost", timeout_s=1.0)


def test_scripts_that_were_dropped_are_loaded_again(redis_url: str) -> None:
    async def job(store: EventStore) -> Taken:
        await store.take([happened("contact")], NOW)
        with redis.Redis.from_url(redis_url) as client:
            client.script_flush()
        with pytest.raises(UnavailableError, match="NOSCRIPT"):
            await store.take([happened("contact")], NOW)
        return await store.take([happened("contact")], NOW)

    assert using(redis_url, job) == Taken(1, 0)
    assert history(redis_url)[1] == 2


@dataclass
class Model:
    """What a customer's row must say, in plain Python: every event is kept for ever."""

    seeded: tuple[int, int, int, float] | None
    ids: dict[str, datetime] = field(default_factory=dict)
    told: list[Event] = field(default_factory=list)
    row: tuple[Value, ...] = UNKNOWN

    def __post_init__(self) -> None:
        self.row = self.seeded or UNKNOWN

    def take(self, told: Sequence[Event], now: datetime) -> Taken:
        new = []
        for event in told:
            if event.event_id is None or event.event_id not in self.ids:
                new.append(event)
                if event.event_id is not None:
                    self.ids[event.event_id] = event.occurred_at
        self.told += new
        if new:
            self.ids = {i: at for i, at in self.ids.items() if at > now - LONGEST}
            self.row = (
                self._counted("purchase", 0, PURCHASES, now),
                self._counted("contact", 1, CONTACTS, now),
                *self._rest(now),
            )
        return Taken(len(new), len(told) - len(new))

    def _counted(self, kind: str, column: int, window: timedelta, now: datetime) -> int | None:
        times = [event.occurred_at for event in self.told if event.event == kind]
        if self.seeded is None and not times:
            return None
        base = self.seeded[column] if self.seeded is not None and now < NOW + window else 0
        return base + sum(at > now - window for at in times)

    def _rest(self, now: datetime) -> tuple[Value, Value]:
        cases = sorted((e.occurred_at, e.event) for e in self.told if e.event in ("case_opened", "case_resolved"))
        open_cases = self.seeded[2] if self.seeded is not None else 0
        for _, kind in cases:
            open_cases = open_cases + 1 if kind == "case_opened" else max(0, open_cases - 1)
        answers = [(NOW, self.seeded[3])] if self.seeded is not None else []
        answers += [(e.occurred_at, e.value or 0.0) for e in self.told if e.event == "nps"]
        last = None
        for at, value in answers:
            if last is None or at >= last[0]:
                last = at, value
        known = self.seeded is not None or bool(cases)
        return open_cases if known else None, last[1] if last is not None and last[0] > now - LONGEST else None


AGES = [-4 * 60 * SECOND, 0 * DAY, MICROSECOND, DAY, 30 * DAY, 30 * DAY - MICROSECOND, 90 * DAY, 200 * DAY, 364 * DAY]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(sorted(events.KINDS)),
        st.sampled_from(AGES),
        st.none() | st.sampled_from("abcdefgh"),
        st.integers(0, 10),
    ),
    min_size=1,
    max_size=6,
)
STEPS = st.lists(
    st.tuples(st.sampled_from([MICROSECOND, DAY, 30 * DAY, 60 * DAY, 90 * DAY, 300 * DAY]), EVENTS), max_size=8
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seeded=st.none() | st.tuples(st.integers(0, 300), st.integers(0, 9), st.integers(0, 3), st.floats(0, 10)),
    steps=STEPS,
)
def test_what_redis_counts_is_what_a_list_of_all_events_says(
    redis_url: str, seeded: tuple[int, int, int, float] | None, steps: list[tuple[timedelta, list[Any]]]
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    if seeded is not None:
        bulk(redis_url, NOW, **dict(zip(HISTORY, seeded, strict=True)))
    model = Model(seeded)

    async def job(store: EventStore) -> None:
        now = NOW
        for passed, told in steps:
            now += passed
            batch = [happened(kind, now - age, event_id, value=float(value)) for kind, age, event_id, value in told]
            assert await store.take(batch, now) == model.take(batch, now)
            assert history(redis_url) == model.row

    using(redis_url, job)


def feast_reads(seeded: Seeded, subject: str) -> tuple[Value, ...]:
    asked = [f"customer_history:{name}" for name in HISTORY]
    found = open_store(seeded.home, seeded.url).get_online_features(asked, [{"subject_id": subject}]).to_dict()
    return tuple(found[name][0] for name in HISTORY)


def of(subject: str, event: EventName, at: datetime, value: float | None = None) -> Event:
    return Event(subject_id=subject, subject=f"0{subject}", event=event, occurred_at=at, value=value)


def test_feast_reads_what_events_wrote(seeded: Seeded) -> None:
    """Customer 8 has 8 purchases, 8 contacts, 2 open cases and an answer of 8."""
    at = NOW + DAY + 123_456 * MICROSECOND
    told = [of("sim-000008", "purchase", at), of("sim-000008", "case_opened", at), of("sim-000008", "nps", at, 2.5)]
    fresh = [of("fresh-ünï", kind, at) for kind in ("contact", "case_resolved")]
    using(seeded.url, lambda store: store.take([*told, *fresh], at), load_plan(seeded.plan))
    assert feast_reads(seeded, "sim-000008") == (9, 8, 3, 2.5)
    assert feast_reads(seeded, "fresh-ünï") == (None, 1, 0, None)


def test_a_row_is_byte_for_byte_what_feast_would_have_written(seeded: Seeded) -> None:
    plan, at = load_plan(seeded.plan), NOW + DAY + 999_999 * MICROSECOND
    told = [of("ours", "purchase", at - 100 * DAY), of("ours", "nps", at, 0.1)]
    told += [of("ours", "contact", at - i * SECOND) for i in range(300)]
    using(seeded.url, lambda store: store.take(told, at), plan)
    push(seeded.home, [one_row("theirs", purchases_90d=0, contacts_30d=300, nps=0.1)], seeded.url, at)
    with redis.Redis.from_url(seeded.url) as client:
        ours, theirs = (
            client.hgetall(feature_key(plan.key_prefix, plan.project.encode(), subject))
            for subject in ("ours", "theirs")
        )
    assert ours == theirs
    assert len(ours) == 5


def test_what_feast_writes_after_events_is_taken_over_and_what_is_older_is_not(seeded: Seeded) -> None:
    plan, later = load_plan(seeded.plan), NOW + 2 * DAY
    using(seeded.url, lambda store: store.take([of("sim-000009", "purchase", later)], later), plan)
    seed(seeded.home, [one_row("sim-000009", purchases_90d=1)], seeded.url, later - SECOND)  # Feast drops it
    assert feast_reads(seeded, "sim-000009")[0] == 10
    seed(seeded.home, [one_row("sim-000009", purchases_90d=1)], seeded.url, later + SECOND)
    using(seeded.url, lambda store: store.take([of("sim-000009", "purchase", later)], later + DAY), plan)
    assert feast_reads(seeded, "sim-000009")[0] == 2


def test_the_next_read_of_the_server_sees_an_event(seeded: Seeded) -> None:
    async def main() -> dict[str, Value]:
        plan = load_plan(seeded.plan)
        store, reader = EventStore(plan, seeded.url, timeout_s=5.0), OnlineReader(plan, seeded.url)
        await store.take([of("sim-000020", "contact", NOW + DAY)], NOW + DAY)
        fetched = await reader.fetch([Lookup("sim-000020", "0sim-000020", features=True)], 5.0, now=NOW + DAY)
        await store.close()
        await reader.close()
        return fetched.rows[0].values

    assert asyncio.run(main())["contacts_30d"] == 20 % 11 + 1
