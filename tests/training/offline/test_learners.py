"""Every learner on a process solved by hand (`small`), and what all of them share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nba.errors import EmptyLogError, RewardError
from nba.policies.network import Network
from tests.training.offline.small import MASK, SMALL, STATES, sessions
from training.learn import SettingError
from training.offline import LEARNERS, OfflineLearner
from training.offline.behaviour_cloning import behaviour_cloning
from training.offline.episodes import LoggedEpisodes
from training.offline.fitted_q import fitted_q
from training.offline.fitting import Fitting
from training.offline.implicit_q import implicit_q
from training.offline.return_to_go import return_to_go

ONE = Fitting(members=1, hidden=4, epochs=2)


@pytest.fixture(scope="module")
def logged() -> LoggedEpisodes:
    return sessions()


def test_fitted_q_finds_the_values_of_the_best_behaviour(logged: LoggedEpisodes) -> None:
    """Q(A) = 0.6, 1; Q(B) = 0, 1; Q(C) = 0, 0, 5. Neither the next session nor the third action of B adds to A."""
    values = fitted_q(logged, SMALL).logits(STATES)
    assert values[MASK] == pytest.approx([0.6, 1.0, 0.0, 1.0, 0.0, 0.0, 5.0], abs=0.1)


def test_return_to_go_finds_the_values_of_the_logged_behaviour(logged: LoggedEpisodes) -> None:
    """As above, but Q(A, go on) = (0 + 1) / 2."""
    values = return_to_go(logged, SMALL).logits(STATES)
    assert values[MASK] == pytest.approx([0.6, 0.5, 0.0, 1.0, 0.0, 0.0, 5.0], abs=0.1)


def test_one_step_of_improvement_stops_where_the_best_goes_on(logged: LoggedEpisodes) -> None:
    one_step, best = (learn(logged, SMALL).distribution(STATES, MASK) for learn in (return_to_go, fitted_q))
    assert one_step[0].argmax() == 0
    assert best[0].argmax() == 1


def test_implicit_q_with_an_expectile_near_1_goes_on_as_the_best_does(logged: LoggedEpisodes) -> None:
    chances = implicit_q(logged, replace(SMALL, expectile=0.97)).distribution(STATES, MASK)
    assert chances.argmax(axis=1).tolist() == [1, 1, 2]


def test_implicit_q_with_an_expectile_of_a_half_values_the_logged_behaviour(logged: LoggedEpisodes) -> None:
    """V(B) = 0.5, so that A stops for 0.6."""
    chances = implicit_q(logged, replace(SMALL, expectile=0.5, keenness=20.0)).distribution(STATES, MASK)
    assert chances[0].argmax() == 0


def test_a_clone_gives_each_action_its_logged_chance(logged: LoggedEpisodes) -> None:
    """Evenly among two in A and B, among three in C."""
    chances = behaviour_cloning(logged, replace(SMALL, patience=4)).distribution(STATES, MASK)
    assert chances[MASK] == pytest.approx([0.5] * 4 + [1 / 3] * 3, abs=0.08)


def test_a_clone_passes_over_what_no_policy_chose(logged: LoggedEpisodes) -> None:
    """Where only `go on` in A and B counts as chosen, the clone goes on."""
    chosen = replace(logged, choices=logged.rounds.actions == 1)
    chances = behaviour_cloning(chosen, SMALL).distribution(STATES, MASK)
    assert chances[:, 1].min() > 0.9


def test_forced_steps_still_teach_values(logged: LoggedEpisodes) -> None:
    """What happened after a forced step happened all the same."""
    forced = replace(logged, choices=np.zeros(len(logged.rounds), dtype=np.bool_))
    assert np.array_equal(fitted_q(forced, ONE).logits(STATES), fitted_q(logged, ONE).logits(STATES))


def test_a_session_cut_in_b_is_worth_what_b_is_worth() -> None:
    """Half of those that reach B are cut there, with action 0 and reward 0 in the columns: Q(B, stop) and Q(A) stay."""
    values = fitted_q(sessions(600, cut_at_b=0.5), SMALL).logits(STATES)
    assert values[0, 1] == pytest.approx(1.0, abs=0.1)
    assert values[1, :2] == pytest.approx([0.0, 1.0], abs=0.1)


@pytest.mark.parametrize("learn", LEARNERS.values(), ids=LEARNERS)
def test_the_same_seed_gives_the_same_bits(learn: OfflineLearner, logged: LoggedEpisodes) -> None:
    first, again, other = (learn(logged, replace(ONE, seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(_flat(first), _flat(again))
    assert not np.array_equal(_flat(first), _flat(other))


@pytest.mark.parametrize("learn", LEARNERS.values(), ids=LEARNERS)
def test_one_session_is_enough(learn: OfflineLearner, logged: LoggedEpisodes) -> None:
    only = logged.take(np.arange(len(logged)) == 0)
    chances = learn(only, ONE).distribution(STATES, MASK)
    assert np.allclose(chances.sum(axis=1), 1.0)
    assert (chances[~MASK] == 0.0).all()


@pytest.mark.parametrize("learn", LEARNERS.values(), ids=LEARNERS)
def test_no_session_and_no_number_are_refused(learn: OfflineLearner, logged: LoggedEpisodes) -> None:
    with pytest.raises(EmptyLogError):
        learn(logged.take(np.zeros(len(logged), dtype=np.bool_)), ONE)
    broken = logged.take(np.arange(len(logged)) < 3)
    broken.rounds.rewards[2] = np.nan
    with pytest.raises(RewardError, match="round 2"):
        learn(broken, ONE)


@pytest.mark.parametrize("learn", LEARNERS.values(), ids=LEARNERS)
def test_every_epoch_is_told(learn: OfflineLearner, logged: LoggedEpisodes) -> None:
    told = []
    learn(logged, ONE, lambda done, figures: told.append((done, sorted(figures))))
    assert [done for done, _ in told] == [1, 2]
    assert all("loss" in names for _, names in told)


def test_return_to_go_stops_once_those_held_out_fit_worse(logged: LoggedEpisodes) -> None:
    """20 sessions are soon learned by heart."""
    few, told = logged.take(np.arange(len(logged)) < 20), list[int]()
    return_to_go(few, Fitting(epochs=200, rate=1e-2, held_out=0.4), lambda done, _: told.append(done))
    assert told[-1] < 200


def test_fitted_q_stops_once_values_have_settled(logged: LoggedEpisodes) -> None:
    told = list[int]()
    fitted_q(logged, replace(SMALL, epochs=100, patience=3), lambda done, _: told.append(done))
    assert told[-1] < 100


def test_an_unknown_setting_is_named_with_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"no setting 'depth'[\s\S]*members, hidden"):
        Fitting.of({"depth": 3.0})


def test_settings_that_count_are_whole_numbers() -> None:
    fitting = Fitting.of({"members": 3.0, "rate": 0.01})
    assert (fitting.members, fitting.rate) == (3, 0.01)
    assert isinstance(fitting.members, int)


def _flat(network: Network) -> np.ndarray:
    return np.concatenate([layer.weights.ravel() for layer in network.layers])
