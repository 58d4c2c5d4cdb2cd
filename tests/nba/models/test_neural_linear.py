from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from nba.errors import ShapeError
from nba.models.neural_linear import LEAST, NeuralLinear
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds

Make = Callable[..., LoggedRounds]


@pytest.fixture
def plan(support_plans: dict[str, MomentPlan]) -> MomentPlan:
    return support_plans["tone_tuner"]


def crossed(n: int, seed: int) -> LoggedRounds:
    """r = 1 where x1 and x2 have the same sign, else 0: a line explains nothing of it."""
    rng = np.random.default_rng(seed)
    contexts = np.hstack([np.ones((n, 1)), rng.uniform(-1.0, 1.0, (n, 2))]).astype(np.float32)
    return LoggedRounds(
        contexts,
        np.ones((n, 1), dtype=np.bool_),
        np.zeros(n, dtype=np.int64),
        np.ones(n),
        (contexts[:, 1] * contexts[:, 2] > 0).astype(np.float64),
        np.arange(n, dtype=np.uint64),
    )


def unexplained(model: NeuralLinear) -> float:
    """Share of the variance of new rounds."""
    new = crossed(2_000, 9)
    return float(np.mean((model.values(new.contexts)[:, 0] - new.rewards) ** 2) / new.rewards.var())


def test_it_learns_what_no_line_can_say() -> None:
    assert unexplained(NeuralLinear.fit(crossed(3_000, 0), np.eye(1))) < 0.4


def test_what_it_knew_is_carried_over_to_new_features() -> None:
    """3,000 rounds, then 3,001 that teach the layers anew: all 6,001 count, and it knows at least as much."""
    first = NeuralLinear.fit(crossed(3_000, 0), np.eye(1))
    second = NeuralLinear.fit(crossed(3_001, 1), np.eye(1), first)
    assert (first.learned_from, second.learned_from, second.rounds) == (3_000, 3_001, 6_001)
    assert second.linear.gram[0, 0, 0] == pytest.approx(6_001)
    assert unexplained(second) < unexplained(first) + 0.05


def test_few_rounds_leave_the_features_and_teach_the_last_layer(plan: MomentPlan, make_rounds: Make) -> None:
    drawn = NeuralLinear.fit(make_rounds(plan, 0), plan.action_features)
    few = NeuralLinear.fit(make_rounds(plan, LEAST - 1), plan.action_features, drawn)
    many = NeuralLinear.fit(make_rounds(plan, LEAST), plan.action_features, few)
    assert np.array_equal(drawn.first, few.first)
    assert few.linear.weights.any()
    assert not np.allclose(few.first, many.first)
    assert NeuralLinear.fit(make_rounds(plan, LEAST), plan.action_features, many).learned_from == LEAST


def test_the_same_rounds_give_the_same_bits(plan: MomentPlan, make_rounds: Make) -> None:
    one, same = (NeuralLinear.fit(make_rounds(plan, 400), plan.action_features) for _ in range(2))
    assert one.second.tobytes() == same.second.tobytes()
    assert one.linear.weights.tobytes() == same.linear.weights.tobytes()


def test_contexts_of_another_width_are_refused(
    support_plans: dict[str, MomentPlan], plan: MomentPlan, make_rounds: Make
) -> None:
    path = support_plans["personalized_path"]
    previous = NeuralLinear.fit(make_rounds(plan, 10), plan.action_features)
    for n in (10, 300):
        with pytest.raises(ShapeError, match="32 columns for layers of 30"):
            NeuralLinear.fit(make_rounds(path, n), path.action_features, previous)


def test_torch_is_imported_by_learning_alone() -> None:
    code = "import sys, nba.policies, nba.artefact\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
