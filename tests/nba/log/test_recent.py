"""What the claims are rebuilt from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nba.log import LogWriter, recent
from nba.log.recent import recent_records
from nba.log.segment import segments
from nba.log.ship import ship
from nba.records import ConsentRecord, RewardRecord

if TYPE_CHECKING:
    from tests.conftest import RecordFactory


def stated(factory: RecordFactory, subject: str) -> ConsentRecord:
    now = factory.now
    return ConsentRecord(subject=subject, purposes={"x": True}, source=None, observed_at=now, recorded_at=now)


@pytest.fixture
def log(tmp_path: Path, decision_record: RecordFactory) -> Path:
    """Segments of days 0, 1 and 2, each a decision and a statement of consent; epochs 5, 1, 1."""
    writer = LogWriter(tmp_path / "log", roll_bytes=1)
    for day, epoch in enumerate((5, 1, 1)):
        record = decision_record(f"d-{day}", epoch=epoch, decided_at=decision_record.now + timedelta(days=day))
        writer.append(record, stated(decision_record, f"0{day}")).result(10)
    writer.close()
    return tmp_path / "log"


def told(log: Path, since_day: float, factory: RecordFactory) -> list[str]:
    records = recent_records(log, factory.now + timedelta(days=since_day))
    return sorted(r.subject if isinstance(r, ConsentRecord) else r.decision_id for r in records)


def test_segments_without_a_recent_record_are_left_out_but_for_consents_and_the_highest_epoch(
    log: Path, decision_record: RecordFactory
) -> None:
    assert told(log, 0, decision_record) == ["00", "01", "02", "d-0", "d-1", "d-2"]
    assert told(log, 1.5, decision_record) == ["00", "01", "02", "d-0", "d-2"]
    assert told(log, 9, decision_record) == ["00", "01", "02", "d-0"]


def test_a_late_report_makes_its_segment_recent(log: Path, decision_record: RecordFactory) -> None:
    reward = RewardRecord(
        decision_id="d-0",
        outcome="resolved",
        value=1.0,
        observed_at=decision_record.now,
        idempotency_key="k",
        received_at=decision_record.now + timedelta(days=8),
    )
    writer = LogWriter(log)
    writer.append(reward).result(10)
    writer.close()
    assert told(log, 7, decision_record) == ["00", "01", "02", "d-0", "d-0"]


def test_a_segment_that_is_being_written_is_read(log: Path, decision_record: RecordFactory) -> None:
    writer = LogWriter(log)
    writer.append(decision_record("d-now")).result(10)
    assert "d-now" in told(log, 9, decision_record)
    writer.close()


def test_no_archive_is_asked_for_what_is_old(
    log: Path, tmp_path: Path, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is gone but the indexes and the notes; the newest segment has the highest epoch, and is read back."""
    writer = LogWriter(log)
    writer.append(decision_record("d-9", epoch=9, decided_at=decision_record.now + timedelta(days=9))).result(10)
    writer.close()
    ship(log, str(tmp_path / "archive"), delete_after=timedelta(0))
    assert [path for path in segments(log) if path.exists()] == []
    asked: list[str] = []
    read = recent.read_segment
    monkeypatch.setattr(recent, "read_segment", lambda path, report: asked.append(path.name) or read(path, report))
    monkeypatch.setattr(recent, "read_at", lambda path, positions: pytest.fail("asked") if positions else [])
    assert told(log, 8, decision_record) == ["00", "01", "02", "d-9"]
    assert len(asked) == 1
