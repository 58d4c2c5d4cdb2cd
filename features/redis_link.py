"""A way to Redis that may fail: one connection, opened when needed, left alone for a while after a failure.

Nothing here raises for a store that is dead, hung or being replaced, and no caller waits longer than it said.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import hiredis
from redis.asyncio.connection import parse_url

from features.epoch import run_id
from features.plan import FeatureStoreError
from features.redis_pipe import RedisPipe, Reply, Script, command

REST_S = 1.0  # how long a store that failed is left alone
PATIENT_S = 0.02  # a store that sends nothing for so long is broken; a caller in more hurry proves nothing
CONNECT_S = 1.0  # for opening a connection, which outlives the one caller that needed it first

Commands: TypeAlias = bytes | Callable[[bytes], bytes]  # the latter made for the run_id of the server they go to


class RedisLink:
    """One connection of one event loop; it connects at the first question, and anew when needed.

    A store that fails, or lets a deadline pass, costs that one deadline; for a second after that, questions come back
    without an answer at once. Then one question tries again while the others go on without.
    """

    def __init__(self, redis_url: str | None, scripts: Sequence[Script] = ()) -> None:
        """A link to the Redis of this URL, or to none, that makes the scripts known before the first question.

        Raises FeatureStoreError for an URL that is none.
        """
        self._address = None if redis_url is None else _address(redis_url)
        self._scripts = scripts
        self._pipe: RedisPipe | None = None
        self._run_id = b""  # of the server process it leads to
        self._connecting: asyncio.Task[None] | None = None
        self._rests_until = 0.0  # on the event loop's clock, as is the next
        self._connecting_since = 0.0

    async def ask(self, commands: Commands, n: int, within_s: float) -> list[Reply] | None:
        """The replies to these n commands; None where the store failed or did not answer in so many seconds."""
        began = asyncio.get_running_loop().time()
        if self._address is None or within_s <= 0 or began < self._rests_until:
            return None
        if self._rests_until:
            self._rests_until = began + REST_S  # this question tries; the others do not wait for what it finds
        replies = await self._ask(commands, n, began + within_s)
        if replies is not None:
            self._rests_until = 0.0
            if isinstance(replies[0], hiredis.ReplyError) and str(replies[0]).startswith("NOSCRIPT"):
                self._close()  # somebody has dropped the scripts: the next question connects, which loads them
        return replies

    async def _ask(self, commands: Commands, n: int, until: float) -> list[Reply] | None:
        clock = asyncio.get_running_loop().time
        try:
            pipe = self._pipe
            if pipe is None or pipe.lost:
                pipe = await self._connect(until - clock())
            encoded = commands if isinstance(commands, bytes) else commands(self._run_id)
            replies = await pipe.ask(encoded, n, within_s=until - clock())
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
        self._close()

    def _close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()

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
                pipe = await RedisPipe.connect(address)
                try:
                    self._run_id = await self._prepare(pipe)
                except BaseException:
                    pipe.close()
                    raise
                self._pipe = pipe

    async def _prepare(self, pipe: RedisPipe) -> bytes:
        """Makes the scripts known; the run_id of the server. Raises ConnectionError."""
        loads = [command(b"SCRIPT", b"LOAD", script.text) for script in self._scripts]
        replies = await pipe.ask(b"".join([command(b"INFO", b"server"), *loads]), 1 + len(loads))
        return run_id(replies[0] if replies else None)

    async def close(self) -> None:
        """Ends the connection. A later question opens another."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        self._close()
        self._pipe = self._connecting = None


def _address(redis_url: str) -> Mapping[str, Any]:
    try:
        return dict(parse_url(redis_url))
    except ValueError as error:
        raise FeatureStoreError(f"no Redis can be at this URL: {error}", help="write redis://host:port/db") from None
