"""`nba train`, `evaluate`, `promote`, `rollback`, `retrain`, `ledger`: from logs and simulators to a champion."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.output import AsJson, PackName, err, out, print_json, progress, table
from nba.errors import NbaError
from nba.home import Home
from nba.pack import Pack

if TYPE_CHECKING:
    from nba.ope import Estimate
    from training.assess import Assessment
    from training.evaluate import TrueValue
    from training.ledger import Entry
    from training.tracking import Tracking, Version

AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", help="Read the log as at this time (UTC); windows open then are left out. Default: now."),
]
VersionArgument = Annotated[str | None, typer.Argument(help="A version number. Default: the latest challenger.")]
Why = Annotated[str, typer.Option("--why", help="The reason; it goes into the ledger.")]


MODELS = "linear, rff, neural_linear, ensemble"  # as `nba.models` has them, which takes long to import
EXPLORERS = "epsilon, softmax, square_cb, falcon, thompson"


class Source(StrEnum):
    """Where a policy is learned."""

    SIMULATOR = "simulator"
    LOG = "log"


class NoChallengerError(NbaError):
    """There is no version to judge or to promote."""

    code = "no_challenger"


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every learning command works with."""

    home: Home
    pack: Pack
    tracking: Tracking
    actor: str

    def version(self, asked: str | None) -> Version:
        """The version asked for, else the challenger."""
        if asked is not None:
            return self.tracking.version(self.pack.pack, asked)
        challenger = self.tracking.aliased(self.pack.pack, "challenger")
        if challenger is None:
            raise NoChallengerError(f"pack {self.pack.pack!r} has no challenger", help="train one: nba train")
        return challenger

    def assess(self, version: Version, as_of: datetime | None) -> Assessment:
        """The version against the champion, on the customers held out of its training."""
        import numpy as np

        from training.assess import assess
        from training.gate import Gate
        from training.truth import simulate
        from training.window import freeze

        with _status("judging on the log"):
            window = freeze(self.home.log, self.pack, as_of=_utc(as_of))
            champion = self.tracking.aliased(self.pack.pack, "champion")
            rng = np.random.default_rng(int(window.digest[:16], 16))
            simulated = simulate(self.pack)
            return assess(
                self.home,
                self.tracking,
                self.pack,
                version,
                champion,
                window,
                gate=Gate(),
                rng=rng,
                simulated=simulated,
            )


def _desk(pack_name: str) -> _Desk:
    from nba.pack_file import load_pack
    from training.tracking import Tracking

    home, pack = Home.from_environment(), load_pack(pack_name)
    return _Desk(home, pack, Tracking.of(home), getpass.getuser())


