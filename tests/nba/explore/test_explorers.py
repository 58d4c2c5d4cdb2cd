"""What holds for every way to explore, and the arithmetic of each by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nba.explore import EXPLORERS, Epsilon, Falcon, InverseGap, Softmax, Thompson
from nba.explore.explorer import Explorer, floored, greedy
from nba.explore.falcon import sharpness
from nba.explore.softmax import softmax
from nba.explore.thompson import shares
from nba.models.linear import LinearModel
from nba.policies.pair import Pair
from nba.testing import check_policy, random_mask

ALL = np.ones((1, 3), dtype=np.bool_)
WITHOUT_SECOND = np.array([[True, False, True]])
ONE = np.ones((1, 1), dtype=np.float32)


def model_of(weights: np.ndarray, rounds: int = 100) -> LinearModel:
    k, d = weights.shape
    return LinearModel(np.zeros((k, d, d)), np.zeros((k, d)), weights, rounds)


VALUES = model_of(np.array([[0.1], [0.5], [0.3]]))


def test_greedy_takes_the_best_of_the_eligible_and_shares_a_tie() -> None:
    values = np.array([[0.1, 0.5, 0.3], [0.5, 0.1, 0.5]])
    assert greedy(values, np.array([[True, False, True], [True, True, True]])).tolist() == [
        [0.0, 0.0, 1.0],
        [0.5, 0.0, 0.5],
    ]


def test_a_floor_is_shared_by_the_eligible() -> None:
    """0.8 (1, 0, 0) + 0.2 (1/2, 0, 1/2) = (0.9, 0, 0.1)."""
    assert floored(np.array([[1.0, 0.0, 0.0]]), WITHOUT_SECOND, 0.2)[0] == pytest.approx([0.9, 0.0, 0.1])


def test_epsilon_by_hand() -> None:
    """epsilon 0.3 of three: 0.1 each, and 0.7 more for the best."""
    assert Epsilon(0.3).distribution(VALUES, ONE, ALL)[0] == pytest.approx([0.1, 0.8, 0.1])


def test_softmax_by_hand() -> None:
    """Values 0, ln 2, ln 5 at temperature 1: odds 1 : 2 : 5."""
    values = np.log([[1.0, 2.0, 5.0]])
    assert softmax(values, ALL, 1.0)[0] == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert softmax(values, WITHOUT_SECOND, 1.0)[0] == pytest.approx([1 / 6, 0.0, 5 / 6])


def test_the_temperature_is_in_parts_of_the_reward_span() -> None:
    """A span of 2 at temperature 0.1: a gap of 0.2 has odds of 1 / e."""
    found = Softmax(2.0, temperature=0.1, floor=0.0).distribution(VALUES, ONE, np.array([[False, True, True]]))
    assert found[0, 2] / found[0, 1] == pytest.approx(1 / math.e)


def test_inverse_gap_has_its_floor() -> None:
    """The last is worse by 0.4 of a span of 2; 25 rounds at scale 4: 1 / (2 + 20 * 0.2) = 1/6; 0.9 / 6 + 0.05 = 0.2."""
    model = model_of(np.array([[0.5], [9.0], [0.1]]), rounds=25)
    found = InverseGap(2.0, scale=4.0, floor=0.1).distribution(model, ONE, WITHOUT_SECOND)
    assert found[0] == pytest.approx([0.8, 0.0, 0.2])


@pytest.mark.parametrize(("rounds", "tau"), [(1, 1), (64, 64), (65, 64), (127, 64), (128, 128)])
def test_falcon_s_gamma_stays_for_an_epoch_and_epochs_double(rounds: int, tau: int) -> None:
    """K = 4: sqrt(4 tau / log(tau / 0.05))."""
    found = sharpness(rounds, np.array([[4]]))
    assert found.tolist() == [[pytest.approx(math.sqrt(4 * tau / math.log(20 * tau)))]]


def test_falcon_by_hand() -> None:
    """64 rounds, K = 2, gamma = scale sqrt(128 / log 1280); scaled so that gamma = 20: 1 / (2 + 20 * 0.1) = 1/4."""
    scale = 20.0 / math.sqrt(128 / math.log(1280))
    model = model_of(np.array([[0.3], [9.0], [0.2]]), rounds=64)
    found = Falcon(1.0, scale=scale, floor=0.0).distribution(model, ONE, WITHOUT_SECOND)
    assert found[0] == pytest.approx([0.75, 0.0, 0.25])


def test_falcon_is_even_before_the_first_round() -> None:
    found = Falcon(1.0).distribution(model_of(np.array([[0.3], [0.1], [0.2]]), rounds=0), ONE, ALL)
    assert found[0] == pytest.approx([1 / 3] * 3)


def test_thompson_counts_in_how_many_draws_an_action_is_best() -> None:
    """Four draws: best are the 1st, the 2nd, the 2nd, and a tie of the 1st and the 3rd."""
    drawn = np.array([[[3.0, 0.0, 1.0, 2.0], [2.0, 5.0, 4.0, 1.0], [1.0, 4.0, 0.0, 2.0]]])
    assert shares(drawn, ALL)[0].tolist() == [0.375, 0.5, 0.125]
    assert shares(drawn, WITHOUT_SECOND)[0].tolist() == [(1 + 0 + 1 + 0.5) / 4, 0.0, (1 + 0.5) / 4]


def test_thompson_weighs_draws_by_the_context() -> None:
    """x = (1, -1): the draws of action 0 give 1 - 0 = 1 and 0 - 1 = -1, those of action 1 give 0 and 0. Floor 0.2."""
    draws = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.0, 0.0]]])
    policy = Thompson(draws, floor=0.2)
    found = policy.distribution(model_of(np.zeros((2, 2))), np.array([[1.0, -1.0]], dtype=np.float32), ALL[:, :2])
    assert found[0] == pytest.approx([0.5, 0.5])


def explorers(k: int, weights: np.ndarray) -> dict[str, tuple[Explorer, float]]:
    """Each with the floor it claims."""
    draws = weights[:, None] + np.random.default_rng(k).normal(0.0, 0.3, (k, 16, weights.shape[1]))
    made: dict[str, tuple[Explorer, float]] = {
        "epsilon": (Epsilon(0.2), 0.2),
        "softmax": (Softmax(2.0, floor=0.1), 0.1),
        "square_cb": (InverseGap(2.0, floor=0.05), 0.05),
        "falcon": (Falcon(2.0, floor=0.05), 0.05),
        "thompson": (Thompson(draws, floor=0.1), 0.1),
    }
    assert made.keys() == EXPLORERS.keys()
    return made


@pytest.mark.parametrize("k", [1, 2, 7, 1000])
@pytest.mark.parametrize("name", EXPLORERS)
def test_each_keeps_the_contract_of_a_policy_and_its_floor(name: str, k: int) -> None:
    rng = np.random.default_rng(k)
    weights = rng.normal(size=(k, 6))
    explore, floor = explorers(k, weights)[name]

    def permuted(order: np.ndarray) -> Pair:
        other = Thompson(explore.draws[order], floor) if isinstance(explore, Thompson) else explore
        return Pair(model_of(weights[order]), other)

    contexts = rng.uniform(-1.0, 1.0, (40, 6)).astype(np.float32)
    check_policy(Pair(model_of(weights), explore), contexts, random_mask(40, k, rng), floor=floor, permuted=permuted)
