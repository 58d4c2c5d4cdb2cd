"""One decision, in the only order of steps that survived model checking: decide, claim, log, fence, answer.

    validate -> one snapshot -> stored consent and features within the deadline -> decide
      -> claim (stored: give that answer; other body: conflict; no claims to be had: degraded, not learnable)
      -> append and sync -> fence and commit mark (the store changed hands: start over) -> answer

A decision that is not durably logged is not made (law 3). No HTTP in here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from features.online import UNKNOWN, FeatureRow
from nba.decide import decide_many
from nba.decision import Decision, DecisionRequest
from nba.errors import LogError, NbaError
from nba.records import DecisionRecord, Record
from serving.answers import shown, without_claim
from serving.claims import Claimed
from serving.errors import ConflictError, OverloadError, UnavailableNowError
from serving.intake import NOTHING_STORED, Asked, Features, Intake
from serving.metrics import Metrics
from serving.settings import Settings
from serving.together import Together
from serving.uninterrupted import Uninterrupted
from serving.wire import DecideBody

CHUNK = 100  # decisions computed before others get their turn
MANY = 16  # that wait while as many are made: they are made beside them
TRIES = 3  # of claim, log and fence after the first, where the state store changes hands in between
PATIENCE_S = 0.02  # for another replica that has claimed an id and not yet logged it


class Log(Protocol):
    """Where records go."""

    def append(self, *records: Record) -> Future[None]:
        """Done when every record is synced; fails with LogError."""
        ...


class DecisionClaims(Protocol):
    """Who may decide an id."""

    async def claim_many(self, records: Sequence[DecisionRecord]) -> list[Claimed]:
        """One claim a record, in order."""
        ...

    async def commit(self, records: Sequence[DecisionRecord]) -> list[bool]:
        """Marks records as logged; whether each may be answered."""
        ...


class Made(Struct, frozen=True):
    """A decision that may be answered."""

    record: DecisionRecord
    replayed: bool  # it had been made before
    dry_run: bool = False


@dataclass(slots=True)
class Stages:
    """Seconds spent in each stage of a call, or of all those that were made together."""

    seconds: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[str, float, float]] = field(default_factory=list)  # as they came: name, start and end
    _told: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time until the end of the block to a stage."""
        before = time.perf_counter()
        try:
            yield
        finally:
            after = time.perf_counter()
            self.seconds[name] = self.seconds.get(name, 0.0) + after - before
            self.spans.append((name, before, after))

    @property
    def told(self) -> str:
        """The seconds in milliseconds, as a Server-Timing header has them; once all stages are over."""
        self._told = self._told or ", ".join(f"{name};dur={s * 1_000.0:.3f}" for name, s in self.seconds.items())
        return self._told


@dataclass(slots=True)
class Timing:
    """When a call began, and what it was spent on."""

    started: float = field(default_factory=time.perf_counter)
    stages: Stages = field(default_factory=Stages)

    @property
    def elapsed(self) -> float:
        """Seconds since the call began."""
        return time.perf_counter() - self.started


