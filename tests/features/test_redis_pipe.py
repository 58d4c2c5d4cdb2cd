from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import uvloop
from redis.asyncio.connection import parse_url

from features.redis_pipe import RedisPipe, command

pytestmark = pytest.mark.system

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


async def ask(pipe: RedisPipe, *words: bytes) -> Any:
    replies = await pipe.ask(command(*words), 1)
    return None if replies is None else replies[0]


def test_a_command_is_an_array_of_strings() -> None:
    assert command(b"GET", b"") == b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n"


def test_replies_come_in_the_order_asked(redis_url: str) -> None:
    async def main() -> list[Any]:
        pipe = await RedisPipe.connect(parse_url(redis_url))
        found = await asyncio.gather(*(ask(pipe, b"ECHO", b"%d" % i) for i in range(200)))
        pipe.close()
        return found

    assert asyncio.run(main()) == [b"%d" % i for i in range(200)]


def test_a_task_that_gave_up_does_not_shift_the_replies(redis_url: str) -> None:
    """BLPOP holds the connection for a moment; who asked it has gone when its reply comes."""

    async def main() -> Any:
        pipe = await RedisPipe.connect(parse_url(redis_url))
        gone = pipe.ask(command(b"BLPOP", b"nothing", b"0.05"), 1)
        given_up = pipe.ask(command(b"ECHO", b"given up"), 1, within_s=0.001)
        await asyncio.sleep(0.01)
        gone.cancel()
        found = await ask(pipe, b"ECHO", b"mine")
        pipe.close()
        return found, await given_up

    assert asyncio.run(main()) == (b"mine", None)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_reply_that_came_while_the_loop_was_busy_is_in_time(
    redis_url: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> Any:
        pipe = await RedisPipe.connect(parse_url(redis_url))
        here, there = socket.socketpair()
        with here, there:
            # A callback of the loop that takes five deadlines; the reply comes meanwhile.
            asyncio.get_running_loop().add_reader(here, lambda: (here.recv(1), time.sleep(0.1)))
            there.send(b"x")
            try:
                found = await pipe.ask(command(b"ECHO", b"here"), 1, within_s=0.02)
            finally:
                asyncio.get_running_loop().remove_reader(here)
        pipe.close()
        return found

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()) == [b"here"]


def test_the_database_of_the_url_is_the_one_read(redis_url: str) -> None:
    url = redis_url.removesuffix("/0") + "/3"

    async def main() -> Any:
        pipe = await RedisPipe.connect(parse_url(url))
        found = await ask(pipe, b"GET", b"where")
        pipe.close()
        return found

    with redis.Redis.from_url(url) as client:
        client.set("where", "three")
    assert asyncio.run(main()) == b"three"


def test_a_password_that_the_server_does_not_have_is_refused(redis_url: str) -> None:
    async def main() -> None:
        await RedisPipe.connect({**parse_url(redis_url), "password": "secret"})

    with pytest.raises(ConnectionRefusedError, match="AUTH"):
        asyncio.run(main())


def test_what_is_asked_of_a_lost_connection_fails(redis_url: str) -> None:
    async def main() -> None:
        pipe = await RedisPipe.connect(parse_url(redis_url))
        waiting = asyncio.ensure_future(ask(pipe, b"BLPOP", b"nothing", b"5"))
        await asyncio.sleep(0.01)
        pipe.close()
        with pytest.raises(ConnectionError):
            await waiting
        assert pipe.lost
        with pytest.raises(ConnectionError):
            await ask(pipe, b"PING")

    asyncio.run(main())


def test_a_server_that_speaks_no_redis_is_left(redis_url: str) -> None:
    async def main() -> None:
        server = await asyncio.start_server(_rubbish, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pipe = await RedisPipe.connect({"host": "127.0.0.1", "port": port})
        with pytest.raises(ConnectionError):
            await ask(pipe, b"PING")
        server.close()

    async def _rubbish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    asyncio.run(main())
