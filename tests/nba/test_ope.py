"""Estimators: arithmetic by hand, intervals that cover, and what a wrong log does to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nba.errors import EmptyLogError, ShapeError
from nba.models.linear import LinearModel
from nba.ope import (
    Estimate,
    Terms,
    bootstrap,
    cross_fit,
    direct_method,
    doubly_robust,
    estimates,
    ips,
    lift,
    mean_weight,
    snips,
)
from nba.rounds import LoggedRounds

Estimator = Callable[..., Estimate]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def make(
    actions: list[int],
    propensities: list[float],
    rewards: list[float],
    *,
    k: int = 2,
    subjects: list[int] | None = None,
) -> LoggedRounds:
    """Rounds of one constant column; each of a customer of its own where not told otherwise."""
    n = len(actions)
    return LoggedRounds(
        contexts=np.ones((n, 1), dtype=np.float32),
        mask=np.ones((n, k), dtype=np.bool_),
        actions=np.array(actions, dtype=np.int64),
        propensities=np.array(propensities, dtype=np.float64),
        rewards=np.array(rewards, dtype=np.float64),
        subjects=np.array(range(n) if subjects is None else subjects, dtype=np.uint64),
    )


# w = 0.5/0.5, 1/0.5, 0.5/0.25, 0/0.75 = 1, 2, 2, 0
FOUR = make([0, 1, 1, 0], [0.5, 0.5, 0.25, 0.75], [1.0, 0.0, 1.0, 0.0])
TARGET = np.array([[0.5, 0.5], [0.0, 1.0], [0.5, 0.5], [0.0, 1.0]])
Q_HAT = np.array([[0.5, 1.0]] * 4)
TERMS = Terms.of(FOUR, TARGET, Q_HAT)


def test_a_weight_is_target_probability_over_propensity() -> None:
    assert TERMS.weights.tolist() == [1.0, 2.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (mean_weight, 5 / 4),  # (1 + 2 + 2 + 0) / 4
        (ips, 3 / 4),  # (1*1 + 2*0 + 2*1 + 0*0) / 4
        (snips, 3 / 5),  # the same over the weights' sum
        (direct_method, 3.5 / 4),  # 0.5*0.5 + 0.5*1 = 0.75, 1, 0.75, 1
        (doubly_robust, 2 / 4),  # 0.75 + 1*(1 - 0.5), 1 + 2*(0 - 1), 0.75 + 2*(1 - 1), 1 + 0: 1.25, -1, 0.75, 1
    ],
)
def test_an_estimate_equals_the_arithmetic_by_hand(estimator: Estimator, expected: float) -> None:
    """Effective sample: (1 + 2 + 2)^2 / (1 + 4 + 4) = 25 / 9."""
    estimate = estimator(TERMS, rng=rng())
    assert estimate.value == expected
    assert estimate.n == 4
    assert estimate.effective_n == 25 / 9
    assert estimate.low <= estimate.value <= estimate.high


def test_all_estimates_at_once_are_the_single_ones() -> None:
    single = {e.__name__: e for e in (mean_weight, ips, snips, direct_method, doubly_robust)}
    together = estimates(TERMS, rng=rng())
    assert {name: e.value for name, e in together.items()} == {n: e(TERMS, rng=rng()).value for n, e in single.items()}
    assert list(together) == list(single)


def test_snips_does_not_change_when_all_weights_double() -> None:
    """w = (2, 4), r = (1, 0): V = 2 / 6, as for w = (1, 2)."""
    once = make([0, 0], [0.5, 0.25], [1.0, 0.0])
    doubled = make([0, 0], [0.25, 0.125], [1.0, 0.0])
    half = np.full((2, 2), 0.5)
    assert snips(Terms.of(once, half), rng=rng()).value == 1 / 3
    assert snips(Terms.of(doubled, half), rng=rng()).value == 1 / 3


def test_doubly_robust_with_a_model_of_zero_is_ips() -> None:
    terms = Terms.of(FOUR, TARGET, np.zeros((4, 2)))
    assert doubly_robust(terms, rng=rng()) == ips(terms, rng=rng())


def test_doubly_robust_with_a_perfect_model_has_no_spread() -> None:
    """Rewards are 1 for action 0 and 0 for action 1; the target is half and half: every term is 0.5."""
    terms = Terms.of(
        make([0, 1, 0], [0.9, 0.1, 0.9], [1.0, 0.0, 1.0]), np.full((3, 2), 0.5), np.array([[1.0, 0.0]] * 3)
    )
    estimate = doubly_robust(terms, rng=rng())
    assert (estimate.low, estimate.value, estimate.high) == (0.5, 0.5, 0.5)


def test_the_logging_policy_is_worth_its_mean_reward() -> None:
    terms = Terms.logged(FOUR)
    assert ips(terms, rng=rng()).value == 0.5
    assert ips(terms, rng=rng()).effective_n == 4


def test_the_target_that_logged_has_weights_of_one() -> None:
    rounds = make([0, 1, 1], [0.25, 0.75, 0.75], [1.0, 0.0, 1.0])
    assert Terms.of(rounds, np.array([[0.25, 0.75]] * 3)).weights.tolist() == [1.0, 1.0, 1.0]


def test_moments_with_other_numbers_of_actions_are_judged_together() -> None:
    """One round of two actions, w r = 1; one of three, w r = (1/3) / (1/6) = 2: their mean is 1.5."""
    two = Terms.of(make([1], [0.5], [1.0]), np.array([[0.5, 0.5]]))
    three = Terms.of(make([2], [1 / 6], [1.0], k=3), np.array([[1 / 3, 1 / 3, 1 / 3]]))
    both = Terms.concatenate([two, three])
    assert len(both) == 2
    assert ips(both, rng=rng()).value == pytest.approx(1.5)


def test_an_action_the_log_never_took_shows_in_the_mean_weight_only() -> None:
    """All of the log took action 0; the target puts half on action 1: half the weight is lost, snips hides it."""
    terms = Terms.of(make([0, 0], [1.0, 1.0], [1.0, 1.0]), np.full((2, 2), 0.5))
    assert mean_weight(terms, rng=rng()).value == 0.5
    assert ips(terms, rng=rng()).value == 0.5
    assert snips(terms, rng=rng()).value == 1.0


def test_a_target_without_any_weight_has_no_snips_and_no_effective_sample() -> None:
    terms = Terms.of(make([0, 0], [1.0, 1.0], [1.0, 1.0]), np.array([[0.0, 1.0]] * 2), np.array([[0.2, 0.4]] * 2))
    told = estimates(terms, rng=rng())
    assert all(np.isnan([told["snips"].value, told["snips"].low, told["snips"].high]))
    assert told["snips"].effective_n == 0.0
    assert told["doubly_robust"] == told["direct_method"]
    assert told["direct_method"].value == 0.4


def test_without_any_reward_the_interval_is_a_point() -> None:
    estimate = ips(Terms.of(make([0, 1], [0.5, 0.5], [0.0, 0.0]), np.full((2, 2), 0.5)), rng=rng())
    assert (estimate.low, estimate.value, estimate.high) == (0.0, 0.0, 0.0)


# Errors.


def test_no_rounds_is_an_error_of_its_own() -> None:
    empty = Terms.of(make([], [], []), np.zeros((0, 2)), np.zeros((0, 2)))
    for call in (ips, doubly_robust):
        with pytest.raises(EmptyLogError, match="no rounds"):
            call(empty, rng=rng())
    with pytest.raises(EmptyLogError):
        lift(empty, empty, rng=rng())
    with pytest.raises(EmptyLogError):
        Terms.concatenate([])


@pytest.mark.parametrize("shape", [(4, 3), (3, 2)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="target has shape"):
        Terms.of(FOUR, np.full(shape, 1 / shape[1]))
    with pytest.raises(ShapeError, match="q_hat has shape"):
        Terms.of(FOUR, TARGET, np.zeros(shape))


@pytest.mark.parametrize("row", [[0.5, 0.4], [1.5, -0.5], [np.nan, 1.0]])
def test_a_target_that_is_no_distribution_is_refused(row: list[float]) -> None:
    with pytest.raises(ShapeError, match="no distribution"):
        Terms.of(FOUR, np.array([*TARGET[:3].tolist(), row]))


@pytest.mark.parametrize("estimator", [direct_method, doubly_robust])
def test_a_model_estimator_without_a_model_is_refused(estimator: Estimator) -> None:
    with pytest.raises(ShapeError, match="no model values"):
        estimator(Terms.of(FOUR, TARGET), rng=rng())
    assert list(estimates(Terms.of(FOUR, TARGET), rng=rng())) == ["mean_weight", "ips", "snips"]


def test_a_lift_on_other_rounds_is_refused() -> None:
    reversed_rounds = FOUR.take(np.arange(4)[::-1])
    with pytest.raises(ShapeError, match="other rounds"):
        lift(TERMS, Terms.of(reversed_rounds, TARGET, Q_HAT), rng=rng())


# Lift.


def test_a_lift_is_the_difference_of_two_doubly_robust_values() -> None:
    """TARGET is worth 0.5 (above). All on action 0: w = 2, 0, 0, 4/3.

    0.5 + 2*(1 - 0.5), 0.5, 0.5, 0.5 + 4/3*(0 - 0.5) = 1.5, 0.5, 0.5, -1/6: 7/12 on average.
    """
    other = Terms.of(FOUR, np.array([[1.0, 0.0]] * 4), Q_HAT)
    assert lift(other, TERMS, rng=rng()).value == pytest.approx(7 / 12 - 0.5)
    assert lift(other, TERMS, rng=rng()).effective_n == pytest.approx((10 / 3) ** 2 / (4 + 16 / 9))


def test_a_policy_has_no_lift_over_itself() -> None:
    same = lift(TERMS, TERMS, rng=rng())
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)


def test_a_lift_is_narrower_than_the_estimates_it_compares() -> None:
    """Two targets that differ in one round of ten."""
    rounds, target, q_hat = simulated(2_000, np.random.default_rng(3))
    other = target.copy()
    other[::10] = other[::10, ::-1]
    challenger, champion = Terms.of(rounds, other, q_hat), Terms.of(rounds, target, q_hat)
    assert width(lift(challenger, champion, rng=rng())) < 0.5 * width(doubly_robust(champion, rng=rng()))


# Intervals.


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def simulated(n: int, rng: np.random.Generator, *, base: float = 0.2) -> tuple[LoggedRounds, np.ndarray, np.ndarray]:
    """n rounds of three actions in a context of one number, a target and a model that is wrong by a factor.

    P(r = 1 | x, a) = base (1 + a x) with x in [-0.5, 0.5]; the log prefers action 0, the target action 2.
    """
    x = rng.uniform(-0.5, 0.5, n)
    logging = np.tile([0.6, 0.25, 0.15], (n, 1))
    actions = (rng.random((n, 1)) > np.cumsum(logging, axis=1)).sum(axis=1)
    chance = base * (1 + x[:, None] * np.arange(3))
    rounds = LoggedRounds(
        contexts=np.stack([np.ones(n), x], axis=1).astype(np.float32),
        mask=np.ones((n, 3), dtype=np.bool_),
        actions=actions,
        propensities=logging[np.arange(n), actions],
        rewards=(rng.random(n) < chance[np.arange(n), actions]).astype(np.float64),
        subjects=rng.integers(2**63, size=n).astype(np.uint64),
    )
    return rounds, np.tile([0.2, 0.3, 0.5], (n, 1)), 0.8 * chance


def coverage(n: int, base: float, truths: dict[str, float], *, replications: int = 200) -> dict[str, float]:
    """The share of replications whose interval holds the truth, by estimator."""
    draws = np.random.default_rng(11)
    held = dict.fromkeys(truths, 0)
    for _ in range(replications):
        told = estimates(Terms.of(*simulated(n, draws, base=base)), rng=draws, resamples=200)
        for name, truth in truths.items():
            held[name] += told[name].low <= truth <= told[name].high
    return {name: count / replications for name, count in held.items()}


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """The mean of x is 0, so every policy is worth 0.2 and the mean weight is 1."""
    covered = coverage(500, 0.2, {"mean_weight": 1.0, "ips": 0.2, "snips": 0.2, "doubly_robust": 0.2})
    assert all(0.90 <= share <= 0.99 for share in covered.values()), covered


def test_intervals_for_rare_rewards_cover_nearly_as_often() -> None:
    """One reward in a hundred rounds, 20 in all: the percentile interval misses a little more often."""
    covered = coverage(2_000, 0.01, {"ips": 0.01, "snips": 0.01, "doubly_robust": 0.01})
    assert all(0.87 <= share <= 0.99 for share in covered.values()), covered


def test_importance_weighting_and_doubly_robust_are_unbiased_and_a_wrong_model_is_not() -> None:
    """200 logs of 500 rounds: the mean is within four standard errors of 0.2; the model says 0.8 of it."""
    draws = np.random.default_rng(5)
    told = [estimates(Terms.of(*simulated(500, draws)), rng=draws, resamples=1) for _ in range(200)]
    for name, truth in (("ips", 0.2), ("snips", 0.2), ("doubly_robust", 0.2), ("direct_method", 0.16)):
        values = np.array([t[name].value for t in told])
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(values)), name


def test_a_good_model_narrows_doubly_robust() -> None:
    """Rewards that the model explains: r = 2 + a + noise of 0.1."""
    draws = np.random.default_rng(2)
    n = 1_000
    actions = draws.integers(3, size=n)
    rewards = 2.0 + actions + draws.normal(0, 0.1, n)
    rounds = make(actions.tolist(), [1 / 3] * n, rewards.tolist(), k=3)
    terms = Terms.of(rounds, np.tile([0.1, 0.1, 0.8], (n, 1)), np.tile([2.0, 3.0, 4.0], (n, 1)))
    assert width(doubly_robust(terms, rng=rng())) < 0.1 * width(ips(terms, rng=rng()))


def test_the_interval_of_a_mean_is_the_textbook_one_where_rewards_are_common() -> None:
    """2,000 coins: 0.5 +- 1.96 sqrt(0.25 / 2,000) = +- 0.0219."""
    rewards = [0.0, 1.0] * 1_000
    estimate = ips(Terms.logged(make([0] * 2_000, [1.0] * 2_000, rewards)), rng=rng())
    assert estimate.low == pytest.approx(0.5 - 0.0219, abs=0.003)
    assert estimate.high == pytest.approx(0.5 + 0.0219, abs=0.003)


def test_the_interval_of_a_rare_reward_is_not_symmetric() -> None:
    """Three rewards in 1,000 rounds: at least a quarter longer upwards."""
    estimate = ips(Terms.logged(make([0] * 1_000, [1.0] * 1_000, [1.0] * 3 + [0.0] * 997)), rng=rng())
    assert estimate.low >= 0.0
    assert estimate.high - estimate.value > 1.25 * (estimate.value - estimate.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert ips(TERMS, rng=rng()) == ips(TERMS, rng=rng())
    assert ips(TERMS, rng=rng()) != ips(TERMS, rng=np.random.default_rng(8))


def test_customers_are_resampled_whole() -> None:
    """Every round four times: of one customer nothing new, of four customers half the width."""
    rounds, target, _ = simulated(500, np.random.default_rng(4))
    four_times = LoggedRounds.concatenate([rounds] * 4)
    others = make([0] * 2_000, [1.0] * 2_000, [0.0] * 2_000).subjects
    once = ips(Terms.of(rounds, target), rng=rng())
    same = ips(Terms.of(four_times, np.tile(target, (4, 1))), rng=rng())
    separate = Terms.of(four_times, np.tile(target, (4, 1)))
    separate = Terms(separate.weights, separate.rewards, separate.predicted, separate.expected, others)
    assert (same.low, same.high) == pytest.approx((once.low, once.high))
    assert width(ips(separate, rng=rng())) == pytest.approx(0.5 * width(once), rel=0.1)


def test_groups_of_customers_give_the_interval_of_customers(monkeypatch: pytest.MonkeyPatch) -> None:
    """6,000 customers in groups of three."""
    terms = Terms.of(*simulated(6_000, np.random.default_rng(6)))
    single = doubly_robust(terms, rng=rng())
    monkeypatch.setattr(bootstrap, "MAX_UNITS", 2_000)
    grouped = doubly_robust(terms, rng=rng())
    assert grouped.value == single.value
    assert width(grouped) == pytest.approx(width(single), rel=0.1)


# Cross-fitting.


def some_rounds(seed: int = 9) -> tuple[LoggedRounds, np.ndarray]:
    """400 rounds of 100 customers, and features of three actions: a constant and one each."""
    rounds, _, _ = simulated(400, np.random.default_rng(seed))
    columns = (rounds.contexts, rounds.mask, rounds.actions, rounds.propensities, rounds.rewards)
    return LoggedRounds(*columns, np.arange(400, dtype=np.uint64) % 100), np.hstack([np.ones((3, 1)), np.eye(3)])


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_no_round_is_predicted_by_a_model_that_saw_its_customer(folds: int) -> None:
    """Other rewards for customer 17 change the values of others, never those of its own four rounds."""
    rounds, features = some_rounds()
    rewards = rounds.rewards.copy()
    own = rounds.subjects == 17
    rewards[own] += 100.0
    columns = (rounds.contexts, rounds.mask, rounds.actions, rounds.propensities, rewards, rounds.subjects)
    before = cross_fit(rounds, features, folds=folds)
    after = cross_fit(LoggedRounds(*columns), features, folds=folds)
    assert np.array_equal(before[own], after[own])
    assert (before != after).any()


def test_two_folds_are_two_models_each_for_the_other() -> None:
    """Customers in order, alternately in fold 0 and 1: the even ones are predicted by a model of the odd ones."""
    rounds, features = some_rounds()
    even = rounds.subjects % 2 == 0
    of_odd = LinearModel.fit(rounds.take(~even), features, ridge=1.0).values(rounds.contexts[even])
    assert np.array_equal(cross_fit(rounds, features, folds=2)[even], of_odd)


def test_a_single_customer_is_predicted_as_zero() -> None:
    rounds = make([0, 1], [0.5, 0.5], [1.0, 1.0], subjects=[3, 3])
    assert cross_fit(rounds, np.eye(2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_no_rounds_have_no_values() -> None:
    assert cross_fit(make([], [], []), np.eye(2)).shape == (0, 2)


def test_one_fold_is_refused() -> None:
    with pytest.raises(ShapeError, match="1 fold"):
        cross_fit(FOUR, np.eye(2), folds=1)


# What a wrong log does. One context; the policy takes `act` (column 1) with 0.8 and nothing with 0.2; acting earns 1.
# The target does either with 0.5 and is worth 0.5. A right log in exact proportions, ten rounds of them:
# two of nothing, w = 0.5/0.2 = 2.5, and eight of acting, w = 0.5/0.8 = 0.625. Sum 5 + 5 = 10: mean weight 1, IPS 0.5.

NOTHING, ACT = (0, 0.2, 0.0), (1, 0.8, 1.0)  # action, propensity logged, reward
RIGHT = [NOTHING] * 2 + [ACT] * 8
HALF = (0.5, 0.5)


def judged(log: list[tuple[int, float, float]], target: tuple[float, float] = HALF) -> dict[str, Estimate]:
    """The estimates of a log a hundred times over."""
    actions, propensities, rewards = (list(column) for column in zip(*(log * 100), strict=True))
    rounds = make(actions, propensities, rewards)
    return estimates(Terms.of(rounds, np.tile(target, (len(rounds), 1))), rng=rng())


def test_a_right_log_has_mean_weight_one_and_the_true_value() -> None:
    told = judged(RIGHT)
    assert told["mean_weight"].value == pytest.approx(1.0)
    assert told["ips"].value == told["snips"].value == pytest.approx(0.5)


def test_a_guardrail_after_sampling_raises_the_mean_weight() -> None:
    """Acting is barred after the draw, the draw's propensity is logged. The target must do nothing: w = 1/0.2, 1/0.8.

    2 * 5 + 8 * 1.25 = 20 over ten rounds: mean weight 2, where the final distribution, (1, 0), would have given 1.
    """
    wrong = [(0, 0.2, 0.5)] * 2 + [(0, 0.8, 0.5)] * 8
    told = judged(wrong, (1.0, 0.0))
    assert told["mean_weight"].value == pytest.approx(2.0)
    assert told["mean_weight"].low > 1.0
    assert told["ips"].value == pytest.approx(2 * told["snips"].value)


def test_a_fallback_logged_with_the_policys_propensity_raises_the_mean_weight() -> None:
    """One more round in which the policy failed and nothing was done: 12.5 over eleven rounds."""
    told = judged([*RIGHT, NOTHING])
    assert told["mean_weight"].value == pytest.approx(12.5 / 11)
    assert told["mean_weight"].low > 1.0


def test_lost_records_of_an_action_move_the_mean_weight() -> None:
    """Half of those of doing nothing: (2.5 + 5) / 9. Half of those of acting: (5 + 2.5) / 6."""
    fewer, more = judged(RIGHT[1:])["mean_weight"], judged(RIGHT[:6])["mean_weight"]
    assert fewer.value == pytest.approx(7.5 / 9)
    assert fewer.high < 1.0
    assert more.value == pytest.approx(7.5 / 6)
    assert more.low > 1.0


def test_rewards_counted_twice_raise_the_value_and_no_mean_weight_tells() -> None:
    """One of eight rewards is 2: IPS 0.5 + 0.625 / 10. That is why the join counts a key once."""
    told = judged([(1, 0.8, 2.0), *RIGHT[:-1]])
    assert told["mean_weight"].value == pytest.approx(1.0)
    assert told["ips"].value == pytest.approx(0.5625)
    assert told["snips"].value == pytest.approx(0.5625)


def test_decisions_nobody_saw_lower_the_value_and_no_mean_weight_tells() -> None:
    """Two of ten, in proportion, earn nothing: 0.4. That is why the join leaves out what was not activated."""
    unseen = [(action, propensity, 0.0) for action, propensity, _ in RIGHT]
    told = judged(RIGHT * 4 + unseen)
    assert told["mean_weight"].value == pytest.approx(1.0)
    assert told["ips"].value == told["snips"].value == pytest.approx(0.4)


def test_a_softmax_logged_for_an_argmax_shows_in_the_mean_weight() -> None:
    """The policy always acts and logs 0.8: 0.5 / 0.8 in every round."""
    told = judged([ACT] * 10)
    assert told["mean_weight"].value == pytest.approx(0.625)
    assert told["mean_weight"].high < 1.0
