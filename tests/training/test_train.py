"""Training runs and what they leave in MLflow."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nba.home import Home
from nba.moment_plan import plan_pack
from nba.pack import Pack
from nba.policies import SquareCB
from nba.policies.network import Network
from nba.policies.rules import Rules
from tests.training.conftest import NOW, played, snapshot, uniform, window
from training.learn import from_rounds
from training.tracking import CHAMPION, Tracking, Version
from training.train import (
    prior_of,
    record_sessions,
    train_in_simulator,
    train_on_log,
    train_without_rounds,
)
from training.truth import SimulatedMoment, no_rounds
from training.versions import load
from training.window import Split, Window

Simulated = dict[str, SimulatedMoment]
SPLIT = Split()
QUARTER_START = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def frozen(pack: Pack, simulated: Simulated) -> Window:
    return window(played(simulated, uniform(pack), each=300, seed=4), since=QUARTER_START)


def test_a_new_pack_starts_with_a_version_that_has_learned_nothing(home: Home, tracking: Tracking, pack: Pack) -> None:
    version = train_without_rounds(home, tracking, pack, "uniform")
    assert (version.kind, version.tags["source"]) == ("uniform", "none")
    assert load(home, tracking, version, pack).policies.keys() == pack.moments.keys()


def test_learning_in_the_simulator_leaves_curve_plot_and_version(
    home: Home, tracking: Tracking, pack: Pack, simulated: Simulated
) -> None:
    version = train_in_simulator(
        home, tracking, pack, "square_cb", simulated, rounds=200, seed=1, settings={"scale": 2.0}
    )
    assert {k: version.tags[k] for k in ("source", "seed", "rounds", "settings")} == {
        "source": "simulator",
        "seed": "1",
        "rounds": "1000",
        "settings": "scale=2",
    }
    kept = tracking.client.get_run(version.run_id).data
    assert kept.params["pack_digest"] == pack.digest
    assert kept.metrics["oracle/tone_tuner"] == simulated["tone_tuner"].yardsticks.oracle
    curve = tracking.client.get_metric_history(version.run_id, "value/tone_tuner")
    assert (curve[0].step, curve[-1].step) == (0, 200)
    assert [f.path for f in tracking.client.list_artifacts(version.run_id, "plots")] == ["plots/learning_curve.png"]


def test_only_the_learning_part_of_the_customers_is_learned_from(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window
) -> None:
    version = train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=None)
    learn_from, held_out = frozen.split(SPLIT)
    policy = load(home, tracking, version, pack).policies["tone_tuner"]
    assert isinstance(policy, SquareCB)
    assert policy.model.rounds == len(learn_from["tone_tuner"])
    assert len(held_out["tone_tuner"]) > 0
    assert Split.of(version.tags) == SPLIT
    assert {k: version.tags[k] for k in ("window", "rounds", "until")} == {
        "window": frozen.digest,
        "rounds": "1500",
        "until": NOW.isoformat(),
    }


def test_the_same_lesson_is_learned_once(home: Home, tracking: Tracking, pack: Pack, frozen: Window) -> None:
    first = train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=None)
    again = train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=None)
    assert again == first
    others = [
        train_on_log(home, tracking, pack, "epsilon_greedy", frozen, split=SPLIT, prior=None),
        train_on_log(home, tracking, pack, "square_cb", frozen, split=Split(salt=1), prior=None),
        train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=first),
        train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=None, settings={"scale": 2.0}),
        train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=None, tags={"quarter": "2026Q4"}),
    ]
    assert [v.version for v in others] == ["2", "3", "4", "5", "6"]


def test_a_prior_that_played_in_the_simulator_counts_in_full(
    home: Home, tracking: Tracking, pack: Pack, simulated: Simulated, frozen: Window
) -> None:
    prior = train_in_simulator(home, tracking, pack, "square_cb", simulated, rounds=100, seed=1)
    tracking.set_alias("support", CHAMPION, prior)
    assert prior_of(tracking, pack, frozen) == prior
    version = train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=prior)
    policy = load(home, tracking, version, pack).policies["tone_tuner"]
    assert isinstance(policy, SquareCB)
    assert policy.model.rounds == 100 + len(frozen.split(SPLIT)[0]["tone_tuner"])


def test_no_round_is_learned_from_twice(
    home: Home, tracking: Tracking, pack: Pack, simulated: Simulated, frozen: Window
) -> None:
    """1 simulator <- 2 log of the third quarter <- 3 log of the fourth, the champion: the fourth builds on 2 again."""
    assert prior_of(tracking, pack, frozen) is None
    one = train_in_simulator(home, tracking, pack, "square_cb", simulated, rounds=50, seed=1)
    before = replace(frozen, since=QUARTER_START - timedelta(days=92), until=QUARTER_START, digest="cd" * 32)
    two = train_on_log(home, tracking, pack, "square_cb", before, split=SPLIT, prior=one)
    three = train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=two)
    tracking.set_alias("support", CHAMPION, three)
    assert prior_of(tracking, pack, frozen) == two
    assert prior_of(tracking, pack, replace(frozen, since=NOW)) == three
    assert prior_of(tracking, pack, replace(frozen, since=None)) == one
    assert prior_of(tracking, pack, before) == one


def test_a_champion_of_another_pack_is_no_prior(home: Home, tracking: Tracking, pack: Pack, frozen: Window) -> None:
    from msgspec.structs import replace as changed

    tracking.set_alias("support", CHAMPION, train_without_rounds(home, tracking, pack, "square_cb"))
    assert prior_of(tracking, changed(pack, version=2), frozen) is None


def taught(pack: Pack) -> Network:
    """A network of the session that prefers something."""
    plan = plan_pack(pack)["service_conversation"]
    start = Network.fit(plan, no_rounds(plan.width, len(plan.action_ids)))
    last = start.layers[-1]
    return replace(start, layers=(*start.layers[:-1], replace(last, weights=last.weights + 1.0)))


def with_sessions(home: Home, tracking: Tracking, pack: Pack) -> Version:
    """A version with a network of the session."""
    with tracking.run(pack.pack, "sessions") as run:
        networks = {"service_conversation": taught(pack)}
        return record_sessions(home, run, pack, networks, {"service_conversation": 9}, {})


def test_a_network_of_sessions_leaves_the_rest_of_the_champion_as_it_is(
    home: Home, tracking: Tracking, pack: Pack
) -> None:
    tracking.set_alias(pack.pack, CHAMPION, train_without_rounds(home, tracking, pack, "rules"))
    version = with_sessions(home, tracking, pack)
    policies = load(home, tracking, version, pack).policies
    assert (version.kind, version.tags["prior"]) == ("rules", "1")
    assert version.tags["note.tone_tuner"] == "kept from version 1"
    assert isinstance(policies["service_conversation"], Network)
    assert isinstance(policies["tone_tuner"], Rules)


def test_a_retrain_keeps_the_networks_of_the_champion_whatever_its_prior(
    home: Home, tracking: Tracking, pack: Pack, frozen: Window
) -> None:
    tracking.set_alias(pack.pack, CHAMPION, with_sessions(home, tracking, pack))
    version = train_on_log(home, tracking, pack, "square_cb", frozen, split=SPLIT, prior=None)
    policies = load(home, tracking, version, pack).policies
    assert version.tags["networks"] == "1"
    assert isinstance(policies["service_conversation"], Network)
    assert isinstance(policies["tone_tuner"], SquareCB)


def test_rounds_do_not_unlearn_a_network_of_sessions(pack: Pack) -> None:
    networks = dict(from_rounds(pack, "network", {}).policies) | {"service_conversation": taught(pack)}
    before = snapshot(pack, networks, kind="network", version="4")
    learned = from_rounds(pack, "linear+thompson", {}, previous=before)
    assert learned.policies["service_conversation"] is networks["service_conversation"]
    assert learned.notes["service_conversation"] == "a network that plans sessions: kept from version 4"
    assert learned.notes["tone_tuner"] == "no rounds: nothing learned"
