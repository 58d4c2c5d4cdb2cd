"""Following the live log: a real log, a real MLflow, simulated customers of one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

import training.follow
from nba.errors import UnavailableError
from nba.home import Home
from nba.join import join
from nba.log import LogWriter, read_records
from nba.models.linear import LinearModel
from nba.pack import Pack
from nba.records import DecisionRecord, Record
from nba.rounds import LoggedRounds
from tests.training.conftest import NOW, history, played, uniform, window
from training.follow import ACTOR, ChampionMovedError, Follower, Following, HaltedError, Step, follow
from training.learn import Learned, SettingError, from_rounds
from training.ledger import Ledger
from training.lineage import NoChampionError
from training.monitors import Limits
from training.promote import promote
from training.tracking import CHALLENGER, CHAMPION, PREVIOUS, Tracking, Version
from training.train import prior_of, train_without_rounds
from training.truth import SimulatedMoment
from training.versions import load, register
from training.window import SEVENTY_THIRTY

MOMENT, KIND = "tone_tuner", "linear+square_cb"
SMALL = Following(min_rounds=40)
START = NOW - timedelta(days=10)


class Live:
    """A server that logs what its champion decides, without a server."""

    def __init__(self, home: Home, tracking: Tracking, pack: Pack, playground: SimulatedMoment) -> None:
        self.home, self.tracking, self.pack, self.playground = home, tracking, pack, playground
        self.writer = LogWriter(home.log, roll_bytes=200_000)
        self.rng = np.random.default_rng(3)
        self.batches = 0

    @property
    def champion(self) -> Version:
        champion = self.tracking.aliased("support", CHAMPION)
        assert champion is not None
        return champion

    def serve(self, n: int, change: Callable[[Record], Record] = lambda record: record, **given: Any) -> None:
        """n decisions of the champion and their outcomes, synced."""
        policy = load(self.home, self.tracking, self.champion, self.pack)
        self.batches += 1
        records = history(policy, self.playground, n, self.rng, prefix=f"b{self.batches}-", **given)
        self.writer.append(*map(change, records)).result(10)

    def follower(self, following: Following = SMALL, **given: Any) -> Follower:
        return Follower(self.home, self.tracking, self.pack, following, clock=lambda: NOW, **given)

    def logged(self) -> LoggedRounds:
        """All rounds of the log."""
        return join(read_records(self.home.log), self.pack, as_of=NOW).rounds[MOMENT]

    def has_learned_all_once(self) -> bool:
        """Whether the champion's sums are those of all rounds of the log, of customers that are learned from."""
        snapshot = load(self.home, self.tracking, self.champion, self.pack)
        part, _ = self.logged().split(SEVENTY_THIRTY.share)
        at_once = from_rounds(self.pack, KIND, {MOMENT: part}).policies[MOMENT]
        now, then = model_of(snapshot.policies[MOMENT]), model_of(at_once)
        return now.rounds == then.rounds and np.allclose(now.gram, then.gram) and np.allclose(now.target, then.target)


def model_of(policy: Any) -> LinearModel:
    model = policy.model
    assert isinstance(model, LinearModel)
    return model


@pytest.fixture
def live(
    home: Home, tracking: Tracking, pack: Pack, simulated: dict[str, SimulatedMoment], no_pictures: None
) -> Iterator[Live]:
    """An installation whose champion has learned nothing yet."""
    first = train_without_rounds(home, tracking, pack, KIND)
    promote(home, tracking, pack, first, verdict=None, at=START, actor="ann")
    live = Live(home, tracking, pack, simulated[MOMENT])
    yield live
    live.writer.close()


@pytest.fixture
def good(
    home: Home, tracking: Tracking, pack: Pack, simulated: dict[str, SimulatedMoment], no_pictures: None
) -> Iterator[Live]:
    """An installation whose champion has learned from 4,000 rounds."""
    learned = from_rounds(pack, KIND, played({MOMENT: simulated[MOMENT]}, uniform(pack), each=4_000, seed=1))
    with tracking.run(pack.pack, "good") as run:
        version = register(home, run, pack, KIND, learned.policies, {"source": "simulator"})
    promote(home, tracking, pack, version, verdict=None, at=START, actor="ann")
    live = Live(home, tracking, pack, simulated[MOMENT])
    yield live
    live.writer.close()


