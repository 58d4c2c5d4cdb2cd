"""The log by day."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow.parquet as pq
import pytest

from nba.errors import LogError
from nba.log import LogWriter
from nba.log.compact import LOCK, MANIFEST, compact
from nba.log.segment import alone, segments
from nba.log.ship import ship
from nba.records import ActivationRecord, ConsentRecord, OverrideRecord, Record, RewardRecord
from tests.nba.log.killed import killed

if TYPE_CHECKING:
    from tests.conftest import RecordFactory

DAY = timedelta(days=1)


def write(log: Path, *records: Record) -> None:
    """Each record a segment of its own."""
    writer = LogWriter(log, roll_bytes=1)
    for record in records:
        writer.append(record).result(10)
    writer.close()


def rows(target: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    """Day, counted from the first -> its rows."""
    return {
        path.parent.name.removeprefix("day="): pq.ParquetFile(path).read().to_pylist()
        for path in sorted((target / name).glob("day=*/rows.parquet"))
    }


def reward(factory: RecordFactory, key: str, value: float, day: int) -> RewardRecord:
    return RewardRecord(
        decision_id="d-0",
        outcome="resolved",
        value=value,
        observed_at=factory.now,
        idempotency_key=key,
        received_at=factory.now + day * DAY,
    )


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Log and target."""
    return tmp_path / "log", tmp_path / "columns"


def contents(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def test_every_fact_is_once_in_its_day(places: tuple[Path, Path], decision_record: RecordFactory) -> None:
    """A key is first received on day 0, though day 1 stands before it in the log."""
    log, target = places
    now, f = decision_record.now, decision_record
    activations = [ActivationRecord(decision_id="d-0", activated_at=now + n * DAY) for n in (1, 0)]
    override = OverrideRecord(decision_id="d-0", action_id="a", actor="agent", overridden_at=now)
    stated = ConsentRecord(subject="0a", purposes={"x": True}, source=None, observed_at=now, recorded_at=now)
    facts = [*activations, override, override, stated, stated]
    reports = [reward(f, "k", 2.0, 1), reward(f, "k", 1.0, 0), reward(f, "l", 3.0, 1)]
    write(log, f("d-0"), f("d-0"), f("d-1", decided_at=now + DAY), *reports, *facts)
    made = compact(log, target)
    first, second = ((now + n * DAY).date().isoformat() for n in (0, 1))
    assert (made.segments, made.days, made.rows) == (12, (first, second), 7)
    assert {day: [r["decision_id"] for r in each] for day, each in rows(target, "decisions").items()} == {
        first: ["d-0"],
        second: ["d-1"],
    }
    assert {day: [r["value"] for r in each] for day, each in rows(target, "rewards").items()} == {
        first: [1.0],
        second: [3.0],
    }
    assert [len(each) for name in ("activations", "overrides", "consents") for each in rows(target, name).values()] == [
        1,
        1,
        1,
    ]


def test_a_second_run_does_nothing(places: tuple[Path, Path], decision_record: RecordFactory) -> None:
    log, target = places
    write(log, decision_record("d-0"))
    compact(log, target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    again = compact(log, target)
    assert (again.segments, again.days) == (0, ())
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_the_manifest_names_what_it_is_made_of(places: tuple[Path, Path], decision_record: RecordFactory) -> None:
    log, target = places
    write(log, decision_record("d-0"))
    compact(log, target)
    manifest = msgspec.json.decode((target / MANIFEST).read_bytes())
    (path,) = segments(log)
    assert list(manifest["segments"]) == [path.name]
    assert manifest["segments"][path.name]["bytes"] == path.stat().st_size
    ((name, output),) = manifest["files"].items()
    assert (target / name).stat().st_size == output["bytes"]
    assert output["rows"] == 1


def test_a_higher_epoch_of_another_day_takes_the_row_with_it(
    places: tuple[Path, Path], decision_record: RecordFactory
) -> None:
    log, target = places
    now = decision_record.now
    write(log, decision_record("d-0"), decision_record("e", decided_at=now + 5 * DAY))
    compact(log, target)
    write(log, decision_record("d-0", epoch=2, decided_at=now + DAY))
    made = compact(log, target)
    days = [(now + n * DAY).date().isoformat() for n in (0, 1, 5)]
    assert made.days == tuple(days[:2])
    assert list(rows(target, "decisions")) == days[1:]


def test_a_file_that_has_gone_is_made_again(places: tuple[Path, Path], decision_record: RecordFactory) -> None:
    log, target = places
    write(log, decision_record("d-0"))
    compact(log, target)
    before = contents(target)
    next(target.rglob("*.parquet")).unlink()
    assert len(compact(log, target).days) == 1
    assert contents(target) == before


@pytest.mark.parametrize(
    ("place", "nth"),
    [
        ("nba.log.columns:ParquetFile.finish", 1),  # a file is half written
        ("nba.log.compact:_output", 2),  # a day is there
        ("nba.log.compact:write_aside", 1),  # all days are
    ],
)
def test_a_killed_one_is_made_again(
    places: tuple[Path, Path], decision_record: RecordFactory, tmp_path: Path, place: str, nth: int
) -> None:
    log, target = places
    write(log, decision_record("d-0"), decision_record("d-1", decided_at=decision_record.now + DAY))
    killed("compact", place, nth, log, target)
    assert not (target / MANIFEST).exists()
    compact(log, target)
    compact(log, tmp_path / "undisturbed")
    assert contents(target) == contents(tmp_path / "undisturbed")


def test_one_compacts_at_a_time(places: tuple[Path, Path]) -> None:
    log, target = places
    target.mkdir()
    with alone(target / LOCK), pytest.raises(LogError, match="another process"):
        compact(log, target)


def test_a_segment_that_is_being_written_waits(places: tuple[Path, Path], decision_record: RecordFactory) -> None:
    log, target = places
    writer = LogWriter(log)
    writer.append(decision_record("d-0")).result(10)
    assert compact(log, target).segments == 0
    writer.close()
    assert compact(log, target).segments == 1


def test_segments_that_only_an_archive_has_count_all_the_same(
    places: tuple[Path, Path], decision_record: RecordFactory, tmp_path: Path
) -> None:
    log, target = places
    write(log, decision_record("d-0"))
    compact(log, target)
    ship(log, str(tmp_path / "archive"), delete_after=timedelta(0))
    write(log, decision_record("d-1"))
    compact(log, target)
    ((_, of_the_day),) = rows(target, "decisions").items()
    assert [r["decision_id"] for r in of_the_day] == ["d-0", "d-1"]


def test_a_segment_that_has_gone_altogether_is_told(places: tuple[Path, Path], decision_record: RecordFactory) -> None:
    log, target = places
    write(log, decision_record("d-0"))
    compact(log, target)
    segments(log)[0].unlink()
    with pytest.raises(LogError, match="gone from"):
        compact(log, target)
