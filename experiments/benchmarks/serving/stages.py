"""One decision, stage by stage: the server's own functions, called as it calls them, in CPU time of one thread.

Reaches into the engine's private parts: a stage has no public name.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from cells import Cells
from inside import ask, cpu_us, server_of
from load import body
from prepare import artefact_folder
from servers import Place

from nba.decide import decide_many
from nba.log.writer import _framed
from nba.records import encode_record
from serving import wire
from serving.api import Api, _decided
from serving.engine import Made, Timing
from serving.server import Server

TOGETHER = (1, 32, 100)  # decisions


def measure(cells: Cells, place: Place, *, rounds: int) -> None:
    """Microseconds of CPU a decision, the least of some rounds: what else the machine does only adds to them."""
    for n in TOGETHER:
        cells.get(f"stages | {n}", lambda: asyncio.run(_stages(place, n, rounds)))  # noqa: B023
    for conns in (1, 16, 64):
        cells.get(f"inside | {conns}", lambda: asyncio.run(_inside(place, conns, 100 * rounds)))  # noqa: B023
    for size in (100, 1_000):
        cells.get(f"inside | batch-{size}", lambda: asyncio.run(_inside_batch(place, size, rounds)))  # noqa: B023


async def _inside(place: Place, at_once: int, n: int) -> dict[str, Any]:
    async with server_of(place.home, place.redis_url, artefact_folder(place.home)) as server:
        api = Api(server)
        await cpu_us(api, "/v1/decide", [body("decide", -1 - i) for i in range(200)], at_once)
        return {
            "us": round(
                await cpu_us(api, "/v1/decide", [body("decide", time.time_ns() + i) for i in range(n)], at_once), 1
            )
        }


async def _inside_batch(place: Place, size: int, rounds: int) -> dict[str, Any]:
    async with server_of(place.home, place.redis_url, artefact_folder(place.home)) as server:
        api, start = Api(server), time.time_ns() // 1_000
        bodies = [body(f"batch-{size}", start + i) for i in range(max(2, rounds // (size // 100)))]
        us = await cpu_us(api, "/v1/decide:batch", bodies, 1)
        return {"us": round(us / size, 1)}


async def _stages(place: Place, n: int, rounds: int) -> dict[str, Any]:
    async with server_of(place.home, place.redis_url, artefact_folder(place.home)) as server:
        return {"us": await _of(server, n, rounds)}


async def _of(server: Server, n: int, rounds: int) -> dict[str, float]:
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        calls, best = max(1, 300 // n), float("inf")
        for _ in range(rounds):
            before = time.thread_time()
            for _ in range(calls):
                made = work()
            best = min(best, (time.thread_time() - before) / calls / n * 1e6)
        spent[name] = round(best, 1)
        return made

    engine, intake, reader = server.engine, server.intake, server.features["support"]
    now, raws = engine._clock(), [body("decide", i) for i in range(n)]
    bodies = timed("read and check JSON", lambda: [wire.read_body(raw, wire.DecideBody) for raw in raws])
    asked = timed("understand the request", lambda: [intake.ask(b) for b in bodies])
    lookups = [a.lookup for a in asked]
    timed("features: what to ask Redis", lambda: reader._commands([lookups], b"x" * 40))
    replies = await reader._link.ask(lambda run_id: reader._commands([lookups], run_id), 1, 1.0)
    assert replies is not None  # noqa: S101
    at = now.timestamp()
    rows = timed("features: what it said", lambda: [reader._row(list(reply), at)[0] for reply in replies[0]])
    pairs = list(zip(asked, rows, strict=True))
    requests = timed("facts", lambda: [intake.request(a, row, degraded=False, now=now) for a, row in pairs])
    decided = timed("decide", lambda: decide_many(asked[0].snapshot, requests, now=now, secret=b"x" * 32))
    both = list(zip(asked, decided, strict=True))
    records = timed("record, fingerprint", lambda: [engine._record(a, d) for a, d in both])
    timed("record as JSON, framed", lambda: [_framed(_fresh(record)) for record in records])
    timed("counting", lambda: [server.metrics.decided(record) for record in records])
    timing = Timing()
    timing.stages.seconds = dict.fromkeys(("features", "policy", "claim", "log"), 0.001)
    timed("answer", lambda: [_decided(Made(record, replayed=False), timing) for record in records])
    spent["all of HTTP in the application"] = await _http(server, Made(records[0], replayed=False), raws, rounds)
    return spent


def _fresh(record: Any) -> Any:
    """The record without the JSON it keeps."""
    record.__dict__.pop("encoded", None)
    encode_record(record)
    return record


async def _http(server: Server, made: Made, raws: list[bytes], rounds: int) -> float:
    """The application over an engine that has its answer at hand."""
    api, engine, best = Api(server), server.engine, float("inf")

    async def stub(asked: Any, timing: Timing) -> Made:
        timing.stages.seconds = dict.fromkeys(("features", "policy", "claim", "log"), 0.001)
        return made

    engine.decide_one = stub  # type: ignore[method-assign]
    for _ in range(rounds):
        before = time.thread_time()
        for raw in raws * max(1, 200 // len(raws)):
            await ask(api, "/v1/decide", raw)
        best = min(best, (time.thread_time() - before) / len(raws * max(1, 200 // len(raws))) * 1e6)
    return round(best, 1)


if __name__ == "__main__":
    import sys
    from pathlib import Path

    made_cells = Cells(None)
    measure(made_cells, Place(Path(sys.argv[1]), sys.argv[2]), rounds=15)
    print(json.dumps(made_cells.found, indent=1))
