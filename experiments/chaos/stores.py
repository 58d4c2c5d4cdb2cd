"""Redis: killed, hung, slow, emptied, brought back with older data."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from typing import Any

from client import NO_CLAIM, Load
from fault import Fault, Watch, patient, quantile, until
from ground import Ground, Replica
from prove import prove
from replicas import asked

BOUND_S = 0.5  # of a decision while Redis is ill: its budgets are 0.05 s and 0.25 s


class Proxy:
    """Passes bytes on to Redis, so many seconds later."""

    def __init__(self, port: int) -> None:
        self.delay_s, self.port = 0.0, 0
        self._to, self._started = port, threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(10)

    def close(self) -> None:
        """Ends it."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._loop.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        with contextlib.suppress(asyncio.CancelledError):  # it ends with the proxy
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            writer.write(data)
            await writer.drain()
        writer.close()


def claims(replica: Replica) -> str:
    """What the replica says of the state store."""
    with replica.client() as client:
        return str(client.get("/readyz").json()["claims"])


def _degraded(load: Load, since: int) -> int:
    return sum(NO_CLAIM in told["degraded"] for told in load.ledger.answers[since:])


def _bounded(watch: Watch, load: Load, since: int) -> None:
    """Latency of the answers since then, those that tell the store's failure among them."""
    seconds = load.ledger.seconds[since:]
    slowest = max(seconds, default=0.0)
    watch.check(
        f"decisions p50 {quantile(seconds, 0.5) * 1e3:.0f} ms, slowest {slowest * 1e3:.0f} ms", slowest < BOUND_S
    )


def _ill(ground: Ground, watch: Watch, replica: Replica, make: Any, mend: Any, *, expect_claims: bool = False) -> None:
    """Load before, during and after; what was decided meanwhile says so and is kept."""
    with Load([replica.url], "ill", clients=4) as load:
        load.answered(40, 30.0)
        make()
        time.sleep(0.1)
        timed, since = len(load.ledger.seconds), len(load.ledger.answers)
        load.answered(100, 60.0)
        degraded, n = _degraded(load, since), len(load.ledger.answers) - since
        _bounded(watch, load, timed)
        watch.check(f"{degraded} of {n} degraded", (degraded == 0) if expect_claims else degraded > n * 0.8)
        mend()
        back = until(lambda: claims(replica) == "ready", 30.0, "the state store is trusted again")
        watch.note(f"claims again after {back:.1f} s")
        since = len(load.ledger.answers)
        load.answered(40, 30.0)
        watch.check("none degraded afterwards", _degraded(load, since + 8) == 0)
    failed = {kind: n for kind, n in load.ledger.refused.items() if kind not in ("503", "404")}
    watch.check(f"refused {dict(load.ledger.refused)}" if load.ledger.refused else "no request refused", not failed)
    proof = prove(ground, [load.ledger])
    watch.check(str(proof), proof.ok)


def _killed(ground: Ground, watch: Watch) -> None:
    _ill(ground, watch, ground.started(), ground.redis.kill, ground.redis.start)


def _hung(ground: Ground, watch: Watch) -> None:
    stop = lambda: ground.redis.send(signal.SIGSTOP)  # noqa: E731
    _ill(ground, watch, ground.started(), stop, lambda: ground.redis.send(signal.SIGCONT))


