"""The `nba` command: the one place that may reach every room, and that nobody imports.

Each command imports what it needs when it runs, so that `nba --help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from nba.cli import champions, environments, features, follow, keys, log, pack, play, server, simulate, simulator, train
from nba.cli.output import show_error
from nba.errors import NbaError

app = typer.Typer(
    name="nba",
    help="A next-best-action decision server: decide, log, learn, judge, promote, serve.\n\n"
    "Start with `nba up`; everything lives under NBA_HOME (by default .nba here).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
server.add_to(app)
simulate.add_to(app)
app.command()(train.train)
champions.add_to(app)
follow.add_to(app)
simulator.add_to(app)
app.command()(play.play)
app.add_typer(environments.app, name="envs")
app.add_typer(features.app, name="features")
app.add_typer(keys.app, name="keys")
app.add_typer(log.app, name="log")
app.add_typer(pack.app, name="pack")


def main() -> None:
    """Runs the command; an expected error is two lines on standard error and exit code 1."""
    try:
        app()
    except NbaError as error:
        show_error(error)
        sys.exit(1)
