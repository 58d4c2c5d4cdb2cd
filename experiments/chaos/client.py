"""Clients as the contract wants them: they repeat an id with the same body until it is answered, and keep a ledger."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

PATIENCE_S = 60.0  # longest time one request is repeated
NO_CLAIM = "claims"


@dataclass(slots=True)
class Ledger:
    """What the server has acknowledged, by the clients' own books."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    rewards: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)  # id, key -> outcome, value
    deferred: set[str] = field(default_factory=set)  # ids whose activation was acknowledged
    refused: Counter[str] = field(default_factory=Counter)  # all that was no answer, by kind
    changed: list[str] = field(default_factory=list)  # ids that were answered otherwise when asked again
    given_up: list[str] = field(default_factory=list)  # ids that were not answered in PATIENCE_S
    seconds: list[float] = field(default_factory=list)  # of each answer's own request
    repeats: int = 0  # requests made again, after their answer, on purpose

    def known(self) -> dict[str, dict[str, Any]]:
        """The first answer of each id."""
        found: dict[str, dict[str, Any]] = {}
        for told in self.answers:
            found.setdefault(told["decision_id"], told)
        return found


class Load:
    """Clients in a thread of their own, from `with` to its end."""

    def __init__(
        self,
        urls: Sequence[str],
        name: str,
        *,
        clients: int = 4,
        pause_s: float = 0.01,
        rewards: bool = True,
        timeout_s: float = 3.0,
        **more: Any,
    ) -> None:
        """Client i asks url i, in turn; `more` goes into every body."""
        self.ledger = Ledger()
        self._urls, self._name, self._clients, self._pause_s = urls, name, clients, pause_s
        self._rewards, self._timeout_s, self._more = rewards, timeout_s, more
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def answered(self, more: int, within_s: float) -> float:
        """Seconds until so many more answers have come. Raises TimeoutError."""
        began, wanted = time.monotonic(), len(self.ledger.answers) + more
        while len(self.ledger.answers) < wanted:
            if time.monotonic() - began > within_s:
                raise TimeoutError(f"not {more} answers within {within_s:g} s; refused: {self.ledger.refused}")
            time.sleep(0.01)
        return time.monotonic() - began

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(i) for i in range(self._clients)))

    async def _client(self, number: int) -> None:
        url = self._urls[number % len(self._urls)]
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=self._timeout_s) as client:
            one = _Client(client, self.ledger, random.Random(f"{self._name}-{number}"), self._rewards)
            made = 0
            while not self._stop.is_set():
                made += 1
                await one.customer(f"{self._name}-{number}-{made}", self._more)
                await asyncio.sleep(self._pause_s)


@dataclass(slots=True)
class _Client:
    client: httpx.AsyncClient
    ledger: Ledger
    rng: random.Random
    rewards: bool

    async def customer(self, decision_id: str, more: dict[str, Any]) -> None:
        """Decides, now and then twice, activates where that was deferred, reports what came of it, some of it twice."""
        defer = self.rewards and self.rng.random() < 0.1
        body = {
            "decision_id": decision_id,
            "subject_id": f"u-{self.rng.randrange(500)}",
            "moment": "basket",
            "context": {"mood": round(self.rng.uniform(-1, 1), 3), "urgency": round(self.rng.random(), 3)},
            "defer_activation": defer,
            **more,
        }
        began = time.monotonic()
        told = await self._decided(body)
        if told is None:
            return
        self.ledger.seconds.append(time.monotonic() - began)
        if self.rng.random() < 0.1:
            await self._again(body, told)
        if defer and await self._until(lambda: self._post(f"/v1/decisions/{decision_id}/activate", {}), decision_id):
            self.ledger.deferred.add(decision_id)
        for n in range(self.rng.randrange(4) if self.rewards else 0):
            await self._report(decision_id, f"k-{n}", "clicks", float(self.rng.randrange(1, 10)))
        if self.rewards and self.rng.random() < 0.3:
            await self._report(decision_id, "k-bought", "bought", 1.0)

    async def _decided(self, body: dict[str, Any]) -> dict[str, Any] | None:
        response = await self._until(lambda: self._post("/v1/decide", body), body["decision_id"])
        if response is None:
            return None
        told: dict[str, Any] = response.json()
        self.ledger.answers.append(told)
        return told

    async def _again(self, body: dict[str, Any], told: dict[str, Any]) -> None:
        """The same question after its answer; where no claim can be had it may be decided anew, degraded."""
        again = await self._decided(body)
        self.ledger.repeats += 1
        if again is None or any(NO_CLAIM in one["degraded"] for one in (told, again)):
            return
        if {**again, "replayed": None} != {**told, "replayed": None}:
            self.ledger.changed.append(told["decision_id"])

    async def _report(self, decision_id: str, key: str, outcome: str, value: float) -> None:
        path, body = (
            f"/v1/decisions/{decision_id}/rewards",
            {"outcome": outcome, "value": value, "idempotency_key": key},
        )
        if await self._until(lambda: self._post(path, body), decision_id) is None:
            return
        self.ledger.rewards[decision_id, key] = outcome, value
        if self.rng.random() < 0.3:
            self.ledger.repeats += 1
            await self._until(lambda: self._post(path, body), decision_id)
        if self.rng.random() < 0.05:
            self.ledger.repeats += 1
            await self._until(lambda: self._post(path, {**body, "value": value + 1.0}), decision_id, also=(409, 422))

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.client.post(path, json=body)

    async def _until(
        self, ask: Callable[[], Awaitable[httpx.Response]], decision_id: str, *, also: tuple[int, ...] = ()
    ) -> httpx.Response | None:
        """Asks until it is answered; None, and a line in the ledger, after PATIENCE_S."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                response = await ask()
            except httpx.HTTPError as error:
                self.ledger.refused[type(error).__name__] += 1
            else:
                if response.status_code in (200, 201, 202, *also):
                    return response
                self.ledger.refused[str(response.status_code)] += 1
            await asyncio.sleep(0.03)
        self.ledger.given_up.append(decision_id)
        return None