def _slow(ground: Ground, watch: Watch) -> None:
    proxy = Proxy(ground.redis.port)
    try:
        replica = ground.started(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        _ill(ground, watch, replica, lambda: setattr(proxy, "delay_s", 0.6), lambda: setattr(proxy, "delay_s", 0.0))
    finally:
        proxy.close()


def _a_little_slow(ground: Ground, watch: Watch) -> None:
    proxy = Proxy(ground.redis.port)
    try:
        replica = ground.started(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        mend = lambda: setattr(proxy, "delay_s", 0.0)  # noqa: E731
        _ill(ground, watch, replica, lambda: setattr(proxy, "delay_s", 0.005), mend, expect_claims=True)
    finally:
        proxy.close()


def _emptied(ground: Ground, watch: Watch) -> None:
    """Emptied three times under load."""
    _replaced(ground, watch, times=3, spoil=_empty)


def _empty(ground: Ground) -> None:
    with ground.redis.client() as client:
        client.flushall()


def _older(ground: Ground, watch: Watch) -> None:
    """Saved, then gone on with, then killed and started with what was saved."""
    _replaced(ground, watch, times=2, spoil=_restart_older)


def _restart_older(ground: Ground) -> None:
    with ground.redis.client() as client:
        client.save()
    time.sleep(0.5)
    ground.redis.kill()
    ground.redis.start()


def _replaced(ground: Ground, watch: Watch, *, times: int, spoil: Any) -> None:
    pair = [ground.replica() for _ in range(2)]
    for replica in pair:
        replica.start()
    back = list[float]()
    epochs = set[str]()
    with Load([r.url for r in pair], "emptied", clients=4) as load:
        for _ in range(times):
            load.answered(40, 30.0)
            with ground.redis.client() as client:
                epochs.add(str(client.get("nba:epoch")))
            spoil(ground)
            before = epochs | {"None"}
            back.append(until(lambda b=before: _epoch(ground) not in b, 30.0, "a new epoch"))  # type: ignore[misc]
            epochs.add(_epoch(ground))
            until(lambda: all(claims(r) == "ready" for r in pair), 30.0, "both trust it")
        since = len(load.ledger.answers)
        load.answered(40, 30.0)
        watch.check("none degraded afterwards", _degraded(load, since + 8) == 0)
    watch.note(f"refilled from the log after {max(back):.1f} s at most, epochs {len(epochs)}")
    _told_again(watch, pair[1], load)
    proof = prove(ground, [load.ledger])
    watch.check(str(proof), proof.ok)


def _epoch(ground: Ground) -> str:
    with ground.redis.client() as client:
        return str(client.get("nba:epoch"))


def _told_again(watch: Watch, replica: Replica, load: Load) -> None:
    """The reports of before are still known to have come."""
    known = list(load.ledger.rewards.items())[:: max(len(load.ledger.rewards) // 40, 1)]
    with replica.client() as client:
        codes = [
            client.post(
                f"/v1/decisions/{decision_id}/rewards", json={"outcome": o, "value": v, "idempotency_key": key}
            ).status_code
            for (decision_id, key), (o, v) in known
        ]
    watch.check(f"{len(codes)} reports of before told again: {sorted(set(codes))}", set(codes) <= {200, 202})


def _caps(ground: Ground, watch: Watch) -> None:
    """A request that waited longer than it wanted to is not sampled at all."""
    replica = ground.started()
    ground.redis.send(signal.SIGSTOP)
    began = time.monotonic()
    with replica.client() as client:
        told = client.post("/v1/decide", json=asked("hurried", timeout_ms=40.0))
    took = time.monotonic() - began
    ground.redis.send(signal.SIGCONT)
    watch.check(
        f"{told.status_code} after {took * 1e3:.0f} ms", told.status_code in (201, 429) and took < patient(BOUND_S)
    )


FAULTS = (
    Fault(
        "redis",
        "Redis killed, and back",
        "kill -9 under load, started again empty",
        "decisions go on, degraded and not learnable, within their budget; refilled from the log when it is back",
        _killed,
    ),
    Fault(
        "redis",
        "Redis hangs, and goes on",
        "SIGSTOP under load, SIGCONT",
        "costs one time-out, then nothing; claims again by itself",
        _hung,
    ),
    Fault(
        "redis",
        "Redis slower than the budget",
        "a proxy that delays every byte by 0.6 s each way; the budget is 0.25 s",
        "as when it hangs",
        _slow,
    ),
    Fault(
        "redis",
        "Redis a little slow",
        "a proxy that delays every byte by 5 ms each way",
        "claims are taken all the same",
        _a_little_slow,
    ),
    Fault(
        "redis",
        "Redis emptied",
        "FLUSHALL under load, three times, two replicas",
        "refilled from the log under a higher epoch; what was answered is answered again",
        _emptied,
    ),
    Fault(
        "redis",
        "Redis back with older data",
        "SAVE, half a second more of load, kill -9, start with the older file; twice, two replicas",
        "not believed, refilled from the log under a higher epoch",
        _older,
    ),
    Fault(
        "redis",
        "a request in a hurry while Redis hangs",
        "SIGSTOP, a request with timeout_ms 40",
        "answered or shed within its budgets, never waits for Redis",
        _caps,
    ),
)
