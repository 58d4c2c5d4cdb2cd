"""The figures of experiments/benchmarks/learning: what a policy loses over its own decisions, and what it is worth."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from envs.oracle import Oracle
from nba.pack_file import load_pack
from nba.policies import KINDS
from tests.experiments.loading import EXPERIMENTS, load
from training.truth import no_rounds

FOLDER = "benchmarks/learning"
learner = load(FOLDER, "learner")
TRUTH = np.array([[0.0, 1.0, 0.5], [0.2, 0.9, 0.4]])
ALL = np.ones((2, 3), dtype=np.bool_)


@pytest.fixture(scope="module")
def env() -> BatchMomentEnv:
    return BatchMomentEnv(load_pack("support"), "tone_tuner", customers=200)


def test_a_distribution_loses_what_its_expected_reward_lacks_of_the_best() -> None:
    """Evenly: 1 - 1.5 / 3 = 0.5, and 0.9 - 1.5 / 3 = 0.4."""
    lost, best = learner.regret(np.full((2, 3), 1 / 3), TRUTH, ALL)
    assert best.tolist() == [1.0, 0.9]
    assert lost == pytest.approx([0.5, 0.4])


def test_an_action_that_is_away_is_no_loss() -> None:
    """Without the second action the best are 0.5 and 0.4, which the policy takes."""
    mask = ALL.copy()
    mask[:, 1] = False
    lost, _ = learner.regret(np.array([[0.0, 0.0, 1.0]] * 2), TRUTH, mask)
    assert lost.tolist() == [0.0, 0.0]


def test_regret_is_a_share_of_what_the_oracle_earns_in_those_decisions() -> None:
    """(0.5 + 0.4) / (1 + 1) = 0.45 over both, 0.4 / 1 over the second."""
    run = learner.Run(np.array([0.5, 0.4]), np.array([1.0, 1.0]))
    assert run.regret(2) == pytest.approx(0.45)
    assert run.regret(2, 1) == pytest.approx(0.4)


def test_the_oracle_has_no_regret_and_is_worth_all(env: BatchMomentEnv) -> None:
    oracle = Oracle(env.response)
    _, lost, best = learner.play(oracle, env, 100, np.random.default_rng(0))
    assert np.abs(lost).max() == 0.0
    assert (best > 0.0).any()
    batch = env.sample(100, np.random.default_rng(1))
    assert learner.worth(oracle, env, batch.contexts, batch.mask) == 1.0


def test_a_policy_learns_after_50_decisions_then_with_a_quarter_more_and_at_every_mark() -> None:
    """50, 50 more until a quarter is more than that, 200 * 1.25 = 250, and 300 as it is a mark."""
    ends = [stop for _, stop in learner.updates(400, marks=(300,))]
    assert ends == [50, 100, 150, 200, 250, 300, 375, 400]
    assert [stop for _, stop in learner.updates(100, most=40)] == [40, 80, 100]


def test_a_learner_that_knows_nothing_loses_what_it_is_worth_less(env: BatchMomentEnv) -> None:
    run = learner.learn("uniform", env, 2_000, rng=np.random.default_rng(0), marks=(2_000,))
    batch = env.sample(2_000, np.random.default_rng(1))
    assert 1.0 - run.regret(2_000) == pytest.approx(
        learner.worth(run.at[2_000], env, batch.contexts, batch.mask), abs=0.03
    )


def test_what_is_learned_shows_in_the_regret(env: BatchMomentEnv) -> None:
    run = learner.learn("linear+square_cb", env, 3_000, rng=np.random.default_rng(0))
    assert run.regret(3_000, 2_000) < 0.6 * run.regret(500)


@dataclass(frozen=True)
class Counted:
    """A policy that is uniform and remembers how many rounds it was told of."""

    heard: int = 0

    @classmethod
    def fit(cls, plan: Any, rounds: Any, previous: Any = None) -> Counted:
        return cls(len(rounds) + (previous.heard if previous else 0))

    def distribution(self, contexts: Any, mask: Any) -> Any:
        return mask / mask.sum(axis=1, keepdims=True)


def test_rounds_are_learned_from_once_the_lag_is_over_and_none_is_lost(
    env: BatchMomentEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 200 decisions and a lag of 120, 80 are known; after 400, 280."""
    monkeypatch.setitem(KINDS, "counted", Counted)  # type: ignore[arg-type]
    course = learner.Course(lag=120)
    run = learner.learn("counted", env, 400, rng=np.random.default_rng(0), marks=(100, 200, 400), course=course)
    assert {mark: policy.heard for mark, policy in run.at.items()} == {100: 0, 200: 80, 400: 280}


