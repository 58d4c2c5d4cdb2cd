"""Learning from simulated customers and from logged rounds."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from nba.errors import EmptyLogError
from nba.explore import Thompson
from nba.pack import Pack
from nba.policies import KINDS, EpsilonGreedy, SquareCB
from nba.policies.pair import Pair
from tests.training.conftest import played, snapshot, uniform
from training.learn import SettingError, UnknownKindError, batches, from_rounds, from_simulator
from training.truth import SimulatedMoment

Simulated = dict[str, SimulatedMoment]


def test_batches_grow_and_sum_up() -> None:
    for rounds in (1, 7, 1_000, 123_457):
        sizes = batches(rounds)
        assert sum(sizes) == rounds
        assert min(sizes) > 0
    assert batches(0) == []
    assert sorted(batches(100_000)) == batches(100_000)
    assert len(batches(100_000)) == 10


@pytest.mark.parametrize("kind", ["square_cb", "epsilon_greedy"])
def test_what_plays_long_enough_beats_uniform_rules_and_context_free(
    pack: Pack, simulated: Simulated, kind: str
) -> None:
    learned = from_simulator(pack, kind, simulated, rounds=6_000, seed=3)
    for moment, playground in simulated.items():
        told, last = playground.yardsticks, [s for s in learned.curve if s.moment == moment][-1]
        assert last.rounds == 6_000
        assert last.value == playground.value(learned.policies[moment])
        assert max(told.uniform, told.rules, told.context_free) < last.value < told.oracle


def test_the_curve_starts_from_no_knowledge(pack: Pack, simulated: Simulated) -> None:
    learned = from_simulator(pack, "square_cb", simulated, rounds=500, seed=3)
    for moment, playground in simulated.items():
        first = next(step for step in learned.curve if step.moment == moment)
        assert (first.rounds, first.value) == (0, pytest.approx(playground.yardsticks.uniform))


def test_the_same_seed_learns_the_same(pack: Pack, simulated: Simulated) -> None:
    def weights(seed: int) -> np.ndarray:
        one = {"tone_tuner": simulated["tone_tuner"]}
        policy = from_simulator(pack, "square_cb", one, rounds=300, seed=seed).policies["tone_tuner"]
        assert isinstance(policy, SquareCB)
        return policy.model.weights

    assert (weights(1) == weights(1)).all()
    assert (weights(1) != weights(2)).any()


def test_progress_is_told_in_rounds_over_all_moments(pack: Pack, simulated: Simulated) -> None:
    told: list[int] = []
    from_simulator(pack, "square_cb", simulated, rounds=100, seed=0, on_step=told.append)
    assert told == sorted(told)
    assert told[-1] == 100 * len(simulated)


def test_a_pack_nobody_plays_says_where_to_start(pack: Pack) -> None:
    with pytest.raises(EmptyLogError, match="--policy uniform"):
        from_simulator(pack, "square_cb", {}, rounds=100, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_starts_without_rounds(pack: Pack, simulated: Simulated, kind: str) -> None:
    """Uniform, the rules, or what explores evenly until it knows."""
    learned = from_rounds(pack, kind, {})
    assert set(learned.policies) == set(pack.moments)
    assert set(learned.notes.values()) == {"no rounds: nothing learned"}
    for moment, playground in simulated.items():
        expected = playground.yardsticks.rules if kind == "rules" else playground.yardsticks.uniform
        assert playground.value(learned.policies[moment]) == pytest.approx(expected)


def test_learning_in_parts_equals_learning_at_once(pack: Pack, simulated: Simulated) -> None:
    rounds = played(simulated, uniform(pack), each=400, seed=1)
    first = {moment: part.take(np.arange(150)) for moment, part in rounds.items()}
    rest = {moment: part.take(np.arange(150, 400)) for moment, part in rounds.items()}
    before = snapshot(pack, dict(from_rounds(pack, "square_cb", first).policies), kind="square_cb")
    parts = from_rounds(pack, "square_cb", rest, previous=before).policies["tone_tuner"]
    once = from_rounds(pack, "square_cb", rounds).policies["tone_tuner"]
    assert isinstance(parts, SquareCB)
    assert isinstance(once, SquareCB)
    assert parts.model.rounds == once.model.rounds == 400
    np.testing.assert_allclose(parts.model.weights, once.model.weights, atol=1e-9)


def test_another_kind_builds_on_the_same_knowledge(pack: Pack, simulated: Simulated) -> None:
    rounds = played(simulated, uniform(pack), each=200, seed=1)
    before = snapshot(pack, dict(from_rounds(pack, "square_cb", rounds).policies), kind="square_cb", version="4")
    learned = from_rounds(pack, "epsilon_greedy", {"tone_tuner": rounds["tone_tuner"]}, previous=before)
    policy, kept = learned.policies["tone_tuner"], learned.policies["instant_clarifier"]
    assert isinstance(policy, EpsilonGreedy)
    assert isinstance(kept, EpsilonGreedy)
    assert (policy.model.rounds, kept.model.rounds) == (400, 200)
    assert learned.notes["instant_clarifier"] == "no rounds: kept from version 4"
    assert "tone_tuner" not in learned.notes
    assert learned.rounds == {"tone_tuner": 200}


def test_what_uniform_knows_is_nothing(pack: Pack, simulated: Simulated) -> None:
    rounds = {"tone_tuner": played(simulated, uniform(pack), each=50, seed=1)["tone_tuner"]}
    learned = from_rounds(pack, "square_cb", rounds, previous=uniform(pack))
    policy = learned.policies["tone_tuner"]
    assert isinstance(policy, SquareCB)
    assert policy.model.rounds == 50
    assert learned.notes["instant_clarifier"] == "no rounds: nothing learned"


def test_settings_reach_the_policy(pack: Pack) -> None:
    policy = from_rounds(pack, "epsilon_greedy", {}, settings={"epsilon": 0.3}).policies["tone_tuner"]
    assert isinstance(policy, EpsilonGreedy)
    assert policy.epsilon == 0.3


def test_unknown_kinds_and_settings_name_the_known_ones(pack: Pack) -> None:
    with pytest.raises(UnknownKindError, match=r"'thompson'\nhelp: known are uniform, rules"):
        from_rounds(pack, "thompson", {})
    with pytest.raises(SettingError, match=r"epsilon_greedy has no setting 'scale'\nhelp: it has epsilon"):
        from_rounds(pack, "epsilon_greedy", {}, settings={"scale": 1.0})
    with pytest.raises(SettingError, match="it has none"):
        from_rounds(pack, "uniform", {}, settings={"scale": 1.0})


def test_a_moment_of_the_pack_that_nobody_plays_starts_without_knowledge(pack: Pack, simulated: Simulated) -> None:
    wider = replace(pack, moments={**pack.moments, "unheard_of": pack.moments["tone_tuner"]})
    learned = from_simulator(wider, "square_cb", {"tone_tuner": simulated["tone_tuner"]}, rounds=50, seed=0)
    assert set(learned.policies) == set(wider.moments)
    assert "unheard_of" in learned.notes
    assert "tone_tuner" not in learned.notes


@pytest.mark.parametrize(("kind", "builds_on"), [("linear+thompson", True), ("rff+thompson", False)])
def test_a_pair_builds_on_the_same_model_and_on_no_other(
    pack: Pack, simulated: Simulated, kind: str, builds_on: bool
) -> None:
    """100 rounds known by a linear model, whichever kind explored by it; 50 more."""
    rounds = played(simulated, uniform(pack), each=150, seed=1)
    moment = "tone_tuner"
    first = {moment: rounds[moment].take(np.arange(100))}
    before = snapshot(pack, dict(from_rounds(pack, "square_cb", first).policies), kind="square_cb")
    more = {moment: rounds[moment].take(np.arange(100, 150))}
    learned = from_rounds(pack, kind, more, previous=before)
    assert learned.policies[moment].model.rounds == (150 if builds_on else 50)  # type: ignore[attr-defined]


def test_settings_go_to_both_parts_of_a_pair(pack: Pack) -> None:
    policy = from_rounds(pack, "rff+thompson", {}, settings={"features": 8.0, "draws": 5.0}).policies["tone_tuner"]
    assert isinstance(policy, Pair)
    assert isinstance(policy.explore, Thompson)
    assert policy.explore.draws.shape == (7, 5, 30 + 8)


def test_a_setting_that_neither_part_has_is_refused(pack: Pack) -> None:
    with pytest.raises(SettingError, match="has no setting 'epsilon'"):
        from_rounds(pack, "rff+thompson", {}, settings={"epsilon": 0.1})
