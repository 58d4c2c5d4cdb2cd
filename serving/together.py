"""What is asked while something is under way is done in one go afterwards: batches that nobody has to wait for.

No timer: one question alone is worked on at once, and the more there is to do, the larger the batches get. Most of
what a decision costs is paid once a batch: round trips to Redis, the sync of the log, NumPy's calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Does `work` on questions of one key in batches: one at a time, and a second beside it where many wait."""

    def __init__(self, work: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, most: int, many: int) -> None:
        """`work` gives one answer a question, in order; `most` questions make the largest batch.

        A batch spends most of its time waiting for others: once `many` questions wait, a second one need not.
        """
        self._work, self._most, self._many = work, most, many
        self._waiting: dict[Hashable, list[tuple[Q, asyncio.Future[A]]]] = {}  # of keys that are being worked on
        self._workers: dict[Hashable, int] = {}
        self._running: set[asyncio.Task[Any]] = set()

    async def ask(self, question: Q, key: Hashable = None) -> A:
        """The answer. Raises what `work` raises on this question alone."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        waiting, workers = self._waiting.setdefault(key, []), self._workers.get(key, 0)
        waiting.append((question, answer))
        if workers == 0 or (workers == 1 and len(waiting) >= self._many):
            self._workers[key] = workers + 1
            task = asyncio.create_task(self._run(key))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await answer

    async def _run(self, key: Hashable) -> None:
        waiting = self._waiting[key]
        try:
            while len(waiting) >= (1 if self._workers[key] == 1 else self._many):
                batch = waiting[: self._most]
                del waiting[: self._most]
                await self._answer(batch)
        finally:
            self._workers[key] -= 1
            if not self._workers[key]:
                del self._workers[key]
                for _, answer in self._waiting.pop(key):
                    answer.cancel()  # the event loop is ending

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
