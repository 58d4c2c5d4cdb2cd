"""Shipping the log beside serving."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from nba.log import LogWriter, read_records
from nba.log.index import beside
from nba.log.segment import segments
from nba.log.ship import restore, unshipped
from nba.log.store import Store
from serving.metrics import Metrics
from serving.server import Server
from serving.shipper import Shipper


@pytest.fixture
def log(tmp_path: Path, decision_record: Any) -> Path:
    """Two segments."""
    writer = LogWriter(tmp_path / "log", roll_bytes=1)
    for i in range(2):
        writer.append(decision_record(f"d-{i}")).result(10)
    writer.close()
    return tmp_path / "log"


async def until(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def test_without_an_archive_segments_are_indexed_and_stay(log: Path) -> None:
    async def scenario() -> None:
        shipper = Shipper(log, None, poll_s=0.01, metrics=Metrics())
        shipper.start()
        await until(lambda: all(beside(path).exists() for path in segments(log)))
        await shipper.close()
        assert shipper.state == "off"

    asyncio.run(scenario())


def test_a_failing_archive_is_told_and_tried_again(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, metrics = Store.write, Metrics()
    failing = True

    def fail(store: Store, name: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        if failing:
            raise OSError("no route to host")
        return write(store, name, chunks)

    monkeypatch.setattr(Store, "write", fail)

    def counted(name: str) -> float | None:
        return metrics.registry.get_sample_value(name)

    async def scenario() -> None:
        nonlocal failing
        shipper = Shipper(log, str(tmp_path / "archive"), poll_s=0.01, metrics=metrics)
        shipper.start()
        await until(lambda: shipper.trouble)
        assert (shipper.state, counted("nba_log_unshipped_segments")) == ("no route to host", 2.0)
        failing = False
        await until(lambda: not shipper.trouble)
        assert (shipper.state, counted("nba_log_unshipped_segments")) == ("shipping", 0.0)
        assert counted("nba_log_unshipped_age_seconds") == 0.0
        await shipper.close()

    asyncio.run(scenario())
    assert unshipped(log, str(tmp_path / "archive")) == []


def test_a_server_that_stops_leaves_nothing_unshipped(scene: Any, body: Any, tmp_path: Path) -> None:
    archive = str(tmp_path / "archive")

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert (await client.post("/v1/decide", json=body(decision_id="d"))).status_code == 201
        assert (await client.get("/readyz")).json()["archive"] == "shipping"
        assert unshipped(scene.home / "log", archive) == []  # the only segment is being written

    scene.play(scenario, log_archive=archive)
    restore(tmp_path / "new", archive)
    assert [r.decision_id for r in read_records(tmp_path / "new")] == ["d"]  # type: ignore[union-attr]


def test_an_old_segment_is_done_and_shipped_while_serving(scene: Any, body: Any, tmp_path: Path) -> None:
    archive = tmp_path / "archive"

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        await until(lambda: list(archive.glob("*.seg.json")))

    scene.play(scenario, log_archive=str(archive), log_roll_s=0.05, ship_poll_s=0.05)


def test_a_restored_home_knows_its_decisions_again(scene: Any, body: Any, tmp_path: Path, own_redis: Any) -> None:
    """Another machine, with an empty Redis and a log from the archive: a retry gets the stored decision."""
    archive, first = str(tmp_path / "archive"), {}

    async def decide(client: httpx.AsyncClient, server: Server) -> None:
        first.update((await client.post("/v1/decide", json=body(decision_id="d"))).json())

    async def again(client: httpx.AsyncClient, server: Server) -> None:
        await until(lambda: server.claims.state == "ready")
        assert (await client.post("/v1/decide", json=body(decision_id="d"))).json() == {**first, "replayed": True}
        assert (await client.get("/v1/decisions/d")).status_code == 200

    scene.play(decide, log_archive=archive)
    (scene.home / "log").rename(tmp_path / "lost")
    restore(scene.home / "log", archive)
    scene.redis_url = own_redis.url
    scene.play(again, log_archive=archive)
