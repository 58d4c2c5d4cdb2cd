"""`nba log`: looking at the decision log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from nba.cli.output import AsJson, out, print_json, progress, table
from nba.errors import LogError
from nba.home import Home

if TYPE_CHECKING:
    from nba.decision import Decision
    from nba.log.verify import Again

Archive = Annotated[
    str,
    typer.Argument(envvar="NBA_LOG_ARCHIVE", help="A folder, or a URI such as s3://bucket/path or gs://bucket/path."),
]
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
def verify(
    replay: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the decisions to make again, by their policy: 1 is all.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Prove the log. Exit code 1 if it is not sound.

    Framing, one decision an id, propensities that are what was drawn with; with --replay that decisions come out the
    same again, bit for bit.
    """
    from nba.log.verify import verify as verify_log

    home = Home.from_environment()
    with progress("reading the log", None) as done, _replaying(home) if replay else nullcontext() as again:
        report = verify_log(home.log, on_record=done, again=again, share=replay)
    if as_json:
        print_json({**report.as_dict(), "ok": report.ok})
    else:
        table(
            "decision log",
            ["", ""],
            [[k.replace("_", " "), str(v)] for k, v in report.as_dict().items() if k != "problems"],
        )
        for problem in report.problems:
            out.print(f"[red]problem:[/] {escape(problem)}", soft_wrap=True)
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


@app.command()
def compact(
    target: Annotated[Path | None, typer.Argument(help="A folder; by default columns in the home.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the log's Parquet files, one a day and kind of fact, up to the segments that are done."""
    from nba.log.compact import compact as compact_log

    home = Home.from_environment()
    target = home.columns if target is None else target
    with progress("compacting the log", None) as done:
        made = compact_log(home.log, target, on_record=done)
    if as_json:
        print_json(made)
    else:
        out.print(f"{made.segments} new segments, {len(made.days)} days made again, {made.rows} rows in {target}")


@app.command()
def ship(
    archive: Archive,
    delete_after_days: Annotated[
        float | None,
        typer.Option(min=0.0, help="Delete here what is older, once the archive's copy was read back; else all stays."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy every segment that is done to an archive, and read it back.

    Servers do so by themselves where NBA_LOG_ARCHIVE is set.
    """
    from nba.log.ship import ship as ship_log
    from nba.log.ship import unshipped

    folder = Home.from_environment().log
    after = None if delete_after_days is None else timedelta(days=delete_after_days)
    with progress("shipping segments", len(unshipped(folder, archive))) as done, _storage_errors(archive):
        made = ship_log(folder, archive, delete_after=after, on_segment=done)
    if made.busy:
        raise LogError("another process ships this log", help="let it; or try again in a moment")
    if as_json:
        print_json(made)
    else:
        out.print(
            f"{len(made.shipped)} segments shipped, {len(made.known)} were there, {len(made.deleted)} deleted here"
        )


@app.command()
def restore(archive: Archive, as_json: AsJson = False) -> None:
    """Bring every segment of an archive into this home, hashes checked; what is here stays."""
    from nba.log.ship import count_entries
    from nba.log.ship import restore as restore_log

    folder = Home.from_environment().log
    with _storage_errors(archive), progress("restoring segments", count_entries(archive)) as done:
        made = restore_log(folder, archive, on_segment=done)
    if as_json:
        print_json(made)
    else:
        out.print(f"{len(made.restored)} segments restored, {len(made.present)} were here")


@contextmanager
def _storage_errors(archive: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LogError(f"archive {archive}: {error}", help="see to it and run this again: it goes on") from error


@contextmanager
def _replaying(home: Home) -> Iterator[Again]:
    """What makes decisions again."""
    from serving.errors import NotFoundError
    from serving.replay import Replayer

    replayer = Replayer(home.policies, home.secret())
    with asyncio.Runner() as runner:

        def again(decision: Decision) -> list[str] | None:
            try:
                answer = runner.run(replayer.replay(decision))
            except NotFoundError:
                return None
            return list(answer.difference or ())

        yield again
