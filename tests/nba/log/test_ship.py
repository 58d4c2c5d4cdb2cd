"""Shipping and restoring: every copy checked, nothing overwritten, any kill made good by the next pass."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nba.errors import LogError
from nba.log import LogWriter, read_records
from nba.log.segment import segments
from nba.log.ship import backlog, restore, ship, unshipped
from nba.log.shipped import read_shipped
from nba.log.store import Store
from nba.log.tail import Tail
from nba.records import Record
from tests.nba.log.killed import killed

if TYPE_CHECKING:
    from tests.conftest import RecordFactory

SEGMENTS = 3


@pytest.fixture
def log(tmp_path: Path, decision_record: RecordFactory) -> Path:
    """Three segments of one decision each."""
    writer = LogWriter(tmp_path / "log", roll_bytes=1)
    for i in range(SEGMENTS):
        writer.append(decision_record(f"d-{i}")).result(10)
    writer.close()
    return tmp_path / "log"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def names(log: Path) -> list[str]:
    return [path.name for path in segments(log)]


def held(log: Path) -> list[Record]:
    return list(read_records(log))


def restored(archive: Path, home: Path) -> list[Record]:
    restore(home, str(archive))
    return held(home)


def test_every_segment_is_shipped_once(log: Path, archive: Path) -> None:
    first, second = ship(log, str(archive)), ship(log, str(archive))
    assert (first.shipped, first.known, first.deleted) == (names(log), [], [])
    assert second.shipped == []
    assert sorted(path.name for path in archive.iterdir()) == sorted(
        f"{name}{end}" for name in names(log) for end in (".json", ".zst")
    )


def test_a_segment_that_is_being_written_waits(log: Path, archive: Path, decision_record: RecordFactory) -> None:
    writer = LogWriter(log)
    writer.append(decision_record("d-open")).result(10)
    assert len(ship(log, str(archive)).shipped) == SEGMENTS
    assert unshipped(log, str(archive)) == []
    writer.close()
    assert ship(log, str(archive)).shipped == names(log)[-1:]


def test_an_empty_home_gets_the_same_log_back(log: Path, archive: Path, tmp_path: Path) -> None:
    ship(log, str(archive))
    assert restored(archive, tmp_path / "new" / "log") == held(log)
    again = restore(tmp_path / "new" / "log", str(archive))
    assert (again.restored, again.present) == ([], names(log))
    assert ship(tmp_path / "new" / "log", str(archive)).shipped == []


def test_what_was_deleted_here_is_read_from_the_archive(log: Path, archive: Path) -> None:
    before = held(log)
    done = ship(log, f"file://{archive}", delete_after=timedelta(0))
    assert done.deleted == names(log)
    assert list(log.glob("*.seg")) == []
    assert held(log) == before
    assert list(Tail(log).read()) == before


def test_an_archive_that_has_lost_what_only_it_had_is_told(log: Path, archive: Path, tmp_path: Path) -> None:
    ship(log, str(archive), delete_after=timedelta(0))
    archive.rename(tmp_path / "unmounted")
    with pytest.raises(LogError, match="has no object"):
        held(log)
    with pytest.raises(LogError, match="has no object"):
        list(Tail(log).read())


def test_only_what_is_old_enough_is_deleted(log: Path, archive: Path) -> None:
    old = segments(log)[0]
    two_days_ago = time.time() - 2 * 86_400.0
    os.utime(old, (two_days_ago, two_days_ago))
    assert ship(log, str(archive), delete_after=timedelta(days=1)).deleted == [old.name]


def test_nothing_is_deleted_whose_copy_is_damaged(log: Path, archive: Path) -> None:
    ship(log, str(archive))
    (archive / f"{names(log)[0]}.zst").write_bytes(b"")
    with pytest.raises((LogError, OSError)):
        ship(log, str(archive), delete_after=timedelta(0))
    assert len(list(log.glob("*.seg"))) == SEGMENTS


def test_a_deleted_segments_name_is_not_given_again(log: Path, archive: Path, decision_record: RecordFactory) -> None:
    before = names(log)
    ship(log, str(archive), delete_after=timedelta(0))
    writer = LogWriter(log)
    writer.append(decision_record("d-new")).result(10)
    writer.close()
    assert names(log)[:-1] == before
    assert len(held(log)) == SEGMENTS + 1


def test_an_object_without_its_entry_is_written_again(log: Path, archive: Path, tmp_path: Path) -> None:
    """As a kill leaves it: the first object torn, the second's entry torn."""
    first, second, _ = names(log)
    archive.mkdir()
    (archive / f"{first}.zst").write_bytes(b"\x28\xb5\x2f\xfdtorn")
    (archive / f"{second}.json").write_bytes(b'{"segment":"')
    assert restore(tmp_path / "new", str(archive)).restored == []
    assert ship(log, str(archive)).shipped == names(log)
    assert restored(archive, tmp_path / "new") == held(log)


