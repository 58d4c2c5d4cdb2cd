"""What models are fitted on where another policy logged the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from typer import BadParameter
from typer.testing import CliRunner

from nba.cli import app
from nba.cli.train import FitTo, Source, target_of
from nba.errors import ShapeError
from nba.home import Home
from nba.join import join
from nba.models.linear import LinearModel
from nba.models.model import Model
from nba.pack import Pack
from nba.records import DecisionRecord
from nba.rounds import LoggedRounds
from tests.training.conftest import NOW, history, played, snapshot, uniform, window
from training import targets
from training.learn import SettingError, from_rounds
from training.targets import Target, cross_fitted, expanded, fitted_on, importance, pseudo_rewards
from training.tracking import Tracking
from training.train import train_on_log
from training.truth import SimulatedMoment
from training.window import Split

SHARED_AND_OWN = np.hstack([np.ones((3, 1)), np.eye(3)])  # features of three actions


def logged(
    actions: Sequence[int], propensities: Sequence[float], rewards: Sequence[float], **others: Any
) -> LoggedRounds:
    """Rounds of three actions whose context says nothing, each of a customer of its own."""
    n = len(actions)
    mask = others.get("mask", np.ones((n, 3), dtype=np.bool_))
    subjects = others.get("subjects", np.arange(n, dtype=np.uint64))
    contexts = np.ones((n, 1), dtype=np.float32)
    return LoggedRounds(contexts, mask, np.array(actions), np.array(propensities), np.array(rewards), subjects)


FOUR = logged([0, 1, 1, 2], [0.5, 0.25, 0.25, 0.01], [1.0, 0.0, 2.0, 3.0])


def linear(rounds: LoggedRounds) -> Model:
    return LinearModel.fit(rounds, SHARED_AND_OWN, ridge=1.0)


def never(_: LoggedRounds) -> Model:
    raise AssertionError("a model was asked for")


def test_direct_is_the_rounds_as_they_are() -> None:
    on = fitted_on(Target(), FOUR, never)
    assert on.rounds is FOUR
    assert on.weights is None


def test_importance_weights_are_clipped_and_average_one() -> None:
    """1 / p = (2, 4, 4, 100), the last clipped to 10: their mean is 5, so (0.4, 0.8, 0.8, 2)."""
    on = fitted_on(Target("iw", 10.0), FOUR, never)
    assert on.rounds is FOUR
    np.testing.assert_allclose(importance(FOUR, 10.0), [2.0, 4.0, 4.0, 10.0])
    assert on.weights is not None
    np.testing.assert_allclose(on.weights, [0.4, 0.8, 0.8, 2.0])


def test_pseudo_rewards_correct_the_action_taken_alone() -> None:
    """q = 1 everywhere, weights (2, 4, 4, 10): 1 + 2 (1 - 1), 1 + 4 (0 - 1), 1 + 4 (2 - 1), 1 + 10 (3 - 1)."""
    rewards = pseudo_rewards(FOUR, np.ones((4, 3)), importance(FOUR, 10.0))
    assert rewards.tolist() == [[1, 1, 1], [1, -3, 1], [1, 5, 1], [1, 1, 21]]


def test_a_round_becomes_a_row_for_each_eligible_action_and_weighs_one() -> None:
    """Two and three actions: rows 0 0 1 1 1, weights 1/2 1/2 1/3 1/3 1/3; the model counts two rounds."""
    mask = np.array([[True, False, True], [True, True, True]])
    rounds = logged([0, 1], [0.5, 0.5], [1.0, 1.0], mask=mask)
    on = expanded(rounds, np.arange(6.0).reshape(2, 3))
    assert on.weights is not None
    assert on.rounds.actions.tolist() == [0, 2, 0, 1, 2]
    assert on.rounds.rewards.tolist() == [0, 2, 3, 4, 5]
    assert on.rounds.subjects.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_allclose(on.weights, [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
    assert LinearModel.fit(on.rounds, SHARED_AND_OWN, weights=on.weights).rounds == 2


def test_rows_that_would_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rounds of three actions and one column are twelve numbers."""
    monkeypatch.setattr(targets, "MAX_NUMBERS", 11)
    with pytest.raises(ShapeError, match=r"contexts of 12 numbers, more than 11\nhelp: learn from a shorter window"):
        fitted_on(Target("dr"), FOUR, linear)


