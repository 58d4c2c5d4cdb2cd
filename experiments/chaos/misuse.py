"""Clients that are slow, stop half-way, send too much, or are too many; and a replica with little memory."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path

import httpx
from client import Load
from fault import Fault, Watch, patient, quantile, until
from ground import Ground, Replica
from prove import decisions, prove
from replicas import asked

HEAD = b"POST /v1/decide HTTP/1.1\r\nHost: nba\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
SHED_S = 0.02  # half of what is shed is told so within


def _slow(ground: Ground, watch: Watch) -> None:
    """200 connections that send half a head or half a body and wait, beside a few that do as they should."""
    replica = ground.started()
    told = list[tuple[float, bytes]]()
    with Load([replica.url], "beside", clients=3) as load:
        load.answered(30, 30.0)
        calm = quantile(load.ledger.seconds, 0.5)
        timed = len(load.ledger.seconds)
        asyncio.run(_half(replica, told))
        load.answered(20, 30.0)
    kinds = Counter(answer.split(b" ", 2)[1].decode() if answer else "closed" for _, answer in told)
    slowest = max(seconds for seconds, _ in told)
    watch.check(
        f"200 half requests: {dict(kinds)}, after {slowest:.1f} s at most",
        set(kinds) <= {"408", "closed"} and slowest < 8,
    )
    beside = quantile(load.ledger.seconds[timed:], 0.5)
    watch.check(f"others p50 {calm * 1e3:.0f} ms before, {beside * 1e3:.0f} ms beside them", beside < patient(0.5))
    watch.check(f"refused {dict(load.ledger.refused)}", not load.ledger.refused)
    proof = prove(ground, [load.ledger])
    watch.check(str(proof), proof.ok)


async def _half(replica: Replica, told: list[tuple[float, bytes]]) -> None:
    body = json.dumps(asked("never")).encode()
    parts = (b"POST /v1/decide HT", HEAD % len(body) + body[:10])

    async def one(part: bytes) -> None:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        writer.write(part)
        answer = await reader.read(300)
        told.append((time.monotonic() - began, answer))
        writer.close()

    await asyncio.gather(*(one(parts[i % 2]) for i in range(200)))


def _gone(ground: Ground, watch: Watch) -> None:
    """Clients that close the connection half-way through the body, or right behind it."""
    replica = ground.started()
    body = json.dumps(asked("left")).encode()
    for i in range(50):
        with socket.create_connection(("127.0.0.1", replica.port), timeout=5) as connection:
            connection.sendall(HEAD % len(body) + body[: len(body) // 2])
        whole = json.dumps(asked(f"gone-{i}")).encode()
        with socket.create_connection(("127.0.0.1", replica.port), timeout=5) as connection:
            connection.sendall(HEAD % len(whole) + whole)
    with Load([replica.url], "after", clients=2) as load:
        load.answered(20, 30.0)
        with replica.client() as client:
            for i in range(50):
                load.ledger.answers.append(client.post("/v1/decide", json=asked(f"gone-{i}")).json())
            half = client.get("/v1/decisions/left").status_code
            waiting = [
                line for line in client.get("/metrics").text.splitlines() if line.startswith("nba_requests_in_flight")
            ]
    watch.check("half a body is no decision", half == 404)
    in_flight = [float(line.split()[-1]) for line in waiting]
    watch.check(f"in flight afterwards {in_flight}", in_flight != [] and max(in_flight) <= 2)
    proof = prove(ground, [load.ledger], share=1.0)
    watch.check(str(proof), proof.ok)


def _too_much(ground: Ground, watch: Watch) -> None:
    """Bodies of 300 kB, of 150 MB told in the head, chunked without an end."""
    replica = ground.started()
    codes = list[str]()
    with replica.client() as client:
        codes.append(str(client.post("/v1/decide", content=b" " * 300_000).status_code))
    before = memory(replica)
    for head in (HEAD % 150_000_000, HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")):
        with socket.create_connection(("127.0.0.1", replica.port), timeout=10) as connection:
            connection.sendall(head)
            answer = b""
            try:
                for _ in range(150):
                    connection.sendall(b"%x\r\n" % 100_000 + b" " * 100_000 + b"\r\n")
                answer = connection.recv(300)
            except OSError:  # it hung up while we were sending
                answer = answer or _rest(connection)
            codes.append(answer.split(b" ", 2)[1].decode() if answer else "closed")
    grown = (memory(replica) - before) / 1e6
    watch.check(f"{codes}, {grown:.0f} MB more", set(codes) <= {"413", "closed"} and codes[0] == "413" and grown < 50)
    with replica.client() as client:
        watch.check("it serves", client.post("/v1/decide", json=asked("after")).status_code == 201)


def _rest(connection: socket.socket) -> bytes:
    try:
        return connection.recv(300)
    except OSError:
        return b""


def memory(replica: Replica) -> int:
    """Bytes the replica has in memory."""
    return _status(replica, "VmRSS")


def _status(replica: Replica, name: str) -> int:
    lines = Path(f"/proc/{replica.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _overload(ground: Ground, watch: Watch) -> None:
    """200 connections that ask without a pause, of a replica that admits 16 at once."""
    replica = ground.started(max_in_flight=16)
    seconds = defaultdict[int, list[float]](list)
    with replica.client() as client:
        calm = [client.post("/v1/decide", json=asked(f"calm-{i}")).elapsed.total_seconds() for i in range(50)]
    answers = asyncio.run(_flood(replica, "flood", seconds, connections=200, lasting_s=5.0))
    admitted, shed = seconds[201], seconds[429]
    middle, slow, alone = (f"{quantile(*of) * 1e3:.0f} ms" for of in ((admitted, 0.5), (admitted, 0.99), (calm, 0.5)))
    watch.check(
        f"{len(admitted)} admitted: p50 {middle}, p99 {slow} (alone p50 {alone})",
        len(admitted) > 20 and quantile(admitted, 0.99) < patient(2.0),
    )
    watch.check(f"{len(shed)} shed", len(shed) > 20)
    watch.check(f"only 201 and 429 {sorted(seconds)}", set(seconds) <= {201, 429})
    waits = asyncio.run(_shed(replica))
    watch.check(
        f"one more client is shed after p50 {quantile(waits, 0.5) * 1e3:.1f} ms",
        bool(waits) and quantile(waits, 0.5) < patient(SHED_S),
    )
    logged = {r.decision_id for r in decisions(ground.home.log) if r.decision_id.startswith("flood-")}
    unseen = logged - answers
    watch.check(f"{len(logged)} logged, {len(unseen)} that no client saw", not answers - logged and len(unseen) <= 16)


async def _flood(
    replica: Replica, name: str, seconds: dict[int, list[float]], *, connections: int, lasting_s: float
) -> set[str]:
    """Asks without a pause; the ids that were answered."""
    until_, answered = time.monotonic() + lasting_s, set[str]()

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        n = 0
        while time.monotonic() < until_:
            n += 1
            decision_id = f"{name}-{number}-{n}"
            body = json.dumps(asked(decision_id)).encode()
            began = time.monotonic()
            writer.write(HEAD % len(body) + body)
            code = await _answer(reader)
            seconds[code].append(time.monotonic() - began)
            if code == 201:
                answered.add(decision_id)
            else:
                await asyncio.sleep(0.2)  # it was told Retry-After
        writer.close()

    await asyncio.gather(*(one(i) for i in range(connections)))
    return answered


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def _shed(replica: Replica) -> list[float]:
    """Seconds until one is turned away, while a smaller flood keeps every place taken."""
    waits, other = list[float](), defaultdict[int, list[float]](list)

    async def probe() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
        for i in range(60):
            body = json.dumps(asked(f"probe-{i}")).encode()
            began = time.monotonic()
            writer.write(HEAD % len(body) + body)
            if await _answer(reader) == 429:
                waits.append(time.monotonic() - began)
            await asyncio.sleep(0.03)
        writer.close()

    await asyncio.gather(_flood(replica, "more", other, connections=40, lasting_s=2.5), probe())
    return waits


def _memory(ground: Ground, watch: Watch) -> None:
    """The replica may have 2 MB more than it has; large batches come; then it may have more again."""
    replica = ground.started()
    big = {"decisions": [{**asked(f"big-{i}"), "context": {"mood": 0.1, "x": "y" * 7_000}} for i in range(1_000)]}
    with Load([replica.url], "memory", clients=2, timeout_s=10.0) as load:
        load.answered(20, 30.0)
        _limit(replica, _status(replica, "VmSize") + (2 << 20))
        codes = Counter(_batch(replica, big) for _ in range(12))
        watch.note(f"12 batches of 7 MB: {dict(codes)}")
        died = replica.process is not None and replica.process.poll() is not None
        if died:
            watch.note("the process ended, and is started again as Serve would")
            replica.start()
        else:
            _limit(replica, None)
        load.answered(40, 60.0)
        until(lambda: _ready(replica), 20.0, "ready")
    odd = {code for code in codes if code[0] == "5" and code != "503"}
    watch.check(f"serves on, {'after a restart' if died else 'in the same process'}; no 5xx but 503", not odd)
    proof = prove(ground, [load.ledger])
    watch.check(str(proof), proof.ok)


def _batch(replica: Replica, body: object) -> str:
    try:
        with replica.client(20.0) as client:
            return str(client.post("/v1/decide:batch", json=body).status_code)
    except httpx.HTTPError as error:
        return type(error).__name__


def _limit(replica: Replica, size: int | None) -> None:
    limit = "unlimited:" if size is None else f"{size}:"
    subprocess.run([shutil.which("prlimit") or "prlimit", "--pid", str(replica.pid), f"--as={limit}"], check=True)


def _ready(replica: Replica) -> bool:
    with replica.client() as client:
        return client.get("/readyz").status_code == 200


FAULTS = (
    Fault(
        "requests",
        "slow clients",
        "200 connections that send half a head or half a body, and wait",
        "cut off after 2 s (408); others are answered as before",
        _slow,
    ),
    Fault(
        "requests",
        "clients that go away",
        "50 that close half-way through the body, 50 that close behind it",
        "half a body is no decision; what was claimed is logged, and answered when asked again",
        _gone,
    ),
    Fault(
        "requests",
        "huge bodies",
        "300 kB; 150 MB by Content-Length; chunks without an end",
        "413 before more is read than is allowed; memory does not grow",
        _too_much,
    ),
    Fault(
        "requests",
        "overload",
        "200 connections without a pause, 16 admitted at once",
        "the rest is told 429 within milliseconds; latency of the admitted bounded; nothing logged that nobody saw",
        _overload,
    ),
    Fault(
        "requests",
        "little memory",
        "RLIMIT_AS of the replica 2 MB above what it has, 12 batches of 7 MB under load, lifted again",
        "503 or a restart; nothing acknowledged is lost; it serves on",
        _memory,
    ),
)
