"""Consent on a real Redis that is emptied, restarted, refilled and cut off at any moment, told by two replicas.

Whenever consent can be read at all, it is at least as new as the newest statement that was answered; and once Redis
has been refilled it is what the log says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from features.consent import STATE, ConsentStore
from features.redis_pipe import Script
from nba.errors import UnavailableError
from nba.records import ConsentRecord, Record
from serving.claims import Claims
from serving.consents import Consents
from serving.errors import UnavailableNowError
from serving.uninterrupted import Uninterrupted
from serving.wire import ConsentBody

pytestmark = pytest.mark.system

WALKS = int(os.environ.get("NBA_TEST_WALKS", "150"))
EVENTS = 30  # of one walk
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
PURPOSES = ("personalization", "proactive_contact")


class Log:
    """A log in a list, which is there for every reader at once."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, *records: Record) -> Future[None]:
        self.records += records
        done: Future[None] = Future()
        done.set_result(None)
        return done


class Store(ConsentStore):
    """A store that may be cut off before or after what is stated gets to Redis."""

    cut_off: str | None = None

    async def state(self, statement: ConsentRecord) -> Any:
        cut_off, self.cut_off = self.cut_off, None
        if cut_off == "before":
            raise UnavailableError("cut off", help="")
        stored = await super().state(statement)
        if cut_off == "after":
            raise UnavailableError("cut off", help="")
        return stored


class Machine:
    """Two replicas over one log and one Redis; their clocks differ by 3 seconds."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self.server = redis.Redis.from_url(url)
        self.server.flushall()
        self.rng, self.log, self.seconds = rng, Log(), 0
        self.claims = [Claims(url, ttl_s=3_600.0, timeout_s=10.0, retry_s=0.0) for _ in range(2)]
        self.stores = [Store(url, timeout_s=10.0) for _ in range(2)]
        self.consents = [self._consents(at) for at in range(2)]
        self.backup: dict[bytes, bytes] = {}
        self.answered: dict[str, ConsentRecord] = {}  # purpose -> the last statement of it that was answered

    def _consents(self, at: int) -> Consents:
        work = Uninterrupted()
        return Consents(
            (), self.stores[at], self.log, lambda subject: subject, uninterrupted=work, clock=lambda: self._now(at)
        )

    def _now(self, at: int) -> datetime:
        return START + timedelta(seconds=self.seconds + 3 * at)

    async def say(self) -> None:
        """A customer says something, of now or of some seconds around it; at times one replica is cut off."""
        self.seconds += 1
        at, purpose = self.rng.randrange(2), self.rng.choice(PURPOSES)
        dated = self._now(at) + timedelta(seconds=self.rng.randint(-5, 5)) if self.rng.random() < 0.5 else None
        self.stores[at].cut_off = self.rng.choice(["before", "after", None, None, None])
        body = ConsentBody(purposes={purpose: self.rng.random() < 0.5}, observed_at=dated)
        try:
            answer = await self.consents[at].state("0a", body)
        except UnavailableNowError:
            return
        statement = self.log.records[-1]
        assert isinstance(statement, ConsentRecord)
        if dated is None:
            assert answer.purposes[purpose].granted is body.purposes[purpose], "a word of now did not hold"
        before = self.answered.get(purpose, statement)
        self.answered[purpose] = max(before, statement, key=lambda told: rank(told, purpose))

    async def refill(self) -> None:
        """What a server does once a second."""
        await self.claims[self.rng.randrange(2)].ensure(lambda: list(self.log.records))

    async def refill_slowly(self) -> None:
        """The same, while customers go on speaking."""

        def read() -> Iterator[Record]:
            yield from list(self.log.records)

        refill = asyncio.create_task(self.claims[0].ensure(read))
        for _ in range(3):
            await asyncio.sleep(0.0005)
            await self.say()
        await refill

    async def empty(self) -> None:
        self.server.flushall()

    async def back_up(self) -> None:
        self.backup = {key: self.server.dump(key) for key in self.server.scan_iter() if key != b"nba:rebuild"}

    async def restart(self) -> None:
        """Redis comes back with what was on its disk: the epoch key names another process."""
        self.server.flushall()
        for key, value in self.backup.items():
            self.server.restore(key, 0, value)
        held = self.server.get("nba:epoch")
        if held is not None:
            self.server.set("nba:epoch", held.partition(b":")[0] + b":another")

    async def check(self) -> None:
        """Raises AssertionError where consent is read that is older than what was answered."""
        with contextlib.suppress(UnavailableError):
            found = (await self.stores[0].read("0a")).purposes
            for purpose, answered in self.answered.items():
                since = [r for r in self._told(purpose) if rank(r, purpose) >= rank(answered, purpose)]
                assert found[purpose].granted in {told.purposes[purpose] for told in since}, (
                    "older than what was answered"
                )

    async def check_end(self) -> None:
        """Emptied and refilled, it is what the log says."""
        self.server.flushall()
        while await self.claims[0].ensure(lambda: list(self.log.records)) != "ready":
            await asyncio.sleep(0.001)
        found = (await self.stores[1].read("0a")).purposes
        for purpose in PURPOSES:
            if told := self._told(purpose):
                newest = max(told, key=lambda record: rank(record, purpose))
                assert found[purpose].granted is newest.purposes[purpose], "not what the log says"

    def _told(self, purpose: str) -> list[ConsentRecord]:
        return [r for r in self.log.records if isinstance(r, ConsentRecord) and purpose in r.purposes]

    async def close(self) -> None:
        for each in (*self.claims, *self.stores):
            await each.close()
        self.server.close()


def rank(told: ConsentRecord, purpose: str) -> tuple[datetime, bool]:
    """Of two statements the one of the higher rank holds."""
    return told.observed_at, not told.purposes[purpose]


async def walk(url: str, seed: int) -> int:
    rng = random.Random(seed)
    machine = Machine(url, rng)
    try:
        await machine.refill()
        for _ in range(EVENTS):
            event = (
                "say"
                if rng.random() < 0.5
                else rng.choice(["refill", "refill", "refill", "refill_slowly", "empty", "back_up", "restart"])
            )
            await getattr(machine, event)()
            await machine.check()
        await machine.check_end()
        return len(machine.answered)
    finally:
        await machine.close()


def test_no_order_of_events_loses_what_was_answered(redis_url: str) -> None:
    async def main() -> int:
        return sum([await walk(redis_url, seed) for seed in range(WALKS)])

    assert asyncio.run(main()) > WALKS


def _state(right: str, wrong: str) -> Script:
    text = STATE.text.decode()
    assert right in text
    return Script.of(text.replace(right, wrong))


@pytest.mark.parametrize(
    ("place", "broken"),
    [
        ("serving.claims.restore_words", lambda statements: ([], [b"200"])),  # a refill brings nothing back
        ("features.consent.STATE", _state("whole(KEYS[1], ARGV[1]) and 1 or 0", "1")),  # what was lost is not noticed
        ("features.consent.STATE", _state("not was or later > 0", "true")),  # what comes last holds
        ("serving.consents.replace", lambda statement, **_: statement),  # a word of now is of our clock
    ],
    ids=["no refill", "no epoch", "no order", "no later moment"],
)
def test_the_walks_find_what_is_left_out(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, place: str, broken: Any
) -> None:
    async def search() -> None:
        for seed in range(WALKS):
            await walk(redis_url, seed)

    monkeypatch.setattr(place, broken)
    with pytest.raises((AssertionError, KeyError)):
        asyncio.run(search())