def test_no_customer_is_predicted_by_a_model_that_saw_it() -> None:
    """Customers 5 and 9 are the halves: rounds 0 and 2 are predicted from round 1, of reward 8, and round 1 from them.

    One action of reward r seen m times, what is shared and its own each with a ridge of 1: 2 m r / (1 + 2 m).
    """
    rounds = logged([0, 0, 0], [1.0] * 3, [5.0, 8.0, 5.0], subjects=np.array([5, 9, 5], dtype=np.uint64))
    np.testing.assert_allclose(cross_fitted(rounds, linear)[:, 0], [16 / 3, 20 / 5, 16 / 3])


def test_a_single_customer_is_predicted_from_nothing() -> None:
    assert not cross_fitted(logged([0, 0], [1.0, 1.0], [5.0, 8.0], subjects=np.zeros(2, np.uint64)), linear).any()


@pytest.mark.parametrize("wrong", [-3.0, 0.0, 4.0])
def test_mean_pseudo_reward_is_the_true_mean_however_wrong_the_model(wrong: float) -> None:
    """True means (0.2, 0.5, 0.9), logged with (0.7, 0.2, 0.1); within five standard errors of each."""
    rng, n, truth, chances = np.random.default_rng(0), 40_000, np.array([0.2, 0.5, 0.9]), np.array([0.7, 0.2, 0.1])
    actions = rng.choice(3, size=n, p=chances)
    rounds = logged(
        actions.tolist(), chances[actions].tolist(), (rng.random(n) < truth[actions]).astype(float).tolist()
    )
    rewards = pseudo_rewards(rounds, np.full((n, 3), wrong), importance(rounds, 20.0))
    assert (np.abs(rewards.mean(axis=0) - truth) < 5 * rewards.std(axis=0) / n**0.5).all()


def test_what_is_clipped_is_bias() -> None:
    """p = 0.01 and q = 0, reward 1: a weight of 20 in place of 100 makes good a fifth of what q misses."""
    rounds = logged([1] + [0] * 99, [0.01] + [0.99] * 99, [1.0] + [0.0] * 99)
    rewards = pseudo_rewards(rounds, np.zeros((100, 3)), importance(rounds, 20.0))
    assert rewards.mean(axis=0).tolist() == [0.0, 0.2, 0.0]
    assert pseudo_rewards(rounds, np.zeros((100, 3)), importance(rounds, np.inf)).mean(axis=0)[1] == 1.0


@pytest.mark.parametrize("clip", [0.5, float("nan")])
def test_a_clip_below_one_is_refused(clip: float) -> None:
    with pytest.raises(ShapeError, match=f"importance weights clipped at {clip}"):
        Target("iw", clip)


@pytest.mark.parametrize("method", ["iw", "dr"])
@pytest.mark.parametrize("kind", ["square_cb", "epsilon_greedy", "linear+thompson", "quadratic+epsilon", "rff+falcon"])
def test_every_kind_with_a_model_learns_as_many_rounds_on_any_target(
    pack: Pack, simulated: dict[str, SimulatedMoment], kind: str, method: Any
) -> None:
    rounds = {"tone_tuner": played(simulated, uniform(pack), each=60, seed=1)["tone_tuner"]}
    learned: Any = from_rounds(pack, kind, rounds, target=Target(method)).policies["tone_tuner"]
    usual: Any = from_rounds(pack, kind, rounds).policies["tone_tuner"]
    model, direct = learned.model, usual.model
    contexts = rounds["tone_tuner"].contexts
    assert model.rounds == direct.rounds == 60
    assert not np.array_equal(model.values(contexts), direct.values(contexts))


