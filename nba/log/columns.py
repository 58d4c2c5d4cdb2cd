"""The log as columns: Arrow tables and Parquet files, deduplicated.

One row a decision id, its canonical record (the first of its highest epoch); one row a (decision, idempotency key), the
first; one a decision for activations, the first; every override; every statement of consent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from nba.durable import make_folder, sync_folder
from nba.log.reader import Count, OnRecord, read_records
from nba.records import (
    ActivationRecord,
    ConsentRecord,
    DecisionRecord,
    OverrideRecord,
    Record,
    RewardRecord,
    encode_record,
)

ROWS = 10_000  # rows of a row group, and what an export holds in memory

_TIME = pa.timestamp("us", tz="UTC")
_WORDS = pa.list_(pa.string())

DECISIONS = pa.schema(
    {
        "decision_id": pa.string(),
        "subject": pa.string(),
        "session_id": pa.string(),
        "pack": pa.string(),
        "pack_digest": pa.string(),
        "moment": pa.string(),
        "decided_at": _TIME,
        "closes_at": _TIME,
        "action_id": pa.string(),
        "propensity": pa.float64(),
        "treatment_id": pa.string(),
        "treatment_propensity": pa.float64(),
        "candidates": _WORDS,
        "distribution": pa.list_(pa.float64()),  # over candidates
        "removed": pa.map_(pa.string(), pa.string()),  # action -> reason
        "draw": pa.int64(),
        "mode": pa.string(),
        "learnable": pa.bool_(),
        "degraded": _WORDS,
        "policy": pa.string(),
        "policy_version": pa.string(),
        "policy_kind": pa.string(),
        "policy_digest": pa.string(),
        "arm": pa.string(),
        "bundle_id": pa.string(),
        "context": pa.string(),  # JSON: field -> value
        "missing": _WORDS,
        "defaulted": _WORDS,
        "observed_at": _TIME,
        "baseline_action": pa.string(),
        "defer_activation": pa.bool_(),
        "default_reward": pa.float64(),
        "fingerprint": pa.string(),
        "epoch": pa.int64(),
    }
)
REWARDS = pa.schema(
    {
        "decision_id": pa.string(),
        "outcome": pa.string(),
        "value": pa.float64(),
        "observed_at": _TIME,
        "idempotency_key": pa.string(),
        "received_at": _TIME,
    }
)
ACTIVATIONS = pa.schema({"decision_id": pa.string(), "activated_at": _TIME})
OVERRIDES = pa.schema(
    {"decision_id": pa.string(), "action_id": pa.string(), "actor": pa.string(), "overridden_at": _TIME}
)
CONSENTS = pa.schema(
    {
        "subject": pa.string(),
        "purposes": pa.map_(pa.string(), pa.bool_()),
        "source": pa.string(),
        "observed_at": _TIME,
        "recorded_at": _TIME,
    }
)


TABLES: dict[type[Record], tuple[str, pa.Schema]] = {
    DecisionRecord: ("decisions", DECISIONS),
    RewardRecord: ("rewards", REWARDS),
    ActivationRecord: ("activations", ACTIVATIONS),
    OverrideRecord: ("overrides", OVERRIDES),
    ConsentRecord: ("consents", CONSENTS),
}


def decisions_table(records: Iterable[Record]) -> pa.Table:
    """One row a decision id, columns as in DECISIONS; held in memory."""
    canonical: dict[str, DecisionRecord] = {}
    for record in records:
        if isinstance(record, DecisionRecord):
            known = canonical.get(record.decision_id)
            if known is None or record.rank < known.rank:
                canonical[record.decision_id] = record
    return pa.Table.from_pylist([_decision_row(record) for record in canonical.values()], DECISIONS)


def export(folder: Path, target: Path, *, on_record: OnRecord | None = None) -> dict[Path, int]:
    """Writes decisions, rewards, activations, overrides and consents.parquet into `target`; rows written by file.

    Reads the log twice, so that it need not fit in memory; `on_record` is told how many records of both readings are
    done. A decision that is logged meanwhile is left for the next export. Each file is written aside, synced, renamed.
    Raises LogError where the log cannot be read, OSError where `target` cannot be written.
    """
    count = Count(on_record)
    ranks: dict[str, tuple[Any, ...]] = {}
    for record in count(read_records(folder)):
        if isinstance(record, DecisionRecord):
            rank = record.rank
            ranks[record.decision_id] = min(rank, ranks.get(record.decision_id, rank))
    make_folder(target)
    with ExitStack() as stack:
        files = {
            kind: stack.enter_context(ParquetFile(target / f"{name}.parquet", schema))
            for kind, (name, schema) in TABLES.items()
        }
        seen: set[object] = set()
        for record in count(read_records(folder)):
            if isinstance(record, DecisionRecord):
                if ranks.get(record.decision_id) == record.rank:
                    del ranks[record.decision_id]  # another of this rank is a repetition
                    files[DecisionRecord].add(record)
            elif fact(record) not in seen:
                seen.add(fact(record))
                files[type(record)].add(record)
        for file in files.values():
            file.finish()
    sync_folder(target)
    return {file.path: file.rows for file in files.values()}


def fact(record: Record) -> object:
    """What makes two records the same fact: of them one is a row."""
    if isinstance(record, RewardRecord):
        return record.decision_id, record.idempotency_key
    if isinstance(record, ConsentRecord):
        return encode_record(record)
    return record if isinstance(record, OverrideRecord) else (type(record), record.decision_id)


def _fact_row(record: RewardRecord | ActivationRecord | OverrideRecord | ConsentRecord) -> dict[str, Any]:
    row = msgspec.structs.asdict(record)
    return {**row, "purposes": list(record.purposes.items())} if isinstance(record, ConsentRecord) else row


class ParquetFile(AbstractContextManager["ParquetFile"]):
    """A Parquet file that appears under its name whole, or not at all."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows = path, 0
        self._schema = schema
        self._aside = path.with_name(f".{path.name}.{os.getpid()}")
        self._sink = self._aside.open("wb")
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def add(self, record: Record) -> None:
        """Adds a row; a full row group goes to the disk."""
        self._waiting.append(_decision_row(record) if isinstance(record, DecisionRecord) else _fact_row(record))
        self.rows += 1
        if len(self._waiting) == ROWS:
            self._flush()

    def finish(self) -> None:
        """Syncs and renames it."""
        self._flush()
        self._writer.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._sink.close()
        self._aside.replace(self.path)

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._sink.close()
        self._aside.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, self._schema))
            self._waiting = []