def serve_and_step(live: Live, follower: Follower, times: int, *, each: int) -> None:
    for _ in range(times):
        live.serve(each)
        follower.step()


def test_it_learns_what_has_closed_and_makes_it_champion(live: Live) -> None:
    live.serve(60)
    follower = live.follower()
    step = follower.step()
    assert (step.version.version, step.is_new, step.learned, step.fresh, step.waiting) == ("2", True, 60, 0, 0)
    assert live.has_learned_all_once()
    tags = live.champion.tags
    assert {k: tags[k] for k in ("source", "prior", "parent", "rounds", "since", "until", "kind")} == {
        "source": "follow",
        "prior": "1",
        "parent": "1",
        "rounds": "60",
        "since": "",
        "until": NOW.isoformat(),
        "kind": KIND,
    }
    entry = Ledger(live.home.ledger).read().entries[-1]
    assert (entry.kind, entry.to_version, entry.actor) == ("promote", "2", ACTOR)
    assert entry.why == "learned from 60 more rounds"
    assert live.tracking.aliases("support") == {CHAMPION: "2", PREVIOUS: "1"}
    live.serve(50)
    assert follower.step().version.tags["parent"] == "2"
    assert live.has_learned_all_once()


def test_too_few_rounds_wait_for_more(live: Live) -> None:
    follower = live.follower()
    live.serve(39)
    step = follower.step()
    assert (step.is_new, step.fresh, step.learned) == (False, 39, 0)
    live.serve(1)
    assert follower.step().learned == 40


def test_an_open_window_is_waited_for(live: Live) -> None:
    live.serve(50, start=NOW - timedelta(seconds=30))
    step = live.follower().step()
    assert (step.is_new, step.fresh, step.waiting) == (False, 0, 50)


@pytest.mark.parametrize(("dies_in", "after"), [("from_rounds", False), ("register", True), ("load", False)])
def test_whenever_it_dies_each_round_is_learned_from_once(
    live: Live, monkeypatch: pytest.MonkeyPatch, dies_in: str, after: bool
) -> None:
    """It dies with its second version: before that is registered, before it serves, once it serves."""
    live.serve(60)
    first = live.follower()
    first.step()
    live.serve(60)
    with monkeypatch.context() as patch:
        whole = getattr(training.follow, dies_in)
        patch.setattr(training.follow, dies_in, _dies_after(whole) if after else _dies)
        with pytest.raises(SystemExit):
            first.step()
    live.serve(25)
    again = live.follower()
    again.step()
    live.serve(60)
    again.step()
    assert live.has_learned_all_once()
    entries = Ledger(live.home.ledger).read().entries
    assert entries[-1].to_version == live.champion.version
    assert live.tracking.aliases("support")[PREVIOUS] == "1"


