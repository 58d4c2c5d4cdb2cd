from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from nba.log import read_records
from serving.champion import MlflowRegistry
from serving.server import CLAIM_DAYS, Server, _claim_ttl_s
from serving.settings import Settings

Body = Callable[..., dict[str, Any]]


def test_ready_says_what_is_not_as_it_should_be(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        ready = (await client.get("/readyz")).json()
        assert (ready["status"], ready["log"], ready["claims"]) == ("degraded", "writable", "ready")
        assert "cannot read the plan" in ready["features"]["support"]

    scene.play(scenario)


def test_a_rejected_version_degrades_readiness_and_the_last_good_one_serves(scene: Any, tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        scene.registry.add(tmp_path / "nothing-here")
        scene.registry.fetch = lambda version, folder: folder  # an empty folder
        async with asyncio.timeout(5):
            while not server.serving()[0].rejected:
                await asyncio.sleep(0.01)
        [policy] = (await client.get("/readyz")).json()["policies"]
        assert policy["policy"]["version"] == "1"
        assert re.search("policy.json", policy["rejected"]["2"])

    scene.play(scenario)


def test_an_emptied_redis_is_rebuilt_from_the_log_before_it_is_trusted(scene: Any, body: Body, own_redis: Any) -> None:
    scene.redis_url = own_redis.url

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        first = (await client.post("/v1/decide", json=body(decision_id="d"))).json()
        own_redis.flush()
        async with asyncio.timeout(10):
            while True:
                again = await client.post("/v1/decide", json=body(decision_id="d"))
                if again.json().get("degraded", [None])[-1:] != ["claims"] and server.claims.state == "ready":
                    break
                await asyncio.sleep(0.05)
        assert again.status_code == 200
        assert again.json() == {**first, "replayed": True}

    scene.play(scenario)
    assert {r.decision_id for r in read_records(scene.home / "log")} == {"d"}


def test_closing_writes_what_was_claimed(scene: Any, body: Body) -> None:
    asked: list[asyncio.Task[httpx.Response]] = []

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        asked.extend(asyncio.create_task(client.post("/v1/decide", json=body(decision_id=f"d-{i}"))) for i in range(20))
        while not server.engine._busy:
            await asyncio.sleep(0)
        await server.close()
        answered = {r.json()["decision_id"] for r in await asyncio.gather(*asked) if r.status_code == 201}
        assert answered <= {r.decision_id for r in read_records(scene.home / "log")}

    scene.play(scenario)


def test_a_claim_outlives_the_longest_window_of_its_pack(support: Any) -> None:
    """followup_whisper has 3 days."""
    assert _claim_ttl_s({"support": support}) == (3 + CLAIM_DAYS) * 86_400


def test_the_registry_is_this_homes_mlflow(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = Server(Settings(home=tmp_path, redis_url="redis://127.0.0.1:1/0"))
        assert isinstance(server.champions._registry, MlflowRegistry)
        await server.close()

    asyncio.run(scenario())
