"""Claims: a decision_id is decided once, by whichever replica comes first (law 2).

How the server uses it, one call each for a batch:

    claimed = await claims.claim_many(records)
    # new: append claimed.record. stored and committed: answer with it. stored, not committed: append it again, then
    # answer with it. conflict: 409. unclaimed: append it degraded ("claims"), not learnable, epoch 0.
    await wrap_future(log.append(*to_append))        # synced
    fenced = await claims.commit(to_append)          # the mark that they are logged, and the fence, in one
    # False: the store changed hands since the claim, start over with claim_many. True: answer.

Run `await claims.ensure(read)` at the start and about once a second after. It connects, rebuilds and recovers; no
request ever waits for that. After one failure every request is told `unclaimed` at once until `ensure` has seen Redis
answer again, so a hung or dead Redis costs at most one timeout.

What is in the log is what counts, there the first record of an id's highest epoch. A claim that is not known to be
logged (its maker died, or it was read from a log whose last bytes may not be synced) is `stored` and not `committed`:
whoever meets it appends it again, in the present epoch. An answer therefore always has the highest epoch of its id.
Decisions made unclaimed are kept in memory, for retries and for Redis when it is back; where they are too many, it
gets them from the log.

A rebuild brings back what customers agree to as well (`features.consent`): until a new epoch has begun, nobody reads
consent or stored features in Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from features.consent import RESTORE as RESTORE_CONSENT
from features.consent import restore_words
from features.epoch import PREFIX
from nba.errors import UnavailableError
from nba.records import ConsentRecord, DecisionRecord, Record, RewardRecord, decode_record, encode_record
from serving.claim_scripts import CLAIM, COMMIT, COMMIT_REWARD, FIND, RESTORE, RESTORE_REWARD, REWARD
from serving.claim_store import REFILL_S, ClaimStore, State

RewardClaim: TypeAlias = Literal["new", "pending", "duplicate", "conflict", "unavailable"]

BATCH = 200  # claims that one script takes, and records of the log restored at once
HELD = 20_000  # unclaimed decisions kept in memory

_log = logging.getLogger(__name__)


class Claimed(Struct, frozen=True):
    """What became of one claim."""

    status: Literal["new", "stored", "conflict", "unclaimed"]
    record: DecisionRecord  # new: with its epoch; stored, conflict: the stored one; unclaimed: as given, epoch 0
    committed: bool  # known to be in the log; False: append it (again) before answering


class Claims:
    """The claims of one replica. Never raises for a dead, hung or emptied Redis, except where it says so."""

    def __init__(
        self,
        url: str,
        *,
        ttl_s: float,  # seconds a claim is kept: at least as long as a client may retry or report
        prefix: str = PREFIX,
        timeout_s: float = 0.05,  # seconds one call may take
        retry_s: float = 1.0,  # seconds after a failure before Redis is tried again
    ) -> None:
        self._store = ClaimStore(url, prefix=prefix, timeout_s=timeout_s, retry_s=retry_s)
        self._ttl_ms = int(ttl_s * 1_000)
        self._prefix = prefix.encode()
        self._held: dict[str, DecisionRecord] = {}  # logged unclaimed, not yet known to Redis
        self._overflowed = False  # more were: only the log has them all
        self._ensuring = asyncio.Lock()

    @property
    def state(self) -> State:
        """ready: claims are taken. Otherwise they come back unclaimed."""
        return self._store.state

    @property
    def reason(self) -> str:
        """Why it is not ready, for /readyz; empty when it is."""
        return self._store.reason

    @property
    def epoch(self) -> int:
        """Epoch that claims are made under; 0 where they are not taken."""
        return self._store.epoch

    @property
    def needs_rebuild(self) -> bool:
        """Whether the log has to be read before Redis knows every decision again."""
        return self._overflowed or self.state in ("stale", "rebuilding")

    async def claim_many(self, records: Sequence[DecisionRecord]) -> list[Claimed]:
        """One claim a record, in order; atomic for each id."""
        claimed: list[Claimed] = []
        for start in range(0, len(records), BATCH):
            claimed += await self._claim(records[start : start + BATCH])
        return claimed

    async def _claim(self, records: Sequence[DecisionRecord]) -> list[Claimed]:
        keys = [self._claim_key(record.decision_id) for record in records]
        for _ in range(2):  # again where the epoch changed meanwhile: it is part of what is stored
            if not self.epoch:
                break
            stamped = [replace(record, epoch=self.epoch) for record in records]
            arguments = [b"%d" % self._ttl_ms, b"%d" % self.epoch]
            for record in stamped:
                arguments += [record.fingerprint.encode(), encode_record(record)]
            answers = await self._store.ask(CLAIM, keys, arguments, tries=1)
            if answers is not None:
                return [_claimed(record, answer) for record, answer in zip(stamped, answers, strict=True)]
        return [self._unclaimed(record) for record in records]

    def _unclaimed(self, record: DecisionRecord) -> Claimed:
        held = self._held.get(record.decision_id)
        if held is None:
            return Claimed("unclaimed", replace(record, epoch=0), committed=False)
        return Claimed("stored" if held.fingerprint == record.fingerprint else "conflict", held, committed=True)

    async def commit(self, records: Sequence[DecisionRecord]) -> list[bool]:
        """Marks records as logged, after their sync; whether each may be answered (the fence).

        False: a new epoch has begun, or the store is not to be asked; claim it again, which most often gives the
        stored decision of the new epoch, to be appended again.
        Always True for a record of epoch 0: it is kept here for retries until Redis has it too.
        """
        fenced: list[bool] = []
        for start in range(0, len(records), BATCH):
            fenced += await self._commit(records[start : start + BATCH])
        return fenced

    async def _commit(self, records: Sequence[DecisionRecord]) -> list[bool]:
        unclaimed = [record for record in records if not record.epoch]
        if unclaimed:
            self._hold(unclaimed)
            if self.state == "ready":
                with contextlib.suppress(ConnectionError):
                    await self._give_held()
        if len(unclaimed) == len(records):
            return [True] * len(records)
        keys = [self._claim_key(record.decision_id) for record in records]
        epochs = [b"%d" % record.epoch for record in records]
        answers = await self._store.ask(COMMIT, keys, epochs) or [0] * len(records)
        return [not record.epoch or answer == 1 for record, answer in zip(records, answers, strict=True)]

    async def find(self, decision_id: str) -> DecisionRecord | None:
        """The decision of this id, None where there is no claim. Raises UnavailableError where that cannot be known."""
        answers = await self._store.ask(FIND, [self._claim_key(decision_id)], [])
        if answers is not None:
            epoch, payload = answers
            return None if payload is None else _stored(payload, epoch)
        if decision_id in self._held:
            return self._held[decision_id]
        raise UnavailableError(f"the state store cannot be asked: {self.reason}", help="try again in a moment")

    async def claim_reward(self, reward: RewardRecord, *, once: bool) -> RewardClaim:
        """Whether to log this reward; `once` where the pack counts the outcome only once (aggregate `first`).

        new: append it, then commit_reward. pending: it was claimed before and is not known to be logged: the same.
        duplicate: do not append. conflict: the idempotency key came with another outcome or value.
        unavailable: append it; readers take the records of one (decision_id, idempotency_key) for one.
        """
        key, said, outcome = _reward_fields(reward)
        arguments = [b"%d" % self._ttl_ms, key, said, outcome, b"1" if once else b"0"]
        answers = await self._store.ask(REWARD, [self._rewards_key(reward.decision_id)], arguments)
        if answers is None:
            return "unavailable"
        status: RewardClaim = answers[0].decode()
        return status

    async def commit_reward(self, reward: RewardRecord) -> None:
        """Marks a reward as logged, after its sync."""
        if self.state == "ready":
            key, said, _ = _reward_fields(reward)
            with contextlib.suppress(ConnectionError):
                await self._store.run(COMMIT_REWARD, [self._rewards_key(reward.decision_id)], [key, said])

    async def ensure(self, read: Callable[[], Iterable[Record]]) -> State:
        """Connects, checks, and where Redis is not to be trusted refills it from `read()`; run it periodically.

        `read` runs in a thread. Raises what it raises.
        """
        if not self._ensuring.locked():
            async with self._ensuring:
                if await self._meet() and self.needs_rebuild:
                    await self._rebuild(read)
        return self.state

    async def rebuild(self, records: Iterable[Record]) -> bool:
        """Refills Redis from the log and begins a new epoch; False where another replica is at it, or Redis is gone.

        While the present store is trusted, claims go on as before.
        """
        async with self._ensuring:
            return await self._meet() and await self._rebuild(lambda: records)

    async def close(self) -> None:
        """Lets go of the connection."""
        self._store.lose("closed")

    async def _meet(self) -> bool:
        """Whether Redis answers; where its epoch key is right it gets the held decisions, and then is trusted."""
        held = await self._store.meet()
        if held is None:
            return False
        if not self.epoch:
            try:
                if self._store.believable(held):
                    await self._give_held()
            except ConnectionError:
                return False
            self._store.trust(held)  # nothing was held back since: no await in between
        return True

    async def _rebuild(self, read: Callable[[], Iterable[Record]]) -> bool:
        holder = secrets.token_hex(16).encode()
        try:
            if not await self._store.lock(holder):
                self._waits_for("another replica refills Redis from the log")
                return False
            try:
                return await self._refill(read, holder)
            finally:
                await self._store.release(holder)
        except ConnectionError as error:
            _log.warning("the rebuild of the claims is put off: %s", error)
            return False

    async def _refill(self, read: Callable[[], Iterable[Record]], holder: bytes) -> bool:
        if not self.epoch and await self._meet() and self.epoch:  # another replica was just done with it
            return True
        self._waits_for("Redis is being refilled from the log")
        overflowed, self._overflowed = self._overflowed, False
        complete = False
        try:
            now = await self._store.now()
            records = await asyncio.to_thread(lambda: iter(read()))
            statements: list[tuple[datetime, bytes]] = []
            while batch := await asyncio.to_thread(lambda: list(islice(records, BATCH))):
                await self._restore(batch, now)
                statements += [(r.recorded_at, encode_record(r)) for r in batch if isinstance(r, ConsentRecord)]
                if not await self._store.hold(holder):
                    return False
            if not await self._restore_consent(statements, holder):
                return False
            held = await self._store.finish(holder)
            complete = held is not None
        finally:
            self._overflowed |= overflowed and not complete
        return await self._meet() and complete

    def _waits_for(self, reason: str) -> None:
        if not self.epoch:
            self._store.state, self._store.reason = "rebuilding", reason

    async def _restore(self, records: Sequence[Record], now: float) -> None:
        """Puts what is not too old into Redis."""
        decisions: list[tuple[DecisionRecord, int]] = []
        keys: list[bytes] = []
        arguments: list[bytes] = []
        for record in records:
            if isinstance(record, DecisionRecord):
                self._store.highest = max(self._store.highest, record.epoch)
                ttl_ms = self._left(record.decision.decided_at, now)
                decisions += [(record, ttl_ms)] if ttl_ms > 0 else []
            elif isinstance(record, RewardRecord) and (ttl_ms := self._left(record.received_at, now)) > 0:
                keys.append(self._rewards_key(record.decision_id))
                arguments += [b"%d" % ttl_ms, *_reward_fields(record)]
        await self._put(decisions)
        if keys:
            await self._store.run(RESTORE_REWARD, keys, arguments, within_s=REFILL_S)

    async def _restore_consent(self, statements: list[tuple[datetime, bytes]], holder: bytes) -> bool:
        """Puts what customers agree to into Redis, in the order it was recorded; whether the lock was kept.

        Statements are never too old, and the segments of the log are in no order: all of them have to be held first,
        some 400 bytes each.
        """
        statements.sort()
        for start in range(0, len(statements), BATCH):
            records = [decode_record(payload) for _, payload in statements[start : start + BATCH]]
            keys, arguments = restore_words(r for r in records if isinstance(r, ConsentRecord))
            await self._store.run(RESTORE_CONSENT, keys, arguments, within_s=REFILL_S)
            if not await self._store.hold(holder):
                return False
        return True

    def _left(self, since: datetime, now: float) -> int:
        """Milliseconds that a claim of this time has still to be kept."""
        return min(self._ttl_ms - int((now - since.timestamp()) * 1_000), self._ttl_ms)

    async def _put(self, decisions: Sequence[tuple[DecisionRecord, int]]) -> None:
        arguments: list[bytes] = []
        for record, ttl_ms in decisions:
            arguments += [b"%d" % ttl_ms, record.fingerprint.encode(), b"%d" % record.epoch, encode_record(record)]
        if decisions:
            keys = [self._claim_key(record.decision_id) for record, _ in decisions]
            await self._store.run(RESTORE, keys, arguments, within_s=REFILL_S)

    def _hold(self, records: Sequence[DecisionRecord]) -> None:
        for record in records:
            if len(self._held) < HELD:
                self._held.setdefault(record.decision_id, record)
            else:
                self._overflowed = True

    async def _give_held(self) -> None:
        while self._held:
            batch = list(islice(self._held.values(), BATCH))
            await self._put([(record, self._ttl_ms) for record in batch])
            for record in batch:
                self._held.pop(record.decision_id, None)

    def _claim_key(self, decision_id: str) -> bytes:
        return self._prefix + b"d:" + decision_id.encode()

    def _rewards_key(self, decision_id: str) -> bytes:
        return self._prefix + b"r:" + decision_id.encode()


def _claimed(record: DecisionRecord, answer: int | list[Any]) -> Claimed:
    if isinstance(answer, int):
        return Claimed("new", record, committed=False)
    same, committed, epoch, payload = answer
    stored = _stored(payload, epoch)
    if stored is None:
        return Claimed("unclaimed", replace(record, epoch=0), committed=False)
    return Claimed("stored" if same else "conflict", stored, committed=committed == b"1")


def _stored(payload: bytes, epoch: bytes) -> DecisionRecord | None:
    """The record of a claim in the epoch it is now of; None, and a line in the log, where it cannot be read."""
    try:
        record = decode_record(payload)
    except msgspec.MsgspecError as error:
        _log.error("a stored claim cannot be read: %s", error)
        return None
    return replace(record, epoch=int(epoch)) if isinstance(record, DecisionRecord) else None


def _reward_fields(reward: RewardRecord) -> tuple[bytes, bytes, bytes]:
    """The key of a report, what it says, and the key of its outcome, as Redis holds them."""
    said = f"{float(reward.value).hex()} {reward.outcome}"
    return f"k:{reward.idempotency_key}".encode(), said.encode(), f"o:{reward.outcome}".encode()
