"""From records to rounds: a pure function of the set of records."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nba.decide import decide_many
from nba.decision import Decision, DecisionRequest, PolicyRef
from nba.encoder import Encoder
from nba.facts import Field
from nba.join import Joined, join, settle, subject_hash
from nba.ope import Terms, mean_weight
from nba.pack import Action, Moment, Outcome, Pack
from nba.pack_file import load_pack
from nba.policies import Uniform
from nba.records import ActivationRecord, ConsentRecord, DecisionRecord, OverrideRecord, Record, RewardRecord, Shown
from nba.snapshot import Snapshot
from nba.types import NO_ACTION, Context

T = datetime(2026, 11, 1, 12, tzinfo=UTC)
NEXT_WEEK = T + timedelta(days=7)
REF = PolicyRef(name="shop", version="1", kind="uniform", digest="0")


def action(cost: float = 0.0) -> Action:
    return Action(layer="cognitive", channel="web", trigger="always", cost=cost)


PACK = Pack(
    pack="shop",
    version=1,
    reward_version=1,
    fields={"mood": Field(type="number", range=(-1.0, 1.0)), "local": Field(type="boolean")},
    moments={
        "greet": Moment(
            fields=("mood", "local"), actions=("smile", "shout"), reward={"sale": 1.0}, window="24h", default_reward=0.1
        ),
        "leave": Moment(fields=("mood",), actions=("smile",), reward={"sale": 2.0}, window="1h"),
    },
    actions={"smile": action(0.25), "shout": action(0.5)},
    outcomes={"sale": Outcome(), "done": Outcome(closes_window=True)},
)


def decided(decision_id: str = "d1", **changes: Any) -> DecisionRecord:
    """A decision to smile, one of three actions with propensity 0.5, at T; `epoch` is the record's."""
    epoch = changes.pop("epoch", 1)
    values = changes.pop("values", {"mood": 0.5, "local": True})
    context = Context(
        subject=changes.pop("subject", f"{7:064x}"), moment=changes.pop("moment", "greet"), values=values, observed_at=T
    )
    request = DecisionRequest(
        decision_id=decision_id, context=context, defer_activation=changes.pop("defer_activation", False)
    )
    decision = Decision(
        request=request,
        pack="shop",
        pack_digest="0",
        bundle_id="b",
        policy=REF,
        candidates=(NO_ACTION, "smile", "shout"),
        funnel={},
        removed={},
        distribution=(0.25, 0.5, 0.25),
        draw=0,
        action_id="smile",
        propensity=0.5,
        treatment_id=None,
        treatment_propensity=1.0,
        mode="online",
        learnable=True,
        degraded=(),
        decided_at=T,
    )
    shown = Shown(layer="cognitive", channel="web", message=None, delay_ms=0, closes_at=T, default_reward=0.0)
    return DecisionRecord(
        decision=msgspec.structs.replace(decision, **changes), shown=shown, fingerprint="f", epoch=epoch
    )


def rewarded(decision_id: str = "d1", **changes: Any) -> RewardRecord:
    """A sale, an hour after T, received a second later."""
    observed_at = changes.pop("observed_at", T + timedelta(hours=1))
    given = {
        "outcome": "sale",
        "value": 1.0,
        "idempotency_key": "k1",
        "received_at": observed_at + timedelta(seconds=1),
        **changes,
    }
    return RewardRecord(decision_id=decision_id, observed_at=observed_at, **given)


def activated(decision_id: str = "d1", *, at: datetime) -> ActivationRecord:
    return ActivationRecord(decision_id=decision_id, activated_at=at)


def overridden(decision_id: str = "d1") -> OverrideRecord:
    return OverrideRecord(
        decision_id=decision_id, action_id="shout", actor="p1", overridden_at=T + timedelta(minutes=1)
    )


def joined(*records: Record, pack: Pack = PACK, as_of: datetime = NEXT_WEEK) -> Joined:
    return join(records, pack, as_of=as_of)


def as_bytes(result: Joined) -> tuple[Any, ...]:
    """Everything a join gives, its arrays bit for bit."""
    arrays = [getattr(r, f.name).tobytes() for r in result.rounds.values() for f in fields(r)]
    return arrays, result.counts, result.reports, result.conflicts, result.decision_ids


