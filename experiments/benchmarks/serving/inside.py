"""A server in this process, asked through the ASGI protocol: what a decision costs without sockets around it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ours import Folder

from serving.api import Api
from serving.server import Server
from serving.settings import Settings


@asynccontextmanager
async def server_of(home: Path, redis_url: str, policy: Path, *, pack: str = "support") -> AsyncIterator[Server]:
    """A server that is ready, or as ready as it gets."""
    server = Server(Settings(home=home, redis_url=redis_url, packs=(pack,)), registry=Folder(policy))
    await server.start()
    try:
        while server.ready().status == "not_ready":
            await asyncio.sleep(0.02)
        yield server
    finally:
        await server.close()


async def ask(api: Api, path: str, body: bytes) -> bytes:
    """The answer's body; the code has to be 200 or 201."""
    parts: list[Any] = []
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        parts.append(message)

    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b"", "root_path": ""}
    await api(scope | {"http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"}}, receive, send)
    if parts[0]["status"] not in (200, 201):
        raise RuntimeError(parts[1]["body"].decode())
    return b"".join(part.get("body", b"") for part in parts[1:])


async def cpu_us(api: Api, path: str, bodies: list[bytes], at_once: int) -> float:
    """CPU microseconds of this process a request, so many at once; the log's writer is in it."""
    rest: Iterator[bytes] = iter(bodies)

    async def worker() -> None:
        for body in rest:
            await ask(api, path, body)

    before = time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return (time.process_time() - before) / len(bodies) * 1e6


def batched(bodies: list[dict[str, Any]]) -> bytes:
    """The body of a batch."""
    return json.dumps({"decisions": bodies}).encode()
