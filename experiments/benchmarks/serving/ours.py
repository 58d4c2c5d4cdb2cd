"""This server, to be measured: its fast lane alone, or all of it on Ray Serve with a no-op beside it.

    python ours.py lane HOME REDIS_URL PORT              in this process, without Ray
    python ours.py ray HOME REDIS_URL PORT REPLICAS      as `nba serve` starts it; lane on the next port, /noop beside

Prints a line once it answers, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import uvloop
from prepare import artefact_folder

from serving.champion import Registered
from serving.settings import Settings


class Folder:
    """A registry with one version, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def champion(self, model: str) -> Registered | None:
        """The version."""
        return Registered("1", "run-1", None)

    def fetch(self, version: Registered, folder: Path) -> Path:
        """A copy of it."""
        return Path(shutil.copytree(self._folder, folder / "policy"))


async def lane(home: Path, redis_url: str, port: int) -> None:
    """The fast lane, until standard input ends."""
    from serving.api import Api
    from serving.server import Server

    settings = Settings(home=home, redis_url=redis_url, port=port + 1, fast_port=port)
    api = Api(Server(settings, registry=Folder(artefact_folder(home))))
    async with api._lifespan(None):  # type: ignore[arg-type]  # as an ASGI server would
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def ray(home: Path, redis_url: str, port: int, replicas: int) -> None:
    """The server on Ray Serve with a no-op at /noop, until standard input ends."""
    from serving.launch import start

    running = start(Settings(home=home, redis_url=redis_url, port=port, replicas=replicas, start_timeout_s=300.0))
    print("ready", flush=True)
    try:
        import noop
        from ray import cloudpickle, serve

        cloudpickle.register_pickle_by_value(noop)
        options = {"num_cpus": 0.1}
        deployment = serve.deployment(
            name="noop", max_ongoing_requests=256, num_replicas=replicas, ray_actor_options=options
        )
        serve.run(deployment(serve.ingress()(noop.Noop)).bind(), name="noop", route_prefix="/noop")
        print("noop ready", flush=True)
        sys.stdin.read()
    finally:
        running.stop()


if __name__ == "__main__":
    how, where, redis, *rest = sys.argv[1:]
    if how == "lane":
        uvloop.run(lane(Path(where), redis, int(rest[0])))
    else:
        ray(Path(where), redis, int(rest[0]), int(rest[1]))
