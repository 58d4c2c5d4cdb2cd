"""Replicas that are killed, paused and asked at once: what is acknowledged stays, and is one decision."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from typing import Any

import httpx
from client import Ledger, Load
from fault import Fault, Watch, patient, quantile, until
from ground import Ground, Replica, free_port
from prove import decisions, prove

from nba.log import read_records
from nba.records import RewardRecord

BACK_S = 15.0  # a killed replica has to be back within


def kills(times: int) -> Fault:
    """Two replicas on one port under load; one of them is killed again and again."""

    def inject(ground: Ground, watch: Watch) -> None:
        port, rng, back = free_port(), random.Random(7), list[float]()
        pair = [ground.replica(port=port) for _ in range(2)]
        for replica in pair:
            replica.spawn()
        for replica in pair:
            replica.wait()
        with Load([pair[0].url], "kill", clients=6) as load:
            load.answered(50, 30.0)
            for i in range(times):
                victim = pair[i % 2]
                victim.kill()
                began = time.monotonic()
                victim.start()
                back.append(time.monotonic() - began)
                time.sleep(rng.uniform(0.1, 0.5))
            load.answered(20, 30.0)
        for replica in pair:
            replica.stop()
        proof = prove(ground, [load.ledger])
        watch.check(str(proof), proof.ok)
        watch.note(f"{times} kills, requests repeated {sum(load.ledger.refused.values())}: {dict(load.ledger.refused)}")
        watch.check(f"back after {quantile(back, 0.5):.1f} s, at most {max(back):.1f} s", max(back) < patient(BACK_S))
        odd = [kind for kind in load.ledger.refused if kind[0] == "5" and kind != "503"]
        watch.check(f"no 5xx but 503 {odd or ''}".strip(), not odd)

    return Fault(
        "replicas",
        f"kill -9 of a replica, {times} times",
        "two replicas without Ray on one port, one killed in turn under load; clients repeat ids and reports",
        "no acknowledged decision or report lost or doubled, no wrong propensity; back within 15 s",
        inject,
    )


def _two(ground: Ground) -> list[Replica]:
    """Two replicas of one home, each on a port of its own."""
    pair = [ground.replica() for _ in range(2)]
    for replica in pair:
        replica.spawn()
    for replica in pair:
        replica.wait()
    return pair


def asked(decision_id: str, **more: Any) -> dict[str, Any]:
    """The body of a decision."""
    return {"decision_id": decision_id, "subject_id": "u-1", "moment": "basket", "context": {"mood": 0.1}, **more}


def _same_id(ground: Ground, watch: Watch) -> None:
    """150 ids, each asked of both replicas at one time, four times over."""
    pair = _two(ground)
    ledger, codes = Ledger(), Counter[int]()

    async def race() -> None:
        async with (
            httpx.AsyncClient(base_url=pair[0].url, trust_env=False, timeout=20) as a,
            httpx.AsyncClient(base_url=pair[1].url, trust_env=False, timeout=20) as b,
        ):
            for i in range(150):
                told = await asyncio.gather(*(c.post("/v1/decide", json=asked(f"race-{i}")) for c in (a, b, a, b)))
                codes.update(r.status_code for r in told)
                answers = [r.json() for r in told if r.status_code in (200, 201)]
                ledger.answers += answers
                if len({str({**answer, "replayed": None}) for answer in answers}) != 1:
                    ledger.changed.append(f"race-{i}")

    asyncio.run(race())
    proof = prove(ground, [ledger], share=1.0)
    watch.check(str(proof), proof.ok)
    records = Counter(r.decision_id for r in decisions(ground.home.log))
    watch.note(
        f"150 ids asked 4 times at once on two replicas: {dict(codes)}, at most {max(records.values())} records an id"
    )
    watch.check(f"each id new at most once ({codes[201]})", codes[201] <= 150)


def _conflict(ground: Ground, watch: Watch) -> None:
    """One id with two bodies at one time: one of them is decided, the other told so."""
    pair, odd = _two(ground), list[str]()

    async def race() -> None:
        async with (
            httpx.AsyncClient(base_url=pair[0].url, trust_env=False, timeout=20) as a,
            httpx.AsyncClient(base_url=pair[1].url, trust_env=False, timeout=20) as b,
        ):
            for i in range(50):
                one = a.post("/v1/decide", json=asked(f"two-{i}"))
                other = b.post("/v1/decide", json=asked(f"two-{i}", explore=False))
                codes = sorted(r.status_code for r in await asyncio.gather(one, other))
                odd.extend([str(codes)] if codes != [201, 409] else [])

    asyncio.run(race())
    watch.check(f"50 ids with two bodies at once: 201 and 409 each {odd or ''}".strip(), not odd)
    records = Counter(r.decision_id for r in decisions(ground.home.log))
    watch.check("one record each", set(records.values()) == {1})


def _paused(ground: Ground, watch: Watch) -> None:
    """The first replica stops in the middle; its client asks the other one, and the first goes on later."""
    pair, ledger = _two(ground), Ledger()
    late: list[httpx.Response] = []
    for i in range(5):
        body = asked(f"paused-{i}")
        pair[0].process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
        slow = threading.Thread(target=lambda b=body: late.append(_post(pair[0], b)))
        slow.start()
        time.sleep(0.1)
        ledger.answers.append(_post(pair[1], body).json())
        pair[0].process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
        slow.join()
    ledger.answers += [response.json() for response in late]
    proof = prove(ground, [ledger], share=1.0)
    watch.check(str(proof), proof.ok)
    watch.check(
        f"the paused replica gave the stored answer {[r.status_code for r in late]}",
        {r.status_code for r in late} == {200},
    )
    records = Counter(r.decision_id for r in decisions(ground.home.log))
    watch.check("one record each", set(records.values()) == {1})


def _post(replica: Replica, body: dict[str, Any], path: str = "/v1/decide") -> httpx.Response:
    with replica.client(20.0) as client:
        return client.post(path, json=body)


def _reward_first(ground: Ground, watch: Watch) -> None:
    """A replica claims and dies before it logs; the report comes in at another, before the decision is in the log."""
    pair, ledger = _two(ground), Ledger()
    for i in range(3):
        _orphan(ground, watch, pair, ledger, f"parked-{i}")
    proof = prove(ground, [ledger], share=1.0)
    watch.check(str(proof), proof.ok)


def _orphan(ground: Ground, watch: Watch, pair: list[Replica], ledger: Ledger, decision_id: str) -> None:
    ground.ill("hold")
    dying = threading.Thread(target=lambda: _quietly(pair[0], asked(decision_id)))
    dying.start()
    with ground.redis.client() as client:
        until(lambda: bool(client.exists(f"nba:d:{decision_id}")), 10.0, "the claim")
    pair[0].kill()
    dying.join()
    ground.well("hold")
    report = {"outcome": "clicks", "value": 3.0, "idempotency_key": "k"}
    first = _post(pair[1], report, f"/v1/decisions/{decision_id}/rewards")
    ids = {r.decision_id for r in decisions(ground.home.log)}
    watch.check(
        f"reported before it is logged ({first.status_code})", first.status_code == 202 and decision_id not in ids
    )
    told = _post(pair[1], asked(decision_id))
    again = _post(pair[1], report, f"/v1/decisions/{decision_id}/rewards")
    watch.check(
        f"asked again {told.status_code}, reported again {again.json()}", again.json() == {"status": "duplicate"}
    )
    ledger.answers.append(told.json())
    ledger.rewards[decision_id, "k"] = "clicks", 3.0
    pair[0].start()


def _quietly(replica: Replica, body: dict[str, Any]) -> None:
    try:
        _post(replica, body)
    except httpx.HTTPError:
        return


def _early_reports(ground: Ground, watch: Watch) -> None:
    """Reports race their decision: sent at the same time to the other replica, and repeated until they are known."""
    pair, ledger, unknown = _two(ground), Ledger(), 0

    async def race() -> None:
        nonlocal unknown
        async with (
            httpx.AsyncClient(base_url=pair[0].url, trust_env=False, timeout=20) as a,
            httpx.AsyncClient(base_url=pair[1].url, trust_env=False, timeout=20) as b,
        ):

            async def report(decision_id: str, key: str) -> int:
                body = {"outcome": "clicks", "value": 2.0, "idempotency_key": key}
                for tries in range(500):
                    told = await b.post(f"/v1/decisions/{decision_id}/rewards", json=body)
                    if told.status_code in (200, 202):
                        ledger.rewards[decision_id, key] = "clicks", 2.0
                        return tries
                    await asyncio.sleep(0.005)
                ledger.given_up.append(decision_id)
                return 500

            for i in range(60):
                decision_id = f"early-{i}"
                two, one, told = await asyncio.gather(
                    report(decision_id, "k-2"),
                    report(decision_id, "k-1"),
                    a.post("/v1/decide", json=asked(decision_id)),
                )
                await report(decision_id, "k-1")  # once more, after a time-out as it were
                unknown += two + one
                ledger.answers.append(told.json())

    asyncio.run(race())
    rewards = Counter(
        (r.decision_id, r.idempotency_key) for r in read_records(ground.home.log) if isinstance(r, RewardRecord)
    )
    proof = prove(ground, [ledger], share=1.0)
    watch.check(str(proof), proof.ok)
    watch.note(
        f"{unknown} times told 404 before the decision was known; at most {max(rewards.values())} records a report"
    )


RACES = (
    Fault(
        "races",
        "one id asked of two replicas at once",
        "150 ids, each sent four times at one moment, twice to either replica",
        "one canonical decision, and every answer is it",
        _same_id,
    ),
    Fault(
        "races",
        "one id with two bodies at once",
        "50 ids, one body to either replica at one moment",
        "one is decided (201), the other told so (409), one record",
        _conflict,
    ),
    Fault(
        "races",
        "an answer that does not come; asked again elsewhere",
        "SIGSTOP of a replica that holds the request, the same id to the other replica, SIGCONT",
        "one decision; the late replica gives the stored answer",
        _paused,
    ),
    Fault(
        "races",
        "a report before its decision is in the log",
        "the replica that claimed the id is held before its write and killed; the report goes to the other one",
        "the report is kept, and joined once when the decision is asked again",
        _reward_first,
    ),
    Fault(
        "races",
        "reports that race their decision",
        "decision and two reports at one moment on two replicas, out of order, repeated",
        "each report joined once",
        _early_reports,
    ),
)
