"""Simulated customers against a running server: decide, see what comes of it, report it, as an app would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
import msgspec
import numpy as np
from msgspec import Struct

from envs.drive_report import DriveReport, Tally
from envs.traffic import Traffic
from nba.pack import Pack

# What a proxy or the server says when it cannot now, but may soon; a batch says the same item by item.
RETRIED_STATUS = (429, 502, 503, 504)
RETRIED_CODES = ("overloaded", "unavailable", "no_policy", "log_unavailable")
GONE = 20  # calls in a row that were given up after every retry: the server is gone, and the drive ends


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


async def drive(
    url: str,
    pack: Pack,
    *,
    run: str,
    rounds: int,
    seed: int,
    concurrency: int = 16,
    batch: int = 1,
    moments: Sequence[str] | None = None,
    customers: int = 2_000,
    population_seed: int = 0,
    api_key: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    retry: Retry | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> DriveReport:
    """Plays that many rounds and reports. Decision ids are `{run}-{i}`: a run of the same name is a repetition.

    Requests bring only what an app would know; the server reads the rest of the same customers (`population_seed`,
    indices below `customers`) from its feature store. With `batch` above 1 decisions go out so many a call.
    `on_progress(done, rounds)` is called after every call's rounds. Memory: about 300 bytes a round.

    A server that stays away (GONE) ends the drive early; the report then has fewer decided than asked for.

    Raises UnknownMomentError for a moment the pack does not have, UnavailableError where nothing was decided.
    """
    traffic = Traffic(
        pack, moments or list(pack.moments), rounds, customers=customers, population_seed=population_seed, seed=seed
    )
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
    trusted = httpx.create_ssl_context()  # once: making it takes longer than a hundred calls
    tally, todo = Tally(), (range(start, min(start + batch, rounds)) for start in range(0, rounds, batch))

    async def work(worker: int) -> None:
        # A client each: httpx looks through its whole pool at every call, which costs more than the call itself.
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=30.0, verify=trusted, transport=transport
        ) as client:
            jitter = np.random.default_rng((seed, worker))
            driver = _Driver(client, traffic, run, retry or Retry(), jitter, tally)
            for places in todo:  # shared by all workers
                await driver.play(places, single=batch == 1)
                tally.done += len(places)
                if on_progress:
                    on_progress(tally.done, rounds)
                if tally.unanswered >= GONE:
                    break

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for worker in range(concurrency):
            group.create_task(work(worker))
    return tally.report(traffic, seconds=time.perf_counter() - started, batch=batch)


class _Named(Struct):
    action_id: str


class _Version(Struct):
    version: str


class _Error(Struct):
    code: str


class _Result(Struct):
    """As much of an answer to decide, good or bad, as is needed here."""

    action: _Named | None = None
    policy: _Version | None = None
    degraded: tuple[str, ...] = ()
    replayed: bool = False
    error: _Error | None = None


class _Results(Struct):
    results: list[_Result]


class _Status(Struct):
    status: str


@dataclass(frozen=True, slots=True)
class _Failure:
    kind: str
    passes: bool  # worth another try
    asked_s: float = 0.0  # Retry-After


T = TypeVar("T", _Result, _Results, _Status)


class _Driver:
    """One worker's calls; the tally is shared."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        traffic: Traffic,
        run: str,
        retry: Retry,
        rng: np.random.Generator,
        tally: Tally,
    ) -> None:
        self.client, self.traffic, self.run = client, traffic, run
        self.retry, self.rng, self.tally = retry, rng, tally

    async def play(self, places: Sequence[int], *, single: bool) -> None:
        """Decides these rounds in one call and reports what came of each."""
        answers = await (self.decide_one(places[0]) if single else self.decide_many(places))
        for i, answer in answers.items():
            if self.tally.unanswered < GONE:
                await self.take(i, answer)

    async def decide_one(self, i: int) -> dict[int, _Result]:
        """The answer for one round; nothing where it was given up."""
        started = time.perf_counter()
        content = await self.post("decide", "/v1/decide", self.traffic.body(i, f"{self.run}-{i}"))
        answer = self.read("decide", content, _Result)
        if answer is None:
            return {}
        self.tally.latencies_s.append(time.perf_counter() - started)
        return {i: answer}

    async def decide_many(self, places: Sequence[int]) -> dict[int, _Result]:
        """The answers for many rounds; items that the server could not decide now are sent again."""
        started, answers, left = time.perf_counter(), dict[int, _Result](), list(places)
        for attempt in range(1, self.retry.attempts + 1):
            bodies = [self.traffic.body(i, f"{self.run}-{i}") for i in left]
            content = await self.post("decide", "/v1/decide:batch", {"decisions": bodies})
            read = self.read("decide", content, _Results)
            if read is None:
                break
            if len(read.results) != len(left):
                self.tally.errors["decide not_an_answer"] += 1
                break
            again = []
            for i, result in zip(left, read.results, strict=True):
                code = result.error.code if result.error else None
                if code in RETRIED_CODES and attempt < self.retry.attempts:
                    self.tally.retried[f"decide {code}"] += 1
                    again.append(i)
                elif code is not None:
                    self.tally.errors[f"decide {code}"] += 1
                else:
                    answers[i] = result
            left = again
            if not left:
                break
            await asyncio.sleep(self.retry.wait_s(attempt, 0.0, float(self.rng.random())))
        if answers:
            self.tally.latencies_s.append(time.perf_counter() - started)
        return answers

    def read(self, call: str, content: bytes | None, kind: type[T]) -> T | None:
        """The answer in a body; None where there is none, or, counted, where it is something else."""
        if content is None:
            return None
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.tally.errors[f"{call} not_an_answer"] += 1
            return None

    async def take(self, i: int, answer: _Result) -> None:
        """Counts a decision and reports what came of it."""
        if answer.action is None or answer.policy is None:
            self.tally.errors["decide not_an_answer"] += 1
            return
        try:
            reports = self.traffic.serve(i, answer.action.action_id)
        except ValueError:
            self.tally.errors[f"decide unknown action {answer.action.action_id}"] += 1
            return
        self.tally.decided += 1
        self.tally.replayed += answer.replayed
        self.tally.policies[answer.policy.version] += 1
        self.tally.degraded.update(answer.degraded)
        # One after another: an outcome that closes the window must not overtake one that belongs into it.
        for outcome, value in reports:
            decision_id = f"{self.run}-{i}"
            body = {"outcome": outcome, "value": value, "idempotency_key": f"{decision_id}:{outcome}"}
            content = await self.post("reward", f"/v1/decisions/{decision_id}/rewards", body)
            told = self.read("reward", content, _Status)
            if told is not None:
                self.tally.rewards[told.status] += 1

    async def post(self, call: str, path: str, body: object) -> bytes | None:
        """The body of a good answer; None where the call was given up, which is counted."""
        content = msgspec.json.encode(body)
        for attempt in range(1, self.retry.attempts + 1):
            answer = await self.attempt(path, content)
            if isinstance(answer, bytes):
                self.tally.unanswered = 0
                return answer
            kind = f"{call} {answer.kind}"
            if not answer.passes or attempt == self.retry.attempts:
                self.tally.errors[kind] += 1
                self.tally.unanswered = self.tally.unanswered + 1 if answer.passes else 0
                return None
            self.tally.retried[kind] += 1
            await asyncio.sleep(self.retry.wait_s(attempt, answer.asked_s, float(self.rng.random())))
        return None

    async def attempt(self, path: str, content: bytes) -> bytes | _Failure:
        """One call: the body of a good answer, or what went wrong."""
        try:
            response = await self.client.post(path, content=content)
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
        error = msgspec.json.decode(content, type=_Result).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return f" {error.code}" if error else ""


def _seconds(retry_after: str) -> float:
    """The header in seconds; 0 where it is absent or a date."""
    return float(retry_after) if retry_after.isdigit() else 0.0
