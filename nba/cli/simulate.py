"""`nba simulate`: playing simulated customers against a running server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.output import AsJson, PackName, out, print_json, progress, table

if TYPE_CHECKING:
    from envs.load.report import DriveReport


Rounds = Annotated[int, typer.Option(min=0, max=1_000_000, help="In moments of one step.")]
SessionCount = Annotated[
    int | None,
    typer.Option(
        min=0, max=100_000, help="Whole conversations, journeys or months beside them. Default: one for 50 rounds."
    ),
]
Batch = Annotated[
    int, typer.Option(min=1, max=1_000, help="Decisions a call; of sessions, as many are played in lockstep.")
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Calls under way at once.")]
Rate = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Decisions a second, sent whether or not earlier ones are answered, as far as --concurrency allows;"
        " latency then counts from when a call was due. Default: as fast as possible.",
    ),
]
Delayed = Annotated[
    bool, typer.Option("--delayed", help="Some outcomes never come, or too late for their window; nobody waits.")
]
Hour = Annotated[
    float,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="As --delayed, and outcomes of one-step moments come when they are due: how long a simulated hour"
        " takes. Default: all at once.",
    ),
]
EventShare = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="SHARE",
        help="After this share of the rounds the customer, if one with a history, buys, gets in touch, or has a"
        " case opened or resolved. It stays in the feature store: before another run say `nba features seed` where"
        " the server runs, or that run's values are of customers as they were.",
    ),
]
ConsentShare = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="SHARE",
        help="After this share of the rounds the customer grants or withdraws a purpose; taken back at the end.",
    ),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        help="A file of `nba calibrate`: outcomes follow the response it found. Customers stay the seeded ones."
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="NBA_TOKEN",
        show_default=False,
        help="Of a key with the roles decide, reward and admin, where the server wants one (nba keys add). Better by"
        " the environment: a command line can be read by others.",
    ),
]


def simulate(
    url: Annotated[str, typer.Option(help="Of a running server.")] = "http://127.0.0.1:8000",
    rounds: Rounds = 2_000,
    sessions: SessionCount = None,
    pack_name: PackName = "support",
    batch: Batch = 1,
    concurrency: Concurrency = 16,
    rate: Rate = 0.0,
    delayed: Delayed = False,
    hour: Hour = 0.0,
    events: EventShare = 0.0,
    consent_changes: ConsentShare = 0.0,
    calibration: CalibrationFile = None,
    seed: Annotated[int | None, typer.Option(help="Of the situations. Default: another each time.")] = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Play simulated customers against a running server, send outcomes, and report what the decisions were worth."""
    from envs.calibration.parameters import load_calibration
    from envs.load.run import drive
    from envs.load.settings import DriveSettings
    from nba.pack_file import load_pack

    pack, chosen = load_pack(pack_name), seed if seed is not None else time.time_ns() % 2**32
    found = load_calibration(calibration, pack) if calibration else {}
    settings = DriveSettings(
        run=f"sim-{chosen}",
        rounds=rounds,
        seed=chosen,
        sessions=sessions,
        batch=batch,
        concurrency=concurrency,
        rate=rate,
        delayed=delayed,
        hour_s=hour,
        events=events,
        consent_changes=consent_changes,
        responses={moment: parameters["adjustments"] for moment, parameters in found.items()},
    )
    with progress("playing customers", rounds) as done:
        report = asyncio.run(drive(url, pack, settings, api_key=token, on_progress=lambda n, _total: done(n)))
    if as_json:
        print_json(report.as_dict())
        return
    _show(report)


def add_to(app: typer.Typer) -> None:
    """Registers the command of this module."""
    app.command()(simulate)


def _show(report: DriveReport) -> None:
    _show_values(report)
    asked = f" of {report.rate:,.0f} asked for" if report.rate else ""
    out.print(
        f"{report.decided:,} of {report.rounds:,} rounds and {report.steps:,} steps of sessions decided in"
        f" {report.seconds:.1f} s ({report.decisions_per_s:,.0f}/s{asked}, with their outcomes);"
        f" a call p50 {report.latency_p50_ms:.1f} ms, p99 {report.latency_p99_ms:.1f} ms"
    )
    if report.reward_mean is not None:
        out.print(
            f"realised reward {report.reward_mean:+.4f} [{report.reward_low:+.4f}, {report.reward_high:+.4f}] a round;"
            f" no_action {report.no_action_share:.0%}"
        )
    for line in _others(report):
        out.print(line)


def _show_values(report: DriveReport) -> None:
    if report.values is not None:
        rows = [
            [name, *(f"{getattr(values, k):.4f}" for k in ("served", "uniform", "rules", "oracle"))]
            for name, values in (*report.moments.items(), ("all", report.values))
        ]
        title = "expected reward a round on the customers played"
        table(title, ["moment", "served", "uniform", "rules", "oracle"], rows)
    if report.sessions:
        rows = [
            [
                f"{name} ({of.sessions:,})",
                f"{of.steps / of.sessions:.1f}",
                f"{of.reward_mean:.3f} [{of.reward_low:.3f}, {of.reward_high:.3f}]",
                *(f"{getattr(of, k):.3f}" for k in ("uniform", "rules", "planner", "bound")),
            ]
            for name, of in report.sessions.items()
        ]
        title = "reward a session: realised with 95 % interval, others in the simulator"
        table(title, ["session", "steps", "served", "uniform", "rules", "planner", "bound"], rows)


def _others(report: DriveReport) -> Iterator[str]:
    """What there is to say of what was asked for beside plain rounds, and of what went wrong."""
    delays, changes = report.delays, report.changes
    if delays.held or delays.lost or delays.too_late:
        yield (
            f"outcomes: {delays.held:,} held back until due, at most {delays.most_held:,} at once;"
            f" {delays.lost:,} never came, {delays.too_late:,} too late for their window;"
            f" the last {delays.waited_s:.1f} s after the last decision"
        )
    if changes.events or changes.consent_changes or changes.stated:
        yield (
            f"customers: events {changes.events}; consent of {changes.stated:,} stated,"
            f" {changes.consent_changes:,} changes of it"
        )
    if changes.dropped:
        yield f"not asked for, as it is not known whether a change of their customer arrived: {changes.dropped:,}"
    if report.sessions_broken:
        yield f"sessions broken off by an error: {report.sessions_broken:,} of {report.sessions_asked:,}"
    told = {"versions": report.policies, "errors": report.errors}
    for what, counts in (told | {"retried": report.retried, "degraded": report.degraded}).items():
        if counts:
            yield f"{what}: {counts}"
