"""Faults between replicas, in the clock and in the middle of a request: one decision each, and each report once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from nba.decide import decide_many
from nba.errors import LogError
from nba.join import Joined, join
from nba.log import LogWriter, read_records
from nba.pack import Pack
from nba.records import DecisionRecord, Record
from serving.answers import answer
from serving.api import Api
from serving.archive import canonical
from serving.champion import IMPATIENT, MlflowRegistry
from serving.server import Server
from serving.settings import Settings
from serving.wire import encode
from tests.conftest import free_port

Body = Callable[..., dict[str, Any]]
RESOLVED = {"outcome": "resolved", "value": 1.0, "idempotency_key": "k"}


class Clock:
    """Says what it is told to say."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Replica:
    """A server and a client of it."""

    server: Server
    client: httpx.AsyncClient

    async def decide(self, body: dict[str, Any]) -> httpx.Response:
        return await self.client.post("/v1/decide", json=body)

    async def report(self, decision_id: str) -> httpx.Response:
        return await self.client.post(f"/v1/decisions/{decision_id}/rewards", json=RESOLVED)


@asynccontextmanager
async def replica(scene: Any, clock: Callable[[], datetime] | None = None, **settings: Any) -> AsyncIterator[Replica]:
    """A replica of the scene; several share its home, its log and its Redis."""
    given = {"redis_url": scene.redis_url, "champion_poll_s": 0.02, "rebuild_poll_s": 0.05, **settings}
    more = {} if clock is None else {"clock": clock}
    scene.home.mkdir(exist_ok=True)
    server = Server(Settings(home=scene.home, **given), registry=scene.registry, **more)
    await server.start()
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Api(server)), base_url="http://nba") as client:
            await until(lambda: server.ready().status != "not_ready" and server.claims.state == "ready")
            yield Replica(server, client)
    finally:
        await server.close()


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


