"""What a followed version knows of itself: enough to go on from it, by its tags alone.

Weights and tags are one version, registered at once, and the alias `champion` says which of them holds. So a process
that dies at any time leaves the rounds of the log either learned from by the champion, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import msgspec

from nba.errors import NbaError
from nba.log.tail import Place
from nba.pack import Pack
from training.learn import Settings
from training.monitors import Monitors
from training.tracking import CHAMPION, Tracking, Version
from training.window import SEVENTY_THIRTY

SOURCE = "follow"  # of versions learned by following


class NoChampionError(NbaError):
    """There is no champion to start from."""

    code = "no_champion"


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a chain of followed versions stands: what it started from, and what its last one has learned from."""

    start: Version  # the champion before the first of them; not a followed version itself
    last: Version  # the champion now
    since: datetime | None  # earlier decisions are left out: the champion may have learned from them
    until: datetime | None  # what was known then was learned from; None before the first version
    places: Mapping[str, Place]  # of the log, read by then
    learned: int  # rounds, over all versions of the chain
    monitors: Monitors
    versions: tuple[Version, ...] = field(repr=False, default=())  # of the chain, oldest first

    @classmethod
    def of(cls, tracking: Tracking, pack: Pack, since: datetime | None) -> Self:
        """The chain that the champion belongs to, or a new one that starts from it.

        A new one learns from decisions made from the champion's own window on, or from `since` on, if that is later.
        Raises NoChampionError.
        """
        champion = tracking.aliased(pack.pack, CHAMPION)
        if champion is None:
            raise NoChampionError(f"pack {pack.pack!r} has no champion", help="start the server (nba up), or nba train")
        tags = champion.tags
        follows = tags.get("source") == SOURCE
        start = tracking.version(pack.pack, tags["prior"]) if follows else champion
        before = _time(tags.get("since") if follows else tags.get("until"))
        return cls(
            start=start,
            last=champion,
            since=max((time for time in (before, since) if time is not None), default=None),
            until=_time(tags["until"]) if follows else None,
            places=msgspec.json.decode(tags["places"], type=dict[str, Place]) if follows else {},
            learned=int(tags["learned"]) if follows else 0,
            monitors=msgspec.json.decode(tags["monitors"], type=Monitors) if follows else Monitors.of(pack),
            versions=tuple(v for v in tracking.versions(pack.pack) if _is_of(v, start)),
        )

    def tags(self) -> dict[str, str]:
        """As tags of the next version, learned on top of `last`."""
        return {
            "source": SOURCE,
            "prior": self.start.version,
            "parent": self.last.version,
            "since": self.since.isoformat() if self.since else "",
            "until": self.until.isoformat() if self.until else "",
            "places": msgspec.json.encode(self.places).decode(),
            "learned": str(self.learned),
            "monitors": msgspec.json.encode(self.monitors).decode(),
            **SEVENTY_THIRTY.tags(),
        }


def settings_of(version: Version, kind: str, half_life: float | None) -> Settings:
    """The settings that the version was learned with, where the kind is the same, and the half-life."""
    kept = version.tags.get("settings", "") if version.kind == kind else ""
    settings = {name: float(number) for name, _, number in (each.partition("=") for each in kept.split())}
    return settings if half_life is None else {**settings, "half_life": half_life}


def _is_of(version: Version, start: Version) -> bool:
    return version.tags.get("source") == SOURCE and version.tags.get("prior") == start.version


def _time(told: str | None) -> datetime | None:
    return datetime.fromisoformat(told) if told else None
