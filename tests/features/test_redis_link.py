from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import redis

from features import redis_link
from features.plan import FeatureStoreError
from features.redis_link import RedisLink
from features.redis_pipe import Script, command

ECHO = Script.of("return ARGV[1]")
RUN = command(b"EVALSHA", ECHO.sha, b"0", b"hello")
WITHIN_S = 0.2
T = TypeVar("T")


def using(url: str | None, job: Callable[[RedisLink], Awaitable[T]]) -> T:
    async def main() -> T:
        link = RedisLink(url, (ECHO,))
        try:
            return await job(link)
        finally:
            await link.close()

    return asyncio.run(main())


async def timed(link: RedisLink) -> tuple[Any, float]:
    began = time.monotonic()
    return await link.ask(RUN, 1, WITHIN_S), time.monotonic() - began


def test_scripts_are_known_from_the_first_question_on(redis_url: str) -> None:
    async def job(link: RedisLink) -> list[Any]:
        return await asyncio.gather(*(link.ask(RUN, 1, 5.0) for _ in range(50)))

    assert using(redis_url, job) == [[b"hello"]] * 50


def test_scripts_that_were_dropped_cost_one_question(redis_url: str) -> None:
    async def job(link: RedisLink) -> list[Any]:
        await link.ask(RUN, 1, 5.0)
        with redis.Redis.from_url(redis_url) as client:
            client.script_flush()
        return [await link.ask(RUN, 1, 5.0) for _ in range(2)]

    (lost,), found = using(redis_url, job)
    assert str(lost).startswith("NOSCRIPT")
    assert found == [b"hello"]


def test_without_an_address_or_time_there_is_no_answer(redis_url: str) -> None:
    assert using(None, lambda link: link.ask(RUN, 1, 5.0)) is None
    assert using(redis_url, lambda link: link.ask(RUN, 1, 0.0)) is None
    with pytest.raises(FeatureStoreError, match="redis://host:port/db"):
        RedisLink("http://localhost")


def test_a_dead_store_costs_nothing_and_is_tried_again_after_a_rest(
    own_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "REST_S", 0.2)

    async def job(link: RedisLink) -> list[tuple[Any, float]]:
        found = [await timed(link)]
        own_redis.kill()
        found += [await timed(link), await timed(link)]
        own_redis.start()
        await asyncio.sleep(redis_link.REST_S)
        return [*found, await timed(link)]

    found = using(own_redis.url, job)
    assert [answer for answer, _ in found] == [[b"hello"], None, None, [b"hello"]]
    assert max(took for _, took in found) < WITHIN_S / 2


def test_a_hung_store_costs_one_deadline_then_nothing(own_redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "REST_S", 0.5)

    async def job(link: RedisLink) -> list[tuple[Any, float]]:
        found = [await timed(link)]
        own_redis.send(signal.SIGSTOP)
        found += [await timed(link) for _ in range(3)]
        own_redis.send(signal.SIGCONT)
        await asyncio.sleep(redis_link.REST_S)
        return [*found, await timed(link)]

    found = using(own_redis.url, job)
    assert [answer for answer, _ in found] == [[b"hello"], None, None, None, [b"hello"]]
    assert found[1][1] >= WITHIN_S
    assert sum(took for _, took in found[2:4]) < WITHIN_S / 2


def test_who_is_cancelled_leaves_the_others_their_own_answers(redis_url: str) -> None:
    async def job(link: RedisLink) -> list[Any]:
        asked = [asyncio.ensure_future(link.ask(command(b"ECHO", b"%d" % i), 1, 5.0)) for i in range(100)]
        await asyncio.sleep(0)
        for task in asked[::3]:
            task.cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [i for i, answer in enumerate(found) if isinstance(answer, list) and answer != [b"%d" % i]]

    assert using(redis_url, job) == []
