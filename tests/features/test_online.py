"""The reader against a real Redis, by a plan written by hand: no Feast here (`test_compiler` compares with Feast)."""

from __future__ import annotations

import asyncio
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import pytest
import redis

from features import online, redis_link
from features.online import UNKNOWN, FeatureRow, Fetched, Lookup, OnlineReader, RowReader
from features.plan import SCHEMA, FeatureStoreError, PlannedFeature, ReadPlan

from .conftest import refilled

pytestmark = pytest.mark.system

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
DAY = 86_400.0
DEADLINE_S = 0.3  # of a read here: long beside what a busy machine adds
T = TypeVar("T")


class Server(Protocol):
    """The part of the fixture `own_redis` that is used here."""

    url: str

    def start(self) -> None: ...
    def send(self, number: int) -> None: ...
    def kill(self) -> None: ...


def planned(field: str, view: str, kind: Any, max_age_s: float | None) -> PlannedFeature:
    return PlannedFeature(
        field=field, view=view, feature=field, redis_field=field.encode(), value_type=kind, max_age_s=max_age_s
    )


PLAN = ReadPlan(
    schema=SCHEMA,
    pack="p",
    pack_digest="",
    service="p_v1",
    fingerprint="",
    project="project",
    key_prefix=b"prefix",
    views=("device", "history"),
    features=(
        planned("kind", "device", "string", None),
        planned("orders", "history", "int64", 30 * DAY),
        planned("nps", "history", "double", 60 * DAY),
    ),
)


