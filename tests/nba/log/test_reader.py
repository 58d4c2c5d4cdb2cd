"""Reading a log: whole records come back, damage is counted and passed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from nba.errors import LogError
from nba.log import LogReport, LogWriter, read_records
from nba.log.segment import KINDS, OpenSegment, frame, segments
from nba.records import Record, encode_record

if TYPE_CHECKING:
    from tests.conftest import RecordFactory


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def write(log: Path, *records: Record) -> Path:
    writer = LogWriter(log)
    writer.append(*records).result(10)
    writer.close()
    return segments(log)[-1]


def ids(records: Iterator[Record]) -> list[str]:
    return [record.decision_id for record in records]


def test_a_folder_that_is_not_there_is_an_empty_log(log: Path) -> None:
    report = LogReport()
    assert list(read_records(log, report)) == []
    assert report == LogReport()


def test_records_come_back_equal_in_order(log: Path, decision_record: RecordFactory) -> None:
    records = [decision_record(f"d-{i}", draw=i << 49) for i in range(6)]
    write(log, *records)
    assert list(read_records(log)) == records


def test_segments_are_read_in_the_order_of_their_names(log: Path, decision_record: RecordFactory) -> None:
    for i in range(3):
        write(log, decision_record(f"d-{i}"))
    report = LogReport()
    assert ids(read_records(log, report)) == ["d-0", "d-1", "d-2"]
    assert (report.segments, report.records) == (3, 3)
    assert report.bytes == sum(path.stat().st_size for path in segments(log))


def test_a_flipped_bit_loses_one_of_two_thousand(log: Path, decision_record: RecordFactory) -> None:
    """Stopping at the damage would lose the 1,050 behind it."""
    path = write(log, *(decision_record(f"d-{i}") for i in range(2_000)))
    size = len(frame(1, encode_record(decision_record("d-949"))))
    damaged = bytearray(path.read_bytes())
    start = damaged.index(b'"decision_id":"d-949"')
    damaged[start] ^= 1
    path.write_bytes(damaged)
    report = LogReport()
    assert ids(read_records(log, report)) == [f"d-{i}" for i in range(2_000) if i != 949]
    assert (report.records, report.bad_frames, report.torn_tails) == (1_999, 1, 0)
    assert f"{size} damaged bytes" in report.problems[0]


def test_a_torn_tail_is_cut_and_counted(log: Path, decision_record: RecordFactory) -> None:
    path = write(log, decision_record("d-0"), decision_record("d-1"))
    path.write_bytes(path.read_bytes()[:-7])
    report = LogReport()
    assert ids(read_records(log, report)) == ["d-0"]
    assert (report.torn_tails, report.bad_frames, report.open_segments) == (1, 0, 0)


def test_the_tail_of_a_segment_being_written_is_not_torn(log: Path, decision_record: RecordFactory) -> None:
    log.mkdir()
    segment = OpenSegment.create(log)
    whole = frame(1, encode_record(decision_record("d-0")))
    segment.commit(whole + whole[:20])
    report = LogReport()
    assert ids(read_records(log, report)) == ["d-0"]
    assert (report.torn_tails, report.open_segments) == (0, 1)
    segment.close()


@pytest.mark.parametrize(
    "strange",
    [frame(99, b"{}"), frame(1, b'{"kind":"decision"}'), frame(1, b"not json"), frame(3, b'{"kind":"dream"}')],
)
def test_a_record_nobody_knows_is_reported_and_passed(
    log: Path, decision_record: RecordFactory, strange: bytes
) -> None:
    path = write(log, decision_record("d-0"))
    path.write_bytes(strange + path.read_bytes())
    report = LogReport()
    assert ids(read_records(log, report)) == ["d-0"]
    assert (report.unknown, len(report.problems)) == (1, 1)


def test_a_decision_of_a_later_version_is_reported_and_passed(log: Path, decision_record: RecordFactory) -> None:
    path = write(log, decision_record("d-0"))
    later = frame(KINDS["decision"], encode_record(replace(decision_record("d-1"), version=2)))
    path.write_bytes(later + path.read_bytes())
    report = LogReport()
    assert ids(read_records(log, report)) == ["d-0"]
    assert "version 2" in report.problems[0]


def test_a_segment_that_goes_while_the_log_is_read_is_passed(log: Path, decision_record: RecordFactory) -> None:
    write(log, decision_record("d-0"))
    reading = read_records(log)
    (log / "a-1-00000000-000000.seg").touch()
    last = write(log, decision_record("d-1"))
    reading = read_records(log)
    next(reading)
    last.unlink()
    assert ids(reading) == []


def test_a_segment_that_cannot_be_read_is_a_log_error(log: Path) -> None:
    (log / "a-1-00000000-000000.seg").mkdir(parents=True)
    with pytest.raises(LogError, match="cannot be read"):
        list(read_records(log))
