"""The fast lane over real sockets, with a small application behind it and once with the whole one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving import lane as lane_module
from serving import lane_protocol
from serving.api import Api
from serving.lane import Lane, listener, turn_away
from serving.server import Server
from serving.settings import Settings
from tests.conftest import free_port

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
GET = b"GET / HTTP/1.1\r\nHost: nba\r\n\r\n"


class Echo:
    """Answers with the body it got; waits where it is told to."""

    def __init__(self) -> None:
        self.started = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started += 1
        request = Request(scope, receive)
        body = b"" if scope["path"] == "/unread" else await request.body()
        await self.may_answer.wait()
        await Response(body or b"nothing")(scope, receive, send)


@asynccontextmanager
async def opened(app: Any, **settings: Any) -> AsyncIterator[tuple[Lane, int]]:
    port = settings.pop("fast_port", None) or free_port()
    lane = Lane(app, Settings(home=Path(), fast_port=port, **settings))
    await lane.open()
    try:
        yield lane, port
    finally:
        await lane.drain()


async def said(reader: Reader) -> tuple[int, dict[str, str], bytes]:
    """One answer: its code, headers and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(within())


async def until(holds: Callable[[], bool]) -> None:
    """Returns once it holds."""
    while not holds():
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "DRAIN_S", 0.3)
    monkeypatch.setattr(lane_module, "FINISH_S", 5.0)


def test_a_connection_carries_many_requests_one_after_another() -> None:
    async def scenario() -> None:
        async with opened(Echo()) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for body in (b"one", b"two"):
                writer.write(b"POST / HTTP/1.1\r\nHost: nba\r\nContent-Length: 3\r\n\r\n" + body)
                code, headers, answer = await said(reader)
                assert (code, answer, headers.get("connection")) == (200, body, None)
            writer.close()

    play(scenario)


def test_a_decision_on_the_fast_lane_is_the_one_of_the_usual_route(
    scene: Any, body: Callable[..., dict[str, Any]]
) -> None:
    port = free_port()

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        async with (
            opened(Api(server), fast_port=port) as (lane, _),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as fast,
        ):
            assert lane.status == f"127.0.0.1:{port}"
            first = await fast.post("/v1/decide", json=body(decision_id="d"))
            again = await client.post("/v1/decide", json=body(decision_id="d"))
            assert (first.status_code, again.status_code) == (201, 200)
            assert {**first.json(), "replayed": True} == again.json()
            assert (await fast.get("/healthz")).status_code == (await fast.get("/readyz")).status_code == 200
            too_large = await fast.post("/v1/decide", content=b" " * 300_000)
            assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "too_large")
            assert (await fast.get("/no")).json()["error"]["code"] == "not_found"

    scene.play(scenario)


def test_a_replica_takes_no_connection_before_it_can_decide(
    scene: Any, body: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, ask = free_port(), scene.registry.champion

    def slow(model: str) -> Any:
        time.sleep(0.2)  # in the follower's own thread
        return ask(model)

    monkeypatch.setattr(scene.registry, "champion", slow)
    settings = Settings(home=scene.home, redis_url=scene.redis_url, fast_port=port, rebuild_poll_s=0.05)

    async def scenario() -> None:
        scene.home.mkdir()
        api = Api(Server(settings, registry=scene.registry))
        async with (
            api._routes.router.lifespan_context(api._routes),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        ):
            assert (await client.post("/v1/decide", json=body())).status_code == 201

    play(scenario)


def test_half_a_head_is_answered_408_in_time_and_the_application_never_asked() -> None:
    async def scenario() -> None:
        app = Echo()
        async with opened(app, body_timeout_s=0.1) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET[:-4])
            code, headers, answer = await said(reader)
            assert (code, headers["connection"], json.loads(answer)["error"]["code"]) == (408, "close", "slow_body")
            assert await reader.read() == b""
            assert app.started == 0
            writer.close()

    play(scenario)


