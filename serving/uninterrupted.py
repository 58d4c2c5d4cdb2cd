"""Work that must come to its end, even where the caller goes away: between claim and log there is no stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Uninterrupted:
    """Runs work to its end and knows what is still running."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work; cancelling the caller does not cancel it."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Waits until nothing is running."""
        while self._running:
            await asyncio.wait(self._running)
