"""From the records of the log to logged sessions: the same window, rewards and encoding as the join has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from nba.join import Columns, subject_hash
from nba.moment_plan import plan_pack
from nba.pack import Pack
from nba.records import DecisionRecord, Record
from nba.rounds import LoggedRounds
from nba.settle import Case, Reports
from training.offline.episodes import LoggedEpisodes

Key = tuple[str, str, str]  # moment, subject, session_id


def episodes_of(
    records: Iterable[Record],
    pack: Pack,
    *,
    as_of: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, LoggedEpisodes]:
    """The sessions (subject, session_id) of each moment that began in [since, until), by what was known at `as_of`.

    A session is left out while a window of it is open: it may go on. One whose windows are all closed has ended. It is
    cut at a step of which nothing can be learned: overridden by a person, never shown, of an action the pack has no
    more. Steps that were forced, deterministic or a fallback stay as what happened, and are no choice of the policy.
    Moments without a session are not in the answer.
    """
    steps = _Steps(pack, as_of)
    for record in records:
        steps.add(record)
    found: dict[str, list[list[_Step]]] = defaultdict(list)
    for (moment, _, _), session in sorted(steps.sessions().items()):
        began = session[0].case.decided_at
        inside = (since is None or since <= began) and (until is None or began < until)
        known = steps.known(session) if inside else None
        if known is not None:
            found[moment].append(known)
    return {moment: steps.episodes(moment, sessions) for moment, sessions in found.items()}


@dataclass(slots=True)
class _Step:
    """The canonical decision of an id so far, and once it is settled what came of it."""

    decision_id: str
    rank: tuple[int, datetime, bytes]  # of the record; the least is canonical
    key: Key
    case: Case
    row: int  # in the moment's columns
    action: int  # column; -1: the moment has this action no more
    propensity: float
    reward: float | None = None


class _Steps:
    """The records so far, boiled down to the steps of sessions."""

    def __init__(self, pack: Pack, as_of: datetime) -> None:
        self._pack, self._as_of = pack, as_of
        self._columns = {name: Columns(plan) for name, plan in plan_pack(pack).items()}
        self._kept: dict[str, _Step] = {}
        self._reports = Reports(as_of)

    def add(self, record: Record) -> None:
        """Takes one record in, unless it came after `as_of`."""
        if isinstance(record, DecisionRecord):
            if record.decision.decided_at <= self._as_of:
                self._add_decision(record)
        else:
            self._reports.add(record)

    def _add_decision(self, record: DecisionRecord) -> None:
        decision, context = record.decision, record.decision.context
        if context.session_id is None or decision.pack != self._pack.pack or context.moment not in self._columns:
            return
        before, rank = self._kept.get(record.decision_id), record.rank
        if before is not None and before.rank <= rank:
            return
        columns, key = self._columns[context.moment], (context.moment, context.subject, context.session_id)
        row, action = columns.add(decision), columns.places.get(decision.action_id, -1)
        case = Case.of(decision, self._pack)
        self._kept[record.decision_id] = _Step(record.decision_id, rank, key, case, row, action, decision.propensity)

    def sessions(self) -> dict[Key, list[_Step]]:
        """The steps of each session, in the order they were decided in."""
        found: dict[Key, list[_Step]] = defaultdict(list)
        for step in self._kept.values():
            found[step.key].append(step)
        for steps in found.values():
            steps.sort(key=lambda step: (step.case.decided_at, step.decision_id))
        return found

    def known(self, session: list[_Step]) -> list[_Step] | None:
        """The session's steps with their rewards, up to the one it is cut at; None while a window is open."""
        for i, step in enumerate(session):
            settled, window, _ = self._reports.settle(step.decision_id, step.case, self._pack)
            step.reward = settled.reward if step.action >= 0 else None
            if (
                window is not None
                and window.closes_at > self._as_of
                and step.decision_id not in self._reports.overridden
            ):
                return None
            if step.reward is None:
                return session[: i + 1]
        return session

    def episodes(self, moment: str, sessions: list[list[_Step]]) -> LoggedEpisodes:
        """These sessions as columns, one after another."""
        steps = [step for session in sessions for step in session]
        contexts, mask = self._columns[moment].at(np.array([step.row for step in steps], dtype=np.intp))
        choices = np.array([step.case.excluded is None and step.reward is not None for step in steps])
        propensities = np.array([step.propensity for step in steps], dtype=np.float64)
        rounds = LoggedRounds(
            contexts=contexts,
            mask=mask,
            actions=np.array([max(step.action, 0) for step in steps], dtype=np.int64),
            propensities=np.where(choices, propensities, 1.0),
            rewards=np.array([step.reward or 0.0 for step in steps], dtype=np.float64),
            subjects=np.array([subject_hash(step.key[1]) for step in steps], dtype=np.uint64),
        )
        offsets = np.concatenate([[0], np.cumsum([len(session) for session in sessions])]).astype(np.intp)
        ended = np.array([session[-1].reward is not None for session in sessions])
        return LoggedEpisodes(rounds, offsets, ended, choices)
