"""Claims against a real Redis: one decision an id, whatever happens to Redis or to a replica."""

from __future__ import annotations

import asyncio
import functools
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from msgspec.structs import replace

from features.consent import Consent, ConsentStore
from nba.decision import Decision
from nba.errors import LogError, UnavailableError
from nba.records import ConsentRecord, DecisionRecord, Record, RewardRecord
from serving import claims as claims_module
from serving.claims import Claimed, Claims

if TYPE_CHECKING:
    from tests.conftest import RecordFactory, RedisProcess

pytestmark = pytest.mark.system

TTL_S = 3_600.0
_opened: list[Claims] = []


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an asynchronous test, and closes the claims that it opened."""

    async def run_and_close(**fixtures: Any) -> None:
        try:
            await test(**fixtures)
        finally:
            while _opened:
                await _opened.pop().close()

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(run_and_close(**fixtures))

    return run


def nothing() -> Iterable[Record]:
    return []


def unready(url: str, **options: Any) -> Claims:
    """Claims that are not connected yet, and patient: only the tests about time have the real timeout."""
    claims = Claims(url, ttl_s=TTL_S, **{"retry_s": 0.01, "timeout_s": 2.0, **options})
    _opened.append(claims)
    return claims


async def ready(url: str, log: Iterable[Record] = (), **options: Any) -> Claims:
    """Claims that are ready, over a store refilled from this log where need be."""
    claims = unready(url, **options)
    await until_ready(claims, lambda: log)
    return claims


async def until_ready(claims: Claims, read: Callable[[], Iterable[Record]] = nothing) -> None:
    deadline = time.monotonic() + 20
    while await claims.ensure(read) != "ready":
        assert time.monotonic() < deadline, claims.reason
        await asyncio.sleep(0.02)


async def logged(claims: Claims, record: DecisionRecord) -> DecisionRecord:
    """Claims, and marks as logged what was claimed."""
    (claimed,) = await claims.claim_many([record])
    assert await claims.commit([claimed.record]) == [True]
    return claimed.record


def decisions(claimed: Iterable[Claimed] | Iterable[DecisionRecord]) -> list[Decision]:
    """What was decided, whatever the epoch."""
    return [c.record.decision if isinstance(c, Claimed) else c.decision for c in claimed]


def server(url: str) -> redis.Redis:
    return redis.Redis.from_url(url)


def reward(factory: RecordFactory, *, key: str = "k", value: float = 1.0, outcome: str = "resolved") -> RewardRecord:
    return RewardRecord(
        decision_id="d-0",
        outcome=outcome,
        value=value,
        observed_at=factory.now,
        idempotency_key=key,
        received_at=factory.now,
    )


@in_loop
async def test_the_first_claim_is_new_and_the_next_is_stored(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    (first,) = await claims.claim_many([decision_record("d-0", draw=1)])
    assert (first.status, first.committed) == ("new", False)
    assert first.record == decision_record("d-0", draw=1, epoch=claims.epoch)
    assert claims.epoch > 0
    assert await claims.commit([first.record]) == [True]
    (second,) = await claims.claim_many([decision_record("d-0", draw=2)])
    assert (second.status, second.committed) == ("stored", True)
    assert second.record == first.record


@in_loop
async def test_another_body_is_a_conflict(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    stored = await logged(claims, decision_record("d-0", fingerprint="one"))
    (claimed,) = await claims.claim_many([decision_record("d-0", fingerprint="two")])
    assert (claimed.status, claimed.record) == ("conflict", stored)


@in_loop
async def test_of_fifty_claims_at_once_one_is_new(redis_url: str, decision_record: RecordFactory) -> None:
    replicas = [await ready(redis_url) for _ in range(5)]
    claimed = await asyncio.gather(
        *(replicas[i % 5].claim_many([decision_record("d-0", draw=i)]) for i in range(50)),
    )
    statuses = [c.status for (c,) in claimed]
    assert (statuses.count("new"), statuses.count("stored")) == (1, 49)
    assert len({c.record.decision.draw for (c,) in claimed}) == 1


@in_loop
async def test_a_large_batch_is_claimed_in_order(redis_url: str, decision_record: RecordFactory) -> None:
    """450 ids over three scripts; the last is the first once more."""
    claims = await ready(redis_url)
    records = [*(decision_record(f"d-{i}", draw=i) for i in range(450)), decision_record("d-0", draw=9)]
    claimed = await claims.claim_many(records)
    assert [c.status for c in claimed] == ["new"] * 450 + ["stored"]
    assert [c.record.decision.draw for c in claimed] == [*range(450), 0]
    assert await claims.commit([c.record for c in claimed]) == [True] * 451


@in_loop
async def test_a_claim_whose_maker_died_is_handed_on_as_not_logged(
    redis_url: str, decision_record: RecordFactory
) -> None:
    """The crash between claim and log: whoever comes next appends the stored record, and marks it."""
    dead, heir = await ready(redis_url), await ready(redis_url)
    (first,) = await dead.claim_many([decision_record("d-0", draw=1)])
    await dead.close()
    (second,) = await heir.claim_many([decision_record("d-0", draw=2)])
    assert (second.status, second.committed, second.record) == ("stored", False, first.record)
    assert await heir.commit([second.record]) == [True]
    (third,) = await heir.claim_many([decision_record("d-0", draw=3)])
    assert (third.status, third.committed, third.record) == ("stored", True, first.record)


@in_loop
async def test_before_it_is_connected_everything_is_unclaimed(redis_url: str, decision_record: RecordFactory) -> None:
    claims = unready(redis_url)
    (claimed,) = await claims.claim_many([decision_record("d-0", epoch=7)])
    assert (claimed.status, claimed.record.epoch) == ("unclaimed", 0)
    assert (claims.state, claims.epoch) == ("down", 0)
    assert claims.reason


@in_loop
async def test_an_emptied_store_is_refused_until_it_is_rebuilt(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    log = [await logged(claims, decision_record(f"d-{i}", draw=i)) for i in range(300)]
    server(redis_url).flushall()
    (claimed,) = await claims.claim_many([decision_record("d-0", draw=9)])
    assert (claimed.status, claims.state, claims.needs_rebuild) == ("unclaimed", "stale", True)
    before = log[0].epoch
    await until_ready(claims, lambda: log)
    assert claims.epoch > before
    again = await claims.claim_many([decision_record(f"d-{i}", draw=999) for i in range(300)])
    assert {c.status for c in again} == {"stored"}
    assert decisions(again) == decisions(log)


@in_loop
async def test_the_fence_stops_what_an_emptied_store_forgot(redis_url: str, decision_record: RecordFactory) -> None:
    """Two are claimed, one is in the log when the store is rebuilt. The other may be decided anew, so it must be."""
    claims = await ready(redis_url)
    before = await claims.claim_many([decision_record("seen", draw=1), decision_record("missed", draw=2)])
    server(redis_url).flushall()
    other = await ready(redis_url, [before[0].record])
    anew = await logged(other, decision_record("missed", draw=3))
    assert await claims.commit([c.record for c in before]) == [False, False]
    seen, missed = await claims.claim_many([decision_record("seen", draw=4), decision_record("missed", draw=5)])
    assert (seen.status, seen.committed, seen.record.decision.draw) == ("stored", False, 1)
    assert (missed.status, missed.committed, missed.record) == ("stored", True, anew)
    assert await claims.commit([seen.record]) == [True]


@in_loop
async def test_a_claim_that_was_restored_is_logged_again_in_the_present_epoch(
    redis_url: str, decision_record: RecordFactory
) -> None:
    """Worked by hand: `first` is logged in epoch 1, but too late for the rebuild that begins epoch 2. `second` is
    claimed in epoch 2 and still on its way to the log when Redis is emptied again. Epoch 3 knows only `first`; were it
    answered as of epoch 1, `second` would arrive and outrank it.
    """
    claims = await ready(redis_url)
    (first,) = await claims.claim_many([decision_record("d-0", draw=1)])
    server(redis_url).flushall()
    await until_ready(claims)
    (second,) = await claims.claim_many([decision_record("d-0", draw=2)])
    server(redis_url).flushall()
    await until_ready(claims, lambda: [first.record])
    (third,) = await claims.claim_many([decision_record("d-0", draw=3)])
    assert (third.status, third.committed, third.record.decision.draw) == ("stored", False, 1)
    assert third.record.epoch == claims.epoch > second.record.epoch > first.record.epoch
    assert await claims.commit([first.record, second.record, third.record]) == [False, False, True]
    assert await claims.find("d-0") == third.record


@in_loop
async def test_the_fence_is_shut_while_the_store_is_lost(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    (claimed,) = await claims.claim_many([decision_record("d-0")])
    server(redis_url).flushall()
    assert await claims.commit([claimed.record]) == [False]


@in_loop
async def test_every_rebuild_has_an_epoch_never_used_before(redis_url: str, decision_record: RecordFactory) -> None:
    """Also where nothing was logged in the last, and whoever rebuilds did not see it."""
    epochs = []
    for _ in range(3):
        claims = await ready(redis_url)
        epochs.append(claims.epoch)
        server(redis_url).flushall()
    claims = await ready(redis_url, [decision_record("d-0", epoch=2**52)])
    epochs.append(claims.epoch)
    assert epochs == sorted(set(epochs))
    assert epochs[-1] == 2**52 + 1


@in_loop
async def test_a_rebuild_keeps_the_first_of_the_highest_epoch(redis_url: str, decision_record: RecordFactory) -> None:
    log = [decision_record("d-0", draw=n, epoch=epoch) for n, epoch in ((0, 0), (1, 2), (2, 2), (3, 1), (4, 0))]
    claims = await ready(redis_url, log)
    assert await claims.find("d-0") == log[1]


@in_loop
async def test_what_a_rebuild_read_is_not_taken_for_synced(redis_url: str, decision_record: RecordFactory) -> None:
    """The last bytes of a log that is being written may still go; to append them again costs nothing."""
    claims = await ready(redis_url, [decision_record("d-0")])
    (claimed,) = await claims.claim_many([decision_record("d-0")])
    assert (claimed.status, claimed.committed) == ("stored", False)
    assert await claims.commit([claimed.record]) == [True]
    assert (await claims.claim_many([decision_record("d-0")]))[0].committed


@in_loop
async def test_of_two_replicas_one_rebuilds(redis_url: str, decision_record: RecordFactory) -> None:
    readings = 0

    def read() -> Iterator[Record]:
        nonlocal readings
        readings += 1
        time.sleep(0.1)
        yield decision_record("d-0", draw=3)

    replicas = [unready(redis_url) for _ in range(2)]
    states = await asyncio.gather(*(replica.ensure(read) for replica in replicas))
    assert sorted(states) == ["ready", "rebuilding"]
    assert [await replica.ensure(read) for replica in replicas] == ["ready", "ready"]
    assert readings == 1
    assert replicas[0].epoch == replicas[1].epoch
    for replica in replicas:
        found = await replica.find("d-0")
        assert found is not None
        assert found.decision.draw == 3
        await replica.close()


@in_loop
async def test_the_lock_of_a_rebuilder_that_died_runs_out(redis_url: str) -> None:
    server(redis_url).set("nba:rebuild", "dead", px=200)
    claims = unready(redis_url)
    assert await claims.ensure(nothing) == "rebuilding"
    await until_ready(claims)


@in_loop
async def test_a_rebuilder_that_lost_its_lock_does_not_open_the_store(
    redis_url: str, decision_record: RecordFactory
) -> None:
    def read() -> Iterator[Record]:
        yield decision_record("d-0")
        server(redis_url).set("nba:rebuild", "another", px=10_000)

    claims = unready(redis_url)
    assert await claims.ensure(read) != "ready"
    assert server(redis_url).get("nba:epoch") is None
    assert server(redis_url).get("nba:rebuild") == b"another"


@in_loop
async def test_a_log_that_cannot_be_read_says_so_and_frees_the_lock(redis_url: str) -> None:
    def read() -> Iterator[Record]:
        raise LogError("segment x cannot be read", help="see to it")
        yield

    claims = unready(redis_url)
    with pytest.raises(LogError):
        await claims.ensure(read)
    assert claims.state != "ready"
    await until_ready(claims)


@in_loop
async def test_a_rebuild_by_another_replica_interrupts_nobody(redis_url: str, decision_record: RecordFactory) -> None:
    claims, other = await ready(redis_url), await ready(redis_url)
    (before,) = await claims.claim_many([decision_record("d-0")])
    assert await other.rebuild([])
    (after,) = await claims.claim_many([decision_record("d-1")])
    assert after.status == "new"
    assert after.record.epoch == claims.epoch == other.epoch > before.record.epoch
    assert await claims.commit([before.record, after.record]) == [False, True]
    (again,) = await claims.claim_many([decision_record("d-0", draw=1)])
    assert decisions([again]) == decisions([before])
    assert await claims.commit([again.record]) == [True]


@in_loop
async def test_a_hung_redis_costs_one_timeout_then_nothing(
    own_redis: RedisProcess, decision_record: RecordFactory
) -> None:
    claims = await ready(own_redis.url, timeout_s=0.05)
    own_redis.send(signal.SIGSTOP)
    started = time.monotonic()
    (claimed,) = await claims.claim_many([decision_record("d-0")])
    first = time.monotonic() - started
    started = time.monotonic()
    for i in range(1_000):
        await claims.claim_many([decision_record(f"d-{i}")])
    rest = time.monotonic() - started
    assert claimed.status == "unclaimed"
    assert 0.04 < first < 0.5
    assert rest < 0.5
    assert await claims.ensure(nothing) == "down"
    own_redis.send(signal.SIGCONT)
    await until_ready(claims)


@in_loop
async def test_a_dead_redis_fails_at_once_and_comes_back_stale(
    own_redis: RedisProcess, decision_record: RecordFactory
) -> None:
    claims = await ready(own_redis.url)
    record = await logged(claims, decision_record("d-0", draw=1))
    own_redis.kill()
    started = time.monotonic()
    (claimed,) = await claims.claim_many([decision_record("d-0", draw=2)])
    assert time.monotonic() - started < 0.5
    assert claimed.status == "unclaimed"
    with pytest.raises(UnavailableError):
        await claims.find("d-0")
    own_redis.start()
    await until_ready(claims, lambda: [record])
    (claimed,) = await claims.claim_many([decision_record("d-0", draw=3)])
    assert (claimed.status, claimed.record.decision) == ("stored", record.decision)


@in_loop
async def test_a_restart_with_older_data_is_refilled(tmp_path: Path, decision_record: RecordFactory) -> None:
    """Redis keeps d-0 on its disk with the epoch key, forgets d-1, and is believed only after the log was read."""
    from tests.conftest import RedisProcess

    folder = tmp_path / "redis"
    folder.mkdir()
    own = RedisProcess(folder, "--save", "", "--appendonly", "no")
    try:
        claims = await ready(own.url)
        log = [await logged(claims, decision_record("d-0"))]
        server(own.url).save()
        log.append(await logged(claims, decision_record("d-1", draw=1)))
        own.kill()
        own.start()
        assert server(own.url).exists("nba:d:d-0", "nba:epoch") == 2
        (claimed,) = await claims.claim_many([decision_record("d-1", draw=2)])
        assert claimed.status == "unclaimed"
        readings: list[int] = []
        await until_ready(claims, lambda: readings.append(1) or log)
        assert readings == [1]
        again = await claims.claim_many([decision_record("d-0", draw=2), decision_record("d-1", draw=2)])
        assert decisions(again) == decisions(log)
    finally:
        own.kill()


@in_loop
async def test_unclaimed_decisions_are_kept_for_retries_and_for_redis(
    redis_url: str, decision_record: RecordFactory
) -> None:
    claims, other = await ready(redis_url), await ready(redis_url)
    await claims.close()
    (claimed,) = await claims.claim_many([decision_record("d-0", draw=1)])
    assert claimed.status == "unclaimed"
    assert await claims.commit([claimed.record]) == [True]
    (retry,) = await claims.claim_many([decision_record("d-0", draw=2)])
    assert (retry.status, retry.committed, retry.record) == ("stored", True, claimed.record)
    (conflict,) = await claims.claim_many([decision_record("d-0", fingerprint="other")])
    assert conflict.status == "conflict"
    assert await claims.find("d-0") == claimed.record
    await until_ready(claims)
    assert not claims.needs_rebuild
    (elsewhere,) = await other.claim_many([decision_record("d-0", draw=3)])
    assert (elsewhere.status, elsewhere.committed) == ("stored", False)
    assert elsewhere.record == replace(claimed.record, epoch=other.epoch)


@in_loop
async def test_a_claim_that_a_hung_redis_took_after_all_is_the_same_decision(
    own_redis: RedisProcess, decision_record: RecordFactory
) -> None:
    """It read the claim when it woke, after we had given up: pending, so whoever meets it logs it first."""
    claims = await ready(own_redis.url, timeout_s=0.05)
    own_redis.send(signal.SIGSTOP)
    (claimed,) = await claims.claim_many([decision_record("d-0", draw=1)])
    assert await claims.commit([claimed.record]) == [True]
    own_redis.send(signal.SIGCONT)
    await until_ready(claims)
    (retry,) = await claims.claim_many([decision_record("d-0", draw=2)])
    assert retry.status == "stored"
    assert not retry.committed
    assert retry.record.decision == claimed.record.decision


@in_loop
async def test_more_unclaimed_decisions_than_fit_come_from_the_log(
    redis_url: str, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "HELD", 2)
    claims = await ready(redis_url)
    await claims.close()
    claimed = await claims.claim_many([decision_record(f"d-{i}", draw=i) for i in range(5)])
    log = [c.record for c in claimed]
    assert await claims.commit(log) == [True] * 5
    assert claims.needs_rebuild
    await until_ready(claims, lambda: log)
    assert not claims.needs_rebuild
    again = await claims.claim_many([decision_record(f"d-{i}", draw=99) for i in range(5)])
    assert {c.status for c in again} == {"stored"}
    assert decisions(again) == decisions(log)


@in_loop
async def test_a_claim_made_meanwhile_outranks_an_unclaimed_decision(
    redis_url: str, decision_record: RecordFactory
) -> None:
    """As in the log: the highest epoch is canonical."""
    cut_off, claims = await ready(redis_url), await ready(redis_url)
    await cut_off.close()
    (unclaimed,) = await cut_off.claim_many([decision_record("d-0", draw=1)])
    await cut_off.commit([unclaimed.record])
    record = await logged(claims, decision_record("d-0", draw=2))
    await until_ready(cut_off)
    assert await cut_off.find("d-0") == record


@in_loop
async def test_find_tells_none_from_unknown(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    record = await logged(claims, decision_record("d-0"))
    assert await claims.find("d-0") == record
    assert await claims.find("d-1") is None
    server(redis_url).flushall()
    with pytest.raises(UnavailableError):
        await claims.find("d-0")


@in_loop
async def test_a_reward_is_new_then_pending_then_duplicate(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    report = reward(decision_record)
    assert await claims.claim_reward(report, once=False) == "new"
    assert await claims.claim_reward(report, once=False) == "pending"
    await claims.commit_reward(report)
    later = replace(report, received_at=report.received_at + timedelta(seconds=5))
    assert await claims.claim_reward(later, once=False) == "duplicate"


@pytest.mark.parametrize("changes", [{"value": 0.5}, {"outcome": "rated"}, {"value": -1.0}])
@in_loop
async def test_a_key_with_another_value_or_outcome_is_a_conflict(
    redis_url: str, decision_record: RecordFactory, changes: dict[str, Any]
) -> None:
    claims = await ready(redis_url)
    report = reward(decision_record)
    await claims.claim_reward(report, once=False)
    assert await claims.claim_reward(replace(report, **changes), once=False) == "conflict"
    await claims.commit_reward(replace(report, **changes))
    assert await claims.claim_reward(report, once=False) == "pending"


@in_loop
async def test_an_outcome_that_counts_once_is_taken_once(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    first, second = reward(decision_record, key="k-1"), reward(decision_record, key="k-2")
    assert await claims.claim_reward(first, once=True) == "new"
    assert await claims.claim_reward(second, once=True) == "new"  # the first is not known to be logged
    await claims.commit_reward(second)
    assert await claims.claim_reward(reward(decision_record, key="k-3"), once=True) == "duplicate"
    assert await claims.claim_reward(reward(decision_record, key="k-3"), once=False) == "new"
    assert await claims.claim_reward(reward(decision_record, key="k-4", outcome="rated"), once=True) == "new"


@in_loop
async def test_rewards_are_rebuilt_from_the_log(redis_url: str, decision_record: RecordFactory) -> None:
    report = reward(decision_record)
    claims = await ready(redis_url, [decision_record("d-0"), report, replace(report, value=0.5)])
    assert await claims.claim_reward(report, once=True) == "pending"
    assert await claims.claim_reward(replace(report, value=0.5), once=True) == "conflict"
    server(redis_url).flushall()
    assert await claims.claim_reward(report, once=True) == "unavailable"


def said(factory: RecordFactory, hours: float, *, subject: str = "0a", **purposes: bool) -> ConsentRecord:
    at = factory.now + timedelta(hours=hours)
    return ConsentRecord(subject=subject, purposes=purposes, source=None, observed_at=at, recorded_at=at)


async def consent(url: str, subject: str = "0a") -> Consent:
    store = ConsentStore(url, timeout_s=2.0)
    try:
        return await store.read(subject)
    finally:
        await store.close()


@in_loop
async def test_consent_is_rebuilt_from_the_log_however_its_segments_lie(
    redis_url: str, decision_record: RecordFactory
) -> None:
    """Said 5,000 hours ago and since: a statement is never too old. Granted, withheld, granted, withheld."""
    told = [said(decision_record, hours, emotion=bool(i % 2 == 0)) for i, hours in enumerate((-5_000, -3, -2, -1))]
    claims = await ready(redis_url, [told[3], decision_record("d-0"), told[1], told[0], told[2], told[3]])
    found = await consent(redis_url)
    assert found.purposes["emotion"].since == told[3].observed_at
    assert [(c.granted, c.since) for c in found.history] == [(i % 2 == 0, told[i].observed_at) for i in (3, 2, 1, 0)]
    assert await claims.find("d-0") is not None


@in_loop
async def test_consent_of_many_is_rebuilt_in_parts(redis_url: str, decision_record: RecordFactory) -> None:
    log = [said(decision_record, -i / 60, subject=f"{i:02x}", emotion=i % 2 == 0, surveys=True) for i in range(450)]
    await ready(redis_url, log)
    found = [await consent(redis_url, f"{i:02x}") for i in (0, 1, 199, 200, 449)]
    assert [c.purposes["emotion"].granted for c in found] == [True, False, False, True, False]
    assert len(server(redis_url).keys("nba:c:*")) == 450


@in_loop
async def test_consent_is_unknown_until_the_last_statement_is_back(
    redis_url: str, decision_record: RecordFactory
) -> None:
    """Whoever rebuilds loses the lock when all is read and before consent is restored."""

    def read() -> Iterator[Record]:
        yield said(decision_record, -1, emotion=False)
        server(redis_url).set("nba:rebuild", "another", px=10_000)

    claims = unready(redis_url)
    assert await claims.ensure(read) != "ready"
    with pytest.raises(UnavailableError, match="restored from the log"):
        await consent(redis_url)


@in_loop
async def test_a_rebuild_undoes_nothing_that_was_stated_meanwhile(
    redis_url: str, decision_record: RecordFactory
) -> None:
    store = ConsentStore(redis_url, timeout_s=2.0)
    claims = unready(redis_url)
    rebuild = asyncio.create_task(claims.ensure(lambda: slowly(said(decision_record, -2, emotion=True))))
    await asyncio.sleep(0.02)
    with pytest.raises(UnavailableError):
        await store.state(said(decision_record, -1, emotion=False))
    assert await rebuild == "ready"
    assert not (await store.read("0a")).purposes["emotion"].granted
    await store.close()


def slowly(*records: Record) -> Iterator[Record]:
    time.sleep(0.2)
    yield from records


@in_loop
async def test_claims_expire_and_old_ones_are_not_restored(redis_url: str, decision_record: RecordFactory) -> None:
    """An hour's claims: one of 40 minutes ago has 20 left, one of two hours ago is gone."""
    now = datetime.now(UTC)
    log = [
        decision_record("recent", decided_at=now - timedelta(minutes=40)),
        decision_record("old", decided_at=now - timedelta(hours=2)),
        decision_record("ahead", decided_at=now + timedelta(days=400)),
    ]
    claims = await ready(redis_url, log)
    await logged(claims, decision_record("new"))
    left = {name: server(redis_url).pttl(f"nba:d:{name}") / 60_000 for name in ("new", "recent", "ahead")}
    assert left["new"] == pytest.approx(60, abs=1)
    assert left["recent"] == pytest.approx(20, abs=2)
    assert left["ahead"] == pytest.approx(60, abs=1)
    assert await claims.find("old") is None


