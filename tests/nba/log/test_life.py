"""A log's life, in any order: what was acknowledged and is here or shipped is there to the end, no more and no less."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nba.log import LogWriter, read_records
from nba.log.columns import decisions_table
from nba.log.compact import compact
from nba.log.recent import recent_records
from nba.log.ship import restore, ship
from nba.log.verify import verify
from nba.records import DecisionRecord, Record, RewardRecord, encode_record
from serving.archive import find_records
from tests.conftest import RecordFactory

IDS = ("d-0", "d-1", "d-2")
FACTORY = RecordFactory()


class Life(RuleBasedStateMachine):
    """One log folder after another, and one archive."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.moves, self.archive = 0, str(self.root / "archive")
        self.writer = LogWriter(self.log)
        self.expected = Counter[bytes]()
        self.compacted: list[Record] = []

    @property
    def log(self) -> Path:
        return self.root / f"home-{self.moves}" / "log"

    @rule(of=st.sampled_from(IDS), epoch=st.integers(1, 3), day=st.integers(0, 2))
    def decide(self, of: str, epoch: int, day: int) -> None:
        self._append(FACTORY(of, epoch=epoch, decided_at=FACTORY.now + timedelta(days=day)))

    @rule(of=st.sampled_from(IDS), value=st.sampled_from((0.0, 1.0)), day=st.integers(0, 2))
    def report(self, of: str, value: float, day: int) -> None:
        at = FACTORY.now + timedelta(days=day)
        self._append(
            RewardRecord(
                decision_id=of, outcome="resolved", value=value, observed_at=at, idempotency_key="k", received_at=at
            )
        )

    def _append(self, record: Record) -> None:
        self.writer.append(record).result(10)
        self.expected[encode_record(record)] += 1

    @rule()
    def roll(self) -> None:
        self.writer.close()
        self.writer = LogWriter(self.log)

    @rule(delete=st.booleans())
    def ship(self, delete: bool) -> None:
        ship(self.log, self.archive, delete_after=timedelta(0) if delete else None)

    @rule()
    def restore(self) -> None:
        restore(self.log, self.archive)

    @rule()
    def move(self) -> None:
        """The machine stops, ships the last of its log, and is lost; another begins."""
        self.writer.close()
        ship(self.log, self.archive)
        self.moves += 1
        restore(self.log, self.archive)
        self.writer = LogWriter(self.log)

    @rule()
    def compact(self) -> None:
        self.roll()
        compact(self.log, self.root / "columns")
        self.compacted = list(read_records(self.log))
        expected = decisions_table(self.compacted).to_pylist()
        written = [pq.ParquetFile(path).read().to_pylist() for path in self.root.glob("columns/decisions/*/*")]
        assert sorted((row for rows in written for row in rows), key=lambda row: row["decision_id"]) == sorted(
            expected, key=lambda row: row["decision_id"]
        )

    @invariant()
    def everything_is_there_once(self) -> None:
        records = list(read_records(self.log))
        assert Counter(map(encode_record, records)) == self.expected
        found = find_records(self.log, set(IDS), {})
        assert Counter(encode_record(r) for each in found.values() for r in each) == self.expected
        assert verify(self.log).log.records == len(records)

    @rule()
    def rebuild(self) -> None:
        recent = list(recent_records(self.log, FACTORY.now))
        assert Counter(map(encode_record, recent)) == self.expected
        highest = {
            r.epoch for r in recent_records(self.log, FACTORY.now + timedelta(9)) if isinstance(r, DecisionRecord)
        }
        assert max(highest, default=0) == max((r.epoch for r in recent if isinstance(r, DecisionRecord)), default=0)

    def teardown(self) -> None:
        self.writer.close()
        shutil.rmtree(self.root)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=20, stateful_step_count=15, deadline=None, derandomize=True)
