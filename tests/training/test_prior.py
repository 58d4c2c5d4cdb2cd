"""Priors of a stated weight, and what they were worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as changed

import training.retrain
from nba.home import Home
from nba.ope import Estimate
from nba.pack import Pack
from nba.policies.pair import Pair
from tests.training.conftest import NOW, played, snapshot, uniform, window
from training.learn import from_rounds
from training.prior import PriorError, Worth, weighed, worth
from training.promote import promote
from training.retrain import retrain
from training.tracking import Tracking, Version
from training.train import named_prior, record, train_on_log, train_without_rounds
from training.truth import SimulatedMoment
from training.window import Split, Window

Simulated = dict[str, SimulatedMoment]
KIND, SPLIT = "linear+thompson", Split()


@pytest.fixture(scope="module")
def frozen(pack: Pack, simulated: Simulated) -> Window:
    """60 rounds of each moment: too few to learn much from alone."""
    return window(played(simulated, uniform(pack), each=60, seed=4))


def simulated_prior(
    home: Home, tracking: Tracking, pack: Pack, simulated: Simulated, kind: str, each: int = 400
) -> Version:
    """A version as the simulator makes them: so many rounds of each moment."""
    rounds = played(simulated, uniform(pack), each=each, seed=1)
    with tracking.run(pack.pack, "simulator") as run:
        return record(home, run, pack, from_rounds(pack, kind, rounds), {"source": "simulator"}, {})


@pytest.fixture
def taught(home: Home, tracking: Tracking, pack: Pack, simulated: Simulated) -> Version:
    """400 rounds of each moment, simulated."""
    return simulated_prior(home, tracking, pack, simulated, KIND)


def known(policy: object) -> int:
    """As how many rounds the policy's model counts."""
    assert isinstance(policy, Pair)
    return policy.model.rounds


def test_a_weighed_prior_counts_as_so_many_rounds_in_each_moment(pack: Pack, simulated: Simulated) -> None:
    """60 rounds a moment counted as 15: with 60 more, 75. What has no model stays as it is."""
    rounds = played(simulated, uniform(pack), each=60, seed=1)
    prior = snapshot(pack, dict(from_rounds(pack, KIND, rounds).policies), kind=KIND)
    learned = from_rounds(pack, KIND, rounds, previous=weighed(prior, 15.0))
    assert {known(learned.policies[moment]) for moment in rounds} == {75}
    modelless = uniform(pack)
    assert weighed(modelless, 15.0).policies == modelless.policies


def test_phrasings_are_weighed_like_actions(pack: Pack, simulated: Simulated) -> None:
    rounds, plans = played(simulated, uniform(pack), each=60, seed=1), uniform(pack).treatment_plans
    moment = next(name for name in rounds if name in plans)
    told = replace(
        rounds[moment],
        treatments=np.zeros(60, dtype=np.int64),
        treatment_propensities=np.ones(60),
        treatment_mask=np.ones((60, len(plans[moment].action_ids)), dtype=np.bool_),
    )
    learned = from_rounds(pack, KIND, {moment: told})
    prior = replace(snapshot(pack, dict(learned.policies), kind=KIND), treatments=learned.treatments)
    assert known(prior.treatments[moment]) == 60
    assert known(weighed(prior, 6.0).treatments[moment]) == 6


def test_a_weight_is_part_of_what_names_a_version_only_where_it_is_given(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window, taught: Version
) -> None:
    def learned(weight: float | None) -> Version:
        return train_on_log(home, tracking, pack, KIND, frozen, split=SPLIT, prior=taught, prior_weight=weight)

    full, light = learned(None), learned(50.0)
    assert "prior_weight" not in full.tags
    assert (light.tags["prior"], light.tags["prior_weight"]) == ("1", "50")
    assert [learned(weight).version for weight in (None, 50.0, 60.0)] == [full.version, light.version, "4"]