class Engine:
    """Decides, claims, logs."""

    def __init__(
        self,
        intake: Intake,
        features: Mapping[str, Features],
        claims: DecisionClaims,
        log: Log,
        *,
        secret: bytes,
        settings: Settings,
        metrics: Metrics,
        uninterrupted: Uninterrupted,
        clock: Callable[[], datetime],
    ) -> None:
        self._intake, self._features, self._claims, self._log = intake, features, claims, log
        self._secret, self._settings, self._metrics, self._clock = secret, settings, metrics, clock
        self._uninterrupted = uninterrupted
        self._busy: dict[str, asyncio.Event] = {}  # decision ids between claim and commit in this process
        self._together = Together(self._decide_waiting, most=CHUNK, many=MANY)

    async def decide_one(self, body: DecideBody, timing: Timing) -> Made | NbaError:
        """The result of one body, made together with those that came while others were being made.

        Those of one `timeout_ms` go together: nobody waits for another's slower feature read.
        """
        return await self._together.ask((body, timing), body.timeout_ms)

    async def _decide_waiting(self, waiting: Sequence[tuple[DecideBody, Timing]]) -> list[Made | NbaError]:
        shared = Timing()
        came = [timing.started for _, timing in waiting]
        results = await self.decide([body for body, _ in waiting], shared, came=came)
        self._metrics.took(shared.stages.seconds)
        for _, timing in waiting:
            timing.stages = shared.stages
        return results

    async def decide(
        self, bodies: Sequence[DecideBody | NbaError], timing: Timing, *, came: Sequence[float] | None = None
    ) -> list[Made | NbaError]:
        """One result a body, in order; one that fails spoils none. An error among the bodies is its own result.

        `came` is when each was asked, on the clock of `Timing`; None: all when the timing began.
        """
        self._metrics.together.observe(len(bodies))
        since = [timing.started] * len(bodies) if came is None else came
        results: dict[int, Made | NbaError] = {}
        asked: dict[int, Asked] = {}
        for i, body in enumerate(bodies):
            if isinstance(body, NbaError):
                results[i] = body
                continue
            try:
                asked[i] = self._intake.ask(body)
            except NbaError as error:
                results[i] = error
        with timing.stages.stage("features"):
            stored = await self._read(asked, since)
        with timing.stages.stage("policy"):
            made = await self._make(asked, stored, results, since)
        for i in [i for i in made if asked[i].body.dry_run]:
            results[i] = Made(made.pop(i), replayed=False, dry_run=True)
        results.update(await self._keep(made, timing.stages))
        return [results[i] for i in range(len(bodies))]

    async def _read(self, asked: Mapping[int, Asked], since: Sequence[float]) -> list[tuple[FeatureRow, bool]]:
        """Consent and features of each request's subject, and whether features are missing for a fault.

        One read a pack, in which Redis looks at a subject's consent before its features; within the shortest of the
        deadlines that have not passed yet.
        """
        left = {i: self._left_s(a.body, since[i]) for i, a in asked.items() if a.heeds_consent}
        rows: dict[tuple[str, str], tuple[FeatureRow, bool]] = {}
        for pack in dict.fromkeys(asked[i].pack for i in left):
            # Of two requests about one subject the one that lets features be read comes last, and is what is asked.
            mine = sorted(
                (i for i in left if asked[i].pack == pack and left[i] > 0.0), key=lambda i: asked[i].reads_stored
            )
            subjects = list({asked[i].body.subject_id: asked[i].lookup for i in mine}.values())
            reader = self._features.get(pack)
            if reader is None or not subjects:
                continue
            fetched = await reader.fetch(subjects, min(left[i] for i in mine), now=self._clock())
            known = zip(subjects, fetched.rows, strict=True)
            rows.update({(pack, subject.subject_id): (row, fetched.degraded) for subject, row in known})
        unknown = UNKNOWN, True
        return [
            _of(a, rows.get((a.pack, a.body.subject_id), unknown) if left[i] > 0.0 else unknown)
            if a.heeds_consent
            else (NOTHING_STORED, False)
            for i, a in asked.items()
        ]

    def _left_s(self, body: DecideBody, came: float) -> float:
        """Seconds that the feature read of a request may take."""
        longest_ms = self._settings.feature_deadline_ms
        if body.timeout_ms is None:
            return longest_ms / 1_000.0
        waited_ms = (time.perf_counter() - came) * 1_000.0
        return min(longest_ms, body.timeout_ms - self._settings.answer_margin_ms - waited_ms) / 1_000.0

    async def _make(
        self,
        asked: Mapping[int, Asked],
        stored: Sequence[tuple[FeatureRow, bool]],
        results: dict[int, Made | NbaError],
        since: Sequence[float],
    ) -> dict[int, DecisionRecord]:
        """The decisions, not yet claimed or logged; where one cannot be made, its error goes into the results."""
        now = self._clock()
        requests: dict[int, DecisionRequest] = {}
        for (i, question), (row, degraded) in zip(asked.items(), stored, strict=True):
            try:
                _refuse_late(question.body, time.perf_counter() - since[i])
                requests[i] = self._intake.request(question, row, degraded=degraded, now=now)
            except NbaError as error:
                results[i] = error
        decisions: dict[int, Decision] = {}
        for bundle in dict.fromkeys(asked[i].snapshot.bundle_id for i in requests):
            places = [i for i in requests if asked[i].snapshot.bundle_id == bundle]
            for start in range(0, len(places), CHUNK):
                part = places[start : start + CHUNK]
                made = decide_many(asked[part[0]].snapshot, [requests[i] for i in part], now=now, secret=self._secret)
                decisions.update(zip(part, made, strict=True))
                if len(requests) > CHUNK:
                    await asyncio.sleep(0)
        return {i: self._record(asked[i], decisions[i]) for i in requests}

    def _record(self, asked: Asked, decision: Decision) -> DecisionRecord:
        told = shown(asked.snapshot.pack, decision)
        return DecisionRecord(decision=decision, shown=told, fingerprint=self._intake.fingerprint(asked.body), epoch=0)

    async def _keep(self, records: Mapping[int, DecisionRecord], stages: Stages) -> dict[int, Made | NbaError]:
        """Claims and logs each id once; an id that stands twice among them is its first, or a conflict."""
        firsts: dict[str, int] = {}
        for i, record in records.items():
            firsts.setdefault(record.decision_id, i)
        if not firsts:
            return {}
        kept = await self._uninterrupted.run(self._commit([records[i] for i in firsts.values()], stages))
        results = dict(zip(firsts.values(), kept, strict=True))
        for i, record in records.items():
            if i not in results:
                first = results[firsts[record.decision_id]]
                results[i] = first if isinstance(first, NbaError) else _again(first, record)
        return results

    async def _commit(self, records: Sequence[DecisionRecord], stages: Stages) -> list[Made | NbaError]:
        ids = [record.decision_id for record in records]
        while busy := [self._busy[i] for i in ids if i in self._busy]:
            await busy[0].wait()  # the same id twice at once: the second finds the first one's answer
        done = asyncio.Event()
        self._busy.update(dict.fromkeys(ids, done))
        try:
            return await self._claim_and_log(records, stages)
        finally:
            for decision_id in ids:
                del self._busy[decision_id]
            done.set()

    async def _claim_and_log(self, records: Sequence[DecisionRecord], stages: Stages) -> list[Made | NbaError]:
        results: dict[int, Made | NbaError] = {}
        unfenced: dict[int, Made] = {}  # claimed and logged, but the store did not say that the claim still stands
        for attempt in range(1 + TRIES):
            waiting = {i: record for i, record in enumerate(records) if i not in results}
            to_log = await self._claim(waiting, results, unfenced, stages)
            unfinished = [i for i, made in to_log.items() if made.replayed]
            if attempt == 0 and unfinished:
                # Most likely another replica is at it this very moment; a dead one's claim is finished next time.
                for i in unfinished:
                    del to_log[i]
                await asyncio.sleep(PATIENCE_S)
            if to_log:
                await self._append(to_log, results, stages)
                unfenced.update(to_log)
            if len(results) == len(records):
                break
        made = [result for result in results.values() if isinstance(result, Made)]
        self._metrics.decided(*[result.record for result in made if not result.replayed])
        for result in [result for result in made if result.replayed]:
            self._metrics.replayed(result.record)
        return [results[i] if i in results else _unfenced(record) for i, record in enumerate(records)]

    async def _claim(
        self,
        waiting: Mapping[int, DecisionRecord],
        results: dict[int, Made | NbaError],
        unfenced: Mapping[int, Made],
        stages: Stages,
    ) -> dict[int, Made]:
        """What has to be logged before it is answered; what need not be is in the results."""
        with stages.stage("claim"):
            claimed = await self._claims.claim_many(list(waiting.values()))
        to_log: dict[int, Made] = {}
        for i, claim in zip(waiting, claimed, strict=True):
            outcome = _outcome(claim)
            if claim.status == "unclaimed" and i in unfenced:
                # The store is gone since: what it gave is in the log already; a second record would only blur it.
                results[i] = unfenced[i]
            elif isinstance(outcome, NbaError) or (claim.status == "stored" and claim.committed):
                results[i] = outcome
            else:
                to_log[i] = outcome
        return to_log

    async def _append(self, to_log: Mapping[int, Made], results: dict[int, Made | NbaError], stages: Stages) -> None:
        """Logs and commits; what may be answered then is in the results, and what could not be logged."""
        records = [made.record for made in to_log.values()]
        try:
            with stages.stage("log"), self._metrics.log_waiting.track_inprogress():
                await asyncio.wrap_future(self._log.append(*records))
        except LogError as error:
            results.update({i: _not_logged(made.record, error) for i, made in to_log.items()})
            return
        with stages.stage("claim"):
            fenced = await self._claims.commit(records)
        results.update({i: made for (i, made), ok in zip(to_log.items(), fenced, strict=True) if ok})


