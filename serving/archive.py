"""Finds a decision in the log itself: the way for what the state store no longer has, or cannot be asked for.

A pass asks the index of every segment, in a thread, and reads only what it names; of a segment that is being written
it takes what has come since the last pass into an index in memory. Everybody who asks meanwhile waits for the next
pass and shares it, so any number of questions costs one pass at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nba.log.index import Growing, index_of, key_of
from nba.log.reader import read_at
from nba.log.segment import segments
from nba.records import ConsentRecord, DecisionRecord, Record


class Archive:
    """All records of single decisions, by their id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._growing: dict[Path, Growing] = {}  # of the segments that are being written
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
                found = await asyncio.to_thread(find_records, self._folder, set(asked), self._growing)
            except Exception as error:  # noqa: BLE001  # each of them is told; the next pass starts anew
                for future in asked.values():
                    future.set_exception(error)
                continue
            for decision_id, future in asked.items():
                future.set_result(found.get(decision_id, []))


def find_records(folder: Path, decision_ids: set[str], growing: dict[Path, Growing]) -> dict[str, list[Record]]:
    """The records of these decisions, by id, in log order; only they are decoded.

    `growing` keeps the indexes of segments that are being written from one call to the next. Raises OSError, LogError.
    """
    found: dict[str, list[Record]] = {}
    bases = sorted(map(key_of, decision_ids))
    for path in segments(folder):
        try:
            records = list(read_at(path, _positions(path, bases, growing)))
        except FileNotFoundError:  # an empty one, given up by its writer since the listing
            continue
        for record in records:
            if not isinstance(record, ConsentRecord) and record.decision_id in decision_ids:
                found.setdefault(record.decision_id, []).append(record)
    return found


def _positions(path: Path, bases: list[int], growing: dict[Path, Growing]) -> list[int]:
    index = index_of(path)
    if index is not None:
        growing.pop(path, None)
        return index.find(np.array(bases, np.uint64))
    known = growing.setdefault(path, Growing())
    with path.open("rb", buffering=0) as file:
        known.read(file)
    return known.find(bases)


def canonical(records: Iterable[Record]) -> DecisionRecord | None:
    """The decision among these records: the first of its highest epoch."""
    decisions = [record for record in records if isinstance(record, DecisionRecord)]
    return min(decisions, key=lambda record: record.rank, default=None)
