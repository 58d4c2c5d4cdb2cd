"""`nba log`: looking at the decision log."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Annotated

import typer

from nba.cli.output import AsJson, out, print_json, progress, table
from nba.errors import LogError
from nba.home import Home

app = typer.Typer(help="The decision log: what was decided, and what came of it.", no_args_is_help=True)


@app.command()
def show(
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many of the newest records.")] = 20,
    decision: Annotated[str | None, typer.Option("--decision", help="Everything about one decision.")] = None,
) -> None:
    """Print records as JSON, one a line, oldest first."""
    from nba.log import read_records
    from nba.records import ConsentRecord, Record, encode_record

    records = read_records(Home.from_environment().log)
    if decision is not None:
        chosen = deque[Record](r for r in records if not isinstance(r, ConsentRecord) and r.decision_id == decision)
        if not chosen:
            raise LogError(f"no record of decision {decision!r}", help="nba log show lists the newest")
    else:
        chosen = deque(records, maxlen=last)
    for record in chosen:
        typer.echo(encode_record(record))


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Prove the log: framing, one decision an id, propensities that are what was drawn with. Exit code 1 if not."""
    from nba.log.verify import verify as verify_log

    with progress("reading the log", None) as done:
        report = verify_log(Home.from_environment().log, on_record=done)
    if as_json:
        print_json({**report.as_dict(), "ok": report.ok})
    else:
        table(
            "decision log",
            ["", ""],
            [[k.replace("_", " "), str(v)] for k, v in report.as_dict().items() if k != "problems"],
        )
        for problem in report.problems:
            out.print(f"[red]problem:[/] {problem}")
        out.print("[green]sound[/]" if report.ok else "[red]not sound[/]")
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def export(target: Annotated[Path, typer.Argument(help="A folder; Parquet files are written there.")]) -> None:
    """Write the log as columns: decisions, rewards, activations, overrides and consents, a Parquet file each."""
    from nba.log.columns import export as export_log

    with progress("exporting the log", None) as done:
        written = export_log(Home.from_environment().log, target, on_record=done)
    for path, rows in written.items():
        out.print(f"{rows:>9} rows  {path}")
