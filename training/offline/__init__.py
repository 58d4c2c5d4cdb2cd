"""Learning of whole sessions from the log, without a simulator. A new learner is a file here and a line in LEARNERS."""

from __future__ import annotations

from typing import Protocol

from nba.policies.network import Network
from training.offline.behaviour_cloning import behaviour_cloning
from training.offline.episodes import LoggedEpisodes
from training.offline.fitted_q import fitted_q
from training.offline.fitting import Fitting, OnEpoch
from training.offline.implicit_q import implicit_q
from training.offline.return_to_go import return_to_go


class OfflineLearner(Protocol):
    """From logged sessions to a policy; the same sessions and settings give the same policy."""

    def __call__(self, episodes: LoggedEpisodes, fitting: Fitting = ..., on_epoch: OnEpoch = ...) -> Network:
        """The policy; `on_epoch` is told the epochs done and the figures of the last one."""
        ...


LEARNERS: dict[str, OfflineLearner] = {
    "bc": behaviour_cloning,
    "return_to_go": return_to_go,
    "fitted_q": fitted_q,
    "implicit_q": implicit_q,
}