@in_loop
async def test_keys_stay_below_the_prefix(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url, prefix="{other}:")
    await logged(claims, decision_record("a:b*?"))
    await claims.claim_reward(reward(decision_record), once=True)
    assert sorted(server(redis_url).keys()) == [b"{other}:d:a:b*?", b"{other}:epoch", b"{other}:r:d-0"]


@in_loop
async def test_a_password_is_used_and_never_told(tmp_path: Path, decision_record: RecordFactory) -> None:
    from tests.conftest import RedisProcess

    own = RedisProcess(tmp_path)
    try:
        server(own.url).config_set("requirepass", "s3cret-word")
        claims = await ready(own.url.replace("//", "//:s3cret-word@"))
        assert (await claims.claim_many([decision_record("d-0")]))[0].status == "new"
        await claims.close()
        wrong = unready(own.url.replace("//", "//:wr0ng-word@"))
        assert await wrong.ensure(nothing) == "down"
        assert "wr0ng" not in wrong.reason
    finally:
        own.kill()


@in_loop
async def test_a_redis_that_may_drop_claims_is_refused(own_redis: RedisProcess) -> None:
    server(own_redis.url).config_set("maxmemory", "100mb")
    server(own_redis.url).config_set("maxmemory-policy", "allkeys-lru")
    claims = unready(own_redis.url)
    assert await claims.ensure(nothing) == "down"
    assert "noeviction" in claims.reason
    server(own_redis.url).config_set("maxmemory-policy", "noeviction")
    await until_ready(claims)


