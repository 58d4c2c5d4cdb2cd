"""An app's calls to a server, with retries: decide, report an outcome, tell of an event, state a consent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
import msgspec
import numpy as np
from msgspec import Struct

from envs.load.tally import Tally
from envs.load.told import Report

# What a proxy or the server says when it cannot now, but may soon; a batch says the same item by item.
RETRIED_STATUS = (429, 502, 503, 504)
RETRIED_CODES = ("overloaded", "unavailable", "no_policy", "log_unavailable")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is made and how long is waited between: doubling, with jitter, at least `Retry-After`."""

    attempts: int = 10
    first_s: float = 0.1
    most_s: float = 4.0  # also bounds what `Retry-After` may ask for

    def wait_s(self, attempt: int, asked_s: float, jitter: float) -> float:
        """Seconds before the next attempt; attempts are counted from 1, jitter lies in [0, 1)."""
        doubled = min(self.most_s, self.first_s * 2.0 ** (attempt - 1))
        return max(doubled * (0.5 + 0.5 * jitter), min(asked_s, self.most_s))


class _Named(Struct):
    action_id: str


class _Version(Struct):
    version: str


class _Error(Struct):
    code: str


class Answer(Struct):
    """As much of an answer to decide, good or bad, as is needed here."""

    action: _Named | None = None
    policy: _Version | None = None
    degraded: tuple[str, ...] = ()
    replayed: bool = False
    error: _Error | None = None


class _Answers(Struct):
    results: list[Answer]


class _Status(Struct):
    status: str


class _Anything(Struct):
    pass


@dataclass(frozen=True, slots=True)
class Decided:
    """What a server decided."""

    action_id: str
    version: str
    degraded: tuple[str, ...]
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Failure:
    kind: str
    passes: bool  # worth another try
    asked_s: float = 0.0  # Retry-After


T = TypeVar("T", Answer, _Answers, _Status, _Anything)


class Caller:
    """Calls over one client, one at a time; whatever is given up or made again is counted in the shared tally."""

    def __init__(self, client: httpx.AsyncClient, retry: Retry, rng: np.random.Generator, tally: Tally) -> None:
        """`rng` is the jitter between attempts."""
        self._client, self._retry, self._rng, self._tally = client, retry, rng, tally

    async def decide(
        self, bodies: Sequence[Mapping[str, object]], *, single: bool, since: float
    ) -> list[Decided | None]:
        """What was decided, one a body, in one call and as many more as it takes; None where it was given up.

        `single`: there is one body, which is sent by itself. The latency counts from `since`, by `time.perf_counter`.
        """
        answers = await (self._decide_one(bodies[0]) if single else self._decide_many(bodies))
        if answers:
            self._tally.latencies_s.append(time.perf_counter() - since)
        return [self._decided(answers.get(i)) for i in range(len(bodies))]

    async def report(self, decision_id: str, report: Report) -> bool:
        """Reports an outcome of a decision; whether it got there."""
        key = f"{decision_id}:{report.outcome}"
        body = {"outcome": report.outcome, "value": report.value, "idempotency_key": key}
        content = await self._send("reward", "POST", f"/v1/decisions/{decision_id}/rewards", body)
        told = self._read("reward", content, _Status)
        if told is not None:
            self._tally.rewards[told.status] += 1
        return told is not None

    async def tell(self, subject_id: str, event: str, event_id: str) -> bool:
        """Tells that something happened to a customer; whether it got there."""
        body = {"subject_id": subject_id, "event": event, "event_id": event_id}
        content = await self._send("event", "POST", "/v1/events", body)
        return self._read("event", content, _Anything) is not None

    async def state(self, subject_id: str, purposes: Mapping[str, bool]) -> bool:
        """States what a customer agrees to; whether it got there."""
        body = {"purposes": purposes, "source": "simulation"}
        content = await self._send("consent", "PUT", f"/v1/subjects/{subject_id}/consent", body)
        return self._read("consent", content, _Anything) is not None

    async def _decide_one(self, body: Mapping[str, object]) -> dict[int, Answer]:
        answer = self._read("decide", await self._send("decide", "POST", "/v1/decide", body), Answer)
        return {} if answer is None else {0: answer}

    async def _decide_many(self, bodies: Sequence[Mapping[str, object]]) -> dict[int, Answer]:
        """Answers by place; items that the server could not decide now are sent again."""
        answers, left = dict[int, Answer](), list(range(len(bodies)))
        for attempt in range(1, self._retry.attempts + 1):
            asked = {"decisions": [bodies[i] for i in left]}
            read = self._read("decide", await self._send("decide", "POST", "/v1/decide:batch", asked), _Answers)
            if read is None:
                break
            if len(read.results) != len(left):
                self._tally.errors["decide not_an_answer"] += 1
                break
            again = []
            for i, result in zip(left, read.results, strict=True):
                code = result.error.code if result.error else None
                if code in RETRIED_CODES and attempt < self._retry.attempts:
                    self._tally.retried[f"decide {code}"] += 1
                    again.append(i)
                elif code is not None:
                    self._tally.errors[f"decide {code}"] += 1
                else:
                    answers[i] = result
            left = again
            if not left:
                break
            await asyncio.sleep(self._retry.wait_s(attempt, 0.0, float(self._rng.random())))
        return answers

    def _decided(self, answer: Answer | None) -> Decided | None:
        """The decision in an answer; None where there is none, or, counted, where it says too little."""
        if answer is None:
            return None
        if answer.action is None or answer.policy is None:
            self._tally.errors["decide not_an_answer"] += 1
            return None
        return Decided(answer.action.action_id, answer.policy.version, answer.degraded, answer.replayed)

    def _read(self, call: str, content: bytes | None, kind: type[T]) -> T | None:
        """The answer in a body; None where there is none, or, counted, where it is something else."""
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._tally.errors[f"{call} not_an_answer"] += 1
            return None

    async def _send(self, call: str, method: str, path: str, body: object) -> bytes | None:
        """The body of a good answer; None where the call was given up, which is counted."""
        content = msgspec.json.encode(body)
        for attempt in range(1, self._retry.attempts + 1):
            answer = await self._attempt(method, path, content)
            if isinstance(answer, bytes):
                self._tally.unanswered = 0
                return answer
            kind = f"{call} {answer.kind}"
            if not answer.passes or attempt == self._retry.attempts:
                self._tally.errors[kind] += 1
                self._tally.unanswered = self._tally.unanswered + 1 if answer.passes else 0
                return None
            self._tally.retried[kind] += 1
            await asyncio.sleep(self._retry.wait_s(attempt, answer.asked_s, float(self._rng.random())))
        return None

    async def _attempt(self, method: str, path: str, content: bytes) -> bytes | _Failure:
        """One call: the body of a good answer, or what went wrong."""
        try:
            response = await self._client.request(method, path, content=content)
        except httpx.TransportError as error:
            return _Failure(type(error).__name__, not isinstance(error, httpx.UnsupportedProtocol))
        if response.is_success:
            return response.content
        kind = f"{response.status_code}{_code(response.content)}"
        asked_s = _seconds(response.headers.get("retry-after", ""))
        return _Failure(kind, response.status_code in RETRIED_STATUS, asked_s)


def _code(content: bytes) -> str:
    """The code of an error body, after a space; nothing where the body is of somebody else's making."""
    try:
        error = msgspec.json.decode(content, type=Answer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return f" {error.code}" if error else ""


def _seconds(retry_after: str) -> float:
    """The header in seconds; 0 where it is absent or a date."""
    return float(retry_after) if retry_after.isdigit() else 0.0
