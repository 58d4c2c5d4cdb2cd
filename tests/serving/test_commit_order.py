"""The order of steps of one decision, on a real Redis: claim, append, sync, fence, answer.

Two replicas are asked about one id again and again and take those steps in any order between each other, while they
are killed, the power goes, syncs fail, and Redis is emptied and refilled. Whatever is answered stays in the log, and
whoever is answered by a claim is told the canonical decision. Leaving out any one of the steps breaks a promise.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import redis
from msgspec.structs import replace

from nba.records import DecisionRecord
from serving import claims as claims_module
from serving.claims import Claims

if TYPE_CHECKING:
    from tests.conftest import RecordFactory

pytestmark = pytest.mark.system

T = TypeVar("T")
WALKS = int(os.environ.get("NBA_TEST_WALKS", "150"))
EVENTS = 40  # of one walk


@dataclass(slots=True)
class Entry:
    """A record in the file of the log: there for every reader, gone with the power unless synced."""

    record: DecisionRecord
    synced: bool = False


@dataclass(slots=True)
class Request:
    """Where one replica's present request stands."""

    proposal: DecisionRecord
    record: DecisionRecord | None = None  # once claimed, what is to be logged
    entry: Entry | None = None  # once appended


class Machine:
    """The right order; subclasses leave something out."""

    claims, appends_again, syncs, fences = True, True, True, True

    def __init__(self, url: str, make: RecordFactory) -> None:
        self.url, self.make = url, make
        with redis.Redis.from_url(url) as server:
            server.flushall()
        self.loop = asyncio.new_event_loop()
        self.made = 0
        self.replicas = [self._started(), self._started()]
        self.requests = [self._asked(), self._asked()]
        self.log: list[Entry] = []
        self.answers: list[DecisionRecord] = []
        self.backup: dict[bytes, bytes] = {}
        self.slow: list[tuple[asyncio.Task[Any], threading.Event]] = []
        self.ensure(0)
        self.ensure(1)

    def end(self) -> None:
        self.finish_reading()
        for replica in self.replicas:
            self._wait(replica.close())
        self._wait(self.loop.shutdown_default_executor())
        self.loop.close()

    def _started(self) -> Claims:
        return Claims(self.url, ttl_s=3_600.0, timeout_s=10.0, retry_s=0.0)

    def _asked(self) -> Request:
        """Every time it is decided, something else comes out."""
        self.made += 1
        return Request(self.make("d-0", draw=self.made))

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def step(self, at: int) -> None:
        """The next step of a replica's request."""
        request, replica = self.requests[at], self.replicas[at]
        if request.record is None:
            self._claim(at, request, replica)
        elif request.entry is None:
            request.entry = Entry(request.record)
            self.log.append(request.entry)
        elif self.syncs and not request.entry.synced:
            request.entry.synced = True
        elif self._wait(replica.commit([request.record])) == [True] or not self.fences:
            self._answer(at, request.record)
        else:
            request.record = request.entry = None

    def _claim(self, at: int, request: Request, replica: Claims) -> None:
        if not self.claims:
            request.record = replace(request.proposal, epoch=replica.epoch)
            return
        (claimed,) = self._wait(replica.claim_many([request.proposal]))
        if claimed.status == "stored" and (claimed.committed or not self.appends_again):
            self._answer(at, claimed.record)
        else:
            request.record = claimed.record

    def _answer(self, at: int, record: DecisionRecord) -> None:
        self.answers.append(record)
        self.requests[at] = self._asked()

    def ensure(self, at: int) -> None:
        """What a server does once a second; it reads what is written, synced or not."""
        self._wait(self.replicas[at].ensure(lambda: [entry.record for entry in self.log]))

    def ensure_slowly(self, at: int) -> None:
        """The same, but the log it reads is that of now, and it gets to its end only at `finish_reading`."""
        records, go_on = [entry.record for entry in self.log], threading.Event()

        def read() -> Iterator[DecisionRecord]:
            yield from records
            assert go_on.wait(30)

        self.slow.append((self.loop.create_task(self.replicas[at].ensure(read)), go_on))
        self._wait(asyncio.sleep(0.005))

    def finish_reading(self) -> None:
        """Whoever reads the log slowly comes to its end."""
        while self.slow:
            task, go_on = self.slow.pop()
            go_on.set()
            self.loop.run_until_complete(task)

    def empty(self) -> None:
        """Redis loses all it had."""
        with redis.Redis.from_url(self.url) as server:
            server.flushall()

    def back_up(self) -> None:
        """Redis writes what it has to its disk."""
        with redis.Redis.from_url(self.url) as server:
            self.backup = {key: server.dump(key) for key in server.scan_iter() if key != b"nba:rebuild"}

    def bring_back(self) -> None:
        """Redis was restarted with what was on its disk: the epoch key names another process."""
        with redis.Redis.from_url(self.url) as server:
            server.flushall()
            for key, value in self.backup.items():
                server.restore(key, 0, value)
            held = server.get("nba:epoch")
            if held is not None:
                server.set("nba:epoch", held.partition(b":")[0] + b":another")

    def cut_off(self, at: int) -> None:
        """A replica loses its connection, and decides unclaimed until it has another."""
        self._wait(self.replicas[at].close())

    def lose(self, at: int) -> None:
        """Redis loses all it had, and this replica is the first to see it."""
        self.empty()
        self.ensure(at)

    def kill(self, at: int) -> None:
        """A replica goes with its request; what it wrote stays."""
        self.finish_reading()
        self._wait(self.replicas[at].close())
        self.replicas[at], self.requests[at] = self._started(), self._asked()
        self.ensure(at)

    def cut_power(self) -> None:
        """Both replicas go, and what was not synced; Redis is elsewhere."""
        self.log = [entry for entry in self.log if entry.synced]
        self.kill(0)
        self.kill(1)

    def fail_sync(self, at: int) -> None:
        """The replica's sync fails if it was to come, the segment is cut, and whoever asked is told so."""
        entry = self.requests[at].entry
        if entry is not None and not entry.synced:
            self.log = [other for other in self.log if other is not entry]
            self.requests[at] = self._asked()

    def check(self) -> None:
        """Raises AssertionError where a promise is broken."""
        logged = {entry.record.decision.draw for entry in self.log}
        assert logged.issuperset(answer.decision.draw for answer in self.answers), "answered and not logged"
        canonical = max((e.record for e in self.log if e.synced), key=lambda record: record.epoch, default=None)
        claimed = {answer.decision.draw for answer in self.answers if answer.epoch}
        assert not claimed or (canonical is not None and claimed == {canonical.decision.draw}), "answered another"


