"""Damaged segments: what is whole is read, nothing else is, and no reader fails."""

from __future__ import annotations

import io
import random
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nba.errors import LogError
from nba.log.index import beside, index_of
from nba.log.reader import LogReport, read_records
from nba.log.segment import KINDS, MAGIC, MAX_PAYLOAD, Frame, frame, scan
from nba.log.tail import Tail
from nba.log.verify import verify
from nba.records import ActivationRecord, ConsentRecord, OverrideRecord, Record, RewardRecord, encode_record
from serving.archive import find_records
from tests.conftest import RecordFactory
from tests.fuzz.conftest import Effort
from tests.fuzz.mutation import JSON, TIMES, mutated

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FRAMES = (MAGIC, MAGIC + b"\x01\xff\xff\x3f\x00", MAGIC + b"\xff" * 9, frame(9, b"{}"), frame(1, b"{}"), b"\0" * 5_000)
MEMORY = 25 << 20  # bytes that reading a segment may take


@pytest.fixture(scope="module")
def records(decision_record: RecordFactory) -> list[Record]:
    """One of every kind, and some more decisions."""
    return [
        decision_record("d-0"),
        ActivationRecord(decision_id="d-0", activated_at=NOW),
        RewardRecord(
            decision_id="d-0", outcome="resolved", value=1.0, observed_at=NOW, idempotency_key="k", received_at=NOW
        ),
        OverrideRecord(decision_id="d-0", action_id="a", actor="agent", overridden_at=NOW),
        ConsentRecord(subject="0a", purposes={"emotion": False}, source=None, observed_at=NOW, recorded_at=NOW),
        *(decision_record(f"d-{i}", message="x" * 200) for i in range(1, 4)),
    ]


def framed(payload: bytes, record: Record) -> bytes:
    return frame(KINDS[str(record.__struct_config__.tag)], payload)


def read_all(folder: Path, segment: Path) -> list[Record]:
    """What every reader of a log makes of one segment; all that can be read in it."""
    report = LogReport()
    found = list(read_records(folder, report))
    assert report.records == len(found)
    assert list(Tail(folder).read()) == found
    assert verify(folder).log.records == len(found)
    if segment.stat().st_size:
        assert index_of(segment) is not None
    find_records(folder, {"d-0", "d-1"}, {})
    return found


def test_what_is_whole_in_a_damaged_segment_is_read(tmp_path: Path, records: list[Record], effort: Effort) -> None:
    frames = [framed(encode_record(record), record) for record in records]
    for n, rng in enumerate(effort.tries(150)):
        damaged = mutated(b"".join(frames), rng, FRAMES)
        segment = tmp_path / f"h-1-a-{n:06d}.seg"
        segment.write_bytes(damaged)
        whole = [record for record, each in zip(records, frames, strict=True) if each in damaged]
        found = read_all(tmp_path, segment)
        assert all(record in found for record in whole)
        assert all(record in records for record in found), "the checksum let something through"
        _forget(segment)


def test_a_whole_frame_with_anything_in_it_stops_no_reader(
    tmp_path: Path, records: list[Record], effort: Effort
) -> None:
    """The checksum is right, and what is in it is not: a newer writer's, or a stranger's."""
    words = (*JSON, *TIMES)
    for n, rng in enumerate(effort.tries(150)):
        strange = [mutated(encode_record(record), rng, words) for record in records]
        segment = tmp_path / f"h-1-a-{n:06d}.seg"
        segment.write_bytes(b"".join(map(framed, strange, records)) + framed(encode_record(records[1]), records[1]))
        assert read_all(tmp_path, segment)[-1] == records[1]
        _forget(segment)


def test_a_damaged_index_is_made_again(tmp_path: Path, records: list[Record], effort: Effort) -> None:
    segment = tmp_path / "h-1-a-000000.seg"
    segment.write_bytes(b"".join(framed(encode_record(record), record) for record in records))
    made = index_of(segment)
    assert made is not None
    whole = beside(segment).read_bytes()
    for rng in effort.tries(150):
        beside(segment).write_bytes(mutated(whole, rng, JSON))
        again = index_of(segment)
        assert again is not None
        assert again.keys.tolist() == made.keys.tolist()
        assert again.positions.tolist() == made.positions.tolist()


def test_garbage_takes_no_more_memory_than_a_segment_may(records: list[Record], effort: Effort) -> None:
    """12 MB of noise with beginnings of frames that claim up to 4 MB, and a whole one behind."""
    last = framed(encode_record(records[0]), records[0])
    for rng in effort.tries(1):
        file = io.BytesIO(b"".join(rng.randbytes(400_000) + _lie(rng) for _ in range(30)) + last)
        tracemalloc.start()
        try:
            found = [each for each in scan(file) if isinstance(each, Frame)]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert [each.payload for each in found] == [encode_record(records[0])]
        assert peak < MEMORY


def _lie(rng: random.Random) -> bytes:
    return MAGIC + b"\x01" + rng.randrange(MAX_PAYLOAD).to_bytes(4, "little") + b"\0\0\0\0"


def _forget(segment: Path) -> None:
    segment.unlink()
    beside(segment).unlink(missing_ok=True)


def test_a_segment_that_is_no_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "h-1-a-000000.seg").mkdir()
    with pytest.raises(LogError, match="cannot be read"):
        list(read_records(tmp_path))
