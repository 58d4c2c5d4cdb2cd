"""The log as columns."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nba.log import LogWriter, columns
from nba.log.columns import DECISIONS, decisions_table, export
from nba.records import ActivationRecord, ConsentRecord, OverrideRecord, RewardRecord

if TYPE_CHECKING:
    from tests.conftest import RecordFactory


def reward(factory: RecordFactory, decision_id: str, key: str, value: float) -> RewardRecord:
    return RewardRecord(
        decision_id=decision_id,
        outcome="resolved",
        value=value,
        observed_at=factory.now,
        idempotency_key=key,
        received_at=factory.now,
    )


def test_a_decision_is_a_row(decision_record: RecordFactory) -> None:
    table = decisions_table([decision_record("d-0", draw=2**51)])
    assert table.schema == DECISIONS
    (row,) = table.to_pylist()
    assert row["decision_id"] == "d-0"
    assert (row["action_id"], row["propensity"], row["draw"]) == ("a", 0.25, 2**51)
    assert row["candidates"] == ["no_action", "a", "b", "c"]
    assert row["distribution"] == [0.25, 0.25, 0.5, 0.0]
    assert row["removed"] == [("c", "trigger")]
    assert json.loads(row["context"]) == {"sentiment": -0.5}
    assert row["decided_at"] == decision_record.now
    assert row["closes_at"] == decision_record.now + timedelta(hours=24)
    assert (row["policy"], row["policy_version"], row["arm"]) == ("support", "1", "champion")
    assert row["session_id"] is None


def test_the_highest_epochs_first_record_is_the_row(decision_record: RecordFactory) -> None:
    """Draw 1 is the earlier of two in epoch 2, wherever in the log it stands."""
    made = ((0, 1), (2, 2), (1, 2), (3, 1))
    records = [
        decision_record("d", draw=n << 51, epoch=epoch, decided_at=decision_record.now + timedelta(seconds=n))
        for n, epoch in made
    ]
    (row,) = decisions_table(records).to_pylist()
    assert (row["draw"], row["epoch"]) == (1 << 51, 2)


def test_no_records_are_an_empty_table() -> None:
    assert decisions_table([]).schema == DECISIONS


def test_an_export_has_every_fact_once(
    tmp_path: Path, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "ROWS", 2)
    log, target, now = tmp_path / "log", tmp_path / "out" / "parquet", decision_record.now
    writer = LogWriter(log)
    decisions = [decision_record(f"d-{i}", draw=i << 50, epoch=2) for i in range(5)]
    writer.append(decision_record("d-3", epoch=1), *decisions, decisions[1]).result(10)
    rewards = [reward(decision_record, "d-0", "k-1", 1.0), reward(decision_record, "d-1", "k-1", 0.5)]
    writer.append(*rewards, rewards[0]).result(10)
    activation = ActivationRecord(decision_id="d-0", activated_at=now)
    override = OverrideRecord(decision_id="d-0", action_id="a", actor="agent", overridden_at=now)
    writer.append(activation, activation, override).result(10)
    consents = [
        ConsentRecord(
            subject="0a", purposes={"emotion": False, "surveys": said}, source=None, observed_at=now, recorded_at=now
        )
        for said in (True, False, True)
    ]
    writer.append(*consents).result(10)
    writer.close()
    written = export(log, target)
    assert {path.name: rows for path, rows in written.items()} == {
        "decisions.parquet": 5,
        "rewards.parquet": 2,
        "activations.parquet": 1,
        "overrides.parquet": 1,
        "consents.parquet": 2,
    }
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in written)
    table = pq.read_table(target / "decisions.parquet")
    by_id = pa.Table.from_pylist(sorted(table.to_pylist(), key=lambda row: row["decision_id"]), DECISIONS)
    assert by_id == decisions_table(decisions)
    assert pq.read_table(target / "rewards.parquet").column("value").to_pylist() == [1.0, 0.5]
    assert pq.read_table(target / "overrides.parquet").column("actor").to_pylist() == ["agent"]
    stated = pq.read_table(target / "consents.parquet").to_pylist()
    assert [row["purposes"] for row in stated] == [[("emotion", False), ("surveys", said)] for said in (True, False)]
    assert (stated[0]["subject"], stated[0]["source"], stated[0]["observed_at"]) == ("0a", None, now)


def test_an_export_replaces_the_one_before(tmp_path: Path, decision_record: RecordFactory) -> None:
    log, target = tmp_path / "log", tmp_path / "out"
    writer = LogWriter(log)
    for n in (1, 2):
        writer.append(decision_record(f"d-{n}")).result(10)
        assert export(log, target)[target / "decisions.parquet"] == n
    writer.close()


def test_an_export_that_fails_leaves_the_one_before(
    tmp_path: Path, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, target = tmp_path / "log", tmp_path / "out"
    writer = LogWriter(log)
    writer.append(decision_record("d-0")).result(10)
    writer.close()
    export(log, target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def fail(_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(columns, "_decision_row", fail)
    with pytest.raises(RuntimeError):
        export(log, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_an_empty_log_gives_empty_files(tmp_path: Path) -> None:
    written = export(tmp_path / "none", tmp_path / "out")
    assert set(written.values()) == {0}
    assert pq.read_table(tmp_path / "out" / "decisions.parquet").schema.equals(DECISIONS)
