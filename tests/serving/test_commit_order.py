"""The order of steps of one decision, on a real Redis: claim, append, sync, fence, answer.

Two replicas take the steps of several requests in any order, while replicas are killed, the power goes, syncs fail and
Redis is emptied and rebuilt. Whatever is answered stays in the log, and all who were answered about a claimed id were
told its canonical decision. Leaving out any one of the steps breaks this, and the machine finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from nba.records import DecisionRecord
from serving.claims import Claims

if TYPE_CHECKING:
    from tests.conftest import RecordFactory

pytestmark = pytest.mark.system

T = TypeVar("T")
REPLICAS = 2
SETTINGS = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@dataclass(slots=True)
class Entry:
    """A record in the file of the log: there for every reader, gone with the power unless synced."""

    record: DecisionRecord
    synced: bool = False


@dataclass(slots=True)
class Request:
    """Where one request stands."""

    replica: int
    proposal: DecisionRecord
    record: DecisionRecord | None = None  # once claimed, what is to be logged
    entry: Entry | None = None  # once appended


class CommitOrder(RuleBasedStateMachine):
    """The right order; subclasses leave something out."""

    url: ClassVar[str]
    make: ClassVar[RecordFactory]
    claims, appends_again, syncs, fences = True, True, True, True

    def __init__(self) -> None:
        super().__init__()
        with redis.Redis.from_url(self.url) as server:
            server.flushall()
        self.loop = asyncio.new_event_loop()
        self.replicas = [self._started() for _ in range(REPLICAS)]
        self.log: list[Entry] = []
        self.requests: list[Request] = []
        self.answers: list[DecisionRecord] = []
        self.made = 0
        for replica in range(REPLICAS):
            self.ensure(replica)

    def teardown(self) -> None:
        for replica in self.replicas:
            self._wait(replica.close())
        self._wait(self.loop.shutdown_default_executor())
        self.loop.close()

    def _started(self) -> Claims:
        return Claims(self.url, ttl_s=3_600.0, timeout_s=10.0, retry_s=0.0)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    @rule(decision_id=st.sampled_from(["d-0", "d-1"]), replica=st.integers(0, REPLICAS - 1))
    def ask(self, decision_id: str, replica: int) -> None:
        """Every time it is decided, something else comes out."""
        self.made += 1
        self.requests.append(Request(replica, self.make(decision_id, draw=self.made)))

    @precondition(lambda self: self.requests)
    @rule(picks=st.lists(st.integers(0, 99), min_size=1, max_size=5))
    def step(self, picks: list[int]) -> None:
        """The next steps of some requests, in this order."""
        for pick in picks:
            if self.requests:
                self._step(self.requests[pick % len(self.requests)])

    def _step(self, request: Request) -> None:
        replica = self.replicas[request.replica]
        if request.record is None:
            self._claim(request, replica)
        elif request.entry is None:
            request.entry = Entry(request.record)
            self.log.append(request.entry)
        elif self.syncs and not request.entry.synced:
            request.entry.synced = True
        elif self._wait(replica.commit([request.record])) == [True] or not self.fences:
            self._answer(request, request.record)
        else:
            request.record = request.entry = None

    def _claim(self, request: Request, replica: Claims) -> None:
        if not self.claims:
            request.record = replace(request.proposal, epoch=replica.epoch)
            return
        (claimed,) = self._wait(replica.claim_many([request.proposal]))
        if claimed.status == "stored" and (claimed.committed or not self.appends_again):
            self._answer(request, claimed.record)
        else:
            request.record = claimed.record

    def _answer(self, request: Request, record: DecisionRecord) -> None:
        self.requests.remove(request)
        self.answers.append(record)

    @rule(replica=st.integers(0, REPLICAS - 1))
    def ensure(self, replica: int) -> None:
        """What the server does once a second; it reads what is written, synced or not."""
        self._wait(self.replicas[replica].ensure(lambda: [entry.record for entry in self.log]))

    @rule()
    def empty(self) -> None:
        """Redis loses all it had."""
        with redis.Redis.from_url(self.url) as server:
            server.flushall()

    @rule(replica=st.integers(0, REPLICAS - 1))
    def kill(self, replica: int) -> None:
        """A replica goes with its requests; what it wrote stays."""
        self._wait(self.replicas[replica].close())
        self.replicas[replica] = self._started()
        self.requests = [request for request in self.requests if request.replica != replica]

    @precondition(lambda self: any(not entry.synced for entry in self.log))
    @rule()
    def cut_power(self) -> None:
        """All replicas go, and what was not synced; Redis is elsewhere."""
        self.log = [entry for entry in self.log if entry.synced]
        for replica in range(REPLICAS):
            self.kill(replica)

    @precondition(lambda self: any(r.entry and not r.entry.synced for r in self.requests))
    @rule()
    def fail_a_sync(self) -> None:
        """A sync fails, the segment is cut, and whoever asked is told so."""
        failed = next(r for r in self.requests if r.entry and not r.entry.synced)
        self.log = [entry for entry in self.log if entry is not failed.entry]
        self.requests.remove(failed)

    @invariant()
    def what_was_answered_is_in_the_log(self) -> None:
        logged = [entry.record for entry in self.log]
        assert all(answer in logged for answer in self.answers), "answered and not logged"

    @invariant()
    def a_claimed_answer_is_the_canonical_decision(self) -> None:
        for answer in self.answers:
            if answer.epoch:
                of_id = [e.record for e in self.log if e.synced and e.record.decision_id == answer.decision_id]
                assert answer == max(of_id, key=lambda record: record.epoch, default=None), "answered another decision"


class NoClaim(CommitOrder):
    claims = fences = False  # nothing was claimed that the fence could compare with


class NoSecondAppend(CommitOrder):
    appends_again = False


class NoSync(CommitOrder):
    syncs = False


class NoFence(CommitOrder):
    fences = False


def two_at_once(machine: CommitOrder) -> None:
    """Both replicas are asked the same; they take turns."""
    machine.ask("d-0", 0)
    machine.ask("d-0", 1)
    machine.step([0, 1] * 4)


def a_retry_after_a_failed_sync(machine: CommitOrder) -> None:
    """The claim is in Redis, its record is not in the log."""
    machine.ask("d-0", 0)
    machine.step([0, 0])
    machine.fail_a_sync()
    machine.ask("d-0", 1)
    machine.step([0] * 4)


def a_power_cut_after_the_answer(machine: CommitOrder) -> None:
    machine.ask("d-0", 0)
    machine.step([0] * 4)
    machine.ask("d-1", 0)
    machine.step([0] * 2)
    machine.cut_power()


def a_store_emptied_between_claim_and_log(machine: CommitOrder) -> None:
    """One replica claims; Redis is emptied and rebuilt without that; the other replica decides anew, and answers."""
    machine.ask("d-0", 0)
    machine.step([0])
    machine.empty()
    machine.ensure(1)
    machine.ask("d-0", 1)
    machine.step([1] * 4)
    machine.step([0] * 8)


SCENARIOS = [
    (NoClaim, two_at_once),
    (NoSecondAppend, a_retry_after_a_failed_sync),
    (NoSync, a_power_cut_after_the_answer),
    (NoFence, a_store_emptied_between_claim_and_log),
]


@pytest.fixture(autouse=True)
def _machines(redis_url: str, decision_record: RecordFactory) -> None:
    CommitOrder.url, CommitOrder.make = redis_url, decision_record


def play(kind: type[CommitOrder], scenario: Callable[[CommitOrder], None]) -> int:
    """How many were answered. Raises AssertionError where a promise was broken."""
    machine = kind()
    try:
        scenario(machine)
        machine.what_was_answered_is_in_the_log()
        machine.a_claimed_answer_is_the_canonical_decision()
        return len(machine.answers)
    finally:
        machine.teardown()


def test_no_order_of_events_breaks_a_promise() -> None:
    run_state_machine_as_test(CommitOrder, settings=SETTINGS)


@pytest.mark.parametrize(("broken", "scenario"), SCENARIOS)
def test_every_step_is_needed(broken: type[CommitOrder], scenario: Callable[[CommitOrder], None]) -> None:
    assert play(CommitOrder, scenario) >= 1
    with pytest.raises(AssertionError, match="answered"):
        play(broken, scenario)


@pytest.mark.parametrize("broken", [NoClaim, NoSecondAppend, NoSync, NoFence])
def test_the_search_finds_what_is_left_out(broken: type[CommitOrder]) -> None:
    with pytest.raises(AssertionError, match="answered"):
        run_state_machine_as_test(broken, settings=settings(SETTINGS, max_examples=5_000))