def test_a_reward_in_the_window_joins_its_decision() -> None:
    """One sale earns 1, the smile costs 0.25."""
    result = joined(decided(), rewarded())
    assert result.counts == {"joined": 1}
    assert result.reports == {"in_window": 1}
    rounds = result.rounds["greet"]
    assert rounds.rewards.tolist() == [0.75]
    assert rounds.actions.tolist() == [1]
    assert rounds.propensities.tolist() == [0.5]
    assert rounds.subjects.tolist() == [0]
    assert result.decision_ids == {"greet": ["d1"], "leave": []}


def test_no_reward_in_the_window_is_the_default_reward() -> None:
    """The default 0.1 less the smile's 0.25."""
    result = joined(decided())
    assert result.counts == {"default": 1}
    assert result.rounds["greet"].rewards.tolist() == [0.1 - 0.25]


def test_an_outcome_of_zero_is_not_the_default() -> None:
    assert joined(decided(), rewarded(value=0.0)).rounds["greet"].rewards.tolist() == [-0.25]


def test_an_open_window_is_excluded_and_never_counted_as_zero() -> None:
    just_before = T + timedelta(hours=24) - timedelta(microseconds=1)
    result = joined(decided(), rewarded(), as_of=just_before)
    assert result.counts == {"immature": 1}
    assert len(result.rounds["greet"]) == 0


def test_a_window_is_closed_at_its_end() -> None:
    assert joined(decided(), as_of=T + timedelta(hours=24)).counts == {"default": 1}


def test_a_closing_outcome_closes_the_round_at_once_and_later_ones_are_late() -> None:
    """The sale comes an hour after the conversation was over: the round keeps the default, 0.1 - 0.25."""
    done = rewarded(outcome="done", idempotency_key="k0", observed_at=T + timedelta(minutes=5))
    result = joined(decided(), done, rewarded(), as_of=T + timedelta(hours=2))
    assert result.counts == {"default": 1}
    assert result.reports == {"in_window": 1, "late": 1}
    assert result.rounds["greet"].rewards.tolist() == [0.1 - 0.25]


def test_a_late_reward_is_counted_and_not_used() -> None:
    result = joined(decided(), rewarded(observed_at=T + timedelta(hours=25)))
    assert result.counts == {"default": 1}
    assert result.reports == {"late": 1}


def test_a_retried_reward_is_not_summed() -> None:
    retried = rewarded(received_at=T + timedelta(hours=2))
    assert joined(decided(), rewarded(), retried).rounds["greet"].rewards.tolist() == [0.75]


def test_a_contradicting_reward_is_counted_and_kept_aside() -> None:
    against = rewarded(value=0.0, received_at=T + timedelta(hours=2))
    result = joined(decided(), rewarded(), against)
    assert result.rounds["greet"].rewards.tolist() == [0.75]
    assert result.reports == {"in_window": 1, "conflicting": 1}
    assert result.conflicts == [against]


def test_the_first_received_counts_even_where_another_was_observed_earlier() -> None:
    other = rewarded(value=0.0, observed_at=T + timedelta(minutes=1), received_at=T + timedelta(hours=3))
    assert joined(decided(), other, rewarded()).rounds["greet"].rewards.tolist() == [0.75]


def test_a_reward_without_its_decision_is_parked_until_that_comes() -> None:
    assert joined(rewarded()).reports == {"parked": 1}
    assert joined(rewarded(), decided()).counts == {"joined": 1}


def test_statements_of_consent_change_nothing() -> None:
    stated = ConsentRecord(subject="0a", purposes={"emotion": False}, source=None, observed_at=T, recorded_at=T)
    assert as_bytes(joined(stated, decided(), rewarded(), stated)) == as_bytes(joined(decided(), rewarded()))


def test_a_deferred_decision_counts_only_once_activated() -> None:
    assert joined(decided(defer_activation=True), rewarded()).counts == {"not_activated": 1}


def test_the_window_opens_at_the_first_activation() -> None:
    """Activated 23 h after the decision: a sale 2 h later, 25 h after it, is in the window."""
    shown, again = T + timedelta(hours=23), T + timedelta(hours=40)
    sale = rewarded(observed_at=T + timedelta(hours=25))
    records = decided(defer_activation=True), activated(at=again), activated(at=shown), sale
    assert joined(*records).counts == {"joined": 1}
    assert joined(*records, as_of=shown + timedelta(hours=23)).counts == {"immature": 1}