def test_a_prior_of_what_is_judged_is_worth_something_where_rounds_are_few(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window, taught: Version
) -> None:
    """The simulator is right here; the figures are in the run, and in a word in the version's tag, once."""
    version = train_on_log(home, tracking, pack, KIND, frozen, split=SPLIT, prior=taught, prior_weight=400.0)
    found = worth(home, tracking, pack, version, frozen)
    assert found is not None
    assert found.overall.low <= found.overall.value <= found.overall.high
    assert found.overall.value > 0
    tagged = tracking.version(pack.pack, version.version)
    assert tagged.tags["prior_worth"] == str(found)
    kept = tracking.client.get_run(version.run_id).data.metrics
    assert found.metrics().items() <= kept.items()
    assert {"prior_worth", "prior_worth_low", "prior_worth_high", "prior_worth/tone_tuner"} <= kept.keys()
    assert worth(home, tracking, pack, tagged, frozen) == found
    assert len(tracking.client.get_metric_history(version.run_id, "prior_worth")) == 1


def test_a_prior_that_counts_for_nothing_is_worth_nothing(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window, taught: Version
) -> None:
    version = train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=taught, prior_weight=0.0)
    found = worth(home, tracking, pack, version, frozen)
    assert found is not None
    assert str(found) == "+0.0000 [+0.0000, +0.0000]"


def test_without_held_out_customers_nothing_is_said_of_its_worth(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window, taught: Version
) -> None:
    version = train_on_log(home, tracking, pack, KIND, frozen, split=Split(share=1.0), prior=taught)
    assert worth(home, tracking, pack, version, frozen) is None


def test_figures_of_worth_are_named_by_moment() -> None:
    of = Estimate(0.5, 0.25, 0.75, 10, 5.0)
    assert Worth(of, {"a": of}).metrics() == {
        "prior_worth": 0.5,
        "prior_worth_low": 0.25,
        "prior_worth_high": 0.75,
        "prior_worth/a": 0.5,
        "prior_worth_low/a": 0.25,
        "prior_worth_high/a": 0.75,
    }


def test_a_prior_with_another_model_is_refused_by_the_names_of_both_kinds(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window
) -> None:
    train_without_rounds(home, tracking, pack, "linear+square_cb")
    train_without_rounds(home, tracking, pack, "uniform")
    with pytest.raises(PriorError, match=r"kind linear\+square_cb, on which quadratic\+thompson cannot build"):
        named_prior(tracking, pack, frozen, "quadratic+thompson", "1")
    with pytest.raises(PriorError, match=r"kind uniform, on which linear\+thompson cannot build"):
        named_prior(tracking, pack, frozen, KIND, "2")
    assert named_prior(tracking, pack, frozen, KIND, "1").version == "1"


def test_a_prior_that_has_learned_from_the_same_rounds_is_refused(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window
) -> None:
    one = train_on_log(home, tracking, pack, KIND, frozen, split=SPLIT, prior=None)
    later = replace(frozen, since=NOW, digest="cd" * 32)
    train_on_log(home, tracking, pack, KIND, later, split=SPLIT, prior=one)
    with pytest.raises(PriorError, match="version 2 has learned from rounds of this window already"):
        named_prior(tracking, pack, frozen, KIND, "2")
    assert named_prior(tracking, pack, later, KIND, "1") == one


def test_a_retrain_weighs_a_prior_that_the_simulator_taught(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    simulated: Simulated,
    frozen: Window,
    monkeypatch: pytest.MonkeyPatch,
    no_pictures: None,
) -> None:
    """A candidate with another model builds on nothing, so that nothing is weighed."""
    monkeypatch.setattr(training.retrain, "freeze", lambda *_, **__: frozen)
    monkeypatch.setattr(training.retrain, "simulate", lambda _: {})
    quick = changed(pack, candidates=("square_cb", "uniform"))  # the pack's wording: its digest is the same
    first = simulated_prior(home, tracking, pack, simulated, "square_cb", each=100)
    promote(home, tracking, pack, first, verdict=None, at=NOW, actor="ann")
    told = retrain(home, tracking, quick, "2026Q4", as_of=NOW, actor="cron", prior_weight=20.0)
    weights = {c.version.kind: c.version.tags.get("prior_weight") for c in told.candidates}
    assert weights == {"square_cb": "20", "uniform": None}
    assert told.prior_worth.keys() == {"square_cb"}
    found = tracking.find_run(pack.pack, stage="retrain, a simulated prior of 20 rounds", quarter="2026Q4")
    assert found is not None
    assert found[0] == told.run_id
