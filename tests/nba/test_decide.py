from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nba.decide import DRAW_BITS, decide, decide_many, draw_bits, safe_distribution, thresholds
from nba.decision import Decision, DecisionRequest, PolicyRef
from nba.errors import UnknownActionError, UnknownMomentError
from nba.facts import name_facts
from nba.moment_plan import MomentPlan
from nba.pack import Pack
from nba.pack_file import load_pack, parse_pack
from nba.policies import KINDS, Rules, SquareCB, Uniform
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.types import ActionMask, Context, Contexts, Distribution, Policy

WHOLE = 2**DRAW_BITS
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECRET = b"s" * 32
SUPPORT = load_pack("support")
MakeSnapshot = Callable[..., Snapshot]
MakeRequest = Callable[..., DecisionRequest]


class Fixed:
    """Gives every row the same probabilities, whatever the mask says."""

    def __init__(self, *probabilities: Any) -> None:
        self._row = np.array(probabilities)

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        return np.tile(self._row, (len(mask), 1))


def one(snapshot: Snapshot, request: DecisionRequest) -> Decision:
    return decide(snapshot, request, now=NOW, secret=SECRET)


# The draw: laws 1 and 2.


def test_thresholds_by_hand() -> None:
    """Halves are exact. Thirds are not: 2**53 = 3 * 3002399751580330 + 2, rounded up twice and down once; the first
    of the likeliest takes what is left over or wanting.
    """
    assert thresholds(np.array([[0.5, 0.25, 0.25]])).tolist() == [[2**52, 2**51, 2**51]]
    thirds = thresholds(np.array([[1 / 3, 1 / 3, 1 / 3]]))[0]
    assert sum(thirds.tolist()) == WHOLE
    assert max(abs(count - WHOLE / 3) for count in thirds.tolist()) <= 2


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.floats(0, 1)))
def test_thresholds_sum_to_the_whole_and_keep_noughts(weights: np.ndarray) -> None:
    weights[:, 0] += 1e-3
    distribution = weights / weights.sum(axis=1, keepdims=True)
    counts = thresholds(distribution)
    assert counts.sum(axis=1).tolist() == [WHOLE] * len(counts)
    assert (counts >= 0).all()
    assert (counts[distribution == 0.0] == 0).all()
    assert np.abs(counts / WHOLE - distribution).max() < 1e-14


@pytest.mark.parametrize("decision_id", [f"d-{i}" for i in range(50)])
def test_the_propensity_logged_is_the_number_sampled_with(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest, decision_id: str
) -> None:
    """Law 1, replayed by hand in integers: the action is the first whose cumulated thresholds exceed the draw."""
    row = (0.1, 0.2, 0.3, 0.4)
    decision = one(make_snapshot(shop, Fixed(*row)), make_request(decision_id, values={"mood": 0.0}))
    counts = thresholds(np.array([row]))[0].tolist()
    cumulated, column = counts[0], 0
    while cumulated <= decision.draw:
        column += 1
        cumulated += counts[column]
    assert decision.action_id == decision.candidates[column]
    assert decision.propensity == counts[column] / WHOLE
    assert decision.distribution == tuple(count / WHOLE for count in counts)
    assert [share * WHOLE for share in decision.distribution] == counts
    assert decision.mode == "online"
    assert decision.learnable


@pytest.mark.parametrize(
    ("draw", "action"),
    [
        (0, "greet"),
        (2**52 - 1, "greet"),
        (2**52, "offer"),
        (2**53 - 1, "offer"),
    ],
)
def test_an_action_without_a_chance_is_never_drawn_not_even_at_the_edges(
    shop: Pack,
    make_snapshot: MakeSnapshot,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
    draw: int,
    action: str,
) -> None:
    """no_action and remind have none; greet has the draws below 2**52, offer those from there on."""
    monkeypatch.setattr(sys.modules["nba.decide"], "draw_bits", lambda *parts: draw)
    decision = one(make_snapshot(shop, Fixed(0.0, 0.5, 0.0, 0.5)), make_request(values={"mood": 0.0}))
    assert (decision.action_id, decision.propensity) == (action, 0.5)


def test_the_draw_comes_from_the_secret_the_id_and_the_bundle() -> None:
    """HMAC-SHA256 of `id, nought, bundle`, its first 53 bits; the figure was worked out with openssl."""
    assert draw_bits(b"key", "d-1", "bundle") == BY_OPENSSL
    others = ((b"kex", "d-1", "bundle"), (b"key", "d-2", "bundle"), (b"key", "d-1", "b"))
    assert len({BY_OPENSSL, *(draw_bits(*parts) for parts in others)}) == 4


