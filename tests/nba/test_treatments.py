"""The second level of a decision: phrasings, learned and drawn with an exact probability of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from nba.artefact import load_artefact, save_artefact
from nba.decide import DRAW_BITS, decide, decide_many, draw_alike
from nba.decision import Decision, DecisionRequest, PolicyRef
from nba.errors import ArtefactError
from nba.join import join
from nba.log.verify import check_decision
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.pack_file import parse_pack
from nba.policies import KINDS
from nba.policies.uniform import Uniform
from nba.records import DecisionRecord, Shown
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.treatments import treatment_mask, treatment_plan
from nba.types import ActionMask, Contexts, Distribution, Policy
from tests.nba.conftest import NOW

SECRET = b"secret"
WHOLE = 1 << DRAW_BITS
PAIRS = ("greet/formal", "greet/warm", "offer/bold", "offer/formal", "offer/warm")


class Fixed:
    """The same weights in every context, over what the mask leaves."""

    def __init__(self, *weights: float) -> None:
        self.weights = np.array(weights)

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        shown = np.where(mask, self.weights, 0.0)
        return np.asarray(shown / shown.sum(axis=1, keepdims=True))


class Broken:
    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        raise ValueError("broken")


HALVES, PHRASINGS = Fixed(0.0, 0.5, 0.0, 0.5), Fixed(0.25, 0.75, 0.5, 0.25, 0.25)


@pytest.fixture(scope="module")
def phrased(shop_text: str) -> Pack:
    """`greet` is phrased in two ways, `offer` in three."""
    three = "cost: 0.2, treatments: {bold: {en: Buy}, formal: {en: Please}, warm: {en: You}}"
    return parse_pack(shop_text.replace("cost: 0.2", three).encode(), source="shop.yaml")


def snapshot_of(pack: Pack, treatments: Policy = PHRASINGS) -> Snapshot:
    ref = PolicyRef(name="shop", version="1", kind="test", digest="d")
    return Snapshot.of(pack, ref, {"basket": HALVES}, {"basket": treatments})


MakeRequest = Callable[..., DecisionRequest]


@pytest.fixture(scope="module")
def decisions(phrased: Pack, make_request: MakeRequest) -> list[Decision]:
    return decide_many(snapshot_of(phrased), [make_request(f"d-{i}") for i in range(4_000)], now=NOW, secret=SECRET)


def test_columns_are_pairs_of_action_and_phrasing(phrased: Pack) -> None:
    plan = plan_moment(phrased, "basket")
    pairs = treatment_plan(plan)
    assert pairs is not None
    assert pairs.action_ids == PAIRS
    mask = treatment_mask(plan, pairs, np.array([0, 1, 3]))
    assert mask.astype(int).tolist() == [[0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]


def test_pairs_share_a_constant_their_action_and_their_phrasing(phrased: Pack) -> None:
    """Constant; greet, offer; formal, warm, bold; and the pair itself."""
    pairs = treatment_plan(plan_moment(phrased, "basket"))
    assert pairs is not None
    assert pairs.action_features[4].tolist() == [1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1]


def test_each_phrasing_comes_as_often_as_its_probability_says(decisions: list[Decision]) -> None:
    """Within 5 standard errors, sqrt(n p (1 - p))."""
    for action_id, told in (
        ("greet", {"formal": 0.25, "warm": 0.75}),
        ("offer", {"bold": 0.5, "formal": 0.25, "warm": 0.25}),
    ):
        drawn = [d.treatment_id for d in decisions if d.action_id == action_id]
        for treatment, p in told.items():
            assert abs(drawn.count(treatment) - p * len(drawn)) < 5 * (len(drawn) * p * (1 - p)) ** 0.5


def test_the_joint_propensity_is_the_product(decisions: list[Decision]) -> None:
    """greet 1/2, warm 3/4 of it: 3/8."""
    joint = {(d.action_id, d.treatment_id): d.propensity * d.treatment_propensity for d in decisions}
    assert joint[("greet", "warm")] == 0.375
    assert sum(joint.values()) == 1.0


def test_every_decision_verifies_and_comes_out_alone_as_among_others(phrased: Pack, decisions: list[Decision]) -> None:
    for decision in decisions[:50]:
        assert check_decision(decision) == []
        assert decide(snapshot_of(phrased), decision.request, now=NOW, secret=SECRET) == decision


def test_a_draw_is_exactly_as_likely_as_its_count() -> None:
    """A third, in units of 2^-53, is drawn by 1 of 3 names in 3,000 seeds: 1,000, give or take 5 * 26."""
    counts = {"a": WHOLE // 3, "b": WHOLE - WHOLE // 3}
    drawn = [draw_alike(SECRET, f"s{i}", ["a", "b", "c"], counts) for i in range(3_000)]
    assert abs(drawn.count("a") - 1_000) < 130
    assert "c" not in drawn


def test_a_persona_stays_while_probabilities_move_little() -> None:
    """From 0.5 to 0.55 the half difference d is 0.05: at least 0.95 / 1.05 = 90 % of 1,000 sessions keep theirs."""
    first, second = ({"a": int(p * WHOLE), "b": WHOLE - int(p * WHOLE)} for p in (0.5, 0.55))
    kept = [
        draw_alike(SECRET, f"s{i}", ["a", "b"], first) == draw_alike(SECRET, f"s{i}", ["a", "b"], second)
        for i in range(1_000)
    ]
    assert sum(kept) > 860


def test_a_session_keeps_its_phrasing_of_an_action(phrased: Pack, make_request: MakeRequest) -> None:
    requests = [make_request(f"d-{i}", session_id="s-1") for i in range(40)]
    made = decide_many(snapshot_of(phrased), requests, now=NOW, secret=SECRET)
    assert len({d.treatment_id for d in made if d.action_id == "offer"}) == 1


def test_without_exploration_the_likeliest_phrasing_is_certain(phrased: Pack, make_request: MakeRequest) -> None:
    made = decide(snapshot_of(phrased), make_request(explore=False), now=NOW, secret=SECRET)
    assert (made.action_id, made.treatment_id, made.treatment_propensity) == ("greet", "warm", 1.0)


def test_a_policy_of_phrasings_that_fails_leaves_them_to_an_even_draw(phrased: Pack, make_request: MakeRequest) -> None:
    made = decide(snapshot_of(phrased, Broken()), make_request(exclude=("offer",)), now=NOW, secret=SECRET)
    assert (made.action_id, made.treatment_propensity) == ("greet", 0.5)
    assert made.degraded == ("treatments",)
    assert check_decision(made) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"treatment_propensity": 0.5}, "is not the probability 0.75 of 'warm'"),
        ({"treatment_distribution": {"formal": 0.5, "warm": 0.75}}, "sum to 1"),
        ({"treatment_distribution": {}}, "not that of an even draw"),
        ({"treatment_id": None}, "no treatment, but"),
    ],
)
def test_a_wrong_probability_of_a_phrasing_is_found(
    decisions: list[Decision], changes: dict[str, object], told: str
) -> None:
    warm = next(d for d in decisions if (d.action_id, d.treatment_id) == ("greet", "warm"))
    assert any(told in wrong for wrong in check_decision(msgspec.structs.replace(warm, **changes)))


def test_a_decision_logged_before_there_was_a_second_level_still_reads(decisions: list[Decision]) -> None:
    told = msgspec.to_builtins(decisions[0])
    del told["treatment_distribution"]
    assert msgspec.convert(told, Decision).treatment_distribution == {}


def test_the_join_carries_phrasings_their_propensities_and_what_they_were_drawn_from(
    phrased: Pack, decisions: list[Decision]
) -> None:
    shown = Shown(layer="cognitive", channel="web", message=None, delay_ms=0, closes_at=NOW, default_reward=0.0)
    records = [DecisionRecord(decision=d, shown=shown, fingerprint="f", epoch=1) for d in decisions[:200]]
    rounds = join(records, phrased, as_of=NOW + timedelta(days=2)).rounds["basket"]
    assert len(rounds) == 200
    second = rounds.treated()
    assert set(zip(second.actions.tolist(), second.propensities.tolist(), strict=True)) == {
        (0, 0.25),
        (1, 0.75),
        (2, 0.5),
        (3, 0.25),
        (4, 0.25),
    }
    assert second.mask[second.actions == 1].astype(int).tolist()[0] == [1, 1, 0, 0, 0]


def test_rounds_without_phrasings_have_none(phrased: Pack, make_rounds: Callable[..., LoggedRounds]) -> None:
    rounds = make_rounds(plan_moment(phrased, "basket"), 3)
    assert rounds.treatments.tolist() == [-1, -1, -1]
    assert len(rounds.treated()) == 0


def test_a_policy_of_phrasings_is_saved_and_loaded(phrased: Pack, tmp_path: Path) -> None:
    policies, seconds = {"basket": learned(phrased, 0)}, {"basket": learned(phrased, 200)}
    digest = save_artefact(tmp_path / "a", phrased, "square_cb", policies, seconds)
    snapshot = load_artefact(tmp_path / "a", pack=phrased)
    assert snapshot.policy.digest == digest
    mask = np.array([[True, True, False, False, False]])
    context = np.ones((1, snapshot.plans["basket"].width), dtype=np.float32)
    before, after = (p["basket"].distribution(context, mask) for p in (seconds, snapshot.treatments))
    assert np.array_equal(before, after)


def test_an_artefact_without_a_second_level_says_nothing_of_it(phrased: Pack, tmp_path: Path) -> None:
    """Its manifest says nothing of phrasings, as before there was a second level: it loads, and draws evenly."""
    save_artefact(tmp_path / "a", phrased, "uniform", {"basket": Uniform()})
    assert b"treatment" not in (tmp_path / "a" / "policy.json").read_bytes()
    assert load_artefact(tmp_path / "a").treatments == {}


def test_a_policy_of_phrasings_where_there_are_none_is_refused(phrased: Pack, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="have phrasings"):
        save_artefact(tmp_path / "a", phrased, "uniform", {"basket": Uniform()}, {"nowhere": Uniform()})


def learned(pack: Pack, n: int) -> Policy:
    """square_cb of actions where n is 0, else of phrasings, from n even rounds of `greet` that pay if warm."""
    plan = plan_moment(pack, "basket")
    pairs = treatment_plan(plan)
    assert pairs is not None
    k = len(pairs.action_ids) if n else len(plan.action_ids)
    actions = np.arange(n) % 2
    contexts = np.ones((n, plan.width), dtype=np.float32)
    rounds = LoggedRounds(
        contexts, np.ones((n, k), dtype=np.bool_), actions, np.full(n, 0.5), actions.astype(float),
        np.arange(n, dtype=np.uint64),
    )  # fmt: skip
    return KINDS["square_cb"].fit(pairs if n else plan, rounds)
