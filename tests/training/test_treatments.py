"""Phrasings are learned from the log, and judged by the joint propensity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nba.decision import PolicyRef
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.pack_file import parse_pack
from nba.policies.uniform import Uniform
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.types import ActionMask, Contexts, Distribution, Policy
from training.evaluate import evaluate, treatment_weights
from training.learn import from_rounds

PACK = """\
pack: tones
version: 1
reward_version: 1
languages: [en]
fields: {mood: {type: number, range: [-1, 1]}}
moments: {greet: {fields: [mood], actions: [hail, ask], reward: {sale: 1.0}, window: 24h}}
actions:
  hail: {layer: cognitive, channel: web, trigger: always, treatments: {plain: {en: Hi}, warm: {en: Hello you}}}
  ask: {layer: cognitive, channel: web, trigger: always, treatments: {brief: {en: A}, plain: {en: B}, warm: {en: C}}}
outcomes: {sale: {}}
"""


class Warm:
    """Of the five pairs, warm three times as often as any other."""

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        shown = np.where(mask, [1.0, 3.0, 1.0, 1.0, 3.0], 0.0)
        return np.asarray(shown / shown.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def pack() -> Pack:
    return parse_pack(PACK.encode(), source="tones.yaml")


def snapshot(pack: Pack, treatments: dict[str, Policy] | None = None) -> Snapshot:
    ref = PolicyRef(name="tones", version="1", kind="test", digest="d")
    return Snapshot.of(pack, ref, {"greet": Uniform()}, treatments)


def four(pack: Pack) -> LoggedRounds:
    """no_action; hail plain, hail warm, both 1/2; ask warm, 1/3. Each action 1/3; the warm ones pay 1."""
    masks = [[0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]
    return LoggedRounds(
        contexts=np.ones((4, plan_moment(pack, "greet").width), dtype=np.float32),
        mask=np.ones((4, 3), dtype=np.bool_),
        actions=np.array([0, 1, 1, 2]),
        propensities=np.full(4, 1 / 3),
        rewards=np.array([0.0, 0.0, 1.0, 1.0]),
        subjects=np.arange(4, dtype=np.uint64),
        treatments=np.array([-1, 0, 1, 4]),
        treatment_propensities=np.array([1.0, 0.5, 0.5, 1 / 3]),
        treatment_mask=np.array(masks, dtype=np.bool_),
    )


def test_weights_of_phrasings_are_ratios_given_the_action(pack: Pack) -> None:
    """Plain of two: (1/4) / (1/2) = 0.5; warm of two: (3/4) / (1/2) = 1.5; warm of three: (3/5) / (1/3) = 1.8."""
    weights = treatment_weights(snapshot(pack, {"greet": Warm()}), "greet", four(pack))
    assert weights.tolist() == pytest.approx([1.0, 0.5, 1.5, 1.8])


def test_the_value_of_a_policy_of_phrasings_is_by_joint_weights(pack: Pack) -> None:
    """Both first levels are uniform: weights 1, 0.5, 1.5, 1.8, rewards 0, 0, 1, 1: 3.3 / 4."""
    found = evaluate(snapshot(pack, {"greet": Warm()}), None, {"greet": four(pack)}, rng=np.random.default_rng(0))
    assert found.overall.ips.value == pytest.approx(3.3 / 4)
    assert found.overall.mean_weight.value == pytest.approx(4.8 / 4)


def test_drawn_evenly_by_both_the_weights_are_the_first_levels(pack: Pack) -> None:
    assert treatment_weights(snapshot(pack), "greet", four(pack)).tolist() == pytest.approx([1.0] * 4)


def test_learning_prefers_the_phrasing_that_pays_in_the_context(pack: Pack) -> None:
    """Warm pays where the mood is low, plain where it is high; a tone's effect is the same whatever the action."""
    plan, rng, n = plan_moment(pack, "greet"), np.random.default_rng(0), 2_000
    low = rng.random(n) < 0.5
    facts = np.where(low, -0.8, 0.8)[:, None]
    actions, treatments = np.full(n, 1), rng.integers(0, 2, n)
    rounds = LoggedRounds(
        contexts=plan.encoder.encode(facts),
        mask=np.ones((n, 3), dtype=np.bool_),
        actions=actions,
        propensities=np.ones(n),
        rewards=(rng.random(n) < np.where((treatments == 1) == low, 0.7, 0.2)).astype(np.float64),
        subjects=np.arange(n, dtype=np.uint64),
        treatments=treatments,
        treatment_propensities=np.full(n, 0.5),
        treatment_mask=np.tile(np.array([True, True, False, False, False]), (n, 1)),
    )
    learned = from_rounds(pack, "square_cb", {"greet": rounds})
    contexts = plan.encoder.encode(np.array([[-0.8], [0.8]]))
    shares = learned.treatments["greet"].distribution(contexts, rounds.treatment_mask[:2])
    assert shares[0, 1] > 0.9
    assert shares[1, 0] > 0.9


@pytest.mark.parametrize("kind", ["uniform", "rules"])
def test_a_kind_without_a_model_leaves_phrasings_to_an_even_draw(pack: Pack, kind: str) -> None:
    assert from_rounds(pack, kind, {"greet": four(pack)}).treatments == {}


def test_rounds_without_phrasings_teach_none(pack: Pack) -> None:
    bare = four(pack)
    none = replace(bare, treatments=np.full(4, -1), treatment_propensities=np.ones(4))
    assert from_rounds(pack, "square_cb", {"greet": none}).treatments == {}


def test_what_was_known_of_phrasings_is_kept_where_no_round_comes(pack: Pack) -> None:
    before = from_rounds(pack, "square_cb", {"greet": four(pack)})
    ref = PolicyRef(name="tones", version="1", kind="square_cb", digest="d")
    previous = Snapshot.of(pack, ref, before.policies, before.treatments)
    after = from_rounds(pack, "square_cb", {}, previous=previous)
    mask, contexts = four(pack).treatment_mask[1:], four(pack).contexts[1:]
    first, second = (learned.treatments["greet"].distribution(contexts, mask) for learned in (before, after))
    assert np.allclose(first, second)
