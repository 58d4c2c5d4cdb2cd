"""What is asked while something is under way is done in one go afterwards: batches that nobody has to wait for.

No timer: one question alone is worked on at once, and the more there is to do, the larger the batches get. Most of
what a decision costs is paid once a batch: round trips to Redis, the sync of the log, NumPy's calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(slots=True)
class _Line(Generic[Q, A]):
    """The questions of one key."""

    waiting: list[tuple[Q, asyncio.Future[A]]] = field(default_factory=list)
    workers: int = 0
    under_way: int = 0  # questions in the batches that are being worked on


class Together(Generic[Q, A]):
    """Does `work` on questions of one key in batches: one at a time, and a second beside it where as many wait."""

    def __init__(self, work: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, most: int, many: int) -> None:
        """`work` gives one answer a question, in order; `most` questions make the largest batch.

        A batch spends most of its time waiting for others. Once as many questions wait as it has, and at least `many`,
        they need not wait for it; sooner, smaller batches would cost more than they gain.
        """
        self._work, self._most, self._many = work, most, many
        self._lines: dict[Hashable, _Line[Q, A]] = {}  # of keys that are being worked on
        self._running: set[asyncio.Task[Any]] = set()

    async def ask(self, question: Q, key: Hashable = None) -> A:
        """The answer. Raises what `work` raises on this question alone."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(key, _Line())
        line.waiting.append((question, answer))
        if line.workers == 0 or (line.workers == 1 and self._are_enough(line)):
            line.workers += 1
            task = asyncio.create_task(self._run(key, line))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    def _are_enough(self, line: _Line[Q, A]) -> bool:
        return len(line.waiting) >= max(self._many, line.under_way)

    async def _run(self, key: Hashable, line: _Line[Q, A]) -> None:
        try:
            while line.waiting and (line.workers == 1 or self._are_enough(line)):
                size = self._share(line)
                batch = line.waiting[:size]
                del line.waiting[:size]
                line.under_way += len(batch)
                await self._answer(batch)
                line.under_way -= len(batch)
        finally:
            line.workers -= 1
            if not line.workers:
                del self._lines[key]
                for _, answer in line.waiting:
                    answer.cancel()  # the event loop is ending

    def _share(self, line: _Line[Q, A]) -> int:
        """How many questions one of the workers takes: half of all where there are two, and that is many."""
        waiting, half = len(line.waiting), -(-(len(line.waiting) + line.under_way) // 2)
        return min(half if line.workers > 1 and half >= self._many else waiting, waiting, self._most)

    async def _answer(self, batch: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._work([question for question, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits is told; one bad question spoils no other
            if len(batch) > 1:
                for one in batch:
                    await self._answer([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(error)
            return
        except BaseException:
            for _, waiter in batch:
                waiter.cancel()
            raise
        for (_, waiter), answer in zip(batch, answers, strict=True):
            if not waiter.done():  # else nobody waits any more
                waiter.set_result(answer)
