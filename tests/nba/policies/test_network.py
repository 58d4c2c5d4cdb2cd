from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from nba.artefact import load_artefact, save_artefact
from nba.errors import ArtefactError, ShapeError
from nba.moment_plan import MomentPlan
from nba.pack import Pack
from nba.policies.network import Layer, Network
from nba.rounds import LoggedRounds
from nba.testing import check_policy, check_saved, random_mask

ALL = np.ones((1, 2), dtype=np.bool_)


def drawn(d: int, k: int, hidden: tuple[int, ...] = (8, 6), *, seed: int = 0) -> Network:
    """A network of random layers and a random standardisation."""
    rng, widths = np.random.default_rng(seed), (d, *hidden, k)
    layers = [Layer(rng.normal(size=(o, i)), rng.normal(size=o)) for i, o in pairwise(widths)]
    return Network(rng.normal(size=d), rng.uniform(0.5, 2.0, d), tuple(layers))


def two_actions(*, activation: str = "relu", **settings: float) -> Network:
    """One hidden unit: logits (0, 2 f(x - 1))."""
    layers = (Layer(np.ones((1, 1)), np.zeros(1)), Layer(np.array([[0.0], [2.0]]), np.zeros(2)))
    return Network(np.ones(1), np.ones(1), layers, activation=activation, **settings)  # type: ignore[arg-type]


def test_a_distribution_by_hand() -> None:
    """x = 3: logits (0, 4), temperature 4: odds 1 to e. Floor 0.2: 0.8 / (1 + e) + 0.1 and 0.8 e / (1 + e) + 0.1."""
    found = two_actions(temperature=4.0, floor=0.2).distribution(np.full((1, 1), 3, dtype=np.float32), ALL)
    assert found[0] == pytest.approx([0.8 / (1 + np.e) + 0.1, 0.8 * np.e / (1 + np.e) + 0.1])


def test_what_a_hidden_unit_makes_of_less_than_nought() -> None:
    """x = 0: x - 1 = -1, which is 0 to relu and tanh(-1) to tanh."""
    x = np.zeros((1, 1), dtype=np.float32)
    assert two_actions().logits(x)[0].tolist() == [0.0, 0.0]
    assert two_actions(activation="tanh").logits(x)[0] == pytest.approx([0.0, 2 * np.tanh(-1)])


def test_an_action_that_is_not_eligible_counts_for_nothing() -> None:
    found = two_actions().distribution(np.full((1, 1), 9, dtype=np.float32), np.array([[True, False]]))
    assert found[0].tolist() == [1.0, 0.0]


def test_it_starts_uniform_and_keeps_what_it_knew(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    plan, rounds = support_plans["tone_tuner"], make_rounds(support_plans["tone_tuner"], 5)
    mask = np.ones((5, 7), dtype=np.bool_)
    np.testing.assert_allclose(Network.fit(plan, rounds).distribution(rounds.contexts, mask), 1 / 7)
    known = drawn(plan.width, 7)
    again = Network.fit(plan, rounds, known, temperature=2.0, floor=0.1)
    assert again.layers is known.layers
    assert (again.temperature, again.floor) == (2.0, 0.1)


@pytest.mark.parametrize("k", [1, 2, 7, 300])
def test_it_keeps_the_contract_of_a_policy(k: int) -> None:
    rng, network = np.random.default_rng(k), drawn(6, k)

    def permuted(order: np.ndarray) -> Network:
        last = network.layers[-1]
        return replace(network, layers=(*network.layers[:-1], Layer(last.weights[order], last.bias[order])))

    contexts = rng.uniform(-1.0, 1.0, (40, 6)).astype(np.float32)
    check_policy(network, contexts, random_mask(40, k, rng), floor=0.02, permuted=permuted)


def networks(plans: dict[str, MomentPlan]) -> dict[str, Network]:
    return {name: drawn(plan.width, len(plan.action_ids), seed=i) for i, (name, plan) in enumerate(plans.items())}


def test_its_layers_survive_the_disk(support: Pack, support_plans: dict[str, MomentPlan], tmp_path: Path) -> None:
    check_saved(support, "network", networks(support_plans), tmp_path / "a", rng=np.random.default_rng(2))


def test_a_layer_that_is_not_finite_is_not_saved(
    support: Pack, support_plans: dict[str, MomentPlan], tmp_path: Path
) -> None:
    policies = networks(support_plans)
    policies["tone_tuner"].layers[1].bias[0] = np.nan
    with pytest.raises(ArtefactError, match="tone_tuner/layers/1/bias is not finite"):
        save_artefact(tmp_path / "a", support, "network", policies)


def test_an_artefact_that_lacks_a_layer_is_refused(
    support: Pack, support_plans: dict[str, MomentPlan], tmp_path: Path
) -> None:
    save_artefact(tmp_path / "a", support, "network", networks(support_plans))
    manifest = msgspec.json.decode((tmp_path / "a" / "policy.json").read_bytes())
    manifest["moments"]["tone_tuner"]["layers"].pop()
    (tmp_path / "a" / "policy.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(ArtefactError, match="unknown arrays"):
        load_artefact(tmp_path / "a")


def test_layers_that_do_not_fit_are_refused() -> None:
    one = Layer(np.ones((2, 3)), np.zeros(2))
    for d, layers in ((4, (one,)), (3, (one, one)), (3, ())):
        with pytest.raises(ShapeError, match=f"for {d} columns"):
            Network(np.zeros(d), np.ones(d), layers)


@pytest.mark.parametrize("setting", [{"temperature": 0.0}, {"floor": 1.1}, {"floor": -0.1}])
def test_a_setting_without_sense_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ShapeError, match="more than 0"):
        two_actions(**setting)


def test_contexts_of_another_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="contexts of 3 columns for a network of 1"):
        two_actions().logits(np.zeros((1, 3), dtype=np.float32))
