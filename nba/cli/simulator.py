"""`nba calibrate`: what the simulator is made of, and how much it resembles the customers of a log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.output import AsJson, PackName, err, out, print_json, table
from nba.home import Home

if TYPE_CHECKING:
    from envs.calibration.match import Cell, Misses
    from envs.calibration.response import Parameter
    from training.calibrate import CalibrationReport

WORST = 12  # cells that are shown of all that miss


def calibrate(
    log: Annotated[
        Path | None, typer.Option("--log", help="Folder of the decision log. Default: NBA_HOME/log.")
    ] = None,
    pack_name: PackName = "support",
    held_out: Annotated[
        float, typer.Option("--held-out", min=0.05, max=0.9, help="Share of the customers kept back to judge by.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation, and of who is held out.")] = 0,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of", help="Read the log as at this time (UTC); windows open then are left out. Default: now."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit the simulated customers to a decision log, and say how well they match customers it has not seen.

    Two things are fitted, on the customers not held out. The response of each moment: what must be added to an
    outcome's logit after an action (offset), and by what it must be stretched (slope). The population: shifts of the
    customers' traits, so that simulated facts have the means of the logged ones. Then outcomes are compared on the
    other customers, by action and by segment, before and after; 1 in 20 intervals misses by chance.

    What the log cannot tell stays as the simulator had it and is listed at the end. The fit goes to
    NBA_HOME/calibration/PACK.json, with pictures and all tables in MLflow. It holds for this pack as it is: after
    changing the pack, calibrate anew.
    """
    from nba.pack_file import load_pack
    from training.calibrate import calibrate as fit
    from training.calibrate import keep, metrics
    from training.tracking import Tracking

    home, pack = Home.from_environment(), load_pack(pack_name)
    now = datetime.now(UTC) if as_of is None else as_of.replace(tzinfo=UTC)
    with err.status("reading the log") as status:
        report = fit(
            pack,
            log or home.log,
            as_of=now,
            held_out=held_out,
            seed=seed,
            on_record=lambda done: status.update(f"reading the log: {done:,} records"),
            on_step=status.update,
        )
        status.update("recording in MLflow")
        path = keep(home, Tracking.of(home), report, held_out=held_out, seed=seed)
    if as_json:
        told = ("calibration", "parameters", "population", "cannot_tell")
        print_json({**{name: getattr(report, name) for name in told}, "metrics": metrics(report), "path": str(path)})
        return
    _show(report)
    out.print(f"\nwritten to {path}; pictures and tables: nba/{pack.pack} in MLflow, run `calibrate`", soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    app.command()(calibrate)


def _show(report: CalibrationReport) -> None:
    counts = report.log.counts
    rows = [[fate.replace("_", " "), f"{n:,}"] for fate, n in counts.items()]
    table(f"decisions of the log, {report.calibration.rounds:,} fitted to", ["", ""], rows)
    told = [row for row in report.parameters if row.identified]
    changed = [row for row in told if not row.interval[0] <= row.default <= row.interval[1]]
    rest = len(told) - len(changed)
    table(
        f"response: offsets that are not 0 and slopes that are not 1, 95 %; {rest} others may be",
        ["moment", "outcome", "action", "rounds", "came", "simulated", "offset, or slope"],
        [_parameter(row) for row in changed],
    )
    table(
        "population: shifts of the traits' means, standard deviations, 95 %",
        ["trait", "shift"],
        [[t.trait, _interval(t.value, *t.interval)] for t in report.population.traits if t.identified],
    )
    table(
        "outcomes of held-out customers: log-loss and expected calibration error, before -> after",
        ["moment", "outcome", "rounds", "log-loss", "calibration error", "by chance"],
        [
            [
                new.moment,
                new.outcome,
                f"{new.rounds:,}",
                f"{old.log_loss:.4f} -> {new.log_loss:.4f}",
                f"{old.error:.3f} -> {new.error:.3f}",
                f"{new.by_chance:.3f}",
            ]
            for of in report.moments.values()
            for old, new in zip(of.before.reliability, of.after.reliability, strict=True)
        ],
    )
    _show_misses(report)
    out.print("\n[bold]what this log cannot tell[/]")
    for sentence in report.cannot_tell:
        out.print(f"- {sentence}", markup=False, soft_wrap=True)


def _show_misses(report: CalibrationReport) -> None:
    missing = [c for of in report.moments.values() for c in of.after.by_action + of.after.by_segment if c.misses]
    worst = sorted(missing, key=lambda cell: cell.half_width / abs(cell.difference))[:WORST]
    if worst:
        table(
            "the farthest off: observed minus simulated, 95 %",
            ["moment", "outcome", "among", "rounds", "observed", "simulated", "difference"],
            [_cell(cell) for cell in worst],
        )
    before, after = report.misses()
    out.print(f"\nby action and by segment, before: {_missed(before)}; calibrated: {_missed(after)}", soft_wrap=True)


def _missed(misses: Misses) -> str:
    return f"{misses.missed} of {misses.judged} intervals miss ({misses.by_chance:.0f} would by chance)"


def _parameter(row: Parameter) -> list[str]:
    rest = [f"{row.rounds:,}", f"{row.came:,.0f}", f"{row.expected:,.0f}", _interval(row.value, *row.interval)]
    return [row.moment, row.outcome, row.action or "slope", *rest]


def _cell(cell: Cell) -> list[str]:
    low, high = cell.difference - cell.half_width, cell.difference + cell.half_width
    rates = [f"{cell.rounds:,}", f"{cell.observed:.3f}", f"{cell.simulated:.3f}"]
    return [cell.moment, cell.outcome, cell.group, *rates, _interval(cell.difference, low, high)]


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
