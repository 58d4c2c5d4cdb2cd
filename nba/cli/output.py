"""How commands talk: tables and progress for people on standard error and output, JSON where a script asks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from nba.errors import NbaError

# A file or a pipe has no width of its own; tables in it are not squeezed.
out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
PackName = Annotated[str, typer.Option("--pack", "-p", help="A built-in pack's name, or a YAML file.")]


def show_error(error: NbaError) -> None:
    """Two lines: what is wrong, and the way out."""
    err.print(f"[bold red]error:[/] {escape(error.message)}\n[bold]help:[/]  {escape(error.help)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output; dataclasses, structs and dates included."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table; the first column left, the others right."""
    grid = Table(header_style="bold", show_edge=False, pad_edge=False)
    for i, column in enumerate(columns):
        grid.add_column(column, justify="right" if i else "left", no_wrap=not i)
    for row in rows:
        grid.add_row(*(escape(cell) for cell in row))
    out.print(f"\n[italic]{escape(title)}[/]")
    out.print(grid)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error; the function it gives takes how much is done so far."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
