"""Moving the champion: to a version the gate let through, or back. Each may be repeated; each is in the ledger.

The alias moves before the ledger is written: a process that dies in between leaves a champion that the ledger does
not know yet, and repeating the same command writes it down.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from nba.errors import NbaError
from nba.home import Home
from nba.pack import Pack
from training.ledger import Entry, Kind, Ledger, locked
from training.tracking import CHALLENGER, CHAMPION, PREVIOUS, Tracking, Version
from training.versions import load

if TYPE_CHECKING:
    from training.gate import Verdict


class PromotionError(NbaError):
    """A version may not become champion, or there is none to go back to."""

    code = "not_promoted"


def promote(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    version: Version,
    *,
    verdict: Verdict | None,
    at: datetime,
    actor: str,
    why: str = "",
    force: bool = False,
) -> Entry:
    """Makes a version the champion; the champion so far becomes `previous`. The ledger's entry.

    Allowed by a verdict that says so, by `force` with a reason, or where there is no champion yet.
    Raises PromotionError where none of these holds, ArtefactError where the version does not load for this pack.
    """
    load(home, tracking, version, pack)
    with locked(home.path / "promotion.lock"):
        champion = tracking.aliased(pack.pack, CHAMPION)
        change = _Change(home, at, actor, "force" if force else "promote", verdict.reasons if verdict else ())
        if champion is None:
            change.why = why or "the first champion"
        elif champion.version == version.version:
            return change.repaired(version)
        else:
            _allow(version, verdict, force, why)
            change.why = why or "the gate let it through"
            tracking.set_alias(pack.pack, PREVIOUS, champion)
        tracking.set_alias(pack.pack, CHAMPION, version)
        if tracking.aliases(pack.pack).get(CHALLENGER) == version.version:
            tracking.set_alias(pack.pack, CHALLENGER, None)
        return change.written(champion.version if champion else None, version)


def rollback(
    home: Home, tracking: Tracking, pack: str, *, why: str, at: datetime, actor: str, away_from: str | None = None
) -> Entry:
    """Makes `previous` the champion again. The ledger's entry.

    Goes one step, never to and fro: afterwards there is no `previous` until the next promotion. With `away_from`,
    nothing happens where another version serves already, so that the command may be repeated blindly.
    Raises PromotionError where there is nothing to go back to.
    """
    with locked(home.path / "promotion.lock"):
        champion, previous = tracking.aliased(pack, CHAMPION), tracking.aliased(pack, PREVIOUS)
        change = _Change(home, at, actor, "rollback", why=why)
        if champion is None:
            raise PromotionError(f"pack {pack!r} has no champion", help="promote one first: nba promote")
        if away_from not in (None, champion.version) or (previous is None and change.is_unwritten(champion)):
            return change.repaired(champion)
        if previous is None:
            raise PromotionError(
                f"version {champion.version} of {pack!r} has no predecessor to go back to",
                help="promote the version you want: nba promote VERSION --force --why ...",
            )
        tracking.set_alias(pack, CHAMPION, previous)
        tracking.set_alias(pack, PREVIOUS, None)
        if previous.version == champion.version:
            return change.repaired(champion)
        return change.written(champion.version, previous)


def _allow(version: Version, verdict: Verdict | None, force: bool, why: str) -> None:
    """Raises PromotionError where a champion serves and nothing allows another."""
    if force and not why.strip():
        raise PromotionError("a forced promotion without a reason", help="say it: --force --why '...'", field="why")
    if force:
        return
    if verdict is None:
        raise PromotionError(
            f"version {version.version} has not been judged", help="evaluate it, or use --force --why '...'"
        )
    if not verdict.promote:
        raise PromotionError(
            f"the gate refuses version {version.version}: " + "; ".join(verdict.reasons),
            help="gather more rounds or learn a better policy; --force --why '...' overrides",
        )


@dataclass(slots=True)
class _Change:
    """One change of champion on its way into the ledger."""

    home: Home
    at: datetime
    actor: str
    kind: Kind
    verdict: tuple[str, ...] = ()
    why: str = ""

    def is_unwritten(self, champion: Version) -> bool:
        """Whether the ledger does not know yet that this version serves."""
        last = self._last(champion.pack)
        return last is None or last.to_version != champion.version

    def repaired(self, champion: Version) -> Entry:
        """The ledger's entry of the version that serves already; written now where it is missing."""
        last = self._last(champion.pack)
        if last is not None and last.to_version == champion.version:
            return last
        self.why = self.why or "it served before the ledger knew"
        return self.written(last.to_version if last else None, champion)

    def written(self, before: str | None, after: Version) -> Entry:
        """The new entry."""
        entry = Entry(
            at=self.at,
            pack=after.pack,
            kind=self.kind,
            from_version=before,
            to_version=after.version,
            digest=after.digest,
            why=self.why,
            actor=self.actor,
            verdict=self.verdict,
        )
        Ledger(self.home.ledger).append(entry)
        return entry

    def _last(self, pack: str) -> Entry | None:
        past = Ledger(self.home.ledger).read().of(pack)
        return past[-1] if past else None
