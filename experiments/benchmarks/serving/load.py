"""A client that is not the bottleneck: connections on asyncio's protocols, HTTP read by httptools, nothing else.

    python load.py PORT PATH KIND CONNECTIONS SECONDS [RATE]

Without RATE the loop is closed: a connection asks again as soon as it was answered. With it the loop is open: requests
come by a Poisson process of RATE a second whether or not the server is quick enough, wait for a free connection, and
their latency counts from when they came. Prints one line of JSON. Every request has a decision_id of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import httptools
import uvloop

SUBJECTS = 1_000
CONTEXT = {"sentiment": -0.7, "channel": "chat", "locale": "en", "local_time": "2026-11-21T08:30:00+01:00"}
_DECIDE = json.dumps({"subject_id": "u-%d", "moment": "tone_tuner", "decision_id": "%s", "context": CONTEXT})
_VECTOR = json.dumps([[0.5] * 28])
_RUN = f"{os.getpid()}-{time.time_ns()}"


def body(kind: str, i: int) -> bytes:
    """The i-th request of a kind: decide, batch-N, mlflow (a context vector), feast (one subject)."""
    if kind == "decide":
        return (_DECIDE % (i % SUBJECTS, f"{_RUN}-{i}")).encode()
    if kind == "feast":
        return b'{"feature_service":"support_v1","entities":{"subject_id":["u-%d"]}}' % (i % SUBJECTS)
    if kind == "mlflow":
        return b'{"inputs":%b}' % _VECTOR.encode()
    size = int(kind.removeprefix("batch-"))
    return b'{"decisions":[%b]}' % b",".join(body("decide", i * size + j) for j in range(size))


class Connection(asyncio.Protocol):
    """One connection; tells `answered` of each answer, and is then free for the next request."""

    def __init__(self, answered: Callable[[Connection, int, bytes], None], lost: Callable[[Connection], None]) -> None:
        self._answered, self._lost = answered, lost
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self.transport: Any = None
        self.since = 0.0  # when the request that is under way came

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        """Called by the parser."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        told, self._parts = b"".join(self._parts), []
        code, keeps = self._parser.get_status_code(), self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        if not keeps:
            self.transport.close()
        self._answered(self, code, told)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self._lost(self)


class Load:
    """A load on one server for so many seconds."""

    def __init__(self, port: int, path: str, kind: str, rate: float | None) -> None:
        self._port, self._kind, self._rate = port, kind, rate
        self._head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
        self._until, self._asked = 0.0, 0
        self._free: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.latencies: list[float] = []
        self.codes: Counter[int] = Counter()
        self.troubles: Counter[str] = Counter()

    async def run(self, connections: int, seconds: float) -> dict[str, Any]:
        """Figures: requests answered a second, latencies in milliseconds, codes, and what went wrong."""
        opened = [await self._connect() for _ in range(connections)]
        began, cpu = time.perf_counter(), time.process_time()
        self._until = began + seconds
        if self._rate is None:
            for connection in opened:
                self._ask(connection, time.perf_counter())
            await asyncio.sleep(seconds)
        else:
            self._free = opened
            await self._arrive(self._rate)
        took = time.perf_counter() - began
        self.latencies.sort()
        n = len(self.latencies)
        return {
            "answers": n,
            "seconds": round(took, 3),
            "rate": round(n / took, 1),
            **{f"p{q}_ms": round(self.latencies[int(n * q / 100)] * 1e3, 3) for q in (50, 99) if n},
            "max_ms": round(self.latencies[-1] * 1e3, 3) if n else None,
            "codes": dict(self.codes),
            "troubles": dict(self.troubles),
            "client_cpu_us": round((time.process_time() - cpu) / max(n, 1) * 1e6, 1),
            "left_waiting": len(self._waiting),
        }

    async def _arrive(self, rate: float) -> None:
        rng, due = random.Random(1), time.perf_counter()
        while due < self._until:
            due += rng.expovariate(rate)
            if (left := due - time.perf_counter()) > 0.0:
                await asyncio.sleep(left)
            while self._free and self._free[-1].transport.is_closing():
                self._free.pop()
            if self._free:
                self._ask(self._free.pop(), due)
            else:
                self._waiting.append(due)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self._answered, self._lost), "127.0.0.1", self._port
        )
        return connection

    def _ask(self, connection: Connection, since: float) -> None:
        told = body(self._kind, self._asked)
        self._asked += 1
        connection.since = since
        connection.transport.write(b"%b%d\r\n\r\n%b" % (self._head.encode(), len(told), told))

    def _answered(self, connection: Connection, code: int, told: bytes) -> None:
        now = time.perf_counter()  # uvloop's own clock has milliseconds
        if now > self._until:
            return
        self.latencies.append(now - connection.since)
        self.codes[code] += 1
        if code >= 400 and len(self.troubles) < 3:
            self.troubles[told[:200].decode(errors="replace")] += 1
        if connection.transport.is_closing():
            return
        if self._rate is None:
            self._ask(connection, now)
        elif self._waiting:
            self._ask(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def _lost(self, connection: Connection) -> None:
        if time.perf_counter() > self._until:
            return
        self.troubles["connection lost"] += 1  # of an idle one too: some servers close those within seconds
        if connection in self._free:
            self._free.remove(connection)
        task = asyncio.get_running_loop().create_task(self._again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _again(self) -> None:
        connection = await self._connect()
        if self._rate is None:
            self._ask(connection, time.perf_counter())
        else:
            self._free.append(connection)


def main() -> None:
    """Loads a server as the arguments say."""
    port, path, kind, connections, seconds, *rate = sys.argv[1:]
    load = Load(int(port), path, kind, float(rate[0]) if rate else None)
    gc.disable()
    print(json.dumps(uvloop.run(load.run(int(connections), float(seconds)))))


if __name__ == "__main__":
    main()