def test_an_activation_that_was_not_deferred_moves_no_window() -> None:
    result = joined(decided(), activated(at=T + timedelta(hours=23)), rewarded(observed_at=T + timedelta(hours=25)))
    assert result.reports == {"late": 1}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"mode": "fallback", "learnable": False}, "not_learnable"),
        ({"mode": "fallback", "learnable": True}, "not_learnable"),
        ({"learnable": False}, "not_learnable"),
        ({"mode": "deterministic", "learnable": False}, "not_learnable"),
        ({"propensity": 0.0}, "not_learnable"),
        ({"action_id": "sing"}, "unknown_action"),
        ({"moment": "arrive"}, "unknown_moment"),
        ({"pack": "bank"}, "other_pack"),
    ],
)
def test_what_cannot_be_weighted_is_told_and_kept_out(changes: dict[str, Any], state: str) -> None:
    result = joined(decided(**changes), rewarded())
    assert result.counts == {state: 1}
    assert sum(map(len, result.rounds.values())) == 0


def test_an_overridden_decision_is_void() -> None:
    result = joined(decided(), rewarded(), overridden())
    assert result.counts == {"void": 1}
    assert len(result.rounds["greet"]) == 0


def test_the_canonical_decision_is_the_first_of_the_highest_epoch() -> None:
    later = T + timedelta(minutes=1)
    records = [
        decided(propensity=0.1, epoch=1, decided_at=T - timedelta(minutes=1)),
        decided(propensity=0.2, epoch=2, decided_at=later),
        decided(propensity=0.3, epoch=2),
    ]
    for order in (records, records[::-1]):
        result = joined(*order, rewarded())
        assert result.rounds["greet"].propensities.tolist() == [0.3]
        assert result.counts == {"joined": 1}


def test_two_decisions_of_one_id_epoch_and_time_are_told_apart_by_content_not_by_order() -> None:
    one, other = decided(propensity=0.1), decided(propensity=0.2)
    assert as_bytes(joined(one, other)) == as_bytes(joined(other, one))


def test_a_superseded_decision_leaves_no_round() -> None:
    """The later epoch fell back: the earlier one, which could have been learned from, never was."""
    result = joined(decided(epoch=1), decided(epoch=2, mode="fallback", learnable=False))
    assert result.counts == {"not_learnable": 1}


def test_what_came_after_as_of_does_not_count() -> None:
    """A sale observed in the window and received after the cut, an override and a decision after it."""
    cut = T + timedelta(hours=24)
    late_news: list[Record] = [
        rewarded(received_at=cut + timedelta(seconds=1)),
        msgspec.structs.replace(overridden(), overridden_at=cut + timedelta(seconds=1)),
        decided("d2", decided_at=cut + timedelta(seconds=1)),
        decided(epoch=2, propensity=0.9, decided_at=cut + timedelta(seconds=1)),
    ]
    assert as_bytes(joined(decided(), *late_news, as_of=cut)) == as_bytes(joined(decided(), as_of=cut))


def test_since_belongs_to_the_span_and_until_does_not() -> None:
    records = [decided(f"d{h}", decided_at=T + timedelta(hours=h)) for h in range(4)]
    result = join(records, PACK, as_of=NEXT_WEEK, since=T + timedelta(hours=1), until=T + timedelta(hours=3))
    assert result.decision_ids["greet"] == ["d1", "d2"]
    assert result.counts == {"default": 2}


def test_a_reward_of_a_decision_outside_the_span_is_not_parked() -> None:
    result = join([decided(), rewarded()], PACK, as_of=NEXT_WEEK, since=T + timedelta(hours=1))
    assert result.reports == {}


def test_rounds_are_in_the_order_of_time_then_id() -> None:
    records = [decided("b"), decided("a"), decided("c", decided_at=T - timedelta(seconds=1))]
    assert joined(*records).decision_ids["greet"] == ["c", "a", "b"]


def test_the_mask_is_what_was_a_candidate_and_not_removed() -> None:
    result = joined(decided(removed={"shout": "quiet_hours"}), decided("d2", candidates=(NO_ACTION, "smile")))
    assert result.rounds["greet"].mask.tolist() == [[True, True, False], [True, True, False]]


def test_doing_nothing_is_in_every_mask() -> None:
    result = joined(decided(candidates=("smile",)), decided("d2", removed={NO_ACTION: "by mistake"}))
    assert result.rounds["greet"].mask.tolist() == [[True, True, False], [True, True, True]]