class NoClaim(Machine):
    claims = fences = False  # nothing was claimed that the fence could compare with


class NoSecondAppend(Machine):
    appends_again = False


class NoSync(Machine):
    syncs = False


class NoFence(Machine):
    fences = False


def two_at_once(machine: Machine) -> None:
    for at in (0, 1) * 4:
        machine.step(at)


def a_retry_after_a_failed_sync(machine: Machine) -> None:
    """The claim is in Redis, its record is not in the log."""
    for _ in range(2):
        machine.step(0)
    machine.fail_sync(0)
    for _ in range(4):
        machine.step(1)


def a_power_cut_after_the_answer(machine: Machine) -> None:
    for _ in range(4):
        machine.step(0)
    machine.cut_power()


def a_store_emptied_between_claim_and_log(machine: Machine) -> None:
    """One replica claims; Redis is refilled without that; the other replica decides anew, and answers."""
    machine.step(0)
    machine.lose(1)
    for at in (1,) * 4 + (0,) * 8:
        machine.step(at)


Scenario = Callable[[Machine], None]
BROKEN: list[tuple[type[Machine], Scenario]] = [
    (NoClaim, two_at_once),
    (NoSecondAppend, a_retry_after_a_failed_sync),
    (NoSync, a_power_cut_after_the_answer),
    (NoFence, a_store_emptied_between_claim_and_log),
]


@pytest.fixture
def play(redis_url: str, decision_record: RecordFactory) -> Callable[[type[Machine], Scenario], int]:
    """Plays a scenario; how often it was answered. Raises AssertionError where a promise was broken."""

    def played(kind: type[Machine], scenario: Scenario) -> int:
        machine = kind(redis_url, decision_record)
        try:
            scenario(machine)
            machine.check()
            return len(machine.answers)
        finally:
            machine.end()

    return played


def walk(seed: int) -> Scenario:
    """Forty events at random, steps more often than mishaps."""
    rng = random.Random(seed)
    to_one = ["lose", "kill", "cut_off", "fail_sync", "ensure", "ensure_slowly"]
    to_all = ["empty", "cut_power", "back_up", "bring_back", "finish_reading"]

    def events(machine: Machine) -> None:
        for _ in range(EVENTS):
            event = rng.choice(to_one + to_all) if rng.random() < 0.25 else "step"
            getattr(machine, event)(*([] if event in to_all else [rng.randrange(2)]))
            machine.check()

    return events


@pytest.fixture(params=[20_000, 0])
def _held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unclaimed decisions are kept in memory, or all are too many and have to come from the log."""
    monkeypatch.setattr(claims_module, "HELD", request.param)


@pytest.mark.parametrize(("broken", "scenario"), BROKEN)
def test_every_step_is_needed(
    play: Callable[[type[Machine], Scenario], int], broken: type[Machine], scenario: Scenario
) -> None:
    assert play(Machine, scenario) >= 1
    with pytest.raises(AssertionError, match="answered"):
        play(broken, scenario)


@pytest.mark.usefixtures("_held")
def test_no_order_of_events_breaks_a_promise(play: Callable[[type[Machine], Scenario], int]) -> None:
    answered = sum(play(Machine, walk(seed)) for seed in range(WALKS))
    assert answered > WALKS


@pytest.mark.parametrize("broken", [NoClaim, NoSecondAppend, NoSync, NoFence])
def test_the_walks_find_what_is_left_out(play: Callable[[type[Machine], Scenario], int], broken: type[Machine]) -> None:
    def search() -> None:
        for seed in range(WALKS):
            play(broken, walk(seed))

    with pytest.raises(AssertionError, match="answered"):
        search()
