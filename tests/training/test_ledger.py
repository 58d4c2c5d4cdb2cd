"""The promotion ledger: appended, never edited, and readable after a write that was cut short."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from training.ledger import Entry, Ledger, locked

T = datetime(2026, 11, 1, tzinfo=UTC)


def entry(version: str, *, pack: str = "support", at: datetime = T) -> Entry:
    return Entry(
        at=at,
        pack=pack,
        kind="promote",
        from_version=None,
        to_version=version,
        digest="d",
        why="lift 0.02\nover the champion",
        actor="cron",
        verdict=("ok",),
    )


def test_entries_come_back_equal_and_in_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    written = [entry("1"), entry("2"), entry("3", pack="retail")]
    for one in written:
        ledger.append(one)
    assert ledger.read().entries == tuple(written)
    assert ledger.read().damaged == 0


def test_an_absent_ledger_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none.jsonl").read().entries == ()


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_torn_last_line_is_passed_and_does_not_swallow_the_next(tmp_path: Path, kept: int) -> None:
    """The second line is cut to 1 byte, to 20, or to all but its end; the third is written after that."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(entry("1"))
    whole = ledger.path.read_bytes()
    ledger.append(entry("2"))
    second = ledger.path.read_bytes()[len(whole) :]
    ledger.path.write_bytes(whole + second[:kept])
    assert [e.to_version for e in ledger.read().entries] == ["1"]
    assert ledger.read().damaged == 1
    ledger.append(entry("3"))
    assert [e.to_version for e in ledger.read().entries] == ["1", "3"]


def test_a_last_line_without_its_newline_still_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(entry("1"))
    ledger.path.write_bytes(ledger.path.read_bytes().rstrip(b"\n"))
    ledger.append(entry("2"))
    assert [e.to_version for e in ledger.read().entries] == ["1", "2"]


def test_it_tells_who_served_when(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(entry("1", at=T))
    ledger.append(entry("7", pack="retail", at=T + timedelta(days=1)))
    ledger.append(entry("2", at=T + timedelta(days=2)))
    history = ledger.read()
    served = [history.served_at("support", T + timedelta(days=d)) for d in (-1, 0, 1, 2, 9)]
    assert [e.to_version if e else None for e in served] == [None, "1", "1", "2", "2"]


def _append_some(path: Path, start: int) -> None:
    for i in range(25):
        Ledger(path).append(entry(str(start + i)))


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_some, args=(path, 100 * i)) for i in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    history = Ledger(path).read()
    assert history.damaged == 0
    assert sorted(int(e.to_version) for e in history.entries) == [*range(25), *range(100, 125)]


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), locked(tmp_path / "l"):
        raise ValueError("x")
    with locked(tmp_path / "l"):
        pass
