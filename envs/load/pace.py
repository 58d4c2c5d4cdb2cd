"""When calls are due: at a set rate whatever the server does, or as fast as it answers."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Slots for calls, in turn; of decisions a second where `rate` is above 0.

    The schedule is fixed beforehand and does not wait for answers (an open loop): a call that could not be made in its
    slot, as too many were still out, is made at once, and its latency counts from the slot. To count from when it was
    made would hide the waiting: coordinated omission (Tene 2013, "How NOT to measure latency").
    """

    def __init__(self, rate: float = 0.0) -> None:
        self._rate, self._next = rate, time.perf_counter()

    async def slot(self, decisions: int) -> float:
        """Waits for the next slot, of a call for that many decisions; its time, by `time.perf_counter`."""
        now = time.perf_counter()
        if not self._rate:
            return now
        due, self._next = self._next, self._next + decisions / self._rate
        if due > now:
            await asyncio.sleep(due - now)
        return due

    def since(self, slot: float) -> float:
        """When the latency of a call that is made now begins: at its slot where there is a rate."""
        return slot if self._rate else time.perf_counter()
