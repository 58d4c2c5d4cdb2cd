"""Where the records of a decision are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nba.log import LogWriter
from nba.log import index as index_module
from nba.log.index import Growing, beside, build, index_of, key_of
from nba.log.reader import read_at
from nba.log.segment import KINDS, frame, segments
from nba.records import ActivationRecord, ConsentRecord, Record

if TYPE_CHECKING:
    from tests.conftest import RecordFactory

Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Writes records into one segment."""

    def write(*records: Record) -> Path:
        writer = LogWriter(tmp_path)
        writer.append(*records).result(10)
        writer.close()
        return segments(tmp_path)[-1]

    return write


def bases(*ids: str) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array([key_of(i) for i in ids], np.uint64)


def test_all_records_of_a_decision_are_found_in_log_order(written: Write, decision_record: RecordFactory) -> None:
    activated = [ActivationRecord(decision_id=f"d-{i}", activated_at=decision_record.now) for i in range(9)]
    decided = [decision_record(f"d-{i}") for i in range(9)]
    path = written(*activated, *decided)
    index = index_of(path)
    assert index is not None
    assert list(read_at(path, index.find(bases("d-4")))) == [activated[4], decided[4]]
    assert list(read_at(path, index.find(bases("d-7", "d-2")))) == [activated[2], activated[7], decided[2], decided[7]]
    assert index.find(bases("d-9")) == []


def test_it_sums_up_its_segment(written: Write, decision_record: RecordFactory) -> None:
    """Decisions of epochs 1, 3 and 2, a day apart; a statement of consent counts for no time."""
    now = decision_record.now
    stated = ConsentRecord(
        subject="0a", purposes={"emotion": True}, source=None, observed_at=now, recorded_at=now + timedelta(days=9)
    )
    decided = [
        decision_record(f"d-{epoch}", epoch=epoch, decided_at=now + timedelta(days=day))
        for day, epoch in enumerate((1, 3, 2))
    ]
    path = written(*decided, stated)
    index = index_of(path)
    assert index is not None
    assert (index.summary.records, index.summary.epoch) == (4, 3)
    assert index.summary.latest == now + timedelta(days=2)
    assert index.summary.days == tuple((now + timedelta(days=d)).date().isoformat() for d in (0, 1, 2, 9))
    assert list(read_at(path, index.consents())) == [stated]
    assert index.summary.epoch_at is not None
    assert list(read_at(path, [index.summary.epoch_at])) == [decided[1]]


def test_it_is_made_once(written: Write, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(decision_record("d-0"))
    first = index_of(path)
    monkeypatch.setattr(index_module, "build", lambda path: pytest.fail("made again"))
    second = index_of(path)
    assert first is not None
    assert second is not None
    assert (first.summary, first.keys.tolist()) == (second.summary, second.keys.tolist())


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:-3] + b"???", lambda b: b"x" + b, lambda b: b""])
def test_one_that_is_damaged_is_made_again(
    written: Write, decision_record: RecordFactory, damage: Callable[[bytes], bytes]
) -> None:
    path = written(*(decision_record(f"d-{i}") for i in range(3)))
    index_of(path)
    whole = beside(path).read_bytes()
    beside(path).write_bytes(damage(whole))
    index = index_of(path)
    assert index is not None
    assert len(index.find(bases("d-0", "d-1", "d-2"))) == 3
    assert beside(path).read_bytes() == whole


def test_one_of_a_segment_that_is_cut_since_is_made_again(written: Write, decision_record: RecordFactory) -> None:
    path = written(decision_record("d-0"), decision_record("d-1"))
    index_of(path)
    path.write_bytes(path.read_bytes()[:-1])
    index = index_of(path)
    assert index is not None
    assert (index.summary.records, index.find(bases("d-1"))) == (1, [])


def test_a_segment_that_is_being_written_has_none(tmp_path: Path, decision_record: RecordFactory) -> None:
    writer = LogWriter(tmp_path)
    writer.append(decision_record("d-0")).result(10)
    (path,) = segments(tmp_path)
    assert index_of(path) is None
    writer.close()
    assert index_of(path) is not None


def test_what_this_code_does_not_know_has_no_key(written: Write, decision_record: RecordFactory) -> None:
    path = written(decision_record("d-0"))
    with path.open("ab") as file:
        file.write(frame(99, b"{}") + frame(KINDS["reward"], b"not JSON"))
    assert build(path).summary.records == 1


def test_a_folder_that_may_only_be_read_is_indexed_in_memory(
    written: Write, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(index_module, "write_aside", refuse)
    path = written(decision_record("d-0"))
    index = index_of(path)
    assert index is not None
    assert len(index.find(bases("d-0"))) == 1
    assert not beside(path).exists()


def test_a_growing_one_takes_only_what_came_since(tmp_path: Path, decision_record: RecordFactory) -> None:
    growing, writer = Growing(), LogWriter(tmp_path)
    for i in range(3):
        writer.append(decision_record(f"d-{i}")).result(10)
        (path,) = segments(tmp_path)
        with path.open("rb", buffering=0) as file:
            growing.read(file)
            assert file.tell() == path.stat().st_size
        assert len(growing.find([key_of(f"d-{j}") for j in range(3)])) == i + 1
    writer.close()
