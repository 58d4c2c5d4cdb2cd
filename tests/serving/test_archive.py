from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from nba.log import LogWriter, index
from nba.log.index import Growing
from nba.log.ship import ship
from nba.records import ActivationRecord, ConsentRecord
from serving.archive import Archive, canonical, find_records

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, decision_record: Any) -> Path:
    """A log of 50 decisions, each activated."""
    log = LogWriter(tmp_path / "log")
    for i in range(50):
        log.append(decision_record(f"d-{i}"), ActivationRecord(decision_id=f"d-{i}", activated_at=NOON)).result()
    log.close()
    return tmp_path / "log"


def test_all_records_of_a_decision_are_found_in_order_and_of_no_other(folder: Path) -> None:
    found = asyncio.run(Archive(folder).find("d-4"))
    assert [type(r).__name__ for r in found] == ["DecisionRecord", "ActivationRecord"]
    assert {r.decision_id for r in found} == {"d-4"}


def test_a_statement_of_consent_belongs_to_no_decision(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    words = {'"decision_id":"d-4"': True}
    log.append(ConsentRecord(subject="0a", purposes=words, source=None, observed_at=NOON, recorded_at=NOON)).result()
    log.close()
    assert asyncio.run(Archive(tmp_path).find("d-4")) == []


def test_what_is_not_there_is_nothing(folder: Path, tmp_path: Path) -> None:
    assert asyncio.run(Archive(folder).find("d-99")) == []
    assert asyncio.run(Archive(tmp_path / "nowhere").find("d-1")) == []


def test_a_second_question_scans_no_segment_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(folder)
    asyncio.run(archive.find("d-0"))
    monkeypatch.setattr(index, "scan", lambda file: pytest.fail("scanned"))
    assert len(asyncio.run(archive.find("d-4"))) == 2


def test_what_comes_to_a_segment_that_is_being_written_is_found(tmp_path: Path, decision_record: Any) -> None:
    archive, log = Archive(tmp_path), LogWriter(tmp_path)
    for i in range(3):
        log.append(decision_record(f"d-{i}")).result(10)
        assert len(asyncio.run(archive.find(f"d-{i}"))) == 1
    log.append(ActivationRecord(decision_id="d-0", activated_at=NOON)).result(10)
    assert len(asyncio.run(archive.find("d-0"))) == 2
    log.close()
    assert len(asyncio.run(archive.find("d-0"))) == 2


def test_what_only_the_shipped_copy_has_is_found(folder: Path, tmp_path: Path) -> None:
    ship(folder, str(tmp_path / "archive"), delete_after=timedelta(0))
    assert list(folder.glob("*.seg")) == []
    assert len(asyncio.run(Archive(folder).find("d-4"))) == 2


def test_questions_asked_at_once_share_a_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass takes the first question, the second all that were asked meanwhile."""
    passes: list[int] = []

    def counted(folder: Path, ids: set[str], growing: dict[Path, Growing]) -> dict[str, list[Any]]:
        passes.append(len(ids))
        return find_records(folder, ids, growing)

    monkeypatch.setattr("serving.archive.find_records", counted)

    async def scenario() -> None:
        archive = Archive(folder)
        first = asyncio.create_task(archive.find("d-0"))
        while not passes:
            await asyncio.sleep(0)
        found = await asyncio.gather(*(archive.find(f"d-{i % 40}") for i in range(80)))
        assert all(len(records) == 2 for records in found)
        await first

    asyncio.run(scenario())
    assert passes[0] == 1
    assert len(passes) <= 3


def test_a_log_that_cannot_be_read_is_told_to_everybody_and_the_next_pass_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path, ids: set[str], growing: dict[Path, Growing]) -> dict[str, list[Any]]:
        raise OSError("gone")

    async def scenario() -> None:
        archive = Archive(folder)
        with monkeypatch.context() as broken_for_now:
            broken_for_now.setattr("serving.archive.find_records", broken)
            with pytest.raises(OSError, match="gone"):
                await archive.find("d-1")
        assert len(await archive.find("d-1")) == 2

    asyncio.run(scenario())


def test_the_canonical_decision_is_the_first_of_the_highest_epoch(decision_record: Any) -> None:
    first, second, third = (replace(decision_record("d"), epoch=epoch) for epoch in (1, 2, 2))
    assert canonical([first, second, third]) is second
    assert canonical([ActivationRecord(decision_id="d", activated_at=NOON)]) is None
