"""The online reader: a batch of subjects' features in one round trip, within a deadline, never an exception.

Reads Feast's own layout in Redis by a compiled plan, without importing Feast. Redis keeps a subject as one hash:
key = the entity key, then the project; for each feature a field with its value; for each view `_ts:view` with the
event time. Feast itself gives out values past their TTL, and future ones; here they are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct
from redis.asyncio.connection import parse_url

from features.feature_value import read_timestamp, value_reader
from features.plan import FeatureStoreError, ReadPlan, load_plan
from features.redis_pipe import RedisPipe, Reply, command
from nba.types import Value

SKEW_S = 5.0  # how far ahead of our clock the writer's may be before a value counts as future-dated
REST_S = 1.0  # how long a store that failed is left alone
PATIENT_S = 0.02  # a store that sends nothing for so long is broken; a caller in more hurry proves nothing
CONNECT_S = 1.0  # for opening a connection, which outlives the one caller that needed it first


class FeatureRow(Struct, frozen=True):
    """What is known of one subject."""

    values: dict[str, Value]  # field of the pack -> value; missing, unusable and too old ones are left out
    age_s: dict[str, float]  # view -> age of what the store has, seconds, also where it is too old to use


class Fetched(Struct, frozen=True):
    """One row a subject, in the order asked."""

    rows: list[FeatureRow]
    degraded: bool  # the store failed: rows are empty that need not be


class RowReader:
    """A plan made ready: what to ask Redis for a subject, and what its reply says."""

    def __init__(self, plan: ReadPlan) -> None:
        self.views = plan.views
        self._prefix, self._project = plan.key_prefix, plan.project.encode()
        self.redis_fields = (
            *(feature.redis_field for feature in plan.features),
            *(f"_ts:{view}".encode() for view in plan.views),
        )
        self._asked = command(b"HMGET", b"", *self.redis_fields).split(b"$0\r\n\r\n", 1)
        self._features = [
            (f.field, plan.views.index(f.view), value_reader(f.value_type), _no_limit(f.max_age_s))
            for f in plan.features
        ]

    def key(self, subject_id: str) -> bytes:
        """Redis key of a subject."""
        # An id that is not Unicode finds nothing, but must not raise.
        subject = subject_id.encode("utf-8", "surrogatepass")
        return b"%b%b%b%b" % (self._prefix, struct.pack("<I", len(subject)), subject, self._project)

    def command(self, subject_id: str) -> bytes:
        """The command that reads all of a subject's features."""
        head, tail = self._asked
        key = self.key(subject_id)
        return b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail)

    def row(self, reply: Sequence[bytes | None], now: float) -> FeatureRow:
        """What a reply says of its subject at this time, in seconds since 1970."""
        ages = [self._age(raw, now) for raw in reply[len(self._features) :]]
        values: dict[str, Value] = {}
        for (field, view, read, max_age_s), raw in zip(self._features, reply, strict=False):
            age = ages[view]
            if raw is not None and age is not None and age <= max_age_s:
                value = read(raw)
                if value is not None:
                    values[field] = value
        return FeatureRow(values, {view: age for view, age in zip(self.views, ages, strict=True) if age is not None})

    @staticmethod
    def _age(raw: bytes | None, now: float) -> float | None:
        at = read_timestamp(raw)
        return None if at is None or at > now + SKEW_S else max(0.0, now - at)


