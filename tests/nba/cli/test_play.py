"""A person, or a script, against simulated customers."""

from __future__ import annotations

from typer.testing import CliRunner

from nba.cli import app


def played(answers: str, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["play", *options], input=answers)
    return result.exit_code, result.stdout, result.stderr


def test_a_script_plays_by_numbers_and_names_until_it_quits() -> None:
    code, told, _ = played("1\nneutral_reply\nq\n", "--moment", "tone_tuner", "--seed", "3")
    assert code == 0
    assert told.count("neutral_reply: ") == 2
    assert "2 turns with 2 customers" in told
    assert "worth " in told


def test_the_end_of_input_ends_the_game_with_its_score() -> None:
    code, told, _ = played("0\n", "--moment", "service_conversation")
    assert code == 0
    assert "1 turns with 0 customers" in told


def test_it_ends_with_the_last_customer() -> None:
    code, told, _ = played("0\n" * 10, "--moment", "tone_tuner", "--customers", "2")
    assert (code, told.count("(turn ")) == (0, 2)


def test_a_wrong_answer_is_asked_again_with_what_would_do() -> None:
    code, told, complaint = played("99\nsing\n0\nq\n", "--moment", "tone_tuner")
    assert code == 0
    assert "'99' is none of the choices" in complaint
    assert "'sing' is none of the choices" in complaint
    assert "0 no_action" in complaint
    assert "1 turns with 1 customers" in told
