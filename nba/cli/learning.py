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
    from training.rl.session import SessionVersion
    from training.targets import Target
    from training.tracking import Tracking, Version

AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", help="Read the log as at this time (UTC); windows open then are left out. Default: now."),
]
VersionArgument = Annotated[str | None, typer.Argument(help="A version number. Default: the latest challenger.")]
Why = Annotated[str, typer.Option("--why", help="The reason; it goes into the ledger.")]
PriorWeight = Annotated[
    float | None,
    typer.Option(
        "--prior-weight",
        min=0.0,
        metavar="ROUNDS",
        help="As how many rounds of each moment the prior counts. Default: as those it has learned from.",
    ),
]


MODELS = (
    "linear, rff, neural_linear, ensemble, quadratic, recursive"  # as `nba.models` has them, which takes long to import
)
EXPLORERS = "epsilon, softmax, square_cb, falcon, thompson"


class Source(StrEnum):
    """Where a policy is learned."""

    SIMULATOR = "simulator"
    LOG = "log"


class FitTo(StrEnum):
    """What models are fitted on where another policy logged the rounds; see `training.targets.Target`."""

    DIRECT = "direct"
    IW = "iw"
    DR = "dr"


class Algo(StrEnum):
    """How whole sessions are learned."""

    PPO = "ppo"
    DQN = "dqn"
    BC = "bc"
    RETURN_TO_GO = "return_to_go"
    FITTED_Q = "fitted_q"
    IMPLICIT_Q = "implicit_q"


ONLINE = (Algo.PPO, Algo.DQN)  # play in the simulator; the others learn from the log


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
    fit_to: Annotated[
        FitTo,
        typer.Option("--target", help="Of --from log: direct, importance-weighted (iw) or doubly robust (dr) rewards."),
    ] = FitTo.DIRECT,
    clip: Annotated[float, typer.Option(min=1.0, help="Of --target iw and dr: the largest importance weight.")] = 20.0,
    prior: Annotated[
        str | None, typer.Option("--prior", metavar="VERSION", help="Of --from log: what to learn on top of.")
    ] = None,
    prior_weight: PriorWeight = None,
    calibration: Annotated[
        Path | None, typer.Option(help="What `nba calibrate` wrote: simulated customers are like those of its log.")
    ] = None,
    session: Annotated[bool, typer.Option("--session", help="Learn the pack's whole sessions, with RLlib.")] = False,
    algo: Annotated[
        Algo, typer.Option(help="Of --session: how to learn; ppo and dqn play, the others need --from log.")
    ] = Algo.PPO,
    steps: Annotated[int | None, typer.Option(min=1, help="Of --session: of all sessions. Default: enough.")] = None,
    budget: Annotated[
        float | None, typer.Option("--budget-cpu-seconds", min=0.0, help="Of --session: learning ends by then.")
    ] = None,
    runners: Annotated[int, typer.Option(min=0, help="Of --session: processes that play. 0: in this one.")] = 0,
    address: Annotated[str | None, typer.Option(help="Of --session: of a Ray cluster. Default: started here.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of --session: of the policy. Default: of --algo.")] = None,
    floor: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of --session: probability shared evenly.")] = 0.02,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Learn a policy and register it in MLflow as the challenger; it serves only once promoted.

    From the log it learns from 70 % of the customers and leaves the others to judge by. `uniform` and `rules` need
    nothing to learn from: a new pack starts with them. With --session a network learns by playing whole sessions; a
    run that was killed goes on where it was when it is started again with the same options.
    """
    target = target_of(fit_to, clip, source, session)
    if (prior is not None or prior_weight is not None) and (session or source is not Source.LOG):
        raise typer.BadParameter("a prior is of single rounds of a log: --from log", param_hint="--prior")
    if session:
        if (algo in ONLINE) == (source is Source.LOG):
            where = "the simulator" if algo in ONLINE else "the log"
            raise typer.BadParameter(f"{algo} learns sessions from {where}, not --from {source}", param_hint="--algo")
        if source is Source.LOG:
            told = settings_of(settings or []) | {"floor": floor}
            if temperature is not None:
                told["temperature"] = temperature
            _train_logged_sessions(_desk(pack_name), algo, told, seed, as_of, as_json)
            return
        limits = _Limits(steps, budget, runners, temperature, floor)
        _train_session(_desk(pack_name), algo, limits, seed, address, as_json)
        return
    kind, chosen = kind_of(policy, model, explore), settings_of(settings or [])
    desk = _desk(pack_name)
    version = _train(desk, source, kind, chosen, rounds, seed, calibration, as_of, target, prior, prior_weight)
    if as_json:
        print_json({"pack": desk.pack.pack, "version": version.version, "tags": version.tags})
        return
    out.print(f"{desk.pack.pack} version {version.version} ({version.kind}, {version.digest[:12]}) is the challenger")
    if "prior_worth" in version.tags:
        out.print(f"the prior was worth {version.tags['prior_worth']} a round on held-out customers")
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
    target: Target,
    asked_prior: str | None,
    prior_weight: float | None,
) -> Version:
    from training.learn import check_target
    from training.train import train_in_simulator, train_without_rounds
    from training.truth import simulate

    home, tracking, pack = desk.home, desk.tracking, desk.pack
    check_target(kind, target)
    if kind in ("uniform", "rules"):
        with _status(f"registering {kind}"):
            return train_without_rounds(home, tracking, pack, kind)
    if source is Source.LOG:
        with _status("learning from the log"):
            return _train_on_log(desk, kind, settings, as_of, target, asked_prior, prior_weight)
    simulated = simulate(pack, calibration=calibration)
    with progress(f"playing {pack.pack}", rounds * len(simulated)) as done:
        return train_in_simulator(
            home, tracking, pack, kind, simulated, rounds=rounds, seed=seed, settings=settings, on_step=done
        )


def _train_on_log(
    desk: _Desk,
    kind: str,
    settings: dict[str, float],
    as_of: datetime | None,
    target: Target,
    asked_prior: str | None,
    prior_weight: float | None,
) -> Version:
    """The version; where a prior or its weight was asked for, with what that was worth among its tags."""
    from training.prior import worth
    from training.train import named_prior, prior_of, train_on_log
    from training.window import Split, freeze

    home, tracking, pack = desk.home, desk.tracking, desk.pack
    window = freeze(home.log, pack, as_of=_utc(as_of))
    prior, is_asked = prior_of(tracking, pack, window), asked_prior is not None or prior_weight is not None
    if is_asked:
        prior = named_prior(tracking, pack, window, kind, asked_prior or (prior.version if prior else "champion"))
    version = train_on_log(
        home,
        tracking,
        pack,
        kind,
        window,
        split=Split(),
        prior=prior,
        prior_weight=prior_weight,
        settings=settings,
        target=target,
    )
    if not is_asked:
        return version
    worth(home, tracking, pack, version, window, settings=settings, target=target)
    return tracking.version(pack.pack, version.version)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What learning sessions was told beside the algorithm; None: as the algorithm has it."""

    steps: int | None
    budget_cpu_seconds: float | None
    runners: int
    temperature: float | None
    floor: float