@dataclass
class Held:
    """A log that takes records and writes none of them until it is let go."""

    log: LogWriter
    waiting: list[tuple[tuple[Record, ...], Future[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._append = self.log.append
        self.log.append = self.append  # type: ignore[method-assign]

    def append(self, *records: Record) -> Future[None]:
        self.waiting.append((records, Future()))
        return self.waiting[-1][1]

    def let_go(self) -> None:
        """Writes what was held, and all that comes."""
        self.log.append = self._append  # type: ignore[method-assign]
        for records, future in self.waiting:
            self._append(*records).result(20)
            future.set_result(None)

    def lose(self) -> None:
        """What was held was never written: its replica is gone."""
        self.log.append = self._append  # type: ignore[method-assign]
        for _, future in self.waiting:
            future.set_exception(LogError("gone", help="none"))


def decisions(home: Path) -> list[DecisionRecord]:
    return [r for r in read_records(home / "log") if isinstance(r, DecisionRecord)]


def joined(home: Path, pack: Pack) -> Joined:
    """The log as it will be joined once every window has closed."""
    return join(read_records(home / "log"), pack, as_of=datetime.now(UTC) + timedelta(days=5))


def test_a_report_before_its_decision_is_logged_is_parked_and_then_joined_once(
    scene: Any, body: Body, support: Pack
) -> None:
    """One replica claims and dies before its write; the report comes to the other, and then the decision again."""

    async def scenario() -> None:
        async with replica(scene) as a, replica(scene) as b:
            held = Held(a.server.log)
            asked = asyncio.create_task(a.decide(body(decision_id="d")))
            await until(lambda: bool(held.waiting))
            assert (await b.report("d")).status_code == 202
            assert joined(scene.home, support).reports == {"parked": 1}
            assert decisions(scene.home) == []
            told = await b.decide(body(decision_id="d"))
            held.lose()
            assert ((await asked).status_code, told.status_code) == (503, 200)
            assert (await b.report("d")).json() == {"status": "duplicate"}

    asyncio.run(scenario())
    found = joined(scene.home, support)
    assert (found.counts, found.reports) == ({"joined": 1}, {"in_window": 1})
    (record,) = decisions(scene.home)
    cost = support.action(record.decision.action_id).cost
    assert found.rounds["tone_tuner"].rewards.tolist() == [1.0 - cost]


def test_one_id_at_once_on_two_replicas_is_one_decision(scene: Any, body: Body) -> None:
    answers: list[dict[str, Any]] = []

    async def scenario() -> None:
        async with replica(scene) as a, replica(scene) as b:
            for i in range(20):
                told = await asyncio.gather(*(r.decide(body(decision_id=f"d-{i}")) for r in (a, b, a, b)))
                assert sorted(r.status_code for r in told) == [200, 200, 200, 201]
                answers.extend(r.json() for r in told)

    asyncio.run(scenario())
    for told in answers:
        kept = canonical(r for r in decisions(scene.home) if r.decision_id == told["decision_id"])
        assert kept is not None
        assert json.loads(encode(answer(kept, replayed=told["replayed"]))) == told


def test_a_replica_that_comes_to_its_log_late_gives_the_answer_that_another_gave(scene: Any, body: Body) -> None:
    """Its client gave up and asked the other one."""

    async def scenario() -> None:
        async with replica(scene) as a, replica(scene) as b:
            held = Held(a.server.log)
            late = asyncio.create_task(a.decide(body(decision_id="d")))
            await until(lambda: bool(held.waiting))
            early = await b.decide(body(decision_id="d"))
            held.let_go()
            assert {**(await late).json(), "replayed": None} == {**early.json(), "replayed": None}

    asyncio.run(scenario())
    first, second = decisions(scene.home)
    assert first == second


def test_a_clock_that_goes_back_changes_no_stored_answer(scene: Any, body: Body, support: Pack) -> None:
    """A day back: the answer of before is given again, and a report from before its decision is no reward."""
    clock = Clock()

    async def scenario() -> None:
        async with replica(scene, clock) as a:
            first = await a.decide(body(decision_id="d"))
            clock.now -= timedelta(days=1)
            again = await a.decide(body(decision_id="d"))
            assert (again.status_code, again.json()) == (200, {**first.json(), "replayed": True})
            assert (await a.decide(body(decision_id="e"))).status_code == 201
            assert (await a.report("d")).json() == {"status": "late"}
            assert (await a.report("e")).json() == {"status": "joined"}
            clock.now += timedelta(days=1)
            assert (await a.report("d")).json() == {"status": "duplicate"}

    asyncio.run(scenario())
    found = joined(scene.home, support)
    assert found.reports == {"in_window": 1, "early": 1}
    assert found.counts == {"joined": 1, "default": 1}


def test_a_clock_that_goes_back_while_redis_is_refilled_forgets_nothing(scene: Any, body: Body, own_redis: Any) -> None:
    """A claim is kept for a month: a clock that is a day behind does not make it one of the future."""
    scene.redis_url, clock = own_redis.url, Clock()

    async def scenario() -> None:
        async with replica(scene, clock) as a:
            first = await a.decide(body(decision_id="d"))
            clock.now -= timedelta(days=1)
            epoch = a.server.claims.epoch
            own_redis.flush()
            await until(lambda: a.server.claims.epoch > epoch)
            again = await a.decide(body(decision_id="d"))
            assert (again.status_code, again.json()) == (200, {**first.json(), "replayed": True})

    asyncio.run(scenario())


def test_a_promotion_in_the_middle_of_a_body_decides_by_one_policy(
    scene: Any, body: Body, artefacts: dict[str, Path]
) -> None:
    whole = json.dumps(body(decision_id="d")).encode()

    async def scenario() -> None:
        async with replica(scene, body_timeout_s=20.0) as a:

            async def parts() -> AsyncIterator[bytes]:
                yield whole[:20]
                scene.registry.add(artefacts["rules"])
                await until(lambda: version(a) == "2")
                yield whole[20:]

            told = (await a.client.post("/v1/decide", content=parts())).json()
            assert (told["policy"]["version"], told["policy"]["kind"]) == ("2", "rules")
            assert told["distribution"] == {"empathetic_reply_2": 1.0}  # sentiment -0.7: below -0.4, not below -0.7
            assert (await a.client.post("/v1/decisions/d/replay")).json() == {"identical": True}

    asyncio.run(scenario())


def version(of: Replica) -> str | None:
    policy = of.server.serving()[0].policy
    return None if policy is None else policy.version


def test_a_promotion_in_the_middle_of_a_batch_decides_all_of_it_by_one_policy(
    scene: Any, body: Body, artefacts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 decisions are computed a hundred at a time; another policy serves before the first hundred is done."""

    async def scenario() -> None:
        async with replica(scene, champion_poll_s=60.0) as a:
            before = version(a)

            def promote_between(*given: Any, **named: Any) -> Any:
                if version(a) == before:
                    scene.registry.add(artefacts["rules"])
                    a.server.champions.poll("support")
                return decide_many(*given, **named)

            monkeypatch.setattr("serving.engine.decide_many", promote_between)
            items = [body(decision_id=f"d-{i}") for i in range(300)]
            results = (await a.client.post("/v1/decide:batch", json={"decisions": items})).json()["results"]
            assert version(a) == "2"
            assert {(r["policy"]["version"], len(r["distribution"]) > 1) for r in results} == {("1", True)}
            for i in (0, 299):
                assert (await a.client.post(f"/v1/decisions/d-{i}/replay")).json() == {"identical": True}

    asyncio.run(scenario())


@pytest.mark.system
def test_an_mlflow_that_is_not_there_says_so_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself its client tries again for minutes, and `/readyz` would call the server ready all that time."""
    import mlflow  # noqa: F401  # outside of what is timed

    for name in IMPATIENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    registry = MlflowRegistry(f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(Exception, match="Max retries exceeded"):
        registry.champion("support")
    assert time.monotonic() - began < 60.0
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