@pytest.mark.parametrize("drip", [b"", b"\r\n"])
def test_a_client_that_says_nothing_is_let_go(drip: bytes) -> None:
    """Also one that sends line ends for ever, which are no request."""

    async def scenario() -> None:
        async with opened(Echo(), body_timeout_s=0.1) as (lane, port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                await until(lambda: lane.connections == 1)
                with contextlib.suppress(ConnectionError):
                    while lane.connections:
                        client.sendall(drip)
                        await asyncio.sleep(0.01)

    play(scenario)


def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with opened(Echo(), body_timeout_s=0.1) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /unread HTTP/1.1\r\nHost: nba\r\nContent-Length: 100\r\n\r\nbegun")
            assert (await said(reader))[0] == 200
            assert await reader.read() == b""
            writer.close()

    play(scenario)


def test_an_answer_that_is_not_read_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_protocol, "UNREAD_S", 0.1)

    async def scenario() -> None:
        async def large(scope: Scope, receive: Receive, send: Send) -> None:
            await Response(b"x" * (16 << 20))(scope, receive, send)

        async with opened(large) as (lane, port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(GET)
                await until(lambda: lane.connections == 1)
                await until(lambda: lane.connections == 0)

    play(scenario)


@pytest.mark.parametrize(
    ("sent", "code", "named"),
    [
        (b"what is this\r\n\r\n", 400, "not_http"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "not_http"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * (70 << 10), 431, "head_too_large"),
        (b"CONNECT nba:1 HTTP/1.1\r\n\r\n", 400, "not_http"),
    ],
)
def test_what_is_no_request_is_answered_in_the_contracts_words(sent: bytes, code: int, named: str) -> None:
    async def scenario() -> None:
        app = Echo()
        async with opened(app) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            answered, headers, answer = await said(reader)
            assert (answered, json.loads(answer)["error"]["code"]) == (code, named)
            assert headers["connection"] == "close"
            assert app.started == 0
            writer.close()

    play(scenario)


def test_more_connections_than_are_allowed_are_told_to_come_back() -> None:
    async def scenario() -> None:
        app = Echo()
        async with opened(app, max_connections=1) as (_, port):
            first_reader, first = await asyncio.open_connection("127.0.0.1", port)
            first.write(GET)
            assert (await said(first_reader))[0] == 200
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET)
            code, headers, answer = await said(reader)
            assert (code, headers["retry-after"], json.loads(answer)["error"]["code"]) == (429, "1", "overloaded")
            assert app.started == 1
            for each in (first, writer):
                each.close()

    play(scenario)


def test_what_is_in_flight_when_the_replica_stops_is_answered_and_told_that_the_connection_ends() -> None:
    async def scenario() -> None:
        app = Echo()
        async with opened(app) as (lane, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            app.may_answer.clear()
            writer.write(GET)
            await until(lambda: app.started == 1)
            draining = asyncio.create_task(lane.drain())
            await asyncio.sleep(0.5)  # longer than what is idle is left open
            assert not draining.done()
            app.may_answer.set()
            code, headers, _ = await said(reader)
            assert (code, headers["connection"]) == (200, "close")
            await draining
            assert lane.connections == 0
            writer.close()

    play(scenario)


def test_an_idle_connection_is_told_with_its_next_answer_before_it_is_closed() -> None:
    async def scenario() -> None:
        async with opened(Echo()) as (lane, port):
            pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for reader, writer in pairs:
                writer.write(GET)
                assert "connection" not in (await said(reader))[1]
            draining = asyncio.create_task(lane.drain())
            await asyncio.sleep(0.1)
            (reader, writer), (silent, _) = pairs
            writer.write(GET)
            assert (await said(reader))[1]["connection"] == "close"
            await draining
            assert await silent.read() == b""
            for _, writer in pairs:
                writer.close()

    play(scenario)


def test_clients_that_go_on_asking_while_replicas_are_replaced_see_no_failure() -> None:
    """Three generations on one port, each opened before the one before it goes; new connections all the time."""
    answered, stop = 0, asyncio.Event()

    async def client(port: int, *, keeps: bool) -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not stop.is_set():
            writer.write(GET)
            code, headers, _ = await said(reader)
            assert code == 200
            answered += 1
            if not keeps or headers.get("connection") == "close":
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    async def scenario() -> None:
        port = free_port()
        lanes = [Lane(Echo(), Settings(home=Path(), fast_port=port)) for _ in range(3)]
        await lanes[0].open()
        clients = [asyncio.create_task(client(port, keeps=i % 2 == 0)) for i in range(8)]
        for old, new in itertools.pairwise(lanes):
            await new.open()
            await old.drain()
            last = answered
            await until(lambda last=last: answered > last + 20)  # type: ignore[misc]
        stop.set()
        await asyncio.gather(*clients)
        await lanes[-1].drain()

    play(scenario)


def test_a_port_that_cannot_be_had_is_said_and_not_fatal() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])

        async def scenario() -> None:
            async with opened(Echo(), fast_port=port) as (lane, _):
                assert lane.status == lane.trouble
                assert f"cannot listen on 127.0.0.1:{port}" in lane.trouble

        play(scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="a packet filter of Linux")
def test_the_kernel_turns_new_connections_away_and_lets_the_others_be() -> None:
    with listener("127.0.0.1", 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()) as before:
            turn_away(listening)
            with pytest.raises(TimeoutError):
                socket.create_connection(listening.getsockname(), timeout=0.2)
            accepted, _ = listening.accept()
            with accepted:
                before.sendall(b"still here")
                assert accepted.recv(100) == b"still here"


def test_replicas_share_a_port() -> None:
    port = free_port()
    with listener("127.0.0.1", port) as one, listener("127.0.0.1", port) as other:
        assert one.getsockname() == other.getsockname()
