"""`nba evaluate`, `promote`, `rollback`, `retrain`, `ledger`: from a challenger to a champion, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.desk import AsOf, PriorWeight, desk_of, status, utc
from nba.cli.output import AsJson, PackName, out, print_json, table
from nba.home import Home

if TYPE_CHECKING:
    from nba.ope import Estimate
    from training.assess import Assessment
    from training.evaluate import TrueValue
    from training.ledger import Entry

VersionArgument = Annotated[str | None, typer.Argument(help="A version number. Default: the latest challenger.")]
Why = Annotated[str, typer.Option("--why", help="The reason; it goes into the ledger.")]


def evaluate(
    version: VersionArgument = None, pack_name: PackName = "support", as_of: AsOf = None, as_json: AsJson = False
) -> None:
    """Judge a version on the log, off-policy, on customers it was not learned from; and in truth where simulated."""
    desk = desk_of(pack_name)
    assessment = desk.assess(desk.version(version), as_of)
    if as_json:
        print_json(assessment)
    else:
        _show_assessment(assessment)


def promote(
    version: VersionArgument = None,
    pack_name: PackName = "support",
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; needs --why.")] = False,
    why: Why = "",
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion if the gate lets it through; servers swap within five seconds.

    Refused where the lower bound of the doubly robust lift over the champion is not above zero.
    """
    from training.promote import promote as promote_version

    desk = desk_of(pack_name)
    chosen = desk.version(version)
    is_first = desk.tracking.aliased(desk.pack.pack, "champion") is None
    assessment = None if force or is_first else desk.assess(chosen, as_of)
    if assessment is not None and not as_json:
        _show_assessment(assessment)
    entry = promote_version(
        desk.home,
        desk.tracking,
        desk.pack,
        chosen,
        verdict=assessment.verdict if assessment else None,
        at=datetime.now(UTC),
        actor=desk.actor,
        why=why,
        force=force,
    )
    _show_entry(entry, as_json)


def rollback(why: Why, pack_name: PackName = "support", as_json: AsJson = False) -> None:
    """Make the previous champion serve again."""
    from training.promote import rollback as roll_back

    desk = desk_of(pack_name)
    entry = roll_back(desk.home, desk.tracking, desk.pack.pack, why=why, at=datetime.now(UTC), actor=desk.actor)
    _show_entry(entry, as_json)


def retrain(
    quarter: Annotated[str, typer.Option("--quarter", help="Such as 2026Q4; `last` is the one that has ended last.")],
    pack_name: PackName = "support",
    prior_weight: PriorWeight = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """The quarterly cycle: freeze the log, learn the pack's candidates, judge, promote the best or say why not.

    Safe to repeat: the same closed rounds give the same versions and verdicts, and change nothing twice. --prior-weight
    is of a prior that the simulator taught; one that has learned from real rounds counts in full.
    """
    from training.retrain import retrain as retrain_quarter
    from training.window import last_quarter

    desk, now = desk_of(pack_name), utc(as_of)
    wanted = last_quarter(now) if quarter == "last" else quarter
    with status("retraining") as tell:
        done = retrain_quarter(
            desk.home,
            desk.tracking,
            desk.pack,
            wanted,
            as_of=now,
            actor=desk.actor,
            prior_weight=prior_weight,
            on_step=tell,
        )
    if as_json:
        window = {**done.window.tags(), "counts": dict(done.window.counts)}
        told = ("quarter", "run_id", "repeated", "champion", "candidates", "promoted", "outcome", "prior_worth")
        print_json({**{name: getattr(done, name) for name in told}, "window": window})
        return
    for assessment in done.candidates:
        _show_assessment(assessment)
    for kind, worth in done.prior_worth.items():
        out.print(f"{kind}: the prior was worth {worth} a round on held-out customers")
    out.print(f"[bold]{done.quarter}[/]: {len(done.window):,} closed rounds; {done.outcome}")
    if done.repeated:
        out.print("these rounds had been through a retrain before: nothing was changed")


def ledger(pack_name: PackName = "support", as_json: AsJson = False) -> None:
    """Who served when: every promotion and rollback, oldest first."""
    from nba.pack_file import load_pack
    from training.ledger import Ledger

    entries = Ledger(Home.from_environment().ledger).read().of(load_pack(pack_name).pack)
    if as_json:
        print_json(entries)
        return
    rows = [[f"{e.at:%Y-%m-%d %H:%M:%S}", e.kind, e.from_version or "-", e.to_version, e.actor, e.why] for e in entries]
    table(f"champions of {pack_name} (UTC)", ["from", "how", "before", "version", "who", "why"], rows)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    for command in (evaluate, promote, rollback, retrain, ledger):
        app.command()(command)


def _show_assessment(assessment: Assessment) -> None:
    evaluation, overall = assessment.evaluation, assessment.evaluation.overall
    challenger, champion = evaluation.challenger, evaluation.champion
    against = f"champion {champion.version}" if champion else "no champion"
    table(
        f"version {challenger.version} ({challenger.kind}) against {against}, on customers held out: reward a round",
        ["", "estimate, 95 %"],
        [
            [f"logged, {overall.rounds:,} rounds", f"{overall.logged:.4f}" + " " * 18],
            ["inverse propensity", _estimate(overall.ips)],
            ["self-normalised", _estimate(overall.snips)],
            ["direct method", _estimate(overall.direct_method)],
            ["doubly robust", _estimate(overall.doubly_robust)],
            ["champion, doubly robust", _estimate(overall.champion)],
            ["lift, doubly robust", _estimate(overall.lift)],
            ["mean weight", _estimate(overall.mean_weight)],
        ],
    )
    table(
        "by moment",
        ["moment", "rounds", "doubly robust", "lift", "mean weight"],
        [
            [moment, f"{e.rounds:,}", _estimate(e.doubly_robust), _estimate(e.lift), _estimate(e.mean_weight)]
            for moment, e in evaluation.moments.items()
        ],
    )
    if evaluation.truth:
        table(
            "the truth of simulated customers, reward a round",
            ["moment", "uniform", "rules", "context-free", "champion", "challenger", "oracle", "to the oracle"],
            [_truth(moment, true) for moment, true in evaluation.truth.items()],
        )
    verdict = assessment.verdict
    out.print(f"gate: {'[green]promote[/]' if verdict.promote else '[red]refuse[/]'}: {'; '.join(verdict.reasons)}")
    for caution in verdict.cautions:
        out.print(f"[yellow]caution:[/] {caution}")


def _estimate(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _truth(moment: str, true: TrueValue) -> list[str]:
    levels = true.yardsticks
    champion = "-" if true.champion is None else f"{true.champion:.4f}"
    shown = [f"{value:.4f}" for value in (levels.uniform, levels.rules, levels.context_free)]
    return [
        moment,
        *shown,
        champion,
        f"{true.challenger:.4f}",
        f"{levels.oracle:.4f}",
        f"{levels.oracle - true.challenger:.4f}",
    ]


def _show_entry(entry: Entry, as_json: bool) -> None:
    if as_json:
        print_json(entry)
        return
    before = f" in place of {entry.from_version}" if entry.from_version else ""
    out.print(f"{entry.pack} version {entry.to_version} serves{before} ({entry.kind}: {entry.why})")
