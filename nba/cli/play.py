"""`nba play`: a person against a simulated customer, in the terminal or from a script on standard input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.output import PackName, err, out
from nba.errors import UnknownActionError

if TYPE_CHECKING:
    from envs.play import Result, Score, Turn

QUIT = ("q", "quit", "exit")


def play(
    moment: Annotated[str, typer.Option("--moment", "-m", help="A moment or session moment of the pack.")],
    pack_name: PackName = "support",
    customers: Annotated[int, typer.Option(min=1, max=1_000, help="How many to meet.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed brings the same customers.")] = 0,
) -> None:
    """Decide for simulated customers yourself, and see after each turn what the best action was worth.

    Answer with an action's number or name; `q` ends. Reads standard input, so a script can play:

        printf '1\\n2\\nq\\n' | nba play --moment tone_tuner
    """
    import numpy as np

    from envs.play import Score, start_play
    from nba.pack_file import load_pack

    game, score = start_play(load_pack(pack_name), moment, np.random.default_rng(seed)), Score()
    while score.customers < customers:
        turn = game.turn()
        _show_turn(turn, score)
        chosen = _ask(turn)
        if chosen is None:
            break
        result = game.take(chosen)
        score.add(result)
        _show_result(result)
    out.print(f"\n[bold]{score.told()}[/]")


def _ask(turn: Turn) -> str | None:
    """The action chosen, by number or name; None at the end of input."""
    while True:
        if sys.stdin.isatty():
            err.print("your choice: ", end="")
        line = sys.stdin.readline()
        answer = line.strip()
        if not line or answer.lower() in QUIT:
            return None
        try:
            return _read(turn, answer)
        except UnknownActionError as error:
            err.print(f"[red]{error.message}[/]; {error.help}")


def _read(turn: Turn, answer: str) -> str:
    """The eligible action that an answer names. Raises UnknownActionError."""
    if answer.isdecimal() and int(answer) < len(turn.choices):
        answer = turn.choices[int(answer)]
    allowed = [f"{i} {a}" for i, (a, may) in enumerate(zip(turn.choices, turn.eligible, strict=True)) if may]
    if answer not in {choice.partition(" ")[2] for choice in allowed}:
        raise UnknownActionError(f"{answer!r} is none of the choices", help=f"answer with {', '.join(allowed)}, or q")
    return answer


def _show_turn(turn: Turn, score: Score) -> None:
    out.print(f"\n[bold]{turn.customer}[/]  (turn {score.turns + 1})")
    for name, value in turn.facts.items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        out.print(f"  {name:<20} {shown}", highlight=False)
    for i, (action, may) in enumerate(zip(turn.choices, turn.eligible, strict=True)):
        out.print(f"  [{'bold' if may else 'dim'}]{i:>2}  {action}[/]{'' if may else '  [dim](not now)[/]'}")


def _show_result(result: Result) -> None:
    came = ", ".join(f"{name} {value:g}" for name, value in result.outcomes.items() if value) or "nothing came of it"
    out.print(f"  {result.action_id}: {came}; reward {result.reward:+.2f}", highlight=False)
    best, colour = result.best, "green" if result.regret < 1e-6 else "yellow"
    out.print(
        f"  [{colour}]worth {result.worth[result.action_id]:+.3f}; the best, {best}, {result.worth[best]:+.3f}[/]"
    )