def test_old_rounds_are_learned_anew_with_a_later_pack() -> None:
    """Another order, a new action, a new field, a dearer smile and a better sale: 3 * 1 - 0.5."""
    later = msgspec.structs.replace(
        PACK,
        version=2,
        fields={**PACK.fields, "rain": Field(type="boolean")},
        actions={"wave": action(), "shout": action(), "smile": action(0.5)},
        moments={
            "greet": Moment(
                fields=("rain", "mood"), actions=("wave", "shout", "smile"), reward={"sale": 3.0}, window="24h"
            )
        },
    )
    rounds = joined(decided(), rewarded(), pack=later).rounds["greet"]
    assert rounds.actions.tolist() == [3]
    assert rounds.mask.tolist() == [[True, False, True, True]]
    assert rounds.rewards.tolist() == [2.5]
    told = dict(zip(Encoder(later, "greet").columns, rounds.contexts[0].tolist(), strict=True))
    assert told == {"1": 1.0, "rain": 0.0, "mood": 0.5, "mood:missing": 0.0}


def test_an_empty_log_has_rounds_of_the_right_width() -> None:
    """greet: a constant, mood, mood:missing, local; three actions. leave: without local, two actions."""
    result = joined()
    assert result.counts == {}
    assert {m: (r.contexts.shape, r.mask.shape) for m, r in result.rounds.items()} == {
        "greet": ((0, 4), (0, 3)),
        "leave": ((0, 3), (0, 2)),
    }


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("00000000000000ff" + 48 * "a", 255),
        ("u-381", int(hashlib.sha256(b"u-381").hexdigest()[:16], 16)),
        ("ff", int(hashlib.sha256(b"ff").hexdigest()[:16], 16)),
    ],
)
def test_a_subject_is_eight_bytes_of_its_hash(subject: str, expected: int) -> None:
    assert subject_hash(subject) == expected
    assert joined(decided(subject=subject)).rounds["greet"].subjects.tolist() == [expected]


def some_records(rng: random.Random) -> list[Record]:
    """Decisions of few ids, some twice, with reports, activations and overrides in and out of time."""
    ids = [f"d{i}" for i in range(6)]

    def hours() -> datetime:
        return T + timedelta(hours=rng.randrange(40))

    records: list[Record] = [
        decided(
            rng.choice(ids),
            decided_at=hours(),
            epoch=rng.randrange(1, 3),
            propensity=rng.choice([0.25, 0.5]),
            values={"mood": rng.choice([None, -0.5, 0.25]), "local": rng.choice([True, False])},
            defer_activation=rng.random() < 0.3,
            learnable=rng.random() < 0.9,
            moment=rng.choice(["greet", "leave"]),
        )
        for _ in range(10)
    ]
    for _ in range(12):
        records.append(
            rewarded(
                rng.choice([*ids, "nobody"]),
                outcome=rng.choice(["sale", "sale", "done", "gone"]),
                value=rng.choice([0.0, 1.0]),
                observed_at=hours(),
                idempotency_key=rng.choice("ab"),
                received_at=hours(),
            )
        )
    records += [activated(rng.choice(ids), at=hours()) for _ in range(3)]
    return [*records, overridden(rng.choice(ids))]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_order_and_any_repetition_give_the_same_bytes(seed: int) -> None:
    rng = random.Random(seed)
    records = some_records(rng)
    as_of = T + timedelta(hours=rng.randrange(70))
    shuffled = [*records, *rng.choices(records, k=20)]
    rng.shuffle(shuffled)
    assert as_bytes(joined(*shuffled, as_of=as_of)) == as_bytes(joined(*records, as_of=as_of))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_settle_says_of_each_decision_what_the_join_makes_of_it(seed: int) -> None:
    rng = random.Random(seed)
    records = [r for r in some_records(rng) if not isinstance(r, DecisionRecord)]
    decisions = [decided(f"d{i}", decided_at=T + timedelta(hours=i), defer_activation=i % 3 == 0) for i in range(6)]
    as_of = T + timedelta(hours=rng.randrange(10, 70))
    result = joined(*records, *decisions, as_of=as_of)
    settled = [settle(d, *of(d.decision_id, records), PACK, as_of=as_of) for d in decisions]
    assert Counter(s.state for s in settled) == result.counts
    closed = [s.reward for s in settled if s.state in ("joined", "default")]
    assert closed == result.rounds["greet"].rewards.tolist()


def of(decision_id: str, records: Iterable[Record]) -> tuple[list[Any], list[Any], list[Any]]:
    """A decision's rewards, activations and overrides."""
    mine = [r for r in records if r.decision_id == decision_id]
    kinds = (RewardRecord, ActivationRecord, OverrideRecord)
    rewards, activations, overrides = ([r for r in mine if isinstance(r, kind)] for kind in kinds)
    return rewards, activations, overrides


