"""A person's turns: what is shown, what a choice was worth, and the score."""

from __future__ import annotations

import numpy as np
import pytest

from envs.play import Result, Score, start_play
from nba.errors import UnknownActionError, UnknownMomentError
from nba.pack_file import load_pack

PACK = load_pack("support")


@pytest.mark.parametrize("moment", ["tone_tuner", "service_conversation"])
def test_the_same_seed_and_choices_are_the_same_game(moment: str) -> None:
    told = []
    for _ in range(2):
        game, results = start_play(PACK, moment, np.random.default_rng(4)), []
        for _ in range(12):
            turn = game.turn()
            results.append(
                (turn, game.take([a for a, may in zip(turn.choices, turn.eligible, strict=True) if may][-1]))
            )
        told.append(results)
    assert told[0] == told[1]


def test_the_worth_of_a_choice_is_the_truth_of_the_moment() -> None:
    """The mean reward of 3,000 customers answered warmly is their mean worth, within 4 standard errors."""
    game, off = start_play(PACK, "tone_tuner", np.random.default_rng(0)), []
    for _ in range(3_000):
        result = game.take("neutral_reply")
        off.append(result.reward - result.worth["neutral_reply"])
    assert abs(np.mean(off)) < 4.0 * np.std(off) / np.sqrt(3_000)


def test_playing_the_best_action_of_a_session_earns_what_it_was_said_to_be_worth() -> None:
    """400 conversations by the best choices: first worth against what was earned, within 4 standard errors."""
    game, off = start_play(PACK, "service_conversation", np.random.default_rng(1)), []
    for _ in range(400):
        earned, promised, over = 0.0, None, False
        while not over:
            turn = game.turn()
            choice = _best(game, turn.choices, turn.eligible)
            result = game.take(choice)
            promised = result.worth[choice] if promised is None else promised
            earned, over = earned + result.reward, result.over
            assert result.regret == 0.0
        off.append(earned - promised)
    assert abs(np.mean(off)) < 4.0 * np.std(off) / 20.0


def _best(game: object, choices: tuple[str, ...], eligible: tuple[bool, ...]) -> str:
    values = game._values  # type: ignore[attr-defined]  # the person cannot see them; the test can
    sessions, law = game._sessions, game._env.law  # type: ignore[attr-defined]
    state = int(np.ravel_multi_index(tuple(sessions.levels[:, 0]), law.levels))
    worth = values[int(sessions.steps[0]), int(sessions.types[0]), state]
    return max((a for a, may in zip(choices, eligible, strict=True) if may), key=lambda a: worth[choices.index(a)])


def test_an_action_that_is_not_eligible_is_refused_with_those_that_are() -> None:
    game = start_play(PACK, "tone_tuner", np.random.default_rng(0))
    with pytest.raises(UnknownActionError, match="'push_now'") as refused:
        game.take("push_now")
    assert "neutral_reply" in refused.value.help


def test_an_unknown_moment_is_refused() -> None:
    with pytest.raises(UnknownMomentError, match="tea_time"):
        start_play(PACK, "tea_time", np.random.default_rng(0))


def test_the_score_counts_what_was_earned_and_what_was_given_away() -> None:
    """Choices worth 0.5 of 0.5 and 0.2 of 0.6: regret 0.4 in all, one of two the best; earned 1.0 - 0.3."""
    score = Score()
    score.add(Result("a", {"done": 1.0}, 1.0, {"a": 0.5, "b": 0.1}, over=True))
    score.add(Result("b", {}, -0.3, {"a": 0.6, "b": 0.2}, over=False))
    assert (score.turns, score.customers, score.best) == (2, 1, 1)
    assert (score.earned, score.regret) == (pytest.approx(0.7), pytest.approx(0.4))
    assert score.told() == (
        "2 turns with 1 customers: earned +0.70; 1 of 2 choices were the best there was, the others cost 0.40 in all"
    )
    assert Score().told() == "no turn was played"