class OnlineReader:
    """Reads the features of one pack. One reader an event loop; it connects at its first fetch, and anew when needed.

    A store that fails, or lets a deadline pass, costs that one deadline; for a second after that, reads come back
    empty at once. Then one read tries again while the others go on without.
    """

    def __init__(self, plan: ReadPlan, redis_url: str | None) -> None:
        self._rows = RowReader(plan)
        self._reads_nothing = not plan.features
        self._address = None if redis_url is None else _address(redis_url)
        self._pipe: RedisPipe | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._rests_until = 0.0  # on the event loop's clock, as is the next
        self._connecting_since = 0.0

    @classmethod
    def open(cls, plan_path: Path, redis_url: str | None) -> OnlineReader:
        """A reader by the plan in this file; without a URL every read is degraded. Raises FeatureStoreError."""
        return cls(load_plan(plan_path), redis_url)

    async def fetch(self, subject_ids: Sequence[str], deadline_s: float, *, now: datetime) -> Fetched:
        """The features of these subjects in one round trip; empty rows and `degraded` after `deadline_s` seconds.

        Ages count from `now`. Raises nothing for a store that is dead, hung, empty or full of rubbish.
        """
        if self._reads_nothing or not subject_ids:
            return Fetched([FeatureRow({}, {}) for _ in subject_ids], degraded=False)
        began = asyncio.get_running_loop().time()
        if self._address is None or deadline_s <= 0 or began < self._rests_until:
            return _nothing(len(subject_ids))
        if self._rests_until:
            self._rests_until = began + REST_S  # this read tries; the others do not wait for what it finds
        replies = await self._ask(b"".join(map(self._rows.command, subject_ids)), len(subject_ids), began + deadline_s)
        if replies is None:
            return _nothing(len(subject_ids))
        self._rests_until = 0.0
        return self._fetched(replies, now.timestamp())

    async def _ask(self, commands: bytes, n: int, until: float) -> list[Reply] | None:
        """The replies; None where the store failed or did not answer in time."""
        clock = asyncio.get_running_loop().time
        try:
            pipe = self._pipe
            if pipe is None or pipe.lost:
                pipe = await self._connect(until - clock())
            replies = await pipe.ask(commands, n, within_s=until - clock())
            silent_since = pipe.silent_since
        except ConnectionError:
            self._rest(clock() + REST_S)
            return None
        except TimeoutError:
            replies, silent_since = None, self._connecting_since
        if replies is None and clock() - silent_since >= PATIENT_S:
            self._rest(clock() + REST_S)
        return replies

    def _rest(self, until: float) -> None:
        self._rests_until = until
        if self._pipe is not None:
            self._pipe.close()

    def _fetched(self, replies: list[Reply], now: float) -> Fetched:
        told = [isinstance(reply, list) for reply in replies]  # else an error, such as a key of another type
        rows = [
            self._rows.row(reply, now) if good else FeatureRow({}, {})
            for reply, good in zip(replies, told, strict=True)
        ]
        return Fetched(rows, degraded=not all(told))

    async def _connect(self, within_s: float) -> RedisPipe:
        """The connection, once it is there. Raises TimeoutError, and ConnectionError where it cannot be opened."""
        # In a task of its own: a caller whose deadline passes must not undo it for those who wait with it.
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._open_pipe(self._address or {}))
            self._connecting_since = asyncio.get_running_loop().time()
        connecting = self._connecting
        await asyncio.wait((connecting,), timeout=within_s)
        if not connecting.done():
            raise TimeoutError
        if self._pipe is None:
            raise ConnectionError
        return self._pipe

    async def _open_pipe(self, address: Mapping[str, Any]) -> None:
        self._pipe = None
        with contextlib.suppress(OSError, ValueError):  # a timeout is an OSError
            async with asyncio.timeout(CONNECT_S):
                self._pipe = await RedisPipe.connect(address)

    async def close(self) -> None:
        """Ends the connection. A later fetch opens another."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = self._connecting = None


def _address(redis_url: str) -> Mapping[str, Any]:
    try:
        return dict(parse_url(redis_url))
    except ValueError as error:
        raise FeatureStoreError(f"no Redis can be at this URL: {error}", help="write redis://host:port/db") from None


def _no_limit(max_age_s: float | None) -> float:
    return float("inf") if max_age_s is None else max_age_s


def _nothing(n: int) -> Fetched:
    return Fetched([FeatureRow({}, {}) for _ in range(n)], degraded=True)