def test_settle_tells_outcomes_and_the_end_of_the_window() -> None:
    waiting = settle(decided(), [rewarded()], [], [], PACK, as_of=T + timedelta(hours=2))
    assert (waiting.state, waiting.reward) == ("immature", None)
    assert waiting.outcomes == {"sale": 1.0}
    assert waiting.closes_at == T + timedelta(hours=24)


def test_settle_of_a_decision_that_is_not_shown_yet_knows_no_end() -> None:
    settled = settle(decided(defer_activation=True), [], [], [], PACK, as_of=NEXT_WEEK)
    assert (settled.state, settled.closes_at) == ("not_activated", None)


def test_settle_tells_the_reward_of_a_fallback_though_nothing_learns_from_it() -> None:
    settled = settle(decided(mode="fallback", learnable=False), [rewarded()], [], [], PACK, as_of=NEXT_WEEK)
    assert (settled.state, settled.reward) == ("not_learnable", 0.75)


def test_settle_tells_no_reward_where_a_person_chose_otherwise() -> None:
    settled = settle(decided(), [rewarded()], [], [overridden()], PACK, as_of=NEXT_WEEK)
    assert (settled.state, settled.reward) == ("void", None)


def test_settle_tells_no_reward_of_an_action_the_pack_has_no_cost_for() -> None:
    settled = settle(decided(action_id="sing"), [rewarded()], [], [], PACK, as_of=NEXT_WEEK)
    assert (settled.state, settled.reward) == ("unknown_action", None)


def test_real_decisions_come_back_as_they_were_made() -> None:
    """Decided by the server's own path with the built-in pack: contexts, masks and propensities bit for bit.

    The mean weight of another target, all of it on the last eligible action, is 1 within its interval.
    """
    pack = load_pack("support")
    snapshot = Snapshot.of(pack, REF, {moment: Uniform() for moment in pack.moments})
    plan = snapshot.plans["tone_tuner"]
    rng = np.random.default_rng(1)
    requests = [
        DecisionRequest(
            decision_id=f"d{i:04}",
            context=Context(
                subject=f"sim-{i:06}",
                moment="tone_tuner",
                values={"sentiment": float(s), "device": "mobile"},
                observed_at=T,
            ),
            exclude=("formal_reply",) if i % 2 else (),
        )
        for i, s in enumerate(rng.uniform(-1, 1, 3_000))
    ]
    decisions = decide_many(snapshot, requests, now=T, secret=b"s" * 32)
    template = decided()
    records = [msgspec.structs.replace(template, decision=d) for d in decisions]
    result = join(records, pack, as_of=NEXT_WEEK)
    rounds = result.rounds["tone_tuner"]
    assert result.decision_ids["tone_tuner"] == [d.decision_id for d in decisions]
    assert rounds.propensities.tolist() == [d.propensity for d in decisions]
    assert [plan.action_ids[a] for a in rounds.actions] == [d.action_id for d in decisions]
    assert (rounds.mask == np.array([d.distribution for d in decisions]).astype(bool)).all()
    sentiment = plan.encoder.column("sentiment")
    assert rounds.contexts[:, sentiment].tolist() == [np.float32(r.context.values["sentiment"]) for r in requests]
    last = rounds.mask.shape[1] - 1 - rounds.mask[:, ::-1].argmax(axis=1)
    target = np.zeros(rounds.mask.shape)
    target[np.arange(len(rounds)), last] = 1.0
    weight = mean_weight(Terms.of(rounds, target), rng=rng)
    assert weight.low < 1.0 < weight.high
    assert weight.high - weight.low < 0.3


def test_more_decisions_than_a_block_stay_with_their_facts() -> None:
    """9,000 decisions, more than two blocks of 4,096, in falling order of time: each keeps its own mood and mask."""
    records = [
        decided(
            f"d{i}",
            decided_at=T - timedelta(seconds=i),
            values={"mood": (i % 5) / 4 - 0.5},
            removed={"shout": "x"} if i % 3 == 0 else {},
        )
        for i in range(9_000)
    ]
    result = joined(*records)
    order = [int(decision_id[1:]) for decision_id in result.decision_ids["greet"]]
    assert order == list(range(8_999, -1, -1))
    rounds = result.rounds["greet"]
    assert rounds.contexts[:, Encoder(PACK, "greet").column("mood")].tolist() == [(i % 5) / 4 - 0.5 for i in order]
    assert rounds.mask[:, 2].tolist() == [i % 3 != 0 for i in order]
