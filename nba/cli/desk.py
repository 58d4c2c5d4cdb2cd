"""What every learning command works with: a home, a pack, what is tracked of it, and who asks."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from nba.cli.output import err, out
from nba.errors import NbaError
from nba.home import Home
from nba.pack import Pack

if TYPE_CHECKING:
    from training.assess import Assessment
    from training.tracking import Tracking, Version

AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", help="Read the log as at this time (UTC); windows open then are left out. Default: now."),
]
PriorWeight = Annotated[
    float | None,
    typer.Option(
        "--prior-weight",
        min=0.0,
        metavar="ROUNDS",
        help="As how many rounds of each moment the prior counts. Default: as those it has learned from.",
    ),
]


class NoChallengerError(NbaError):
    """There is no version to judge or to promote."""

    code = "no_challenger"


@dataclass(frozen=True, slots=True)
class Desk:
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

        with status("judging on the log"):
            window = freeze(self.home.log, self.pack, as_of=utc(as_of))
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


def desk_of(pack_name: str) -> Desk:
    """The desk of a pack, by its name or its file. Raises PackError."""
    from nba.pack_file import load_pack
    from training.tracking import Tracking

    home, pack = Home.from_environment(), load_pack(pack_name)
    return Desk(home, pack, Tracking.of(home), getpass.getuser())


def show_challenger(version: Version, *learned: str) -> None:
    """Says that a version is the challenger, what it learned, and what comes next."""
    kinds = ", ".join((version.kind, *learned))
    out.print(f"{version.pack} version {version.version} ({kinds}, {version.digest[:12]}) is the challenger")
    out.print("next: nba evaluate, then nba promote")


@contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """A line that turns while the block runs; what is given changes its text."""
    with err.status(text) as status:
        yield status.update


def utc(as_of: datetime | None) -> datetime:
    """The time that was asked for, in UTC; now where none was."""
    return datetime.now(UTC) if as_of is None else as_of.replace(tzinfo=UTC)