@in_loop
async def test_a_full_redis_is_down_not_an_error(own_redis: RedisProcess, decision_record: RecordFactory) -> None:
    claims = await ready(own_redis.url)
    server(own_redis.url).config_set("maxmemory", "1")
    (claimed,) = await claims.claim_many([decision_record("d-0")])
    assert (claimed.status, claims.state) == ("unclaimed", "down")
    assert "OOM" in claims.reason


@in_loop
async def test_scripts_that_redis_forgot_are_loaded_again(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    server(redis_url).script_flush()
    assert (await claims.claim_many([decision_record("d-0")]))[0].status == "unclaimed"
    await until_ready(claims)
    assert (await claims.claim_many([decision_record("d-0")]))[0].status == "new"


@in_loop
async def test_a_stored_claim_that_nobody_can_read_is_unclaimed(redis_url: str, decision_record: RecordFactory) -> None:
    claims = await ready(redis_url)
    await logged(claims, decision_record("d-0"))
    server(redis_url).hset("nba:d:d-0", "record", "{}")
    assert (await claims.claim_many([decision_record("d-0")]))[0].status == "unclaimed"
    assert await claims.find("d-0") is None


@in_loop
async def test_after_a_failure_redis_is_left_alone_for_a_second(redis_url: str) -> None:
    claims = unready("redis://127.0.0.1:1/0", retry_s=0.2)
    assert await claims.ensure(nothing) == "down"
    claims._store._options["port"] = server(redis_url).connection_pool.connection_kwargs["port"]
    assert await claims.ensure(nothing) == "down"
    await asyncio.sleep(0.25)
    assert await claims.ensure(nothing) == "ready"