def varint(number: int) -> bytes:
    head = bytes((number >> 7 * i & 0x7F) | 0x80 for i in range((max(number.bit_length(), 1) - 1) // 7))
    return head + bytes([number >> 7 * len(head)])


def at(age_s: float) -> bytes:
    return b"\x08" + varint(int(NOW.timestamp() - age_s))


STORED: dict[str, bytes] = {
    "kind": b"\x12\x06mobile",
    "_ts:device": at(100),
    "orders": b"\x20\x03",
    "nps": b"\x29" + struct.pack("<d", 9.5),
    "_ts:history": at(20 * DAY),
}
ALL = {"kind": "mobile", "orders": 3, "nps": 9.5}


def write(url: str, rows: Mapping[str, Mapping[str, bytes]]) -> None:
    with redis.Redis.from_url(url) as client:
        for subject, row in rows.items():
            client.hset(RowReader(PLAN).key(subject), mapping=dict(row))


def read(url: str | None, subjects: Sequence[str], *, now: datetime = NOW) -> Fetched:
    return using(url, lambda reader: reader.fetch(lookups(*subjects), 1.0, now=now))


def lookups(*subjects: str) -> list[Lookup]:
    return [Lookup(subject, f"hash-of-{subject!a}", features=True) for subject in subjects]


def using(url: str | None, job: Callable[[OnlineReader], Awaitable[T]]) -> T:
    async def main() -> T:
        reader = OnlineReader(PLAN, url)
        try:
            return await job(reader)
        finally:
            await reader.close()

    return asyncio.run(main())


def test_a_row_has_the_packs_fields_and_the_age_of_each_view(redis_url: str) -> None:
    write(redis_url, {"a": STORED})
    assert read(redis_url, ["a"]) == Fetched([FeatureRow(ALL, {"device": 100, "history": 20 * DAY})], degraded=False)


def test_rows_come_in_the_order_asked_and_an_unknown_subject_is_empty(redis_url: str) -> None:
    write(redis_url, {str(i): STORED | {"orders": b"\x20" + varint(i)} for i in range(100)})
    fetched = read(redis_url, ["nobody", *map(str, reversed(range(100))), "7"])
    assert [row.values.get("orders") for row in fetched.rows] == [None, *reversed(range(100)), 7]
    assert fetched.rows[0] == FeatureRow({}, {})
    assert not fetched.degraded


def test_a_batch_is_one_round_trip(redis_url: str) -> None:
    """All commands of a batch are written before the first reply is read: Redis sees them in one go."""

    async def job(reader: OnlineReader) -> int:
        await reader.fetch(lookups("0"), 1.0, now=NOW)
        pipe: Any = reader._link._pipe
        writes: list[bytes] = []
        write_now = pipe._transport.write
        pipe._transport = _Recording(pipe._transport, lambda sent: (writes.append(sent), write_now(sent)))
        await reader.fetch(lookups(*map(str, range(250))), 1.0, now=NOW)
        return len(writes)

    assert using(redis_url, job) == 1


class _Recording:
    """A transport whose writes go through a function."""

    def __init__(self, transport: Any, write: Callable[[bytes], object]) -> None:
        self._transport, self.write = transport, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.mark.parametrize(
    ("age_s", "fields"),
    [
        (30 * DAY - 1, {"kind", "orders", "nps"}),
        (30 * DAY + 1, {"kind", "nps"}),  # orders may be 30 days old, nps 60, kind any age
        (60 * DAY + 1, {"kind"}),
        (-online.SKEW_S + 1, {"kind", "orders", "nps"}),  # a writer's clock a little ahead
        (-online.SKEW_S - 1, {"kind"}),  # from the future
    ],
)
def test_what_is_too_old_or_from_the_future_is_missing(redis_url: str, age_s: float, fields: set[str]) -> None:
    write(redis_url, {"a": STORED | {"_ts:history": at(age_s)}})
    row = read(redis_url, ["a"]).rows[0]
    assert set(row.values) == fields
    assert row.age_s.get("history") == (None if age_s < -online.SKEW_S else max(0.0, age_s))


@pytest.mark.parametrize(
    ("stored", "missing"),
    [
        ({"nps": b"\x29" + struct.pack("<d", float("nan"))}, "nps"),
        ({"orders": b""}, "orders"),  # written as null
        ({"orders": b"\x12\x013"}, "orders"),  # the string "3"
        ({"kind": b"\x12\xff\xff"}, "kind"),
        ({"_ts:device": b"garbage"}, "kind"),  # of unknown age
    ],
)
def test_a_value_that_cannot_be_used_is_missing_alone(
    redis_url: str, stored: Mapping[str, bytes], missing: str
) -> None:
    write(redis_url, {"a": STORED | stored})
    fetched = read(redis_url, ["a"])
    assert fetched.rows[0].values == {field: value for field, value in ALL.items() if field != missing}
    assert not fetched.degraded


def test_a_key_of_another_kind_empties_its_own_row_only(redis_url: str) -> None:
    write(redis_url, {"a": STORED})
    with redis.Redis.from_url(redis_url) as client:
        client.set(RowReader(PLAN).key("b"), "not a hash")
    fetched = read(redis_url, ["b", "a"])
    assert [row.values for row in fetched.rows] == [{}, ALL]
    assert fetched.degraded


def test_a_subject_that_is_not_unicode_is_unknown(redis_url: str) -> None:
    assert read(redis_url, ["\ud800"]) == Fetched([FeatureRow({}, {})], degraded=False)


def test_no_subjects_no_rows(redis_url: str) -> None:
    assert read(redis_url, []) == Fetched([], degraded=False)


def test_without_a_store_every_read_is_degraded() -> None:
    assert read(None, ["a", "b"]) == Fetched([UNKNOWN] * 2, degraded=True)


def test_an_url_that_is_none_is_refused() -> None:
    with pytest.raises(FeatureStoreError, match="redis://host:port/db"):
        OnlineReader(PLAN, "http://localhost")


def test_a_dead_store_costs_nothing_and_is_tried_again_after_a_rest(own_redis: Server) -> None:
    write(own_redis.url, {"a": STORED})

    async def job(reader: OnlineReader) -> list[tuple[bool, float]]:
        found = [await timed(reader)]
        own_redis.kill()
        found += [await timed(reader), await timed(reader)]
        own_redis.start()
        refilled(own_redis.url)
        write(own_redis.url, {"a": STORED})
        await asyncio.sleep(redis_link.REST_S)
        return [*found, await timed(reader)]

    found = using(own_redis.url, job)
    assert [degraded for degraded, _ in found] == [False, True, True, False]
    assert max(took for _, took in found) < DEADLINE_S / 2


def test_a_hung_store_costs_one_deadline_then_nothing(own_redis: Server) -> None:
    write(own_redis.url, {"a": STORED})

    async def job(reader: OnlineReader) -> list[tuple[bool, float]]:
        found = [await timed(reader)]
        own_redis.send(signal.SIGSTOP)
        found += [await timed(reader) for _ in range(4)]
        own_redis.send(signal.SIGCONT)
        await asyncio.sleep(redis_link.REST_S)
        return [*found, await timed(reader)]

    found = using(own_redis.url, job)
    assert [degraded for degraded, _ in found] == [False, True, True, True, True, False]
    assert DEADLINE_S <= found[1][1] < 2 * DEADLINE_S
    assert sum(took for _, took in found[2:5]) < DEADLINE_S / 2


def test_a_store_that_hangs_before_the_first_read_costs_one_deadline_too(own_redis: Server) -> None:
    async def job(reader: OnlineReader) -> list[tuple[bool, float]]:
        return [await timed(reader) for _ in range(3)]

    own_redis.send(signal.SIGSTOP)
    try:
        found = using(own_redis.url, job)
    finally:
        own_redis.send(signal.SIGCONT)
    assert [degraded for degraded, _ in found] == [True] * 3
    assert DEADLINE_S <= sum(took for _, took in found) < 2 * DEADLINE_S


def test_many_reads_of_a_hung_store_wait_side_by_side(own_redis: Server) -> None:
    write(own_redis.url, {"a": STORED})

    async def job(reader: OnlineReader) -> tuple[set[bool], float]:
        await timed(reader)
        own_redis.send(signal.SIGSTOP)
        began = time.monotonic()
        found = await asyncio.gather(*(timed(reader) for _ in range(200)))
        took = time.monotonic() - began
        own_redis.send(signal.SIGCONT)
        return {degraded for degraded, _ in found}, took

    degraded, took = using(own_redis.url, job)
    assert degraded == {True}
    assert took < 2 * DEADLINE_S


def test_a_hurried_caller_does_not_close_the_store_to_the_others(
    own_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "PATIENT_S", 10.0)
    write(own_redis.url, {"a": STORED})

    async def job(reader: OnlineReader) -> list[bool]:
        found = [(await timed(reader))[0]]
        own_redis.send(signal.SIGSTOP)
        found.append((await timed(reader, 0.005))[0])
        own_redis.send(signal.SIGCONT)
        return [*found, (await timed(reader))[0]]

    assert using(own_redis.url, job) == [False, True, False]


def test_hurried_callers_alone_still_find_out_that_the_store_hangs(
    own_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits 20 ms: after four of them 80 ms have passed without an answer, and the rest cost nothing."""
    monkeypatch.setattr(redis_link, "PATIENT_S", 0.08)
    write(own_redis.url, {"a": STORED})

    async def job(reader: OnlineReader) -> list[tuple[bool, float]]:
        await timed(reader)
        own_redis.send(signal.SIGSTOP)
        found = [await timed(reader, 0.02) for _ in range(24)]
        own_redis.send(signal.SIGCONT)
        return found

    assert sum(took for _, took in using(own_redis.url, job)[4:]) < 20 * 0.02 / 2


def test_after_the_rest_one_read_tries_and_the_others_go_on(own_redis: Server) -> None:
    write(own_redis.url, {"a": STORED})

    async def job(reader: OnlineReader) -> int:
        await timed(reader)
        own_redis.send(signal.SIGSTOP)
        await timed(reader)
        await asyncio.sleep(redis_link.REST_S)
        found = await asyncio.gather(*(timed(reader) for _ in range(50)))
        own_redis.send(signal.SIGCONT)
        return sum(took >= DEADLINE_S for _, took in found)

    assert using(own_redis.url, job) == 1


def test_a_read_that_is_cancelled_leaves_the_others_their_own_rows(redis_url: str) -> None:
    write(redis_url, {str(i): STORED | {"orders": b"\x20" + varint(i)} for i in range(100)})

    async def job(reader: OnlineReader) -> list[Any]:
        tasks = [asyncio.ensure_future(reader.fetch(lookups(str(i)), 1.0, now=NOW)) for i in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [i for i, f in enumerate(found) if isinstance(f, Fetched) and f.rows[0].values["orders"] != i]

    assert using(redis_url, job) == []


def test_a_connection_that_was_closed_meanwhile_is_opened_again(redis_url: str) -> None:
    write(redis_url, {"a": STORED})

    async def job(reader: OnlineReader) -> list[bool]:
        before = (await timed(reader))[0]
        with redis.Redis.from_url(redis_url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)
        return [before, (await timed(reader))[0]]

    assert using(redis_url, job) == [False, False]


def test_reading_needs_no_feast() -> None:
    code = "import sys, features.online; sys.exit(any(m in sys.modules for m in ('feast', 'pandas', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def timed(reader: OnlineReader, deadline_s: float = DEADLINE_S) -> tuple[bool, float]:
    """Whether a read was degraded, and the seconds it took."""
    began = time.monotonic()
    fetched = await reader.fetch(lookups("a"), deadline_s, now=NOW)
    assert fetched.rows[0].values == ({} if fetched.degraded else ALL)
    return fetched.degraded, time.monotonic() - began
