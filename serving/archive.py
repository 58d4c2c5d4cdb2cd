"""Finds a decision in the log itself: the way for what the state store no longer has, or cannot be asked for.

A pass reads the whole log in a thread; everybody who asks meanwhile waits for the next one and shares it, so any
number of questions costs one pass at a time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

from nba.log.segment import KINDS, Frame, scan, segments
from nba.records import DecisionRecord, Record, decode_record

# The first field of every record that speaks of a decision; ids hold no character that JSON escapes.
_DECISION_ID = re.compile(rb'"decision_id":"([A-Za-z0-9._:-]+)"')
_KINDS = frozenset(KINDS.values()) - {KINDS["consent"]}  # which speaks of no decision


class Archive:
    """All records of single decisions, by their id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, asyncio.Future[list[Record]]] = {}
        self._passing: asyncio.Task[None] | None = None

    async def find(self, decision_id: str) -> list[Record]:
        """Every record of this decision in log order; none where the log has none. Raises OSError."""
        future = self._waiting.get(decision_id)
        if future is None:
            future = self._waiting[decision_id] = asyncio.get_running_loop().create_future()
        if self._passing is None or self._passing.done():
            self._passing = asyncio.create_task(self._pass_until_answered())
        return await asyncio.shield(future)

    async def _pass_until_answered(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                found = await asyncio.to_thread(find_records, self._folder, {i.encode() for i in asked})
            except Exception as error:  # noqa: BLE001  # each of them is told; the next pass starts anew
                for future in asked.values():
                    future.set_exception(error)
                continue
            for decision_id, future in asked.items():
                future.set_result(found.get(decision_id, []))


def find_records(folder: Path, decision_ids: set[bytes]) -> dict[str, list[Record]]:
    """The records of these decisions, by id, in log order; only they are decoded. Raises OSError."""
    found: dict[str, list[Record]] = {}
    for path in segments(folder):
        with path.open("rb", buffering=0) as file:
            for frame in scan(file):
                if not isinstance(frame, Frame) or frame.kind not in _KINDS:
                    continue
                named = _DECISION_ID.search(frame.payload)
                if named is not None and named[1] in decision_ids:
                    found.setdefault(named[1].decode(), []).append(decode_record(frame.payload))
    return found


def canonical(records: Iterable[Record]) -> DecisionRecord | None:
    """The decision among these records: the first of its highest epoch."""
    decisions = [record for record in records if isinstance(record, DecisionRecord)]
    return min(decisions, key=lambda record: record.rank, default=None)
