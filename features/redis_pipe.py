"""One connection to Redis that many tasks share, as lean as asyncio allows.

What tasks send goes out in order and the replies come back in order, so concurrent reads pipeline by themselves
and no pool is needed. A task that gives up leaves its place in the queue: its replies are read and dropped, and
can never be taken for another's. The stock client costs three times the CPU a read, and a connection a task.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import hiredis
from redis.asyncio.connection import SSLConnection

GRACE_S = 0.005  # over the deadline, for what came while the event loop was busy
Reply = Any  # bytes, int, None, a list of replies, or a hiredis.ReplyError


def command(*words: bytes) -> bytes:
    """A command as Redis reads it."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, which Redis runs atomically, and the name Redis knows it by."""

    text: bytes = field(repr=False)
    sha: bytes

    @classmethod
    def of(cls, text: str) -> Script:
        """The script of this text."""
        encoded = text.encode()
        return cls(encoded, hashlib.sha1(encoded).hexdigest().encode())  # noqa: S324 - the name Redis gives it


class RedisPipe(asyncio.Protocol):
    """A connection; `connect` opens it, `ask` uses it. Once lost it stays so: open another."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[list[Reply] | None], list[Reply], int]] = deque()
        self._transport: asyncio.Transport | None = None
        self.silent_since = 0.0  # while something is asked: when it was, or anything came, on the event loop's clock

    @classmethod
    async def connect(cls, options: Mapping[str, Any]) -> RedisPipe:
        """A connection as `redis.asyncio.connection.parse_url` describes it, authenticated, its database selected.

        Raises OSError, which includes what the server objects to, and ValueError for a host that is no name.
        """
        loop = asyncio.get_running_loop()
        if "path" in options:
            _, pipe = await loop.create_unix_connection(cls, options["path"])
        else:
            context = _tls(options) if options.get("connection_class") is SSLConnection else None
            address = options.get("host", "localhost"), options.get("port", 6379)
            _, pipe = await loop.create_connection(cls, *address, ssl=context)
        try:
            await pipe._introduce(options)
        except BaseException:
            pipe.close()
            raise
        return pipe

    async def _introduce(self, options: Mapping[str, Any]) -> None:
        greeting = []
        if "password" in options:
            user = [options["username"].encode()] if "username" in options else []
            greeting.append(command(b"AUTH", *user, options["password"].encode()))
        if options.get("db"):
            greeting.append(command(b"SELECT", b"%d" % options["db"]))
        replies = await self.ask(b"".join(greeting), len(greeting)) if greeting else []
        for reply in replies or ():
            if isinstance(reply, Exception):
                raise ConnectionRefusedError(str(reply))

    @property
    def lost(self) -> bool:
        """True where nothing can be asked any more."""
        return self._transport is None or self._transport.is_closing()

    def ask(
        self, commands: bytes, replies: int, *, within_s: float | None = None
    ) -> asyncio.Future[list[Reply] | None]:
        """The replies to these commands, of which there are so many; None where they take longer than `within_s`.

        Fails with ConnectionError.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Reply] | None] = loop.create_future()
        if self._transport is None or self._transport.is_closing():
            future.set_exception(ConnectionError("the connection to Redis is lost"))
            return future
        if within_s is not None:
            # Not asyncio.timeout: it would also give up a reply that came, or a question that could not even go out,
            # while the event loop was busy elsewhere. Once the time is up, what is under way gets a moment more.
            timer = loop.call_later(within_s, lambda: loop.call_later(GRACE_S, _give_up, future))
            future.add_done_callback(lambda _: timer.cancel())
        if not self._waiting:
            self.silent_since = loop.time()
        self._waiting.append((future, [], replies))
        self._transport.write(commands)
        return future

    def close(self) -> None:
        """Ends the connection at once; what was asked fails."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is one

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self.silent_since = asyncio.get_running_loop().time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except (hiredis.ProtocolError, IndexError):  # not a Redis, or an answer that nobody asked for
            self.close()

    def _take(self, reply: Reply) -> None:
        future, replies, wanted = self._waiting[0]
        replies.append(reply)
        if len(replies) == wanted:
            self._waiting.popleft()
            if not future.done():
                future.set_result(replies)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None
        while self._waiting:
            future, _, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionError(f"the connection to Redis is lost: {error}"))


def _give_up(future: asyncio.Future[list[Reply] | None]) -> None:
    if not future.done():
        future.set_result(None)


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