def _of(asked: Asked, read: tuple[FeatureRow, bool]) -> tuple[FeatureRow, bool]:
    """What was read, without the features where this request does not let them be read."""
    row, degraded = read
    return (row, degraded) if asked.reads_stored else (FeatureRow({}, {}, row.withheld), False)


def _refuse_late(body: DecideBody, elapsed_s: float) -> None:
    """A decision nobody waits for would be logged and never shown: drop it before it is sampled."""
    if body.timeout_ms is not None and elapsed_s * 1_000.0 > body.timeout_ms:
        raise OverloadError(
            f"the request's {body.timeout_ms:g} ms have passed", help="take the baseline; come back more slowly"
        )


def _outcome(claim: Claimed) -> Made | NbaError:
    """What a claim means for its request."""
    match claim.status:
        case "conflict":
            return ConflictError(
                f"decision_id {claim.record.decision_id!r} was used with another body",
                help="repeat the same body to get the stored answer, or take a new decision_id",
                field="decision_id",
            )
        case "unclaimed":
            record = claim.record
            return Made(replace(record, decision=without_claim(record.decision), epoch=0), replayed=False)
    return Made(claim.record, replayed=claim.status == "stored")


def _again(first: Made, record: DecisionRecord) -> Made | NbaError:
    if first.record.fingerprint == record.fingerprint:
        return Made(first.record, replayed=True)
    return _outcome(Claimed("conflict", first.record, committed=True))


def _not_logged(record: DecisionRecord, error: LogError) -> UnavailableNowError:
    return UnavailableNowError(
        f"the decision cannot be logged, so it was not made: {error.message}",
        help="take fallback_action; retry with the same decision_id",
        fallback_action=record.decision.request.baseline_action,
    )


def _unfenced(record: DecisionRecord) -> UnavailableNowError:
    return UnavailableNowError(
        "the state store changed hands while this was decided",
        help="take fallback_action; retry with the same decision_id",
        fallback_action=record.decision.request.baseline_action,
    )
