from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serving.together import Together


class Work:
    """Doubles numbers, once it may; remembers its batches. Zero is too much for it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.may.wait()
        return [2 * (number // number) * number for number in numbers]


def test_what_comes_while_a_batch_is_under_way_makes_the_next_one() -> None:
    async def scenario() -> None:
        work = Work()
        together = Together(work, most=3, many=9)
        first = asyncio.create_task(together.ask(1))
        await asyncio.sleep(0.01)
        rest = [asyncio.create_task(together.ask(n)) for n in (2, 3, 4, 5)]
        await asyncio.sleep(0.01)
        assert work.batches == [[1]]
        work.may.set()
        assert await asyncio.gather(first, *rest) == [2, 4, 6, 8, 10]
        assert work.batches == [[1], [2, 3, 4], [5]]  # no more than three at once

    asyncio.run(scenario())


def test_where_many_wait_a_second_batch_is_made_beside_the_first_and_no_third() -> None:
    async def scenario() -> None:
        work = Work()
        together = Together(work, most=10, many=3)
        asking = [asyncio.create_task(together.ask(1))]
        for numbers in ((2, 3), (4,), (5, 6, 7, 8)):
            await asyncio.sleep(0.01)
            asking += [asyncio.create_task(together.ask(n)) for n in numbers]
        await asyncio.sleep(0.01)
        assert work.batches == [[1], [2, 3, 4]]
        work.may.set()
        assert await asyncio.gather(*asking) == [2, 4, 6, 8, 10, 12, 14, 16]
        assert work.batches == [[1], [2, 3, 4], [5, 6, 7, 8]]
        assert together._lines == {}

    asyncio.run(scenario())


def test_a_second_worker_leaves_a_few_to_the_first() -> None:
    async def scenario() -> None:
        work = Work()
        together = Together(work, most=2, many=2)
        asking = [asyncio.create_task(together.ask(n)) for n in (1, 2)]
        await asyncio.sleep(0.01)
        asking += [asyncio.create_task(together.ask(n)) for n in (3, 4, 5)]
        await asyncio.sleep(0.01)
        assert work.batches == [[1, 2], [3, 4]]
        work.may.set()
        assert await asyncio.gather(*asking) == [2, 4, 6, 8, 10]
        assert work.batches == [[1, 2], [3, 4], [5]]

    asyncio.run(scenario())


def test_one_that_fails_spoils_no_other() -> None:
    async def scenario() -> None:
        work = Work()
        work.may.set()
        together = Together(work, most=10, many=9)
        two, zero, three = await asyncio.gather(*map(together.ask, (2, 0, 3)), return_exceptions=True)
        assert (two, three) == (4, 6)
        assert isinstance(zero, ZeroDivisionError)

    asyncio.run(scenario())


def test_keys_do_not_wait_for_each_other() -> None:
    async def scenario() -> None:
        work = Work()
        together = Together(work, most=10, many=9)
        asking = [asyncio.create_task(together.ask(n, key=n)) for n in (1, 2)]
        await asyncio.sleep(0.01)
        assert work.batches == [[1], [2]]
        work.may.set()
        assert await asyncio.gather(*asking) == [2, 4]
        assert together._lines == {}  # nothing is kept of a key that is done

    asyncio.run(scenario())


def test_who_no_longer_waits_holds_up_nobody() -> None:
    async def scenario() -> None:
        work = Work()
        together = Together(work, most=10, many=9)
        gone, stays = asyncio.create_task(together.ask(1)), asyncio.create_task(together.ask(2))
        await asyncio.sleep(0.01)
        gone.cancel()
        work.may.set()
        assert await stays == 4
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(scenario())
