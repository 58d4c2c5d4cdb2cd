"""A frozen window of the decision log: the closed rounds of a span of time, and the hash that names exactly them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from nba.errors import EmptyLogError, NbaError
from nba.join import join
from nba.log import LogReport, read_records
from nba.pack import Pack
from nba.rounds import LoggedRounds

Rounds = dict[str, LoggedRounds]  # moment -> its rounds


class QuarterError(NbaError):
    """A quarter is not written as 2026Q4."""

    code = "bad_quarter"


@dataclass(frozen=True, slots=True)
class Split:
    """Which customers are learned from; the others judge. The same for every version, so that none has seen them."""

    share: float = 0.7  # of the customers, learned from
    salt: int = 0

    def tags(self) -> dict[str, str]:
        """The split as tags of a model version."""
        return {"split_share": str(self.share), "split_salt": str(self.salt)}

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Self:
        """The split that a version's tags hold; the default where they hold none."""
        return cls(float(tags.get("split_share", cls().share)), int(tags.get("split_salt", cls().salt)))


SEVENTY_THIRTY = Split()


@dataclass(frozen=True, slots=True)
class Window:
    """Closed, learnable rounds of a span of the log, frozen."""

    since: datetime | None
    until: datetime
    rounds: Rounds = field(repr=False)  # moments that have any
    counts: Mapping[str, int]  # state of the join -> decisions
    log: LogReport
    digest: str  # SHA-256 of the pack's digest and every round

    def __len__(self) -> int:
        return sum(len(rounds) for rounds in self.rounds.values())

    @property
    def waiting(self) -> float:
        """Share of the decisions that may be learned from whose reward window is still open."""
        waiting = self.counts.get("immature", 0)
        return waiting / (waiting + len(self))

    def split(self, split: Split) -> tuple[Rounds, Rounds]:
        """What is learned from and what judges it, by customer."""
        parts = {moment: rounds.split(split.share, salt=split.salt) for moment, rounds in self.rounds.items()}
        return {m: first for m, (first, _) in parts.items()}, {m: second for m, (_, second) in parts.items()}

    def tags(self) -> dict[str, str]:
        """The window as tags of a run or a model version."""
        return {
            "since": self.since.isoformat() if self.since else "",
            "until": self.until.isoformat(),
            "rounds": str(len(self)),
            "window": self.digest,
        }


def freeze(
    log: Path, pack: Pack, *, as_of: datetime, since: datetime | None = None, until: datetime | None = None
) -> Window:
    """The rounds of this pack that were closed at `as_of` and decided from `since` on and before `until`.

    Raises EmptyLogError where there are none.
    """
    end = as_of if until is None else min(until, as_of)
    report = LogReport()
    joined = join(read_records(log, report), pack, as_of=as_of, since=since, until=end)
    rounds = {moment: joined.rounds[moment] for moment in sorted(joined.rounds) if len(joined.rounds[moment])}
    if not rounds:
        stands = ", ".join(f"{n} {state}" for state, n in sorted(joined.counts.items())) or "no decision at all"
        raise EmptyLogError(
            f"no closed, learnable round of pack {pack.pack!r} before {end.isoformat()} in {log} ({stands})",
            help="let decisions be made and their reward windows close (nba simulate), or learn from the simulator",
        )
    return Window(since, end, rounds, joined.counts, report, _digest(pack, rounds))


def quarter_bounds(quarter: str) -> tuple[datetime, datetime]:
    """First moment of a quarter such as `2026Q4` and of the next one, UTC. Raises QuarterError."""
    match = re.fullmatch(r"([12][0-9]{3})Q([1-4])", quarter)
    if match is None:
        raise QuarterError(f"quarter {quarter!r}", help="write year, Q and 1 to 4, as in 2026Q4", field="quarter")
    year, first = int(match[1]), 3 * int(match[2]) - 2
    after = (year + 1, 1) if first == 10 else (year, first + 3)
    return datetime(year, first, 1, tzinfo=UTC), datetime(*after, 1, tzinfo=UTC)


def last_quarter(now: datetime) -> str:
    """The quarter that has ended last, such as `2026Q3`."""
    year, quarter = now.year, (now.month - 1) // 3
    return f"{year}Q{quarter}" if quarter else f"{year - 1}Q4"


def _digest(pack: Pack, rounds: Rounds) -> str:
    digest = hashlib.sha256(pack.digest.encode())
    for moment, columns in rounds.items():
        digest.update(f"\0{moment}\0{len(columns)}\0".encode())
        for column in fields(columns):
            digest.update(getattr(columns, column.name).tobytes())
    return digest.hexdigest()