BY_OPENSSL = 0xABFD1F07F878DF62 >> 11  # printf 'd-1\0bundle' | openssl dgst -sha256 -hmac key -hex, its first 8 bytes


def test_the_same_id_and_bundle_give_the_same_decision(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    """Law 2. The name of the version is not part of the draw, the digest is."""
    request = make_request("d-7", values={"mood": 0.0})
    first, again = (one(make_snapshot(shop, Uniform()), request) for _ in range(2))
    assert first == again
    assert one(make_snapshot(shop, Uniform(), version="2"), request).draw != first.draw


def test_draws_are_even(shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest) -> None:
    draws = np.array([draw_bits(SECRET, f"d-{i}", "bundle") for i in range(20_000)]) / WHOLE
    counts, _ = np.histogram(draws, bins=20, range=(0.0, 1.0))
    assert abs(counts - 1_000).max() < 5 * 1_000**0.5


# A batch and each alone: law 4.


def random_requests(n: int, seed: int) -> list[DecisionRequest]:
    rng, moments = np.random.default_rng(seed), list(SUPPORT.moments)
    requests = []
    for i in range(n):
        moment = moments[int(rng.integers(len(moments)))]
        fields = SUPPORT.moment_fields(moment)
        facts = []
        for field in fields.values():
            low, high = field.range or (0.0, {"category": len(field.values) - 1, "boolean": 1}.get(field.type, 2e9))
            code = rng.uniform(low, high) if field.type in ("number", "time") else rng.integers(low, high + 1)
            facts.append(np.nan if rng.random() < 0.2 else float(code))
        (values,) = name_facts(fields, np.array([facts]))
        context = Context(subject="s", moment=moment, session_id=f"s-{i % 7}", values=values, observed_at=NOW)
        excluded = tuple(a for a in SUPPORT.moment(moment).actions if rng.random() < 0.1)
        requests.append(DecisionRequest(decision_id=f"d-{i}", context=context, exclude=excluded, explore=i % 9 > 0))
    return requests


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_makes_the_decisions_that_each_request_makes_alone_to_the_bit(
    kind: str, support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds]
) -> None:
    policies: dict[str, Policy] = {n: KINDS[kind].fit(p, make_rounds(p, 200)) for n, p in support_plans.items()}
    snapshot = Snapshot.of(SUPPORT, PolicyRef(name="support", version="1", kind=kind, digest="d"), policies)
    requests = random_requests(300, seed=5)
    together = decide_many(snapshot, requests, now=NOW, secret=SECRET)
    alone = [one(snapshot, request) for request in requests]
    assert [msgspec.json.encode(d) for d in together] == [msgspec.json.encode(d) for d in alone]
    assert [d.decision_id for d in together] == [f"d-{i}" for i in range(300)]


def test_a_logged_decision_is_made_again_from_its_record_to_the_bit(
    support_plans: dict[str, MomentPlan], make_rounds: Callable[..., LoggedRounds], make_snapshot: MakeSnapshot
) -> None:
    policies: dict[str, Policy] = {n: SquareCB.fit(p, make_rounds(p, 200)) for n, p in support_plans.items()}
    snapshot = Snapshot.of(SUPPORT, PolicyRef(name="support", version="1", kind="square_cb", digest="d"), policies)
    for decision in decide_many(snapshot, random_requests(100, seed=6), now=NOW, secret=SECRET):
        logged = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
        assert decide(snapshot, logged.request, now=logged.decided_at, secret=SECRET) == decision


def test_no_requests_make_no_decisions(shop: Pack, make_snapshot: MakeSnapshot) -> None:
    assert decide_many(make_snapshot(shop, Uniform()), [], now=NOW, secret=SECRET) == []


# What the request asks for: law 5.