def test_an_interval_over_three_seeds_is_that_of_student() -> None:
    """1, 2, 3: mean 2, deviation 1, 4.303 / sqrt(3) = 2.484 on either side."""
    assert learner.mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.0 - 2.484, 2.0 + 2.484), abs=1e-3)
    assert np.isnan(learner.mean_interval([1.0])[1])


def test_figures_are_kept_and_those_of_other_code_are_measured_anew(tmp_path: Path) -> None:
    cells = load(FOLDER, "cells")
    path, source = tmp_path / "figures.json", tmp_path / "source.py"
    source.write_text("1")
    first = cells.Cells(path, [source])
    assert first.get(("a", 1), lambda: 0.5) == 0.5
    first.save()
    assert json.loads(path.read_text())["cells"] == {"a | 1": 0.5}
    assert cells.Cells(path, [source]).get(("a", 1), lambda: 0.7) == 0.5
    source.write_text("2")
    assert cells.Cells(path, [source]).get(("a", 1), lambda: 0.7) == 0.7


def test_the_moment_of_many_actions_has_them_all_and_grows_without_changing() -> None:
    """Ten of thirty actions are worth what they are worth among ten."""
    many = load(FOLDER, "many").many_actions
    few, more = many(10), many(30)
    batch = few.sample(20, np.random.default_rng(0))
    assert batch.mask.all()
    assert more.expected_rewards(batch.contexts).shape == (20, 30)
    assert np.array_equal(few.expected_rewards(batch.contexts), more.expected_rewards(batch.contexts)[:, :10])


def test_cost_of_a_linear_growth_has_exponent_one() -> None:
    cost = load(FOLDER, "cost")
    assert cost.exponent({"10": 5.0, "100": 7.0, "1000": 70.0}) == pytest.approx(1.0)
    rounds = cost.some_rounds(5, 3, 4, np.random.default_rng(0))
    assert rounds.contexts.shape == (5, 4)
    assert rounds.propensities.tolist() == [1 / 3] * 5


def test_older_names_are_the_same_policies(env: BatchMomentEnv) -> None:
    """Why the tables do without them."""
    batch = env.sample(500, np.random.default_rng(0))
    rounds, _, _ = learner.play(
        KINDS["uniform"].fit(env.plan, no_rounds(env.plan.width, 7)), env, 500, np.random.default_rng(1)
    )
    for old, new in (("square_cb", "linear+square_cb"), ("epsilon_greedy", "linear+epsilon")):
        one, other = (KINDS[kind].fit(env.plan, rounds).distribution(batch.contexts, batch.mask) for kind in (old, new))
        assert np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "pictures"), [("moments", {"moments.png"}), ("conditions", {"drift.png", "cost.png"})]
)
def test_the_benchmarks_run_at_a_small_size_and_go_on_from_their_file(
    script: str, pictures: set[str], tmp_path: Path
) -> None:
    """The second time nothing is measured, so that the file stays as it was."""
    path = tmp_path / f"{script}.json"
    command = [sys.executable, EXPERIMENTS / FOLDER / f"{script}.py", "--quick", "--json", path]
    written = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        written.append(path.read_text())
    assert written[0] == written[1]
    assert {p.name for p in tmp_path.glob("*.png")} == pictures
    assert "linear+thompson" in (tmp_path / f"{script}.md").read_text()
