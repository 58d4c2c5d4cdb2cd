"""Promotion and rollback: aliases, ledger, and what happens when a process dies in between."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from nba.errors import ArtefactError
from nba.home import Home
from nba.pack import Pack
from tests.training.conftest import NOW
from training.gate import Verdict
from training.ledger import Entry, Ledger
from training.promote import PromotionError, promote, rollback
from training.tracking import CHALLENGER, Tracking, Version
from training.train import train_without_rounds

YES = Verdict(True, ("lift 0.02",))
NO = Verdict(False, ("lift 0.001: not clearly above 0", "too few rounds"))


class Desk:
    """Promotes and rolls back in one installation, a minute apart."""

    def __init__(self, home: Home, tracking: Tracking, pack: Pack) -> None:
        self.home, self.tracking, self.pack, self.now = home, tracking, pack, NOW

    def trained(self, kind: str = "uniform") -> Version:
        return train_without_rounds(self.home, self.tracking, self.pack, kind)

    def promote(self, version: Version, verdict: Verdict | None = YES, *, why: str = "", force: bool = False) -> Entry:
        self.now += timedelta(minutes=1)
        return promote(
            self.home,
            self.tracking,
            self.pack,
            version,
            verdict=verdict,
            at=self.now,
            actor="ann",
            why=why,
            force=force,
        )

    def rollback(self, *, away_from: str | None = None) -> Entry:
        self.now += timedelta(minutes=1)
        return rollback(
            self.home, self.tracking, "support", why="it hurt", at=self.now, actor="ann", away_from=away_from
        )

    @property
    def aliases(self) -> dict[str, str]:
        return {k: v for k, v in self.tracking.aliases("support").items() if k != CHALLENGER}

    @property
    def told(self) -> list[tuple[str, str | None, str]]:
        return [(e.kind, e.from_version, e.to_version) for e in Ledger(self.home.ledger).read().entries]


@pytest.fixture
def desk(home: Home, tracking: Tracking, pack: Pack) -> Desk:
    return Desk(home, tracking, pack)


def test_the_first_champion_needs_no_verdict(desk: Desk) -> None:
    entry = desk.promote(desk.trained(), None)
    assert desk.aliases == {"champion": "1"}
    assert (entry.kind, entry.from_version, entry.to_version, entry.why) == ("promote", None, "1", "the first champion")


def test_the_champion_before_becomes_previous(desk: Desk) -> None:
    one, two = desk.trained(), desk.trained("rules")
    desk.promote(one)
    entry = desk.promote(two)
    assert desk.aliases == {"champion": "2", "previous": "1"}
    assert (entry.digest, entry.verdict, entry.actor) == (two.digest, ("lift 0.02",), "ann")
    assert desk.told == [("promote", None, "1"), ("promote", "1", "2")]
    assert CHALLENGER not in desk.tracking.aliases("support")


@pytest.mark.parametrize(("verdict", "told"), [(None, "has not been judged"), (NO, "lift 0.001.*; too few rounds")])
def test_without_a_verdict_that_allows_it_nothing_changes(desk: Desk, verdict: Verdict | None, told: str) -> None:
    desk.promote(desk.trained())
    with pytest.raises(PromotionError, match=told):
        desk.promote(desk.trained("rules"), verdict)
    assert desk.aliases == {"champion": "1"}
    assert len(desk.told) == 1


def test_force_needs_a_reason_and_is_told_as_force(desk: Desk) -> None:
    desk.promote(desk.trained())
    rules = desk.trained("rules")
    with pytest.raises(PromotionError, match="without a reason"):
        desk.promote(rules, NO, force=True, why="  ")
    entry = desk.promote(rules, NO, force=True, why="the gate has too little data yet")
    assert (entry.kind, entry.why, entry.verdict) == ("force", "the gate has too little data yet", NO.reasons)
    assert desk.aliases == {"champion": "2", "previous": "1"}


def test_promoting_again_changes_nothing(desk: Desk) -> None:
    desk.promote(desk.trained())
    two = desk.trained("rules")
    first = desk.promote(two)
    assert desk.promote(two) == first
    assert desk.promote(two, NO) == first
    assert desk.aliases == {"champion": "2", "previous": "1"}
    assert len(desk.told) == 2


def test_a_version_for_another_pack_is_not_promoted(desk: Desk) -> None:
    version = desk.trained()
    desk.pack = replace(desk.pack, version=2)
    with pytest.raises(ArtefactError, match="another"):
        desk.promote(version)
    assert desk.aliases == {}


def test_a_promotion_that_died_before_the_ledger_is_written_down_by_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.promote(desk.trained())
    two = desk.trained("rules")
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", _dies)
        with pytest.raises(SystemExit):
            desk.promote(two)
    assert desk.aliases == {"champion": "2", "previous": "1"}
    assert desk.told == [("promote", None, "1")]
    desk.promote(two)
    assert desk.aliases == {"champion": "2", "previous": "1"}
    assert desk.told == [("promote", None, "1"), ("promote", "1", "2")]


def test_rollback_goes_back_one_step_and_not_to_and_fro(desk: Desk) -> None:
    desk.promote(desk.trained())
    desk.promote(desk.trained("rules"))
    entry = desk.rollback()
    assert (entry.kind, entry.from_version, entry.to_version, entry.why) == ("rollback", "2", "1", "it hurt")
    assert desk.aliases == {"champion": "1"}
    with pytest.raises(PromotionError, match=r"version 1 of 'support' has no predecessor.*\n.*--force"):
        desk.rollback()
    assert desk.aliases == {"champion": "1"}
    assert len(desk.told) == 3


def test_rollback_away_from_a_version_may_be_repeated(desk: Desk) -> None:
    desk.promote(desk.trained())
    desk.promote(desk.trained("rules"))
    first = desk.rollback(away_from="2")
    assert desk.rollback(away_from="2") == first
    assert desk.aliases == {"champion": "1"}
    assert len(desk.told) == 3


def test_rollback_away_from_another_version_does_nothing(desk: Desk) -> None:
    desk.promote(desk.trained())
    second = desk.promote(desk.trained("rules"))
    assert desk.rollback(away_from="1") == second
    assert desk.aliases == {"champion": "2", "previous": "1"}


def test_there_is_nothing_to_roll_back_at_first(desk: Desk) -> None:
    with pytest.raises(PromotionError, match="has no champion"):
        desk.rollback()
    desk.promote(desk.trained())
    with pytest.raises(PromotionError, match="no predecessor"):
        desk.rollback()


@pytest.mark.parametrize("dies_at", ["set_alias:2", "append"])
def test_a_rollback_that_died_in_the_middle_is_finished_by_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    """It dies after `champion` has moved and before `previous` is taken away, or before the ledger is written."""
    desk.promote(desk.trained())
    desk.promote(desk.trained("rules"))
    with monkeypatch.context() as patch:
        if dies_at == "append":
            patch.setattr(Ledger, "append", _dies)
        else:
            patch.setattr(Tracking, "set_alias", _dies_on_taking_away(Tracking.set_alias))
        with pytest.raises(SystemExit):
            desk.rollback()
    assert len(desk.told) == 2
    desk.rollback()
    assert desk.aliases == {"champion": "1"}
    assert desk.told[2:] == [("rollback", "2", "1")]


def test_a_new_promotion_after_a_rollback_can_be_rolled_back(desk: Desk) -> None:
    desk.promote(desk.trained())
    two = desk.trained("rules")
    desk.promote(two)
    desk.rollback()
    desk.promote(two)
    assert desk.aliases == {"champion": "2", "previous": "1"}
    desk.rollback()
    assert [to for _, _, to in desk.told] == ["1", "2", "1", "2", "1"]


def _dies(*_: object) -> None:
    raise SystemExit


def _dies_on_taking_away(set_alias):  # type: ignore[no-untyped-def]
    def instead(self: Tracking, pack: str, alias: str, version: Version | None) -> None:
        if version is None:
            raise SystemExit
        set_alias(self, pack, alias, version)

    return instead
