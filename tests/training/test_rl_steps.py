from __future__ import annotations

import numpy as np
import pytest

from training.rl.replay import Replay
from training.rl.steps import Steps, advantages, ahead


def one_row(rewards: list[float], over: list[bool], values: list[float] | None = None) -> Steps:
    """One row of steps; the context is the step, and the one after an end starts anew and is nobody's."""
    t = len(rewards)
    ended = np.array(over)[:, None]
    live = np.ones((t, 1), dtype=np.bool_)
    live[1:] = ~ended[:-1]
    return Steps(
        contexts=np.arange(t + 1, dtype=np.float32).reshape(t + 1, 1, 1),
        mask=np.ones((t + 1, 1, 2), dtype=np.bool_),
        actions=np.arange(t)[:, None],
        rewards=np.array(rewards, dtype=np.float32)[:, None],
        over=ended,
        live=live,
        logits=np.zeros((t, 1, 2), dtype=np.float32),
        values=np.array(values or [0.0] * (t + 1), dtype=np.float32)[:, None],
    )


def test_advantages_by_hand() -> None:
    """V = (1, 2, 4), gamma = lambda = 1/2, nothing ends.

    delta = (1 + 2/2 - 1, 3 + 4/2 - 2) = (1, 3);  A = (1 + 3/4, 3);  targets are A + V.
    """
    found, targets = advantages(one_row([1, 3], [False, False], [1, 2, 4]), gamma=0.5, lambda_=0.5)
    assert found[:, 0].tolist() == [1.75, 3.0]
    assert targets[:, 0].tolist() == [2.75, 5.0]


def test_nothing_of_the_next_session_counts_after_an_end() -> None:
    """The session ends with its first step: delta = 1 - 1 = 0, whatever is expected of the next one."""
    found, _ = advantages(one_row([1, 0, 9], [True, False, False], [1, 50, 60, 70]), gamma=1.0, lambda_=1.0)
    assert found[0, 0] == 0.0


def test_rewards_of_two_steps_by_hand() -> None:
    """gamma = 1/2: 1 + 2/2, 2 + 4/2; the last has one step of its own."""
    rewards, counted, ended = ahead(one_row([1, 2, 4], [False, False, False]), gamma=0.5, n=2)
    assert rewards[:, 0].tolist() == [2.0, 4.0, 4.0]
    assert counted[:, 0].tolist() == [2, 2, 1]
    assert not ended.any()


def test_rewards_stop_at_the_end_of_a_session() -> None:
    """It ends with the second of four steps; the third starts the next session and pays nothing."""
    rewards, counted, ended = ahead(one_row([1, 2, 0, 8], [False, True, False, False]), gamma=1.0, n=3)
    assert rewards[:2, 0].tolist() == [3.0, 2.0]
    assert counted[:2, 0].tolist() == [2, 1]
    assert ended[:, 0].tolist() == [True, True, False, False]


def test_a_replay_keeps_what_was_seen_after_the_steps_it_counts() -> None:
    replay = Replay(10)
    replay.add(one_row([1, 2, 4], [False, False, False]), gamma=1.0, n=2)
    drawn = replay.draw(200, np.random.default_rng(0))
    before, after = drawn["obs"]["observations"][:, 0], drawn["new_obs"]["observations"][:, 0]
    assert dict(zip(before.tolist(), after.tolist(), strict=True)) == {0.0: 2.0, 1.0: 3.0, 2.0: 3.0}


def test_a_step_that_only_starts_a_session_is_not_remembered() -> None:
    replay = Replay(10)
    replay.add(one_row([1, 0, 5], [True, False, False]), gamma=1.0, n=1)
    assert len(replay) == 2
    assert set(replay.draw(50, np.random.default_rng(0))["actions"].tolist()) == {0, 2}


def test_the_oldest_give_way() -> None:
    replay = Replay(3)
    for first in (0.0, 10.0):
        replay.add(one_row([first, first + 1], [False, False]), gamma=1.0, n=1)
    assert len(replay) == 3
    assert set(replay.draw(60, np.random.default_rng(0))["rewards"].tolist()) == {1.0, 10.0, 11.0}


@pytest.mark.parametrize("added", [1, 3])
def test_a_replay_that_was_taken_up_again_goes_on_alike(added: int) -> None:
    first, second = Replay(5), Replay(5)
    for i in range(added):
        first.add(one_row([i, i + 0.5], [False, False]), gamma=1.0, n=1)
    second.set_state(first.get_state())
    for replay in (first, second):
        replay.add(one_row([70, 71], [False, False]), gamma=1.0, n=1)
    draws = [replay.draw(40, np.random.default_rng(1))["rewards"].tolist() for replay in (first, second)]
    assert draws[0] == draws[1]
