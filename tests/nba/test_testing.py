"""A contract is worth what it catches: for each promise a policy that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.policies import SquareCB, Uniform
from nba.rounds import LoggedRounds
from nba.testing import check_draws, check_policy, check_saved, random_mask
from nba.types import ActionMask, Contexts, Distribution

RNG = np.random.default_rng(0)
CONTEXTS = RNG.uniform(-1.0, 1.0, (30, 8)).astype(np.float32)
MASK = random_mask(30, 5, RNG)
WEIGHTS = RNG.normal(size=(5, 8))


def even(mask: ActionMask) -> Distribution:
    found: Distribution = mask / mask.sum(axis=1, keepdims=True)
    return found


class Policy:
    """A policy given as a function."""

    def __init__(self, distribution: Callable[[Contexts, ActionMask], Distribution]) -> None:
        self.distribution = distribution


class Moody:
    """Answers one way, then another."""

    def __init__(self) -> None:
        self._asked = 0

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        self._asked += 1
        first = mask * np.arange(mask.shape[1], 0, -1) if self._asked % 2 else mask
        return first / first.sum(axis=1, keepdims=True)


def softmax(contexts: Contexts, mask: ActionMask) -> Distribution:
    """By a matrix product, whose last bit depends on how many rows it has."""
    weights = np.exp(np.clip(contexts.astype(np.float64), -1, 1) @ WEIGHTS.T) * mask
    return weights / weights.sum(axis=1, keepdims=True)


def greedy_on_first(contexts: Contexts, mask: ActionMask) -> Distribution:
    found = np.zeros(mask.shape)
    found[np.arange(len(mask)), mask.argmax(axis=1)] = 1.0
    return found


def wipes_contexts(contexts: Contexts, mask: ActionMask) -> Distribution:
    contexts[:] = 0.0
    return even(mask)


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (lambda c, m: even(m)[:, :-1], "shape"),
        (lambda c, m: even(m).astype(np.float32), "dtype float32"),
        (lambda c, m: np.where(m, np.nan, 0.0), "is not finite"),
        (lambda c, m: np.where(m, -1.0, 0.0), "is negative"),
        (lambda c, m: np.full(m.shape, 1.0 / m.shape[1]), "outside the mask"),
        (lambda c, m: 0.9 * even(m), "sums to 1 but for 0.1"),
        (wipes_contexts, "wrote to its inputs"),
        (softmax, "alone differs from itself among others"),
        (lambda c, m: even(m) * (1.0 + 1e-7 * (np.abs(c[:, :1]) > 1e3)), "sums to 1 but for 1e-07"),
    ],
)
def test_a_policy_that_breaks_its_contract_is_told_how(
    broken: Callable[[Contexts, ActionMask], Distribution], what: str
) -> None:
    with pytest.raises(AssertionError, match=what):
        check_policy(Policy(broken), CONTEXTS, MASK)


def test_a_policy_that_does_not_keep_the_floor_it_claims_is_caught() -> None:
    check_policy(Policy(greedy_on_first), CONTEXTS, MASK)
    with pytest.raises(AssertionError, match=r"less than its part of 0\.05"):
        check_policy(Policy(greedy_on_first), CONTEXTS, MASK, floor=0.05)


def test_a_policy_that_changes_its_mind_is_caught() -> None:
    with pytest.raises(AssertionError, match="answered in two ways"):
        check_policy(Moody(), CONTEXTS, MASK)


def test_a_policy_that_prefers_the_first_of_a_list_is_not_permutable() -> None:
    policy = Policy(lambda c, m: even(m * np.arange(1, m.shape[1] + 1)))
    check_policy(policy, CONTEXTS, MASK)
    with pytest.raises(AssertionError, match="depend on the order of the actions"):
        check_policy(policy, CONTEXTS, MASK, permuted=lambda order: policy)


def test_a_sound_policy_passes() -> None:
    check_policy(Uniform(), CONTEXTS, MASK, floor=1.0, permuted=lambda order: Uniform())


def test_a_policy_that_answers_otherwise_after_loading_is_caught(
    tmp_path: Path, shop: Pack, make_rounds: Callable[..., LoggedRounds], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_moment(shop, "basket")
    policy = SquareCB.fit(plan, make_rounds(plan, 50))
    check_saved(shop, "square_cb", {"basket": policy}, tmp_path / "a", rng=np.random.default_rng(0))
    distribution = SquareCB.distribution

    def forgetful(self: SquareCB, contexts: Contexts, mask: ActionMask) -> Distribution:
        """The loaded one is another object; it is off by one part in 10**12."""
        found = distribution(self, contexts, mask)
        return found if self is policy else found * (1.0 + 1e-12)

    monkeypatch.setattr(SquareCB, "distribution", forgetful)
    with pytest.raises(AssertionError, match="answers otherwise once saved and loaded"):
        check_saved(shop, "square_cb", {"basket": policy}, tmp_path / "b", rng=np.random.default_rng(0))


def test_a_random_mask_always_allows_no_action_and_once_everything() -> None:
    mask = random_mask(500, 6, np.random.default_rng(1))
    assert mask[:, 0].all()
    assert mask[0].all()
    assert {int(row.sum()) for row in mask} == {1, 2, 3, 4, 5, 6}


DISTRIBUTION = np.tile([0.7, 0.2, 0.1, 0.0], (10_000, 1))


def drawn(distribution: Distribution) -> np.ndarray:
    draws = np.random.default_rng(3).random(len(distribution))
    return (distribution.cumsum(axis=1) <= draws[:, None]).sum(axis=1)


def test_draws_from_what_was_logged_pass() -> None:
    check_draws(drawn(DISTRIBUTION), DISTRIBUTION)


def test_draws_from_something_near_do_not() -> None:
    """0.67 for 0.7 in 10,000 draws: 300 off, where chance gives sqrt(2,100) = 46."""
    with pytest.raises(AssertionError, match="action 0 came"):
        check_draws(drawn(np.tile([0.67, 0.23, 0.1, 0.0], (10_000, 1))), DISTRIBUTION)


def test_an_action_that_had_no_chance_does_not() -> None:
    actions = drawn(DISTRIBUTION)
    actions[17] = 3
    with pytest.raises(AssertionError, match="action 3 came 1 times"):
        check_draws(actions, DISTRIBUTION)


def test_lost_records_of_one_action_do_not() -> None:
    """Half of the rounds with the last action are missing from the log."""
    actions = drawn(DISTRIBUTION)
    kept = (actions != 2) | (np.arange(len(actions)) % 2 == 0)
    with pytest.raises(AssertionError, match="came"):
        check_draws(actions[kept], DISTRIBUTION[kept])


def test_propensities_from_another_context_do_not() -> None:
    """Each action comes as often as it should, but to the wrong customers: only the weights tell."""
    one, other = [0.8, 0.1, 0.1, 0.0], [0.1, 0.8, 0.1, 0.0]
    logged = np.array([one, other] * 5_000)
    actions = drawn(logged[::-1].copy())
    with pytest.raises(AssertionError, match="mean importance weight of uniform"):
        check_draws(actions, logged)