def _train_session(desk: _Desk, algo: Algo, limits: _Limits, seed: int, address: str | None, as_json: bool) -> None:
    from training.rl.session import train_session
    from training.rl.settings import ALGORITHMS, SessionTraining

    algorithm = ALGORITHMS[algo]()
    told = SessionTraining(
        algorithm,
        steps=limits.steps or algorithm.steps,
        seed=seed,
        budget_cpu_seconds=limits.budget_cpu_seconds,
        runners=limits.runners,
        temperature=limits.temperature,
        floor=limits.floor,
    )
    with progress(f"learning sessions of {desk.pack.pack} by {algo}, steps", told.steps) as done:
        learned = train_session(desk.home, desk.tracking, desk.pack, told, address=address, on_step=done)
    if as_json:
        print_json(learned)
    else:
        _show_session(learned)


def _train_logged_sessions(
    desk: _Desk, algo: Algo, settings: dict[str, float], seed: int, as_of: datetime | None, as_json: bool
) -> None:
    from training.offline.train import train_sessions_on_log

    with _status(f"learning logged sessions of {desk.pack.pack} by {algo}") as tell:
        version = train_sessions_on_log(
            desk.home,
            desk.tracking,
            desk.pack,
            algo,
            as_of=_utc(as_of),
            seed=seed,
            settings=settings,
            on_epoch=lambda done: tell(f"learning logged sessions of {desk.pack.pack} by {algo}: epoch {done}"),
        )
    if as_json:
        print_json({"pack": desk.pack.pack, "version": version.version, "tags": version.tags})
        return
    out.print(f"{desk.pack.pack} version {version.version} ({version.kind}, {version.digest[:12]}) is the challenger")
    out.print("next: nba evaluate, then nba promote")


def _show_session(learned: SessionVersion) -> None:
    version, levels = learned.version, ("uniform", "rules", "learned", "planner", "bound")
    table(
        f"reward a session of {learned.moment}; {learned.steps:,} steps, {learned.cpu_seconds:.0f} CPU seconds",
        ["", "value", "from uniform to planner"],
        [[name, f"{getattr(learned, name):.4f}", f"{learned.part(name):.1%}"] for name in levels],
    )
    out.print(f"{version.pack} version {version.version} ({version.kind}, {version.digest[:12]}) is the challenger")
    out.print("next: nba evaluate, then nba promote")


def kind_of(policy: str | None, model: str | None, explore: str | None) -> str:
    """The kind of policy asked for, by its name or by its two parts. Raises typer.BadParameter for both at once."""
    if model is None and explore is None:
        return policy or "square_cb"
    if policy is not None:
        raise typer.BadParameter("say what to learn by --policy, or by --model and --explore", param_hint="--policy")
    return f"{model or 'linear'}+{explore or 'square_cb'}"


def target_of(fit_to: FitTo, clip: float, source: Source, session: bool) -> Target:
    """What models are fitted on. Raises typer.BadParameter unless single rounds of the log are learned."""
    from training.targets import Target

    if fit_to is not FitTo.DIRECT and (session or source is not Source.LOG):
        raise typer.BadParameter(f"{fit_to} is of single rounds of a log: --from log", param_hint="--target")
    return Target(fit_to.value, clip)


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

    desk, now = _desk(pack_name), _utc(as_of)
    wanted = last_quarter(now) if quarter == "last" else quarter
    with _status("retraining") as tell:
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
