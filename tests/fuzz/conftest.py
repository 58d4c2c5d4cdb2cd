"""How long to fuzz, and a server to fuzz: real log, real Redis, its fast lane on a port, in a thread of this process.

A plain run makes a fixed number of inputs from fixed seeds, the same on every machine. `NBA_FUZZ_SECONDS=60` makes
each test go on for so many seconds, from seeds that `NBA_FUZZ_SEED` begins (make fuzz).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from features.plan import plan_path, save_plan
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
from tests.conftest import RedisProcess, free_port
from tests.serving.conftest import stored_plan


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried."""

    seconds: float | None  # None: a fixed number of inputs
    seed: int

    def tries(self, few: int) -> Iterator[random.Random]:
        """A source of randomness for each input: `few` of them, or until the time is over."""
        end = None if self.seconds is None else time.monotonic() + self.seconds
        n = 0
        while n < few if end is None else time.monotonic() < end:
            yield random.Random(f"{self.seed}-{n}")
            n += 1


@pytest.fixture(scope="session")
def effort() -> Effort:
    seconds = os.environ.get("NBA_FUZZ_SECONDS")
    return Effort(float(seconds) if seconds else None, int(os.environ.get("NBA_FUZZ_SEED", "0")))


@pytest.fixture(scope="session")
def pack() -> Pack:
    return load_pack("support")


@dataclass(frozen=True, slots=True)
class OneVersion:
    """A registry with one version."""

    folder: Path

    def champion(self, model: str) -> Registered:
        return Registered("1", "run-1", None)

    def fetch(self, version: Registered, folder: Path) -> Path:
        return Path(shutil.copytree(self.folder, folder / "policy"))


@pytest.fixture(scope="session")
def uniform(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of the uniform policy."""
    folder = tmp_path_factory.mktemp("fuzz") / "uniform"
    plans = plan_pack(pack)
    save_artefact(folder, pack, "uniform", {m: KINDS["uniform"].fit(plans[m], None) for m in plans})  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def served(
    pack: Pack, uniform: Path, redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a server that runs meanwhile."""
    redis_server.flush()
    home = tmp_path_factory.mktemp("home")
    save_plan(plan_path(Home(home), pack), stored_plan(pack))
    settings = Settings(home=home, redis_url=redis_server.url, champion_poll_s=0.05, fast_port=free_port())
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        api = Api(Server(settings, registry=OneVersion(uniform)))
        async with api._lifespan(api._routes):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert started.wait(60.0)
    yield f"http://127.0.0.1:{settings.fast_port}"
    loop.call_soon_threadsafe(stop.set)
    thread.join(60.0)
    loop.close()
    assert not thread.is_alive()