def test_a_promotion_the_ledger_did_not_hear_of_is_written_down_later(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.serve(60)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", _dies)
        with pytest.raises(SystemExit):
            live.follower().step()
    assert live.champion.version == "2"
    assert [e.to_version for e in Ledger(live.home.ledger).read().entries] == ["1"]
    live.follower().step()
    assert [e.to_version for e in Ledger(live.home.ledger).read().entries] == ["1", "2"]
    assert live.tracking.aliases("support") == {CHAMPION: "2", PREVIOUS: "1"}


def test_without_mlflow_it_waits_and_loses_nothing(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes away at a later call each time: before the version is registered, right after, before it serves."""
    follower, call = live.follower(), Tracking.call
    for answered in (0, 8, 14, 20):
        live.serve(60)
        with monkeypatch.context() as patch:
            patch.setattr(Tracking, "call", _away_after(answered, call))
            step = follower.step()
        assert (step.is_new, step.trouble) == (False, "MLflow is away")
        assert follower.step().trouble is None
    assert live.has_learned_all_once()


def test_a_poisoned_log_halts_before_anything_is_learned(live: Live) -> None:
    live.serve(300, _half_propensity)
    with pytest.raises(HaltedError, match=r"the log is biased: the mean importance weight is 2\.0") as halted:
        live.follower().step()
    assert "--since" in halted.value.help
    assert live.champion.version == "1"
    assert live.champion.tags["halted"].startswith("following halted: the log is biased")


def test_a_log_that_is_poisoned_later_takes_every_followed_version_back(live: Live) -> None:
    follower = live.follower()
    for _ in range(2):
        live.serve(60)
        follower.step()
    live.serve(400, _half_propensity)
    with pytest.raises(HaltedError, match="version 1 of 'support' serves again"):
        follower.step()
    assert live.champion.version == "1"
    entry = Ledger(live.home.ledger).read().entries[-1]
    assert (entry.kind, entry.from_version, entry.to_version, entry.actor) == ("rollback", "3", "1", ACTOR)
    assert entry.why.startswith("following halted: the log is biased")
    assert live.tracking.version("support", "3").tags["halted"] == entry.why
    with pytest.raises(HaltedError):  # the log is as it was
        live.follower().step()
    live.serve(60, start=START + timedelta(days=1))
    assert live.follower(since=START + timedelta(hours=12)).step().learned == 60


def test_a_fine_policy_does_not_halt_and_a_worse_one_does(good: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The champion earns 0.46 a round, one that learns the reverse of every reward less than 0.15."""
    follower = good.follower()
    for _ in range(3):
        good.serve(400)
        follower.step()
    assert good.champion.version == "4"
    monkeypatch.setattr(training.follow, "from_rounds", _reversed)
    with pytest.raises(HaltedError, match="less than the champion it started from"):
        serve_and_step(good, follower, 8, each=400)
    assert good.champion.version == "1"


def test_a_value_below_the_floor_halts(live: Live) -> None:
    follower = live.follower(replace(SMALL, limits=Limits(floor=1.0)))
    with pytest.raises(HaltedError, match="surely below the floor of 1"):
        serve_and_step(live, follower, 4, each=100)


def test_degraded_decisions_halt(live: Live) -> None:
    follower = live.follower()
    live.serve(60)
    follower.step()
    live.serve(150, _degraded)
    with pytest.raises(HaltedError, match="100% of its decisions are degraded"):
        follower.step()


def test_a_champion_that_came_meanwhile_stays(live: Live) -> None:
    follower = live.follower()
    live.serve(60)
    rules = train_without_rounds(live.home, live.tracking, live.pack, "rules")
    promote(live.home, live.tracking, live.pack, rules, verdict=None, at=NOW, actor="ann", why="now", force=True)
    with pytest.raises(ChampionMovedError, match="version 2 became champion"):
        follower.step()
    assert live.champion.version == "2"


def test_a_challenger_still_waits_for_its_judgement(live: Live) -> None:
    waiting = train_without_rounds(live.home, live.tracking, live.pack, "rules")
    live.serve(60)
    live.follower().step()
    assert live.tracking.aliases("support") == {CHAMPION: "3", PREVIOUS: "1", CHALLENGER: waiting.version}


def test_artefacts_of_old_versions_go_and_mlflow_has_them_still(live: Live) -> None:
    follower = live.follower(replace(SMALL, keep=2))
    for _ in range(4):
        live.serve(40)
        follower.step()
    versions = live.tracking.versions("support")
    here = [(live.home.policies / version.digest).exists() for version in versions]
    assert here == [True, False, False, True, True]
    assert load(live.home, live.tracking, versions[1], live.pack).policy.digest == versions[1].digest


def test_a_half_life_forgets_what_was_before(live: Live) -> None:
    follower = live.follower(replace(SMALL, half_life=60.0))
    live.serve(60)
    assert follower.step().version.tags["settings"] == "half_life=60"
    first = model_of(load(live.home, live.tracking, live.champion, live.pack).policies[MOMENT])
    live.serve(60)
    assert follower.step().is_new
    second = model_of(load(live.home, live.tracking, live.champion, live.pack).policies[MOMENT])
    new = len(live.logged().split(SEVENTY_THIRTY.share)[0]) - first.rounds
    assert second.rounds == round(first.rounds * 0.5 ** (new / 60.0)) + new


def test_a_kind_that_cannot_forget_says_so(live: Live) -> None:
    live.serve(60)
    with pytest.raises(SettingError, match="square_cb has no setting 'half_life'"):
        live.follower(replace(SMALL, kind="square_cb", half_life=60.0)).step()


def test_a_retrain_does_not_build_on_what_was_followed_in_its_window(live: Live) -> None:
    live.serve(60)
    live.follower().step()
    frozen = window({MOMENT: live.logged()}, since=START)
    prior = prior_of(live.tracking, live.pack, frozen)
    assert prior is not None
    assert prior.version == "1"
    after = prior_of(live.tracking, live.pack, replace(frozen, since=NOW))
    assert after is not None
    assert after.version == "2"


def test_without_a_champion_there_is_nothing_to_follow(home: Home, tracking: Tracking, pack: Pack) -> None:
    with pytest.raises(NoChampionError, match="pack 'support' has no champion"):
        Follower(home, tracking, pack, SMALL, clock=lambda: NOW)


class Steps:
    """A follower that only counts, and a clock that each step moves on by two seconds."""

    def __init__(self) -> None:
        self.now, self.taken = 0.0, 0

    def step(self) -> Step:
        self.now, self.taken = self.now + 2.0, self.taken + 1
        version = Version("support", "1", "", NOW, {})
        return Step(version, False, 0, 0, 0, 0.0, 1.0)

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


@pytest.mark.parametrize(("every_s", "for_s", "steps"), [(5.0, 60.0, 12), (5.0, 61.0, 13), (1.0, 9.0, 5)])
def test_it_steps_once_an_interval_until_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, every_s: float, for_s: float, steps: int
) -> None:
    """A step takes two seconds: of every five, three are waited; of every one, none."""
    counting, stop = Steps(), threading.Event()
    monkeypatch.setattr(stop, "wait", counting.wait)
    follow(
        counting,  # type: ignore[arg-type]
        every_s=every_s,
        for_s=for_s,
        stop=stop,
        on_step=lambda _: None,
        monotonic=lambda: counting.now,
    )
    assert counting.taken == steps


def test_it_stops_after_the_step_under_way() -> None:
    counting, stop = Steps(), threading.Event()
    follow(counting, every_s=60.0, for_s=None, stop=stop, on_step=lambda _: stop.set())  # type: ignore[arg-type]
    assert counting.taken == 1


def _half_propensity(record: Record) -> Record:
    if not isinstance(record, DecisionRecord):
        return record
    return changed(record, decision=changed(record.decision, propensity=record.decision.propensity / 2))


def _degraded(record: Record) -> Record:
    if not isinstance(record, DecisionRecord):
        return record
    return changed(record, decision=changed(record.decision, degraded=("features",)))


def _reversed(pack: Pack, kind: str, rounds: dict[str, LoggedRounds], **given: Any) -> Learned:
    """As if every reward were its opposite, and nothing had been known."""
    opposite = {moment: replace(part, rewards=-10.0 * part.rewards) for moment, part in rounds.items()}
    return from_rounds(pack, kind, opposite, **{**given, "previous": None})


def _dies(*_: object, **__: object) -> None:
    raise SystemExit


def _dies_after(function: Any) -> Any:
    def instead(*given: Any, **named: Any) -> Any:
        function(*given, **named)
        raise SystemExit

    return instead


def _away_after(n: int, call: Any) -> Any:
    calls = []

    def instead(tracking: Tracking, *given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) > n:
            raise UnavailableError("MLflow is away", help="wait")
        return call(tracking, *given, **named)

    return instead
