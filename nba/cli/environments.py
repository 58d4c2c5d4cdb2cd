"""`nba envs`: the simulated environments, and what policies of every kind are worth in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.output import AsJson, PackName, out, print_json, progress, table

if TYPE_CHECKING:
    from envs.report import EnvironmentReport

app = typer.Typer(help="Simulated environments: what there is, and what there is to learn.", no_args_is_help=True)
POLICIES = ("uniform", "rules", "context_free", "linear", "myopic", "oracle")


@app.command("list")
def list_environments(as_json: AsJson = False) -> None:
    """Every registered Gymnasium id, with its pack and moment."""
    from envs import SESSION_IDS

    rows = [[env_id, *what, "session" if env_id in SESSION_IDS else "moment"] for env_id, what in _all().items()]
    if as_json:
        print_json([dict(zip(("id", "pack", "moment", "kind"), row, strict=True)) for row in rows])
        return
    table(f"{len(rows)} environments: gym.make(id) after `import envs`", ["id", "pack", "moment", "kind"], rows)


@app.command()
def report(
    only: Annotated[list[str] | None, typer.Option("--env", help="An id; repeatable. Default: all of them.")] = None,
    rounds: Annotated[int, typer.Option(min=100, help="Contexts a moment.")] = 20_000,
    sessions: Annotated[int, typer.Option(min=100, help="Sessions a session environment.")] = 4_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    picture: Annotated[Path | None, typer.Option(help="Write the table as a picture to this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """What uniform, rules, the best context-free, the best linear and the oracle earn, with 95 % intervals.

    Says where a pack's claim does not hold: that a look at the customer (in sessions: a plan) is worth 10 % or more.
    """
    from envs import SESSION_IDS
    from envs.report import report_moment, report_session

    wanted, reports = _wanted(only), list["EnvironmentReport"]()
    with progress("playing", len(wanted)) as done:
        for i, (env_id, (pack, moment)) in enumerate(wanted.items()):
            if env_id in SESSION_IDS:
                reports.append(report_session(env_id, pack, moment, sessions=sessions, seed=seed))
            else:
                reports.append(report_moment(env_id, pack, moment, rounds=rounds, seed=seed))
            done(i + 1)
    if picture is not None:
        from training.plots import environments

        environments(reports).savefig(picture, dpi=120)
    if as_json:
        print_json([{**_plain(each), "margin": each.margin, "holds": each.holds} for each in reports])
    else:
        _show(reports)
        if picture is not None:
            out.print(f"the same as a picture: {picture}")
    if not all(each.holds for each in reports):
        raise typer.Exit(1)


@app.command()
def targets(
    pack_name: PackName = "support", seed: Annotated[int, typer.Option(min=0)] = 0, as_json: AsJson = False
) -> None:
    """Figures that practice quotes, beside the simulator's own; none of them has a source that could be checked."""
    from envs.targets import measure_targets
    from nba.pack_file import load_pack

    measured = measure_targets(load_pack(pack_name), seed=seed)
    if as_json:
        told = ("name", "meaning", "quoted", "low", "high", "moment", "source")
        rows = [{name: getattr(m.target, name) for name in told} for m in measured]
        print_json([row | {"value": m.value, "within": m.within} for row, m in zip(rows, measured, strict=True)])
        return
    table(
        f"targets of {pack_name}, as quoted in the field's literature",
        ["target", "from", "to", "simulated", ""],
        [
            [m.target.name, f"{m.target.low:.2f}", f"{m.target.high:.2f}", f"{m.value:.3f}", "" if m.within else "OFF"]
            for m in measured
        ],
    )


def _all() -> dict[str, tuple[str, str]]:
    from envs import IDS, SESSION_IDS

    return {**IDS, **SESSION_IDS}


def _wanted(only: list[str] | None) -> dict[str, tuple[str, str]]:
    known = _all()
    for env_id in only or ():
        if env_id not in known:
            raise typer.BadParameter(f"no environment {env_id!r}; known are {', '.join(known)}", param_hint="--env")
    return {env_id: known[env_id] for env_id in only} if only else known


def _plain(each: EnvironmentReport) -> dict[str, object]:
    return {name: getattr(each, name) for name in each.__dataclass_fields__}


def _show(reports: list[EnvironmentReport]) -> None:
    rows = []
    for each in reports:
        cells = [_cell(each, name) for name in POLICIES]
        bound = "" if each.bound is None else f"{each.bound:.3f}"
        verdict = f"{each.margin:+.0%}" + ("" if each.holds else " FAILS") if each.claims else f"({each.margin:+.0%})"
        rows.append([each.env_id.removeprefix("nba/").removesuffix("-v0"), *cells, bound, verdict])
    table(
        "value with 95 % interval: reward a round, in sessions a session",
        ["", *(name.replace("_", "-") for name in POLICIES), "bound", "margin"],
        rows,
    )
    out.print(
        "margin: the oracle over the best context-free, in sessions over the best that looks one step ahead; in "
        "brackets where the pack claims nothing.\nbound: what no policy can pass, as it knows what nobody sees.",
        highlight=False,
    )


def _cell(each: EnvironmentReport, name: str) -> str:
    value = each.values.get(name)
    return "" if value is None else f"{value.value:.3f}±{1.96 * value.standard_error:.3f}"
