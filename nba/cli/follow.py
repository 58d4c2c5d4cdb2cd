"""`nba learn --follow`: the served policy learned from the live log, every few seconds."""

from __future__ import annotations

import math
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.output import AsJson, PackName, err, out, print_json
from nba.home import Home

if TYPE_CHECKING:
    from nba.pack import Pack
    from training.follow import Step

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def span(told: str | float) -> float:
    """Seconds told as `5s`, `10m`, `2h`, `1d` or a plain number. Raises typer.BadParameter."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", str(told))
    if match is None or not float(match[1]) > 0.0:
        raise typer.BadParameter(f"{told!r} is no time: write 5s, 10m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def learn(
    follow: Annotated[bool, typer.Option("--follow", help="Go on learning as the log grows.")] = False,
    pack_name: PackName = "support",
    kind: Annotated[
        str | None, typer.Option(help="Of policy. Default: the champion's where that learns, else the pack's first.")
    ] = None,
    every: Annotated[float, typer.Option(parser=span, metavar="TIME", help="At most one version in it.")] = 5.0,
    for_s: Annotated[
        float | None, typer.Option("--for", parser=span, metavar="TIME", help="Then end. Default: until Ctrl-C.")
    ] = None,
    half_life: Annotated[
        float | None, typer.Option(min=1.0, help="Rounds of a moment after which what was learned counts half.")
    ] = None,
    min_rounds: Annotated[int, typer.Option(min=1, help="Closed rounds that a version takes at least.")] = 100,
    since: Annotated[
        datetime | None,
        typer.Option(help="Leave out what was decided before this time (UTC). Default: nothing that is new."),
    ] = None,
    floor: Annotated[
        float | None, typer.Option(help="Halt where what was served is surely worth less, in reward a round.")
    ] = None,
    max_degraded: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Halt where a larger share of decisions is degraded.")
    ] = 0.2,
    keep: Annotated[
        int, typer.Option(min=10, help="Versions whose artefacts stay in this installation; MLflow has them all.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Learn from the live log while it is served, a version every few seconds, each promoted without the gate.

    The quarterly retrain stays the rule. Each round is learned from once, when its reward window has closed; monitors
    take every version back, to the champion it started from, where the log or the reward speaks against them.
    """
    if not follow:
        raise typer.BadParameter(
            "say --follow; to learn from the log once: nba train --from log", param_hint="--follow"
        )
    from nba.pack_file import load_pack
    from training.follow import Follower, Following
    from training.follow import follow as follow_log
    from training.monitors import Limits
    from training.tracking import Tracking

    home, pack = Home.from_environment(), load_pack(pack_name)
    following = Following(kind, min_rounds, half_life, keep, Limits(floor=floor, max_degraded=max_degraded))
    after = None if since is None else since.replace(tzinfo=UTC)
    steps: list[Step] = []
    with _stopping() as stop, err.status("reading the log") as status:
        tracking = Tracking.of(home)
        follower = Follower(home, tracking, pack, following, clock=lambda: datetime.now(UTC), since=after)
        _say_windows(pack)

        def tell(step: Step) -> None:
            if step.trouble is not None and (not steps or steps[-1].trouble is None):
                err.print(f"[yellow]waiting:[/] {step.trouble}; it is tried again every {every:g} s")
            if step.is_new:
                err.print(_line(step), highlight=False, soft_wrap=True)
            status.update(_line(step))
            steps.append(step)

        follow_log(follower, every_s=every, for_s=for_s, stop=stop, on_step=tell)
    made = sum(step.is_new for step in steps)
    if as_json:
        last = steps[-1] if steps else None
        print_json({"pack": pack.pack, "versions": made, "last": last})
    elif steps:
        out.print(f"{made} versions in {len(steps)} looks; {_line(steps[-1])}", highlight=False, soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Registers the command of this module."""
    app.command()(learn)


def _line(step: Step) -> str:
    value, weight = ("-" if math.isnan(number) else f"{number:.4f}" for number in (step.value, step.weight))
    return (
        f"version {step.version.version} ({step.version.kind}): {step.learned:,} rounds, {step.fresh:,} more closed,"
        f" {step.waiting:,} open; value {value} a round, mean weight {weight}"
    )


def _say_windows(pack: Pack) -> None:
    """That outcomes take their time: until a window has closed there is nothing to learn."""
    longest = max(pack.moments.values(), key=lambda moment: moment.window_s)
    err.print(
        f"a round is learned when its reward window closes: by an outcome that closes it, else after up to"
        f" {longest.window}",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination sets: the step under way is finished first."""
    stop = threading.Event()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
