"""A server in this process: real log, real Redis, a registry in a folder."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import mmh3
import pytest

from features.feature_value import ValueType
from features.plan import SCHEMA, PlannedFeature, ReadPlan, plan_path, save_plan
from nba.artefact import save_artefact
from nba.home import Home
from nba.moment_plan import plan_pack
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.policies import KINDS
from serving.api import Api
from serving.champion import Registered
from serving.server import Server
from serving.settings import Settings

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class FolderRegistry:
    """A registry whose versions are folders; the last one added is the champion."""

    folders: dict[str, Path] = field(default_factory=dict)
    alias: str | None = None
    fails: Exception | None = None
    fetched: list[str] = field(default_factory=list)

    def add(self, folder: Path) -> str:
        self.alias = str(len(self.folders) + 1)
        self.folders[self.alias] = folder
        return self.alias

    def champion(self, model: str) -> Registered | None:
        if self.fails is not None:
            raise self.fails
        return None if self.alias is None else Registered(self.alias, f"run-{self.alias}", None)

    def fetch(self, version: Registered, folder: Path) -> Path:
        self.fetched.append(version.version)
        return Path(shutil.copytree(self.folders[version.version], folder / "policy"))


@pytest.fixture(scope="session")
def support() -> Pack:
    return load_pack("support")


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory, support: Pack) -> dict[str, Path]:
    """One artefact of pack support a kind that needs no rounds."""
    folder, plans = tmp_path_factory.mktemp("artefacts"), plan_pack(support)
    for kind in ("uniform", "rules"):
        save_artefact(folder / kind, support, kind, {m: KINDS[kind].fit(plans[m], None) for m in plans})  # type: ignore[arg-type]
    return {kind: folder / kind for kind in ("uniform", "rules")}


@pytest.fixture
def registry(artefacts: dict[str, Path]) -> FolderRegistry:
    """A registry with one version: uniform."""
    registry = FolderRegistry()
    registry.add(artefacts["uniform"])
    return registry


class Scene:
    """Plays a scenario against a server in this process."""

    def __init__(self, home: Path, redis_url: str, registry: FolderRegistry) -> None:
        self.home, self.redis_url, self.registry = home, redis_url, registry
        self.changes: list[Callable[[Server], None]] = []  # made to the server before it starts

    def play(self, scenario: Callable[[httpx.AsyncClient, Server], Awaitable[None]], **settings: Any) -> None:
        """Starts a server, waits until it is ready, plays, and closes the server."""
        asyncio.run(self._play(scenario, settings))

    async def _play(
        self, scenario: Callable[[httpx.AsyncClient, Server], Awaitable[None]], settings: dict[str, Any]
    ) -> None:
        self.home.mkdir(exist_ok=True)
        given = {"redis_url": self.redis_url, "champion_poll_s": 0.05, "rebuild_poll_s": 0.05, **settings}
        server = Server(Settings(home=self.home, **given), registry=self.registry)
        for change in self.changes:
            change(server)
        await server.start()
        transport = httpx.ASGITransport(Api(server))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://nba") as client:
                await until(lambda: server.ready().status != "not_ready" or self.registry.alias is None)
                await scenario(client, server)
        finally:
            await server.close()


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Returns once it holds; fails after so many seconds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
def scene(tmp_path: Path, redis_url: str, registry: FolderRegistry) -> Scene:
    return Scene(tmp_path / "home", redis_url, registry)


_STORED_AS: dict[str, ValueType] = {"category": "string", "boolean": "bool"}
_COUNTS = ("purchases_90d", "contacts_30d", "open_cases")


def _planned(name: str, feature: str, kind: str) -> PlannedFeature:
    return PlannedFeature(
        field=name,
        view=feature.partition(":")[0],
        feature=feature.partition(":")[2],
        redis_field=mmh3.hash(feature, signed=False).to_bytes(4, "little"),
        value_type="int64" if name in _COUNTS else _STORED_AS.get(kind, "double"),
        max_age_s=None,
    )


def stored_plan(pack: Pack) -> ReadPlan:
    """A plan that reads the pack's stored fields as Feast lays them out."""
    features = tuple(_planned(name, f.feature, f.type) for name, f in pack.fields.items() if f.feature)
    return ReadPlan(
        schema=SCHEMA,
        pack=pack.pack,
        pack_digest=pack.digest,
        service=f"{pack.pack}_v1",
        fingerprint="",
        project="nba_decisions",
        key_prefix=b"prefix",
        views=tuple(dict.fromkeys(f.view for f in features)),
        features=features,
    )


@pytest.fixture
def stored_scene(scene: Scene, support: Pack) -> Scene:
    """A scene with a feature store."""
    save_plan(plan_path(Home(scene.home), support), stored_plan(support))
    return scene


def body(**changes: Any) -> dict[str, Any]:
    """The body of a decision about a frustrated customer."""
    given: dict[str, Any] = {"subject_id": "u-381", "moment": "tone_tuner", "context": {"sentiment": -0.7}}
    return {**given, **changes}


@pytest.fixture(name="body")
def _body() -> Callable[..., dict[str, Any]]:
    return body
