"""The Redis behind the claims, and whether it is to be trusted.

Redis holds a view of the log. It is believed while its epoch key names an epoch together with the very server process
we are connected to: a server that was restarted, emptied or replaced may have lost claims, and is asked nothing more
until it has been refilled from the log under a higher epoch.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from redis.asyncio.connection import parse_url

from features.epoch import run_id
from features.redis_pipe import RedisPipe, Script, command
from serving.claim_scripts import ALL, FINISH, HOLD, RELEASE

State: TypeAlias = Literal["ready", "down", "rebuilding", "stale"]

CONNECT_S = 1.0  # no request waits for a connection
REFILL_S = 5.0  # nor for a batch of a rebuild
LOCK_MS = 10_000  # a rebuild that was killed frees its lock after this
S_A_BYTE = 1e-6  # a batch of a megabyte may take a second longer than a question


class ClaimStore:
    """One connection to Redis, and what is known of the store behind it.

    A failure closes the connection, and every question after it fails at once until `meet` has opened another.
    """

    def __init__(self, url: str, *, prefix: str, timeout_s: float, retry_s: float) -> None:
        self._options: dict[str, Any] = dict(parse_url(url))
        self._epoch_key, self._lock_key = f"{prefix}epoch".encode(), f"{prefix}rebuild".encode()
        self._timeout_s, self._retry_s = timeout_s, retry_s
        self._pipe: RedisPipe | None = None
        self._run_id = b""  # of the server process the pipe leads to
        self._trusted: bytes | None = None  # what the epoch key holds while the store is believed
        self._retry_at = 0.0  # loop time
        self.state: State = "down"
        self.reason = "not connected yet"  # why it is not ready
        self.epoch = 0  # 0 where it is not ready
        self.highest = 0  # epoch that was ever seen

    async def ask(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], *, tries: int = 2
    ) -> list[Any] | None:
        """What a script says of the store we believe in; None where there is none, or no longer.

        Where another replica has refilled it meanwhile, the new epoch is taken over, and the second try is for that.
        """
        for _ in range(tries):
            if self._trusted is None:
                return None
            try:
                answer = await self.run(script, [self._epoch_key, *keys], [self._trusted, *arguments])
            except ConnectionError:
                return None
            if answer[0] == 1:
                return answer[1:]  # type: ignore[no-any-return]
            if not self.trust(answer[1]):
                return None
        return None

    async def run(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], *, within_s: float | None = None
    ) -> Any:
        """What a script answers, whatever the store is worth. Raises ConnectionError."""
        words = [b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments]
        return (await self._send([words], within_s or self._timeout_s))[0]

    async def meet(self) -> bytes | None:
        """What the epoch key holds, empty where there is none; None where Redis does not answer. Connects if need be.

        Where the key is not what it was, the store is not believed any more.
        """
        if self._pipe is None and not await self._connect():
            return None
        try:
            (held,) = await self._send([[b"GET", self._epoch_key]], self._timeout_s)
        except ConnectionError:
            return None
        if self._trusted is not None and held != self._trusted:
            self.trust(held)
        return held or b""

    def believable(self, held: bytes | None) -> bool:
        """Whether an epoch key of this content was written for the server we are connected to."""
        epoch, _, written_for = (held or b"").partition(b":")
        return epoch.isdigit() and bool(written_for) and written_for == self._run_id

    def trust(self, held: bytes | None) -> bool:
        """Believes in the store under this content of the epoch key, if that is believable."""
        if held is not None and self.believable(held):
            self._trusted, self.epoch = held, int(held.partition(b":")[0])
            self.highest = max(self.highest, self.epoch)
            self.state, self.reason = "ready", ""
            return True
        self._trusted, self.epoch = None, 0
        self.state, self.reason = "stale", "Redis is empty, or was restarted: it has to be refilled from the log"
        return False

    def lose(self, reason: str) -> None:
        """Closes the connection; it is not opened again for `retry_s`."""
        if self._pipe is not None:
            self._pipe.close()
        self._pipe, self._trusted, self.epoch = None, None, 0
        self.state, self.reason = "down", reason
        self._retry_at = asyncio.get_running_loop().time() + self._retry_s

    async def lock(self, holder: bytes) -> bool:
        """Whether this holder may refill the store now. Raises ConnectionError."""
        words = [b"SET", self._lock_key, holder, b"NX", b"PX", b"%d" % LOCK_MS]
        return (await self._send([words], self._timeout_s))[0] is not None

    async def hold(self, holder: bytes) -> bool:
        """Keeps the lock for longer; whether it was still this holder's. Raises ConnectionError."""
        return bool(await self.run(HOLD, [self._lock_key], [holder, b"%d" % LOCK_MS]))

    async def release(self, holder: bytes) -> None:
        """Gives the lock back, if it is this holder's. Raises ConnectionError."""
        await self.run(RELEASE, [self._lock_key], [holder])

    async def finish(self, holder: bytes) -> bytes | None:
        """Begins a new epoch and gives the lock back: the epoch key, or None where the lock went to another.

        Raises ConnectionError.
        """
        arguments = [holder, b"%d" % (self.highest + 1), self._run_id]
        held: bytes | None = await self.run(FINISH, [self._epoch_key, self._lock_key], arguments)
        return held

    async def now(self) -> float:
        """Seconds since 1970 by the clock of Redis. Raises ConnectionError."""
        seconds, microseconds = (await self._send([[b"TIME"]], self._timeout_s))[0]
        return int(seconds) + int(microseconds) / 1e6

    async def _connect(self) -> bool:
        if asyncio.get_running_loop().time() < self._retry_at:
            return False
        try:
            async with asyncio.timeout(CONNECT_S):
                self._pipe = await RedisPipe.connect(self._options)
            loads = [[b"SCRIPT", b"LOAD", script.text] for script in ALL]
            described, *_ = await self._send([[b"INFO"], *loads], CONNECT_S)
        except (OSError, ValueError) as error:
            self.lose(f"{type(error).__name__}: {error}")
            return False
        return self._examine(described)

    def _examine(self, described: bytes) -> bool:
        told = run_id(described)
        limit = re.search(rb"^maxmemory:(\d+)", described, re.MULTILINE)
        policy = re.search(rb"^maxmemory_policy:(\S+)", described, re.MULTILINE)
        if not told:
            self.lose("Redis does not tell its run_id (INFO)")
            return False
        if limit and int(limit[1]) and policy and policy[1] != b"noeviction":
            self.lose(f"Redis drops keys when it is full: set maxmemory-policy noeviction, not {policy[1].decode()}")
            return False
        self._run_id = told
        return True

    async def _send(self, commands: Sequence[Sequence[bytes]], within_s: float) -> list[Any]:
        """The replies to these commands. Raises ConnectionError where one fails; then the connection is closed."""
        pipe = self._pipe
        if pipe is None:
            raise ConnectionError(self.reason)
        encoded = b"".join(command(*words) for words in commands)
        within_s += len(encoded) * S_A_BYTE
        try:
            replies = await pipe.ask(encoded, len(commands), within_s=within_s)
            if replies is None:
                raise ConnectionError(f"no answer in {within_s * 1_000:.0f} ms")
            for reply in replies:
                if isinstance(reply, Exception):
                    raise ConnectionError(f"Redis objects: {reply}")
        except ConnectionError as error:
            if pipe is self._pipe:
                self.lose(str(error))
            raise
        return replies
