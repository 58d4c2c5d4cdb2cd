"""The order of steps, with a claim store and a log that tell what was asked of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from nba.artefact import load_artefact
from nba.errors import LogError, NbaError
from nba.pack import Pack
from nba.records import DecisionRecord, Record
from nba.snapshot import Snapshot
from serving.claims import Claimed
from serving.engine import Engine, Made, Timing
from serving.errors import ConflictError, OverloadError, UnavailableNowError
from serving.intake import Intake
from serving.metrics import Metrics
from serving.settings import Settings
from serving.uninterrupted import Uninterrupted
from serving.wire import DecideBody

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Champion:
    """One snapshot for every pack."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.loaded = snapshot

    def snapshot(self, pack: str) -> Snapshot:
        return self.loaded


class Store:
    """Claims in a dictionary, that can be told to answer otherwise."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.stored: dict[str, Claimed] = {}
        self.down = self.down_after_commit = False
        self.fences: list[bool] = []  # answers of the next commits; True when they run out

    async def claim_many(self, records: Sequence[DecisionRecord]) -> list[Claimed]:
        self.told.append("claim")
        await asyncio.sleep(0)
        return [self._claim(record) for record in records]

    def _claim(self, record: DecisionRecord) -> Claimed:
        if self.down:
            return Claimed("unclaimed", record, committed=False)
        before = self.stored.get(record.decision_id)
        if before is None:
            self.stored[record.decision_id] = Claimed("stored", replace(record, epoch=7), committed=False)
            return Claimed("new", replace(record, epoch=7), committed=False)
        same = before.record.fingerprint == record.fingerprint
        return before if same else Claimed("conflict", before.record, committed=True)

    async def commit(self, records: Sequence[DecisionRecord]) -> list[bool]:
        self.told.append("commit")
        fenced = self.fences.pop(0) if self.fences else True
        self.down = self.down or self.down_after_commit
        if not fenced:
            self.stored.clear()  # as a store does that was lost
        for record in records if fenced else ():
            self.stored[record.decision_id] = Claimed("stored", record, committed=True)
        return [fenced] * len(records)


class Log:
    """A log in a list; `fails` makes the sync fail, `slow_s` makes it wait."""

    def __init__(self, told: list[str]) -> None:
        self.told, self.fails, self.slow_s = told, False, 0.0
        self.records: list[Record] = []

    def append(self, *records: Record) -> Future[None]:
        self.told.append("log")
        future: Future[None] = Future()
        if self.fails:
            future.set_exception(LogError("the disk is full", help="make room"))
            return future
        self.records += records
        asyncio.get_running_loop().call_later(self.slow_s, future.set_result, None)
        return future


class Rig:
    """An engine and what it stands on."""

    def __init__(self, pack: Pack, artefact: Path) -> None:
        self.told: list[str] = []
        self.store, self.log = Store(self.told), Log(self.told)
        self.uninterrupted = Uninterrupted()
        snapshot = load_artefact(artefact, version="1")
        self.engine = Engine(
            Intake({pack.pack: pack}, Champion(snapshot), b"s" * 32),
            {},
            self.store,
            self.log,
            secret=b"x" * 32,
            settings=Settings(home=Path()),
            metrics=Metrics(),
            uninterrupted=self.uninterrupted,
            clock=lambda: NOW,
        )

    async def decide(self, **changes: object) -> Made | NbaError:
        given = {"subject_id": "u", "moment": "tone_tuner", "decision_id": "d", **changes}
        return await self.engine.decide_one(DecideBody(**given), Timing())  # type: ignore[arg-type]


@pytest.fixture
def rig(support: Pack, artefacts: dict[str, Path]) -> Rig:
    return Rig(support, artefacts["uniform"])


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_a_decision_is_claimed_then_logged_then_committed(rig: Rig) -> None:
    async def scenario() -> None:
        made = await rig.decide()
        assert isinstance(made, Made)
        assert (made.replayed, made.record.epoch) == (False, 7)

    play(scenario)
    assert rig.told == ["claim", "log", "commit"]


def test_a_committed_answer_is_given_again_without_another_record(rig: Rig) -> None:
    async def scenario() -> None:
        first, second = await rig.decide(), await rig.decide()
        assert isinstance(first, Made)
        assert second == Made(first.record, replayed=True)

    play(scenario)
    assert rig.told == ["claim", "log", "commit", "claim"]


def test_a_claim_whose_maker_died_before_the_log_is_logged_before_it_is_answered(rig: Rig) -> None:
    async def scenario() -> None:
        rig.log.fails = True
        assert isinstance(await rig.decide(), UnavailableNowError)
        rig.log.fails = False
        stored = rig.store.stored["d"].record
        assert await rig.decide() == Made(stored, replayed=True)
        assert rig.log.records == [stored]

    play(scenario)


def test_another_replicas_unfinished_claim_is_given_a_moment_before_it_is_logged_again(rig: Rig) -> None:
    async def scenario() -> None:
        rig.log.fails = True
        await rig.decide()  # as another replica: claimed, and not yet logged
        stored = rig.store.stored["d"].record
        rig.told.clear()
        asked = asyncio.create_task(rig.decide())
        await asyncio.sleep(0.005)  # of the 0.02 s it waits
        await rig.store.commit([stored])
        assert await asked == Made(stored, replayed=True)

    play(scenario)
    assert rig.told == ["claim", "commit", "claim"]


def test_what_cannot_be_logged_is_not_made_and_the_baseline_is_named(rig: Rig) -> None:
    async def scenario() -> None:
        rig.log.fails = True
        refused = await rig.decide(baseline_action="warm_reply")
        assert isinstance(refused, UnavailableNowError)
        assert refused.fallback_action == "warm_reply"

    play(scenario)
    assert "commit" not in rig.told


def test_a_store_that_changed_hands_meanwhile_is_asked_again(rig: Rig) -> None:
    async def scenario() -> None:
        rig.store.fences = [False]
        assert isinstance(await rig.decide(), Made)

    play(scenario)
    assert rig.told == ["claim", "log", "commit"] * 2


def test_a_store_that_keeps_changing_hands_ends_in_the_baseline(rig: Rig) -> None:
    async def scenario() -> None:
        rig.store.fences = [False] * 4
        assert isinstance(await rig.decide(), UnavailableNowError)

    play(scenario)
    assert rig.told == ["claim", "log", "commit"] * 4


def test_a_store_that_goes_away_after_the_claim_leaves_one_record_and_its_answer(rig: Rig) -> None:
    """The commit fails and the next claim cannot be had: what was claimed is in the log, and is the answer."""

    async def scenario() -> None:
        rig.store.fences = [False]
        rig.store.down_after_commit = True
        made = await rig.decide()
        assert isinstance(made, Made)
        assert rig.log.records == [made.record]
        assert (made.record.epoch, made.record.decision.learnable) == (7, True)

    play(scenario)
    assert rig.told == ["claim", "log", "commit", "claim"]


def test_without_claims_the_decision_is_logged_degraded_and_teaches_nothing(rig: Rig) -> None:
    async def scenario() -> None:
        rig.store.down = True
        made = await rig.decide()
        assert isinstance(made, Made)
        decision = made.record.decision
        assert (decision.degraded[-1], decision.learnable, made.record.epoch) == ("claims", False, 0)
        assert rig.log.records == [made.record]

    play(scenario)


def test_another_body_under_the_same_id_is_a_conflict(rig: Rig) -> None:
    async def scenario() -> None:
        await rig.decide()
        assert isinstance(await rig.decide(explore=False), ConflictError)

    play(scenario)


def test_the_same_id_at_once_waits_for_the_first_and_gets_its_answer(rig: Rig) -> None:
    async def scenario() -> None:
        rig.log.slow_s = 0.02
        first, second = await asyncio.gather(rig.decide(), rig.decide())
        assert isinstance(first, Made)
        assert second == Made(first.record, replayed=True)

    play(scenario)
    assert rig.told.count("log") == 1


def test_a_caller_that_goes_away_does_not_stop_what_was_claimed_from_being_logged(rig: Rig) -> None:
    async def scenario() -> None:
        rig.log.slow_s = 0.02
        caller = asyncio.create_task(rig.decide())
        while "log" not in rig.told:
            await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await rig.uninterrupted.drain()

    play(scenario)
    assert rig.told == ["claim", "log", "commit"]


def test_what_comes_while_another_is_decided_is_claimed_logged_and_committed_in_one_go(rig: Rig) -> None:
    async def scenario() -> None:
        first = asyncio.create_task(rig.decide(decision_id="a"))
        while not rig.told:
            await asyncio.sleep(0)
        rest = [rig.decide(decision_id=name) for name in "bcd"]
        assert all(isinstance(made, Made) for made in await asyncio.gather(first, *rest))

    play(scenario)
    assert rig.told == ["claim", "log", "commit"] * 2
    assert [r.decision_id for r in rig.log.records if isinstance(r, DecisionRecord)] == list("abcd")


def test_a_decision_does_not_depend_on_who_was_decided_with_it(rig: Rig) -> None:
    together: list[Made | NbaError] = []

    async def scenario() -> None:
        together.extend(await asyncio.gather(*(rig.decide(decision_id=f"d-{i}", dry_run=True) for i in range(20))))
        for i, made in enumerate(together):
            assert await rig.decide(decision_id=f"d-{i}", dry_run=True) == made

    play(scenario)
    assert len({made.record.decision.draw for made in together if isinstance(made, Made)}) == 20


def test_one_that_waited_too_long_is_dropped_and_those_decided_with_it_are_not(rig: Rig) -> None:
    async def scenario() -> None:
        late, body = Timing(), DecideBody(subject_id="u", moment="tone_tuner", timeout_ms=5_000)
        late.started -= 6.0
        refused, made = await asyncio.gather(*(rig.engine.decide_one(body, timing) for timing in (late, Timing())))
        assert isinstance(refused, OverloadError)
        assert isinstance(made, Made)

    play(scenario)


def test_a_request_past_its_own_deadline_is_dropped_before_it_is_sampled(rig: Rig) -> None:
    async def scenario() -> None:
        timing = Timing()
        timing.started -= 0.1
        body = DecideBody(subject_id="u", moment="tone_tuner", timeout_ms=50)
        assert isinstance((await rig.engine.decide([body], timing))[0], OverloadError)

    play(scenario)
    assert rig.told == []


def test_the_subject_is_a_keyed_hash_and_so_is_the_fingerprint(rig: Rig) -> None:
    async def scenario() -> None:
        made = [await rig.decide(decision_id=i, subject_id=s) for i, s in (("a", "u"), ("b", "u"), ("c", "v"))]
        a, b, c = (m.record for m in made if isinstance(m, Made))
        assert a.decision.context.subject == b.decision.context.subject != c.decision.context.subject
        assert a.fingerprint == b.fingerprint != c.fingerprint  # the id is not part of it
        assert len(a.decision.context.subject) == 32

    play(scenario)
