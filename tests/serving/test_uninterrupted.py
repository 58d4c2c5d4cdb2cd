from __future__ import annotations

import asyncio

import pytest

from serving.uninterrupted import Uninterrupted


def test_work_ends_where_its_caller_goes_away_and_drain_waits_for_it() -> None:
    async def scenario() -> None:
        uninterrupted, ended = Uninterrupted(), []

        async def work() -> None:
            await asyncio.sleep(0.02)
            ended.append(True)

        caller = asyncio.create_task(uninterrupted.run(work()))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended == []
        await uninterrupted.drain()
        assert ended == [True]

    asyncio.run(scenario())


def test_its_result_and_its_error_reach_the_caller() -> None:
    async def fails() -> int:
        raise ZeroDivisionError

    async def scenario() -> None:
        uninterrupted = Uninterrupted()
        assert await uninterrupted.run(asyncio.sleep(0, 5)) == 5
        with pytest.raises(ZeroDivisionError):
            await uninterrupted.run(fails())

    asyncio.run(scenario())