@pytest.mark.parametrize("change", [b"", b"other", None], ids=["empty", "other", "cut"])
def test_a_copy_that_is_not_what_was_shipped_is_refused(
    log: Path, archive: Path, tmp_path: Path, change: bytes | None
) -> None:
    ship(log, str(archive))
    path = archive / f"{names(log)[1]}.zst"
    if change is None:
        path.write_bytes(path.read_bytes()[:-20])
    else:
        Store.at(f"file://{archive}").write(path.name, [change])
    with pytest.raises((LogError, OSError)):
        restore(tmp_path / "new", str(archive))
    assert names(tmp_path / "new") == names(log)[:1]


def test_a_differing_segment_here_is_not_overwritten(log: Path, archive: Path) -> None:
    ship(log, str(archive))
    path = segments(log)[1]
    path.write_bytes(path.read_bytes()[:-1])
    cut = path.read_bytes()
    with pytest.raises(LogError, match="is another one than the archive's"):
        restore(log, str(archive))
    assert path.read_bytes() == cut


def test_another_segment_of_a_name_is_refused_and_holds_up_no_other(log: Path, archive: Path, tmp_path: Path) -> None:
    ship(log, str(archive))
    other = tmp_path / "other"
    other.mkdir()
    (other / names(log)[0]).write_bytes(segments(log)[1].read_bytes())
    (other / "x-1-y-000000.seg").write_bytes(segments(log)[2].read_bytes())
    with pytest.raises(LogError, match="has another segment"):
        ship(other, str(archive))
    assert [path.name for path in unshipped(other, str(archive))] == names(log)[:1]


def test_a_segment_that_its_disk_damaged_ships_as_it_is(log: Path, archive: Path, tmp_path: Path) -> None:
    """Nothing is lost beyond the record that is."""
    path = segments(log)[0]
    ship(log, str(tmp_path / "before"))
    whole = path.read_bytes()
    path.write_bytes(whole[:50] + b"?" + whole[51:])
    ship(log, str(archive))
    assert [r.decision_id for r in restored(archive, tmp_path / "new")] == ["d-1", "d-2"]  # type: ignore[union-attr]


def test_a_target_that_fails_is_tried_again(
    log: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It fails in the second object, half written."""
    write, calls = Store.write, 0

    def fail(store: Store, name: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        nonlocal calls
        calls += 1
        if calls == 3:
            write(store, name, (chunk[:9] for chunk in chunks))
            raise OSError("no route to host")
        return write(store, name, chunks)

    monkeypatch.setattr(Store, "write", fail)
    with pytest.raises(OSError, match="no route"):
        ship(log, str(archive))
    assert backlog(log, str(archive))[0] == SEGMENTS - 1
    assert len(ship(log, str(archive)).shipped) == SEGMENTS - 1
    assert backlog(log, str(archive)) == (0, 0.0)
    assert restored(archive, tmp_path / "new") == held(log)


def test_a_copy_that_is_read_back_otherwise_is_no_copy(
    log: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Store.read

    def flip(store: Store, name: str) -> Iterable[bytes]:
        return (chunk.replace(b"d-1", b"d-7") for chunk in read(store, name))

    with monkeypatch.context() as flipping:
        flipping.setattr(Store, "read", flip)
        with pytest.raises(LogError, match="not what was shipped"):
            ship(log, str(archive))
    assert [path.name for path in unshipped(log, str(archive))] == names(log)[1:2]
    assert ship(log, str(archive)).shipped == names(log)[1:2]


@pytest.mark.parametrize(
    ("place", "nth"),
    [
        ("nba.log.store:_sync", 1),  # the first object is written
        ("nba.log.store:_sync", 4),  # the second entry is written
        ("nba.log.ship:write_shipped", 2),  # the second segment is shipped, and nobody here knows
    ],
)
def test_a_kill_is_made_good_by_the_next_pass(log: Path, archive: Path, tmp_path: Path, place: str, nth: int) -> None:
    killed("ship", place, nth, log, archive)
    assert {r.decision_id for r in restored(archive, tmp_path / "between")} <= {"d-0", "d-1"}  # type: ignore[union-attr]
    ship(log, str(archive))
    assert restored(archive, tmp_path / "new") == held(log)
    assert ship(log, str(archive)).shipped == []


def test_one_ships_at_a_time(log: Path, archive: Path) -> None:
    inner = []
    ship(log, str(archive), on_segment=lambda n: inner.append(ship(log, str(archive)).busy))
    assert inner == [True] * SEGMENTS


def test_a_stop_ends_with_the_segment(log: Path, archive: Path) -> None:
    told: list[int] = []
    assert len(ship(log, str(archive), stop=lambda: len(told) == 1, on_segment=told.append).shipped) == 1


def test_another_archive_gets_everything_too(log: Path, archive: Path, tmp_path: Path) -> None:
    ship(log, str(archive))
    assert ship(log, str(tmp_path / "second")).shipped == names(log)
    shipped = read_shipped(segments(log)[0])
    assert shipped is not None
    assert shipped.archive == (tmp_path / "second").as_uri()


def test_an_archive_that_is_none_is_refused(log: Path) -> None:
    with pytest.raises(LogError, match="ftp"):
        ship(log, "ftp://somewhere")