@pytest.mark.parametrize("kind", ["uniform", "rules", "network"])
def test_a_kind_without_a_model_has_no_target(pack: Pack, kind: str) -> None:
    with pytest.raises(SettingError, match=f"{kind} has no model to fit on the target dr"):
        from_rounds(pack, kind, {}, target=Target("dr"))


@pytest.mark.parametrize("method", ["direct", "iw", "dr"])
def test_a_half_life_counts_rounds_whatever_the_target(
    pack: Pack, simulated: dict[str, SimulatedMoment], method: Any
) -> None:
    """60 rounds known, 60 new with a half-life of 60: half of the old and all of the new are 90."""
    rounds = {"tone_tuner": played(simulated, uniform(pack), each=60, seed=1)["tone_tuner"]}
    before = snapshot(pack, dict(from_rounds(pack, "linear+epsilon", rounds).policies))
    learned: Any = from_rounds(
        pack, "linear+epsilon", rounds, previous=before, settings={"half_life": 60.0}, target=Target(method)
    )
    assert learned.policies["tone_tuner"].model.rounds == 90


@pytest.mark.parametrize("method", ["iw", "dr"])
def test_what_cannot_be_learned_from_never_reaches_the_target(
    pack: Pack, simulated: dict[str, SimulatedMoment], method: Any
) -> None:
    """30 decisions, a third of them fallbacks and a third logged as not learnable: ten rounds are left."""
    records = history(uniform(pack), simulated["tone_tuner"], 30, np.random.default_rng(0))
    order = {r.decision_id: i for i, r in enumerate(r for r in records if isinstance(r, DecisionRecord))}
    changes: list[dict[str, Any]] = [{}, {"mode": "fallback"}, {"learnable": False}]
    told = [
        msgspec.structs.replace(
            record, decision=msgspec.structs.replace(record.decision, **changes[order[record.decision_id] % 3])
        )
        if isinstance(record, DecisionRecord)
        else record
        for record in records
    ]
    joined = join(told, pack, as_of=NOW + timedelta(days=30))
    assert joined.counts["not_learnable"] == 20
    learned: Any = from_rounds(pack, "linear+epsilon", joined.rounds, target=Target(method)).policies["tone_tuner"]
    assert learned.model.rounds == 10


def test_the_target_is_part_of_what_a_version_is(
    home: Home, tracking: Tracking, pack: Pack, simulated: dict[str, SimulatedMoment]
) -> None:
    frozen = window(played(simulated, uniform(pack), each=40, seed=4))

    def learn(target: Target) -> Any:
        return train_on_log(home, tracking, pack, "square_cb", frozen, split=Split(), prior=None, target=target)

    robust = learn(Target("dr"))
    direct = learn(Target())
    assert (robust.tags["target"], "target" in direct.tags) == ("dr clip=20", False)
    assert [learn(Target("dr")).version, learn(Target()).version, learn(Target("dr", 5.0)).version] == ["1", "2", "3"]


def test_the_options_of_the_command_reach_learning(
    home: Home, support_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.log.parent.mkdir(parents=True, exist_ok=True)
    home.log.symlink_to(support_log)
    monkeypatch.setenv("NBA_HOME", str(home.path))
    told = ["train", "--from", "log", "--policy", "square_cb", "--target", "dr", "--clip", "5", "--json"]
    result = CliRunner().invoke(app, told)
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(result.stdout)["tags"]["target"] == "dr clip=5"


def test_only_rounds_that_were_logged_have_a_target() -> None:
    assert target_of(FitTo.IW, 5.0, Source.LOG, False) == Target("iw", 5.0)
    for source, session in ((Source.SIMULATOR, False), (Source.LOG, True)):
        with pytest.raises(BadParameter, match="dr is of single rounds of a log"):
            target_of(FitTo.DR, 20.0, source, session)
