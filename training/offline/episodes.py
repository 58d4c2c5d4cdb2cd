"""Logged sessions as columns: what learning from whole sessions takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from envs.session_play import PlayedSessions
from nba.errors import EmptyLogError, ShapeError
from nba.models.model import check_learnable
from nba.rounds import LoggedRounds, in_first_part
from nba.types import Rewards


@dataclass(frozen=True, slots=True)
class LoggedEpisodes:
    """e sessions of one moment, n steps in all: one session after another, each in the order it was decided in.

    A session that has ended is worth nothing after its last step. Of one that was cut, the last step is only the
    state that the step before it led to: what came of it is not known, and no value is learned from it.
    """

    rounds: LoggedRounds  # n steps, each with the reward of the step itself
    offsets: NDArray[np.intp]  # (e + 1,) where each session starts, and n
    ended: NDArray[np.bool_]  # (e,) it ended; False: it was cut
    choices: NDArray[np.bool_]  # (n,) the policy chose the action; False: forced, deterministic or a fallback

    def __post_init__(self) -> None:
        n, e = len(self.rounds), len(self.ended)
        if len(self.choices) != n or len(self.offsets) != e + 1 or self.offsets[0] != 0 or self.offsets[-1] != n:
            raise ShapeError(
                f"{len(self.offsets)} offsets and {len(self.choices)} choices for {e} sessions of {n} steps",
                help="offsets go from 0 to the number of steps, one more than there are sessions; one choice a step",
            )
        if (np.diff(self.offsets) < 1).any():
            raise ShapeError("a session has no step", help="leave sessions without steps out")

    def __len__(self) -> int:
        return len(self.ended)

    @classmethod
    def of_played(cls, played: PlayedSessions) -> Self:
        """Sessions that were played to their end; one that ran into its last step has ended, as contexts show it."""
        order = np.lexsort((played.step, played.session))
        offsets = np.concatenate([[0], np.bincount(played.session, minlength=played.sessions).cumsum()])
        ended = np.ones(played.sessions, dtype=np.bool_)
        return cls(played.rounds.take(order), offsets, ended, np.ones(len(order), dtype=np.bool_))

    @property
    def last(self) -> NDArray[np.bool_]:
        """The last step of each session (n,)."""
        last = np.zeros(len(self.rounds), dtype=np.bool_)
        last[self.offsets[1:] - 1] = True
        return last

    @property
    def transitions(self) -> NDArray[np.bool_]:
        """Steps (n,) whose reward and successor, or end, are known: all but the last of sessions that were cut."""
        known = np.ones(len(self.rounds), dtype=np.bool_)
        known[self.offsets[1:] - 1] = self.ended
        return known

    def to_go(self) -> Rewards:
        """Reward from each step to its session's end (n,), the step's own included; NaN in sessions that were cut."""
        total = np.concatenate([[0.0], self.rounds.rewards.cumsum()])
        lengths = np.diff(self.offsets)
        to_go: Rewards = np.repeat(total[self.offsets[1:]], lengths) - total[:-1]
        to_go[~np.repeat(self.ended, lengths)] = np.nan
        return to_go

    def take(self, sessions: NDArray[np.bool_]) -> LoggedEpisodes:
        """The sessions where this (e,) is True."""
        lengths = np.diff(self.offsets)
        steps = np.repeat(sessions, lengths)
        offsets = np.concatenate([[0], lengths[sessions].cumsum()])
        return LoggedEpisodes(self.rounds.take(steps), offsets, self.ended[sessions], self.choices[steps])

    def split(self, share: float, *, salt: int = 0) -> tuple[LoggedEpisodes, LoggedEpisodes]:
        """Two parts by customer, the first with about `share` of them; no session is cut through."""
        first = in_first_part(self.rounds.subjects[self.offsets[:-1]], share, salt=salt)
        return self.take(first), self.take(~first)

    def check(self) -> None:
        """Raises EmptyLogError where there is no step to learn from, RewardError where a number is not finite."""
        if not len(self):
            raise EmptyLogError(
                "no session to learn from", help="log decisions with a session_id and let their reward windows close"
            )
        check_learnable(self.rounds, None, None)
