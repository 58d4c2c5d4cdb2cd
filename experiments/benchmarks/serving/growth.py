"""How the cost of a decision grows: with the actions, the facts, the length of the log."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml
from cells import Cells
from inside import batched, cpu_us, server_of
from prepare import learned

from nba.facts import Field
from nba.home import Home
from nba.log import LogWriter
from nba.log.reader import read_records
from nba.pack import Action, Pack
from nba.pack_file import load_pack
from serving.api import Api

ACTIONS, FACTS, LOGGED = (10, 100, 1_000), (10, 30, 100), (1_000, 10_000, 100_000)
AT_ONCE = 16
IDLE = 0.05  # of a core


def measure(cells: Cells, redis_url: str, *, small: bool) -> None:
    """CPU microseconds a decision: one alone, 16 at once, 100 in a batch."""
    n = 20 if small else 300
    for actions in ACTIONS[:1] if small else ACTIONS:
        cells.get(f"growth | actions | {actions}", lambda: _decisions(_pack(actions, 10), redis_url, n))  # noqa: B023
    for facts in FACTS[:1] if small else FACTS:
        cells.get(f"growth | facts | {facts}", lambda: _decisions(_pack(10, facts), redis_url, n))  # noqa: B023
    for logged in LOGGED[:1] if small else LOGGED:
        cells.get(f"growth | log | {logged}", lambda: _decisions(_pack(10, 10), redis_url, n, logged))  # noqa: B023


def _pack(actions: int, facts: int) -> Pack:
    """A moment of so many actions, no_action counted, and so many numbers as facts that the request brings."""
    support = load_pack("support")
    fields = {f"x{i}": Field(type="number", range=(-1.0, 1.0)) for i in range(facts)}
    ids = tuple(f"action_{i}" for i in range(1, actions))
    plain = Action(layer="cognitive", channel="chat", trigger="always", cost=0.01)
    moment = msgspec.structs.replace(support.moment("tone_tuner"), fields=tuple(fields), actions=ids, rules=())
    return msgspec.structs.replace(
        support,
        pack="grown",
        fields=fields,
        actions=dict.fromkeys(ids, plain),
        moments={"tone_tuner": moment},
        guardrails={},
        locale_field=None,
    )


def _decisions(pack: Pack, redis_url: str, n: int, logged: int = 0) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="nba-growth-") as folder:
        path = Path(folder) / "grown.yaml"
        path.write_text(yaml.safe_dump(msgspec.to_builtins(pack), sort_keys=False))
        loaded = load_pack(str(path))
        learned(loaded, Path(folder) / "policy", "linear+thompson" if len(pack.actions) < 500 else "rff+epsilon")
        return asyncio.run(_measured(Path(folder), path, redis_url, n, logged))


async def _measured(folder: Path, pack: Path, redis_url: str, n: int, logged: int) -> dict[str, Any]:
    facts = dict.fromkeys(load_pack(str(pack)).fields, 0.25)
    run = time.time_ns()

    def bodies(start: int, count: int) -> list[dict[str, Any]]:
        ids = range(start, start + count)
        return [_body(f"g-{run}-{i}", facts) for i in ids]

    told: dict[str, Any] = {}
    async with server_of(folder, redis_url, folder / "policy", pack=str(pack)) as server:
        api = Api(server)
        alone = [msgspec.json.encode(b) for b in bodies(0, n)]
        await cpu_us(api, "/v1/decide", alone[: n // 4], 1)  # warm
        if not logged:
            told["alone_us"] = round(await cpu_us(api, "/v1/decide", alone[n // 4 :], 1), 1)
            many = [msgspec.json.encode(b) for b in bodies(n, 2 * n)]
            told["at_16_us"] = round(await cpu_us(api, "/v1/decide", many, AT_ONCE), 1)
        batches = [batched(bodies(3 * n + 100 * i, 100)) for i in range(max(1, n // 60))]
        told["in_100_us"] = round(await cpu_us(api, "/v1/decide:batch", batches, 1) / 100, 1)
    return await _with_log(folder, pack, redis_url, alone, batches, logged) if logged else told


async def _with_log(
    folder: Path, pack: Path, redis_url: str, alone: list[bytes], batches: list[bytes], logged: int
) -> dict[str, Any]:
    """The same after a start with so many decisions in the log, once that has been indexed."""
    _fill(Home(folder), logged)
    began = time.monotonic()
    async with server_of(folder, redis_url, folder / "policy", pack=str(pack)) as server:
        told: dict[str, Any] = {"start_s": round(time.monotonic() - began, 2)}
        fresh, fresh_batches = ([body.replace(b'"g-', b'"h-') for body in bodies] for bodies in (alone, batches))
        api = Api(server)
        await _idle()
        told["alone_us"] = round(await cpu_us(api, "/v1/decide", fresh[: len(fresh) // 2], 1), 1)
        told["at_16_us"] = round(await cpu_us(api, "/v1/decide", fresh[len(fresh) // 2 :], AT_ONCE), 1)
        told["in_100_us"] = round(await cpu_us(api, "/v1/decide:batch", fresh_batches, 1) / 100, 1)
    return told


async def _idle() -> None:
    """Returns once this process does nothing beside what it always does."""
    spent = 1.0
    while spent > IDLE:
        before = time.process_time()
        await asyncio.sleep(0.5)
        spent = (time.process_time() - before) / 0.5


def _fill(home: Home, logged: int) -> None:
    """So many more decisions in the log, copies of one that is there."""
    record = next(r for r in read_records(home.log) if r.__class__.__name__ == "DecisionRecord")
    assert hasattr(record, "decision")  # noqa: S101
    log, at, replace = LogWriter(home.log), datetime.now(UTC), msgspec.structs.replace
    request = record.decision.request
    for start in range(0, logged, 1_000):
        copies = [
            replace(
                record,
                decision=replace(record.decision, request=replace(request, decision_id=f"old-{i}"), decided_at=at),
            )
            for i in range(start, min(start + 1_000, logged))
        ]
        log.append(*copies).result()
    log.close()


def _body(decision_id: str, facts: dict[str, float]) -> dict[str, Any]:
    return {"subject_id": "u-1", "moment": "tone_tuner", "decision_id": decision_id, "context": facts}
