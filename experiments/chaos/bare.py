"""One replica without Ray: the server's parts, its API, its own listener (`serving.lane`), in this process.

    python experiments/chaos/bare.py '{"settings": {...}, "registry": "champion.json", "faults": "folder"}'

Says `ready` once it listens; SIGTERM stops it gently, and it goes with the process that started it. Files that appear
in the folder of faults make it ill:

    clock   seconds that its clock is wrong by
    hold    what is to be logged is held back before it is written
    sync    every sync of the log fails with EIO
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from nba.log import segment
from serving.api import Api
from serving.champion import Registered, Registry
from serving.server import Server, now
from serving.settings import Settings


class FileRegistry:
    """The champion is what one file says, {"version": ..., "folder": ...}; none where the file is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def champion(self, model: str) -> Registered | None:
        """The version that serves."""
        try:
            told = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        return Registered(told["version"], told["folder"], None)

    def fetch(self, version: Registered, folder: Path) -> Path:
        """Its artefact, linked: a huge one is not copied."""
        return Path(shutil.copytree(version.run_id, folder / "policy", copy_function=os.link))


def main() -> None:
    """Serves until SIGTERM."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    asked = json.loads(sys.argv[1])
    faults = Path(asked["faults"])
    _make_ill(faults)
    settings = msgspec.convert(asked["settings"], Settings, dec_hook=lambda kind, value: kind(value))
    registry: Registry | None = FileRegistry(Path(asked["registry"])) if asked["registry"] else None
    asyncio.run(_serve(Api(Server(settings, registry=registry, clock=_clock(faults / "clock")))))


async def _serve(api: Api) -> None:
    events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    await events.put({"type": "lifespan.startup"})
    stop = lambda: events.put_nowait({"type": "lifespan.shutdown"})  # noqa: E731
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)

    async def send(message: Any) -> None:
        if message["type"] == "lifespan.startup.complete":
            print("ready", flush=True)
        elif message["type"].endswith("failed"):
            sys.exit(message.get("message", "failed"))

    await api({"type": "lifespan", "asgi": {"version": "3.0"}}, events.get, send)


def _clock(offset: Path) -> Callable[[], datetime]:
    def wrong() -> datetime:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return now() + timedelta(seconds=float(offset.read_text()))
        return now()

    return wrong


def _make_ill(faults: Path) -> None:
    commit = segment.OpenSegment.commit
    sync = os.fdatasync

    def held(self: segment.OpenSegment, data: bytes) -> None:
        while (faults / "hold").exists():
            time.sleep(0.01)
        commit(self, data)

    def failing(descriptor: int) -> None:
        if (faults / "sync").exists():
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    setattr(segment.OpenSegment, "commit", held)  # noqa: B010
    setattr(os, "fdatasync", failing)  # noqa: B010  # its type is an overloaded one


if __name__ == "__main__":
    main()
