"""One offline run: sessions of the log, a learner, epochs in MLflow, and the network as the pack's next version."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime

import numpy as np

from nba.errors import EmptyLogError
from nba.home import Home
from nba.log import read_records
from nba.pack import Pack
from training.learn import Settings, UnknownKindError
from training.offline import LEARNERS
from training.offline.episodes import LoggedEpisodes
from training.offline.fitting import Fitting
from training.offline.from_log import episodes_of
from training.offline.value import session_estimate
from training.tracking import Run, Tracking, Version
from training.train import record_sessions
from training.window import SEVENTY_THIRTY, Split


def train_sessions_on_log(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    algorithm: str,
    *,
    as_of: datetime,
    seed: int = 0,
    split: Split = SEVENTY_THIRTY,
    settings: Settings | None = None,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> Version:
    """A `network` version learned from the pack's logged sessions closed at `as_of`, in all moments that have any.

    The customers that the split holds out judge it: what their sessions would have earned, by importance weights.
    `on_epoch` is told the epochs done over all moments. Raises EmptyLogError, UnknownKindError, SettingError.
    """
    if algorithm not in LEARNERS:
        raise UnknownKindError(f"unknown offline learner {algorithm!r}", help=f"known are {', '.join(LEARNERS)}")
    fitting = Fitting.of({"seed": seed, **(settings or {})})
    sessions = episodes_of(read_records(home.log), pack, as_of=as_of)
    if not sessions:
        raise EmptyLogError(
            f"no closed session of pack {pack.pack!r} before {as_of.isoformat()} in {home.log}",
            help="log decisions with a session_id and let their reward windows close",
        )
    tags = {
        "source": "log",
        "algorithm": algorithm,
        "seed": str(seed),
        "since": "",
        "until": as_of.isoformat(),
        "rounds": str(sum(len(episodes.rounds) for episodes in sessions.values())),
        "window": _digest(pack, sessions),
        **split.tags(),
        "settings": " ".join(f"{name}={value:g}" for name, value in sorted((settings or {}).items())),
    }
    with tracking.run(pack.pack, f"learn logged sessions by {algorithm}") as run:
        networks = {}
        for i, (moment, episodes) in enumerate(sessions.items()):
            done = _telling(run, moment, lambda epochs, i=i: on_epoch(i * fitting.epochs + epochs))  # type: ignore[misc]
            learned_from, judged_on = episodes.split(split.share, salt=split.salt)
            networks[moment] = LEARNERS[algorithm](learned_from, fitting, done)
            if len(judged_on):
                estimate = session_estimate(networks[moment], judged_on)
                run.metrics({f"off_policy_{name}/{moment}": value for name, value in estimate.as_dict().items()})
        steps = {moment: len(sessions[moment].rounds) for moment in networks}
        return record_sessions(home, run, pack, networks, steps, tags)


def _telling(run: Run, moment: str, on_epoch: Callable[[int], None]) -> Callable[[int, Mapping[str, float]], None]:
    def done(epochs: int, figures: Mapping[str, float]) -> None:
        run.metrics({f"{name}/{moment}": value for name, value in figures.items()}, step=epochs)
        on_epoch(epochs)

    return done


def _digest(pack: Pack, sessions: Mapping[str, LoggedEpisodes]) -> str:
    """SHA-256 of the pack's digest and every session."""
    digest = hashlib.sha256(pack.digest.encode())
    for moment, episodes in sorted(sessions.items()):
        rounds = episodes.rounds
        digest.update(f"\0{moment}\0{len(rounds)}\0".encode())
        columns = (rounds.contexts, rounds.mask, rounds.actions, rounds.propensities, rounds.rewards, rounds.subjects)
        for column in (*columns, episodes.offsets, episodes.ended, episodes.choices):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