def test_actions_and_exclude_narrow_what_is_eligible(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    """Of greet, remind and offer, two are asked for and one of them excluded; no_action is always there."""
    request = make_request(values={"mood": 0.0}, actions=("greet", "remind"), exclude=("remind",))
    decision = one(make_snapshot(shop, Uniform()), request)
    assert decision.distribution == (0.5, 0.5, 0.0, 0.0)
    assert decision.removed == {"remind": "not_requested", "offer": "not_requested"}
    assert decision.funnel["requested"] == decision.funnel["suppressed"] == 2


@pytest.mark.parametrize("asked", [{"actions": ()}, {"exclude": ("greet", "remind", "offer", "no_action")}])
def test_no_action_is_left_when_nothing_else_is(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest, asked: dict[str, Any]
) -> None:
    decision = one(make_snapshot(shop, Uniform()), make_request(**asked))
    assert (decision.action_id, decision.propensity, decision.mode) == ("no_action", 1.0, "online")
    assert decision.funnel["requested"] == 1


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"actions": ("greet", "wave")}, "actions"),
        ({"exclude": ("wave",)}, "exclude"),
        ({"baseline_action": "wave"}, "baseline_action"),
        ({"baseline_action": "greet", "exclude": ("greet",)}, "baseline_action"),
    ],
)
def test_an_action_the_moment_does_not_have_is_refused(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(UnknownActionError) as caught:
        one(make_snapshot(shop, Uniform()), make_request(**asked))
    assert caught.value.field == field


def test_an_unknown_moment_is_refused(shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest) -> None:
    with pytest.raises(UnknownMomentError, match="no moment 'cart'"):
        one(make_snapshot(shop, Uniform()), make_request(moment="cart"))


def test_without_exploration_the_likeliest_action_is_taken_and_not_learned_from(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    request = make_request(values={"mood": 0.0}, explore=False)
    decision = one(make_snapshot(shop, Fixed(0.1, 0.2, 0.4, 0.3)), request)
    assert (decision.action_id, decision.propensity) == ("remind", 1.0)
    assert decision.distribution == (0.0, 0.0, 1.0, 0.0)
    assert (decision.mode, decision.learnable, decision.degraded) == ("deterministic", False, ())


def test_a_policy_that_is_sure_is_not_learned_from(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    """Law 7: the rules force one of several actions."""
    decision = one(make_snapshot(shop, Rules(10, np.array([3, 2]))), make_request(values={"mood": -0.9}))
    assert (decision.action_id, decision.mode, decision.learnable) == ("offer", "deterministic", False)


def test_the_only_eligible_action_is_learned_from(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    """Nothing was chosen against it: its propensity of 1 is the truth about every policy."""
    decision = one(make_snapshot(shop, Rules(10, np.array([3, 2]))), make_request(actions=()))
    assert (decision.propensity, decision.mode, decision.learnable) == (1.0, "online", True)


# A policy that fails: law 9.


class Raises:
    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        raise RuntimeError("out of order")


class WidensMask:
    """Writes to the mask that its answer is checked against."""

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        mask[:] = True
        return mask / mask.sum(axis=1, keepdims=True)


BROKEN = {
    "raises": Raises(),
    "widens the mask": WidensMask(),
    "not a number": Fixed(np.nan, 0.0, 0.0, 1.0),
    "infinite": Fixed(np.inf, -np.inf, 0.5, 0.5),
    "negative": Fixed(-0.5, 0.5, 0.5, 0.5),
    "too much": Fixed(0.5, 0.5, 0.5, 0.0),
    "too little": Fixed(0.2, 0.2, 0.2, 0.0),
    "nothing": Fixed(0.0, 0.0, 0.0, 0.0),
    "too narrow": Fixed(0.5, 0.5),
    "too wide": Fixed(0.25, 0.25, 0.25, 0.25, 0.0),
    "text": Fixed("a", "b", "c", "d"),
    "outside the mask": Fixed(0.25, 0.25, 0.25, 0.25),
}


@pytest.mark.parametrize("policy", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    ("baseline", "action"),
    [(None, "no_action"), ("greet", "greet"), ("remind", "no_action"), ("no_action", "no_action")],
)
def test_a_failing_policy_falls_back_to_the_baseline_that_survived_and_says_so(
    shop: Pack,
    make_snapshot: MakeSnapshot,
    make_request: MakeRequest,
    policy: Policy,
    baseline: str | None,
    action: str,
) -> None:
    """`remind` does not survive the funnel in a good mood, so it cannot be fallen back on."""
    request = make_request(values={"mood": 0.9}, baseline_action=baseline, degraded=("features",))
    decision = one(make_snapshot(shop, policy), request)
    assert (decision.action_id, decision.propensity) == (action, 1.0)
    assert (decision.mode, decision.learnable) == ("fallback", False)
    assert decision.degraded == ("features", "policy")
    assert sum(decision.distribution) == 1.0


class FailsOnSad:
    """Raises for the whole batch where one mood in it is negative."""

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        if (contexts[:, 1] < 0).any():
            raise ZeroDivisionError
        return Uniform().distribution(contexts, mask)


def test_a_row_on_which_the_policy_fails_spoils_no_other(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    requests = [make_request(f"d-{i}", values={"mood": mood}) for i, mood in enumerate((0.1, -0.1, 0.2))]
    snapshot = make_snapshot(shop, FailsOnSad())
    decisions = decide_many(snapshot, requests, now=NOW, secret=SECRET)
    assert [decision.mode for decision in decisions] == ["online", "fallback", "online"]
    assert decisions == [one(snapshot, request) for request in requests]


def test_a_policy_that_hands_out_its_own_array_finds_it_unchanged(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    row = np.array([[0.1, 0.2, 0.3, 0.4]])

    class Cached:
        def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
            return row

    one(make_snapshot(shop, Cached()), make_request(values={"mood": 0.0}, explore=False))
    assert row.tolist() == [[0.1, 0.2, 0.3, 0.4]]


def test_a_distribution_in_another_memory_order_is_read_alike() -> None:
    class Columnwise:
        def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
            return np.asfortranarray(Uniform().distribution(contexts, mask))

    contexts, mask = np.zeros((5, 2), dtype=np.float32), np.ones((5, 3), dtype=np.bool_)
    distribution, sound = safe_distribution(Columnwise(), contexts, mask)
    assert distribution.flags.c_contiguous
    assert sound.all()


# Phrasings.


def test_a_phrasing_is_drawn_evenly(shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest) -> None:
    """`greet` has two: of 2,000 draws each gets 1,000, give or take 5 * sqrt(500) = 112."""
    snapshot = make_snapshot(shop, Fixed(0.0, 1.0, 0.0, 0.0))
    requests = [make_request(f"d-{i}") for i in range(2_000)]
    decisions = decide_many(snapshot, requests, now=NOW, secret=SECRET)
    assert {d.treatment_id for d in decisions} == {"warm", "formal"}
    assert {d.treatment_propensity for d in decisions} == {0.5}
    assert abs(sum(d.treatment_id == "warm" for d in decisions) - 1_000) < 112


def test_an_action_without_phrasings_has_none(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    decision = one(make_snapshot(shop, Fixed(1.0, 0.0, 0.0, 0.0)), make_request())
    assert (decision.treatment_id, decision.treatment_propensity) == (None, 1.0)


def test_a_persona_stays_the_same_through_a_session_and_across_versions(
    shop_text: str, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    """`offer` may be phrased formally or boldly: a session that was greeted formally is never addressed boldly."""
    text = shop_text.replace(
        "cost: 0.2", "cost: 0.2, treatments: {bold: {en: Buy}, formal: {en: Please}, warm: {en: You}}"
    )
    pack = parse_pack(text.encode(), source="x")
    greets, offers = Fixed(0.0, 1.0, 0.0, 0.0), Fixed(0.0, 0.0, 0.0, 1.0)
    told = set()
    for session in range(60):
        asked = {"session_id": f"s-{session}"}
        first, second = (one(make_snapshot(pack, greets), make_request(f"{session}-{i}", **asked)) for i in range(2))
        later = one(make_snapshot(pack, greets, version="2"), make_request(f"{session}-l", **asked))
        other = one(make_snapshot(pack, offers), make_request(f"{session}-o", **asked))
        assert first.treatment_id == second.treatment_id == later.treatment_id
        told.add((first.treatment_id, other.treatment_id))
    assert told == {("warm", "warm"), ("formal", "formal"), ("warm", "bold"), ("formal", "bold")}


def test_the_phrasing_does_not_lean_on_the_action_drawn(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    """Both come from the decision's id: over 4,000 decisions the draw's mean is the same for either phrasing."""
    snapshot = make_snapshot(shop, Fixed(0.0, 1.0, 0.0, 0.0))
    decisions = decide_many(snapshot, [make_request(f"d-{i}") for i in range(4_000)], now=NOW, secret=SECRET)
    means = [
        np.mean([d.draw / WHOLE for d in decisions if d.treatment_id == treatment]) for treatment in ("warm", "formal")
    ]
    assert abs(means[0] - means[1]) < 5 * (1 / 12 / 2_000 * 2) ** 0.5


def test_a_decision_carries_all_that_made_it(
    shop: Pack, make_snapshot: MakeSnapshot, make_request: MakeRequest
) -> None:
    snapshot, request = make_snapshot(shop, Uniform()), make_request(values={"mood": 0.0})
    decision = one(snapshot, request)
    assert decision.request is request
    assert decision.context is request.context
    assert (decision.pack, decision.pack_digest) == ("shop", shop.digest)
    assert (decision.bundle_id, decision.policy) == (snapshot.bundle_id, snapshot.policy)
    assert decision.candidates == ("no_action", "greet", "remind", "offer")
    assert decision.decided_at == NOW
