"""Outcomes that come later: held back until they are due, and sent by a task of their own."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.dynamics.delays import HOUR
from envs.load.calls import Caller
from envs.load.tally import Tally
from envs.load.told import Report


@dataclass(order=True, frozen=True, slots=True)
class _Held:
    due: float  # by time.perf_counter
    number: int
    decision_id: str = field(compare=False)
    report: Report = field(compare=False)


class LateReports:
    """Reports held back until so many seconds an hour of their delay have passed."""

    def __init__(self, hour_s: float, most: int, tally: Tally) -> None:
        """At most about so many at a time: who holds back more has to wait."""
        self._hour_s, self._most, self._tally = hour_s, most, tally
        self._heap: list[_Held] = []
        self._numbers = itertools.count()
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._closed = False

    async def hold(self, decision_id: str, reports: Sequence[Report]) -> None:
        """Holds back the reports of a decision that was made just now; waits while there is no room."""
        now = time.perf_counter()
        while len(self._heap) >= self._most and not self._tally.gone:
            self._room.clear()
            await self._room.wait()
        for report in reports:
            due = now + report.delay_s / HOUR * self._hour_s
            heapq.heappush(self._heap, _Held(due, next(self._numbers), decision_id, report))
        self._tally.held += len(reports)
        self._tally.most_held = max(self._tally.most_held, len(self._heap))
        self._more.set()

    def close(self) -> None:
        """Nothing more will be held back."""
        self._closed = True
        self.wake()

    def wake(self) -> None:
        """Lets the sender look again."""
        self._more.set()

    async def send(self, caller: Caller) -> None:
        """Sends each report when it is due, until it is closed and the last is out, or the server is gone."""
        while self._heap or not self._closed:
            if self._tally.gone:
                self._heap.clear()
                self._room.set()
            if not self._heap or self._heap[0].due > time.perf_counter():
                await self._wait()
                continue
            held = heapq.heappop(self._heap)
            self._room.set()
            await caller.report(held.decision_id, held.report)

    async def _wait(self) -> None:
        """Until something is due, or there is something new."""
        self._more.clear()
        seconds = self._heap[0].due - time.perf_counter() if self._heap else None
        if not self._heap and self._closed:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._more.wait()
        except TimeoutError:
            return