def train(
    pack_name: PackName = "support",
    source: Annotated[Source, typer.Option("--from", help="Where to learn.")] = Source.SIMULATOR,
    policy: Annotated[
        str | None, typer.Option("--policy", help="uniform, rules, epsilon_greedy, square_cb, or a MODEL+EXPLORER.")
    ] = None,
    model: Annotated[str | None, typer.Option(help=f"What actions are worth: {MODELS}.")] = None,
    explore: Annotated[str | None, typer.Option(help=f"How to explore by it: {EXPLORERS}.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=NUMBER", help="Of the policy, such as scale=2; repeat.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=100, help="Simulated rounds a moment.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
    calibration: Annotated[
        Path | None, typer.Option(help="What `nba calibrate` wrote: simulated customers are like those of its log.")
    ] = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Learn a policy and register it in MLflow as the challenger; it serves only once promoted.

    From the log it learns from 70 % of the customers and leaves the others to judge by. `uniform` and `rules` need
    nothing to learn from: a new pack starts with them.
    """
    kind, chosen = kind_of(policy, model, explore), settings_of(settings or [])
    desk = _desk(pack_name)
    version = _train(desk, source, kind, chosen, rounds, seed, calibration, as_of)
    if as_json:
        print_json({"pack": desk.pack.pack, "version": version.version, "tags": version.tags})
        return
    out.print(f"{desk.pack.pack} version {version.version} ({version.kind}, {version.digest[:12]}) is the challenger")
    out.print("next: nba evaluate, then nba promote")


def _train(
    desk: _Desk,
    source: Source,
    kind: str,
    settings: dict[str, float],
    rounds: int,
    seed: int,
    calibration: Path | None,
    as_of: datetime | None,
) -> Version:
    from training.train import prior_of, train_in_simulator, train_on_log, train_without_rounds
    from training.truth import simulate
    from training.window import Split, freeze

    home, tracking, pack = desk.home, desk.tracking, desk.pack
    if kind in ("uniform", "rules"):
        with _status(f"registering {kind}"):
            return train_without_rounds(home, tracking, pack, kind)
    if source is Source.LOG:
        with _status("learning from the log"):
            window = freeze(home.log, pack, as_of=_utc(as_of))
            prior = prior_of(tracking, pack, window)
            return train_on_log(home, tracking, pack, kind, window, split=Split(), prior=prior, settings=settings)
    simulated = simulate(pack, calibration=calibration)
    with progress(f"playing {pack.pack}", rounds * len(simulated)) as done:
        return train_in_simulator(
            home, tracking, pack, kind, simulated, rounds=rounds, seed=seed, settings=settings, on_step=done
        )


def kind_of(policy: str | None, model: str | None, explore: str | None) -> str:
    """The kind of policy asked for, by its name or by its two parts. Raises typer.BadParameter for both at once."""
    if model is None and explore is None:
        return policy or "square_cb"
    if policy is not None:
        raise typer.BadParameter("say what to learn by --policy, or by --model and --explore", param_hint="--policy")
    return f"{model or 'linear'}+{explore or 'square_cb'}"


def settings_of(told: list[str]) -> dict[str, float]:
    """Settings as `name=number`. Raises typer.BadParameter."""
    settings = {}
    for each in told:
        name, _, number = each.partition("=")
        try:
            settings[name.strip()] = float(number)
        except ValueError:
            raise typer.BadParameter(f"{each!r} is no NAME=NUMBER", param_hint="--set") from None
    return settings


def evaluate(
    version: VersionArgument = None, pack_name: PackName = "support", as_of: AsOf = None, as_json: AsJson = False
) -> None:
    """Judge a version on the log, off-policy, on customers it was not learned from; and in truth where simulated."""
    desk = _desk(pack_name)
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

    desk = _desk(pack_name)
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

    desk = _desk(pack_name)
    entry = roll_back(desk.home, desk.tracking, desk.pack.pack, why=why, at=datetime.now(UTC), actor=desk.actor)
    _show_entry(entry, as_json)


def retrain(
    quarter: Annotated[str, typer.Option("--quarter", help="Such as 2026Q4; `last` is the one that has ended last.")],
    pack_name: PackName = "support",
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """The quarterly cycle: freeze the log, learn the pack's candidates, judge, promote the best or say why not.

    Safe to repeat: the same closed rounds give the same versions and verdicts, and change nothing twice.
    """
    from training.retrain import retrain as retrain_quarter
    from training.window import last_quarter

    desk, now = _desk(pack_name), _utc(as_of)
    wanted = last_quarter(now) if quarter == "last" else quarter
    with _status("retraining") as tell:
        done = retrain_quarter(desk.home, desk.tracking, desk.pack, wanted, as_of=now, actor=desk.actor, on_step=tell)
    if as_json:
        window = {**done.window.tags(), "counts": dict(done.window.counts)}
        told = ("quarter", "run_id", "repeated", "champion", "candidates", "promoted", "outcome")
        print_json({**{name: getattr(done, name) for name in told}, "window": window})
        return
    for assessment in done.candidates:
        _show_assessment(assessment)
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
    for command in (train, evaluate, promote, rollback, retrain, ledger):
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


@contextmanager
def _status(text: str) -> Iterator[Callable[[str], None]]:
    with err.status(text) as status:
        yield status.update


def _utc(as_of: datetime | None) -> datetime:
    return datetime.now(UTC) if as_of is None else as_of.replace(tzinfo=UTC)