def _decision_row(record: DecisionRecord) -> dict[str, Any]:
    decision, request, context = record.decision, record.decision.request, record.decision.context
    policy = decision.policy
    return {
        "decision_id": record.decision_id,
        "subject": context.subject,
        "session_id": context.session_id,
        "pack": decision.pack,
        "pack_digest": decision.pack_digest,
        "moment": context.moment,
        "decided_at": decision.decided_at,
        "closes_at": record.shown.closes_at,
        "action_id": decision.action_id,
        "propensity": decision.propensity,
        "treatment_id": decision.treatment_id,
        "treatment_propensity": decision.treatment_propensity,
        "candidates": decision.candidates,
        "distribution": decision.distribution,
        "removed": list(decision.removed.items()),
        "draw": decision.draw,
        "mode": decision.mode,
        "learnable": decision.learnable,
        "degraded": decision.degraded,
        "policy": policy.name,
        "policy_version": policy.version,
        "policy_kind": policy.kind,
        "policy_digest": policy.digest,
        "arm": policy.arm,
        "bundle_id": decision.bundle_id,
        "context": msgspec.json.encode(context.values).decode(),
        "missing": request.missing,
        "defaulted": request.defaulted,
        "observed_at": context.observed_at,
        "baseline_action": request.baseline_action,
        "defer_activation": request.defer_activation,
        "default_reward": record.shown.default_reward,
        "fingerprint": record.fingerprint,
        "epoch": record.epoch,
    }
