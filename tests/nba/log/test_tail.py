"""Reading a log that grows: nothing twice, nothing lost, nothing before it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nba.log import LogReport, LogWriter
from nba.log.segment import KINDS, frame, segments
from nba.log.tail import Tail
from nba.records import Record, encode_record

if TYPE_CHECKING:
    from tests.conftest import RecordFactory


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def framed(record: Record) -> bytes:
    return frame(KINDS["decision"], encode_record(record))


def ids(tail: Tail) -> list[str]:
    return [record.decision_id for record in tail.read()]


def test_a_folder_that_is_not_there_yet_is_an_empty_log(log: Path, decision_record: RecordFactory) -> None:
    tail = Tail(log)
    assert ids(tail) == []
    log.mkdir()
    (log / "a-1-b-000000.seg").write_bytes(framed(decision_record("d-0")))
    assert ids(tail) == ["d-0"]


def test_each_reading_gives_what_came_since_over_segments_and_writers(
    log: Path, decision_record: RecordFactory
) -> None:
    """Every commit rolls: the first writer has three segments, the second one."""
    tail, writer = Tail(log), LogWriter(log, roll_bytes=1)
    for i in range(3):
        writer.append(decision_record(f"d-{i}")).result(10)
        assert ids(tail) == [f"d-{i}"]
    writer.close()
    (log / "other-1-x-000000.seg").write_bytes(framed(decision_record("e-0")))
    assert ids(tail) == ["e-0"]
    assert ids(tail) == []
    assert len(segments(log)) == 4
    assert len(tail.places) == 2


def test_a_frame_on_its_way_is_read_once_it_is_whole(log: Path, decision_record: RecordFactory) -> None:
    log.mkdir()
    path, whole = log / "a-1-b-000000.seg", framed(decision_record("d-1"))
    path.write_bytes(framed(decision_record("d-0")) + whole[:-7])
    tail = Tail(log)
    assert ids(tail) == ["d-0"]
    assert ids(tail) == []
    with path.open("ab") as file:
        file.write(whole[-7:])
    assert ids(tail) == ["d-1"]


def test_a_torn_tail_does_not_hold_up_the_next_segment(log: Path, decision_record: RecordFactory) -> None:
    log.mkdir()
    (log / "a-1-b-000000.seg").write_bytes(framed(decision_record("d-0")) + b"\xffNB\x01torn")
    tail = Tail(log)
    assert ids(tail) == ["d-0"]
    (log / "a-1-b-000002.seg").write_bytes(framed(decision_record("d-1")))
    assert ids(tail) == ["d-1"]


def test_damage_between_whole_frames_is_passed_and_counted(log: Path, decision_record: RecordFactory) -> None:
    log.mkdir()
    report = LogReport()
    tail = Tail(log, report)
    path = log / "a-1-b-000000.seg"
    path.write_bytes(framed(decision_record("d-0")))
    assert ids(tail) == ["d-0"]
    with path.open("ab") as file:
        file.write(b"damage" + framed(decision_record("d-1")))
    assert ids(tail) == ["d-1"]
    assert (report.bad_frames, report.records) == (1, 2)
    assert ids(tail) == []


def test_up_to_places_it_gives_what_had_been_read_there_and_then_the_rest(
    log: Path, decision_record: RecordFactory
) -> None:
    first, writer = Tail(log), LogWriter(log, roll_bytes=4_000)
    for i in range(10):
        writer.append(decision_record(f"d-{i}")).result(10)
        if i == 5:
            assert ids(first) == [f"d-{i}" for i in range(6)]
    writer.close()
    (log / "other-1-x-000000.seg").write_bytes(framed(decision_record("e-0")))
    assert len(segments(log)) > 3
    again = Tail(log)
    assert [record.decision_id for record in again.read(first.places)] == [f"d-{i}" for i in range(6)]
    assert again.places["other-1-x"].position == 0
    assert sorted(ids(again)) == ["d-6", "d-7", "d-8", "d-9", "e-0"]


def test_places_of_a_writer_whose_segments_are_gone_are_left_out(log: Path, decision_record: RecordFactory) -> None:
    log.mkdir()
    path = log / "a-1-b-000000.seg"
    path.write_bytes(framed(decision_record("d-0")))
    tail = Tail(log)
    assert ids(tail) == ["d-0"]
    path.unlink()
    assert tail.places == {}
