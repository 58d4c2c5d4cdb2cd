"""`nba train`: from a simulator or the log to a challenger, of single rounds and of whole sessions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.desk import AsOf, Desk, PriorWeight, desk_of, show_challenger, status, utc
from nba.cli.output import AsJson, PackName, out, print_json, progress, table

if TYPE_CHECKING:
    from datetime import datetime

    from training.rl.session import SessionVersion
    from training.rl.settings import SessionTraining
    from training.targets import Target
    from training.tracking import Version

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
    session: Annotated[bool, typer.Option("--session", help="Learn the pack's whole sessions; see --algo.")] = False,
    algo: Annotated[
        Algo, typer.Option(help="Of --session: how to learn. ppo and dqn play, with RLlib; the others need --from log.")
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
            _train_logged_sessions(desk_of(pack_name), algo, told, seed, as_of, as_json)
            return
        from training.rl.settings import ALGORITHMS, SessionTraining

        algorithm = ALGORITHMS[algo]()
        to_do = SessionTraining(
            algorithm,
            steps=steps or algorithm.steps,
            seed=seed,
            budget_cpu_seconds=budget,
            runners=runners,
            temperature=temperature,
            floor=floor,
        )
        _train_session(desk_of(pack_name), algo, to_do, address, as_json)
        return
    kind, chosen = kind_of(policy, model, explore), settings_of(settings or [])
    desk = desk_of(pack_name)
    version = _train(desk, source, kind, chosen, rounds, seed, calibration, as_of, target, prior, prior_weight)
    if as_json:
        print_json({"pack": desk.pack.pack, "version": version.version, "tags": version.tags})
        return
    if "prior_worth" in version.tags:
        out.print(f"the prior was worth {version.tags['prior_worth']} a round on held-out customers")
    show_challenger(version)


def _train(
    desk: Desk,
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
        with status(f"registering {kind}"):
            return train_without_rounds(home, tracking, pack, kind)
    if source is Source.LOG:
        with status("learning from the log"):
            return _train_on_log(desk, kind, settings, as_of, target, asked_prior, prior_weight)
    simulated = simulate(pack, calibration=calibration)
    with progress(f"playing {pack.pack}", rounds * len(simulated)) as done:
        return train_in_simulator(
            home, tracking, pack, kind, simulated, rounds=rounds, seed=seed, settings=settings, on_step=done
        )


def _train_on_log(
    desk: Desk,
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
    window = freeze(home.log, pack, as_of=utc(as_of))
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


def _train_session(desk: Desk, algo: Algo, to_do: SessionTraining, address: str | None, as_json: bool) -> None:
    from training.rl.session import train_session

    with progress(f"learning sessions of {desk.pack.pack} by {algo}, steps", to_do.steps) as done:
        learned = train_session(desk.home, desk.tracking, desk.pack, to_do, address=address, on_step=done)
    if as_json:
        print_json(learned)
    else:
        _show_session(learned, algo)


def _train_logged_sessions(
    desk: Desk, algo: Algo, settings: dict[str, float], seed: int, as_of: datetime | None, as_json: bool
) -> None:
    from training.offline.train import train_sessions_on_log

    with status(f"learning logged sessions of {desk.pack.pack} by {algo}") as tell:
        version = train_sessions_on_log(
            desk.home,
            desk.tracking,
            desk.pack,
            algo,
            as_of=utc(as_of),
            seed=seed,
            settings=settings,
            on_epoch=lambda done: tell(f"learning logged sessions of {desk.pack.pack} by {algo}: epoch {done}"),
        )
    if as_json:
        print_json({"pack": desk.pack.pack, "version": version.version, "tags": version.tags})
        return
    show_challenger(version, f"sessions by {algo}")


def _show_session(learned: SessionVersion, algo: Algo) -> None:
    version, levels = learned.version, ("uniform", "rules", "learned", "planner", "bound")
    table(
        f"reward a session of {learned.moment}; {learned.steps:,} steps, {learned.cpu_seconds:.0f} CPU seconds",
        ["", "value", "from uniform to planner"],
        [[name, f"{getattr(learned, name):.4f}", f"{learned.part(name):.1%}"] for name in levels],
    )
    show_challenger(version, f"{learned.moment} by {algo}")


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
