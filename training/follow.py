"""Learning while serving: from the live log, every few seconds, as new versions, until something is wrong.

The quarterly retrain is the rule, with a gate before each promotion. Here versions are promoted without one: each is
the one before and a few rounds more, and monitors take them all back at once where the log or the reward speaks
against them. Like the retrain it learns from 70 % of the customers, so that the others can still judge any version.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from nba.errors import NbaError, UnavailableError
from nba.home import Home
from nba.log.tail import Tail
from nba.pack import Pack
from nba.policies import model_type
from nba.records import DecisionRecord
from training.gate import Verdict
from training.learn import from_rounds
from training.lineage import SOURCE, Lineage, settings_of
from training.monitors import USUAL, Limits
from training.pending import NONE, Pending
from training.promote import promote, rollback
from training.tracking import CHALLENGER, CHAMPION, PREVIOUS, Tracking, Version
from training.versions import load, register
from training.window import SEVENTY_THIRTY

ACTOR = "nba learn"


class HaltedError(NbaError):
    """A monitor says that following does harm, and the champion it started from serves again."""

    code = "halted"


class ChampionMovedError(NbaError):
    """Somebody else promoted a version or took one back while this one was followed."""

    code = "champion_moved"


@dataclass(frozen=True, slots=True)
class Following:
    """How to follow."""

    kind: str | None = None  # of policy; None: the champion's where that learns, else the pack's first candidate
    min_rounds: int = 100  # closed rounds that a new version takes at least
    half_life: float | None = None  # rounds of a moment; None: nothing is forgotten
    keep: int = 100  # followed versions whose artefacts stay in this installation; MLflow has them all
    limits: Limits = USUAL


@dataclass(frozen=True, slots=True)
class Step:
    """Where a following stands after one look at the log."""

    version: Version  # the champion
    is_new: bool
    learned: int  # closed rounds that went into the versions so far, with those of the customers held out
    fresh: int  # closed rounds that wait for the next version
    waiting: int  # decisions whose reward window is open
    value: float  # reward a round of the followed versions, NaN before the first
    weight: float  # mean importance weight
    trouble: str | None = None  # why nothing was learned this time; it is tried again


class Follower:
    """One following of one pack. Each decision of the log is learned from once, whenever the process dies."""

    def __init__(
        self,
        home: Home,
        tracking: Tracking,
        pack: Pack,
        following: Following,
        *,
        clock: Callable[[], datetime],
        since: datetime | None = None,
    ) -> None:
        """Goes on where the champion stands, or starts from it.

        `since`: decisions made before are left out, beside those the champion has learned from.
        Raises NoChampionError, ArtefactError, UnavailableError.
        """
        self._home, self._tracking, self._pack, self._following = home, tracking, pack, following
        self._clock = clock
        self._at = Lineage.of(tracking, pack, since)
        self._kind = following.kind or _kind_of(self._at.last, pack)
        self._start = load(home, tracking, self._at.start, pack)
        self._last = load(home, tracking, self._at.last, pack)
        self._followed = {version.version for version in self._at.versions}
        self._own = [version.digest for version in self._at.versions]
        self._others = {v.digest for v in tracking.versions(pack.pack) if v.tags.get("source") != SOURCE}
        self._made: Version | None = None  # registered, but not known to serve
        self._fresh, self._halted = NONE, ""
        self._tail, self._pending = Tail(home.log), Pending(pack, self._at.since)
        if self._at.until is not None:
            self._pending.pass_over(self._tail.read(self._at.places), self._at.until)
            self._serve(self._at.last, "it served before the ledger knew")

    def step(self) -> Step:
        """Looks at the log once and, where enough rounds have closed, learns a version and makes it serve.

        While MLflow does not answer, nothing is lost: the rounds wait for the next step.
        Raises HaltedError, ChampionMovedError, LogError, ArtefactError, SettingError, RewardError.
        """
        before = self._at.last
        try:
            if not self._halted:
                self._look(self._clock())
            if self._halted:
                self._halt()
            if self._made is None and len(self._fresh) >= self._following.min_rounds:
                self._learn()
            if self._made is not None:
                self._serve(self._made, f"learned from {self._made.tags['rounds']} more rounds")
                self._made = None
            trouble = None
        except UnavailableError as error:
            trouble = error.message
        monitors = self._at.monitors
        return Step(
            version=self._at.last,
            is_new=self._at.last.version != before.version,
            learned=self._at.learned,
            fresh=len(self._fresh),
            waiting=len(self._pending),
            value=monitors.value,
            weight=monitors.weight,
            trouble=trouble,
        )

    def _look(self, now: datetime) -> None:
        """Takes in what the log has had since, and asks the monitors."""
        monitors = self._at.monitors
        for record in self._tail.read():
            if isinstance(record, DecisionRecord) and self._is_followed(record):
                monitors = monitors.seen(record.decision)
            self._pending.add(record)
        closed = self._pending.closed(now)
        monitors = monitors.after(closed, self._start, self._followed)
        self._fresh = self._fresh.and_then(closed)
        self._at = replace(self._at, until=now, places=self._tail.places, monitors=monitors)
        self._halted = "; ".join(monitors.alarms(self._following.limits))

    def _is_followed(self, record: DecisionRecord) -> bool:
        decision = record.decision
        return decision.pack == self._pack.pack and decision.policy.version in self._followed

    def _learn(self) -> None:
        """Registers the next version: what the last one knew, and the rounds that have closed since."""
        self._check_champion()
        parts = {moment: rounds.split(SEVENTY_THIRTY.share)[0] for moment, rounds in self._fresh.rounds.items()}
        settings = settings_of(self._at.last, self._kind, self._following.half_life)
        learned = from_rounds(self._pack, self._kind, parts, previous=self._last, settings=settings)
        at = replace(self._at, learned=self._at.learned + len(self._fresh))
        own = {"rounds": str(len(self._fresh)), "settings": " ".join(f"{k}={v:g}" for k, v in sorted(settings.items()))}
        name, challenger = self._pack.pack, self._tracking.aliased(self._pack.pack, CHALLENGER)
        with self._tracking.run(name, f"follow {at.start.version}", tags={"stage": SOURCE}) as run:
            run.params({"kind": self._kind, "prior": at.start.version, "parent": at.last.version, **own})
            run.metrics({"learned": at.learned, "value": at.monitors.value, "mean_weight": at.monitors.weight})
            run.metrics({f"learned_rounds/{moment}": float(n) for moment, n in learned.rounds.items()})
            tags = {**at.tags(), **own}
            version = register(self._home, run, self._pack, self._kind, learned.policies, tags, learned.treatments)
            # From here on these rounds are the version's, even if MLflow fails at once.
            self._made, self._at, self._fresh = version, at, NONE
            self._followed.add(version.version)
            self._own.append(version.digest)
        self._tracking.set_alias(name, CHALLENGER, challenger)  # which waits for somebody's judgement

    def _serve(self, version: Version, why: str) -> None:
        """Makes a version the champion; `nba rollback` leads back to the champion that was started from."""
        self._check_champion(version)
        verdict = Verdict(True, (f"no monitor speaks against following version {self._at.start.version}",))
        at, name = self._clock(), self._pack.pack
        promote(self._home, self._tracking, self._pack, version, verdict=verdict, at=at, actor=ACTOR, why=why)
        self._tracking.set_alias(name, PREVIOUS, self._at.start)
        self._last = load(self._home, self._tracking, version, self._pack)
        self._at = replace(self._at, last=version)
        self._prune()

    def _check_champion(self, made: Version | None = None) -> None:
        """Raises ChampionMovedError where neither the last version nor the one just made is champion."""
        serving = self._tracking.aliases(self._pack.pack).get(CHAMPION, "none")
        if serving not in {self._at.last.version, *([made.version] if made else [])}:
            raise ChampionMovedError(
                f"version {serving} became champion of {self._pack.pack!r} while {self._at.last.version} was followed",
                help="it stays; start again to follow it: nba learn --follow",
            )

    def _prune(self) -> None:
        """Removes the artefacts of old followed versions from this installation."""
        kept = {*self._own[-self._following.keep :], *self._others}
        for digest in set(self._own) - kept:
            shutil.rmtree(self._home.policies / digest, ignore_errors=True)
        self._own = self._own[-self._following.keep :]

    def _halt(self) -> None:
        """Takes all followed versions back, says why in the ledger and in MLflow, and raises HaltedError."""
        start, last, name = self._at.start, self._at.last, self._pack.pack
        why = f"following halted: {self._halted}"
        self._tracking.tag(last, halted=why)
        if last.version != start.version:
            if self._tracking.aliases(name).get(CHAMPION) == last.version:
                self._tracking.set_alias(name, PREVIOUS, start)
            at = self._clock()
            rollback(self._home, self._tracking, name, why=why, at=at, actor=ACTOR, away_from=last.version)
        raise HaltedError(
            f"halted: {self._halted}; version {start.version} of {name!r} serves again",
            help="find out why (nba log verify, nba ledger, MLflow), then go on with rounds made after it was mended:"
            " nba learn --follow --since TIME",
        )


def follow(
    follower: Follower,
    *,
    every_s: float,
    for_s: float | None,
    stop: threading.Event,
    on_step: Callable[[Step], object],
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Steps every `every_s` seconds, at most one version each, until `for_s` is over or `stop` is set.

    Raises as `Follower.step` does.
    """
    end = None if for_s is None else monotonic() + for_s
    while not stop.is_set():
        due = monotonic() + every_s
        on_step(follower.step())
        until = due if end is None else min(due, end)
        stop.wait(max(until - monotonic(), 0.0))
        if end is not None and monotonic() >= end:
            return


def _kind_of(champion: Version, pack: Pack) -> str:
    return champion.kind if model_type(champion.kind) is not None else pack.candidates[0]
