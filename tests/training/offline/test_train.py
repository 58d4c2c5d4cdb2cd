"""From logged sessions to a registered version."""

from __future__ import annotations

import pytest

from nba.errors import EmptyLogError
from nba.home import Home
from nba.log import LogWriter
from nba.pack import Pack
from nba.policies.network import Network
from tests.training.conftest import NOW
from tests.training.offline.logged import log_sessions
from training.learn import UnknownKindError
from training.offline.train import train_sessions_on_log
from training.tracking import Tracking
from training.versions import load

MOMENT = "service_conversation"
TINY = {"members": 1.0, "hidden": 8.0, "epochs": 2.0}


def test_logged_sessions_become_a_version_that_can_serve(home: Home, tracking: Tracking, pack: Pack) -> None:
    """Its epochs and its estimate on customers held out are in MLflow; other moments are of the pack's first kind."""
    writer = LogWriter(home.log)
    writer.append(*log_sessions(pack, MOMENT, 30).records).result(timeout=60)
    writer.close()
    told = list[int]()
    version = train_sessions_on_log(
        home, tracking, pack, "fitted_q", as_of=NOW, seed=5, settings=TINY, on_epoch=told.append
    )
    assert told == [1, 2]
    assert {k: version.tags[k] for k in ("kind", "source", "algorithm", "seed", "settings")} == {
        "kind": pack.candidates[0],
        "source": "log",
        "algorithm": "fitted_q",
        "seed": "5",
        "settings": "epochs=2 hidden=8 members=1",
    }
    metrics = tracking.client.get_run(version.run_id).data.metrics
    assert {f"loss/{MOMENT}", f"held_out_value/{MOMENT}", f"off_policy_effective_n/{MOMENT}"} <= metrics.keys()
    policies = load(home, tracking, version, pack).policies
    learned = policies[MOMENT]
    assert isinstance(learned, Network)
    assert learned.layers[0].weights.shape[0] == 8
    assert version.tags["note.tone_tuner"] == "nothing learned"


def test_an_empty_log_is_told(home: Home, tracking: Tracking, pack: Pack) -> None:
    with pytest.raises(EmptyLogError, match="no closed session of pack 'support'"):
        train_sessions_on_log(home, tracking, pack, "fitted_q", as_of=NOW)


def test_an_unknown_learner_is_named_with_those_there_are(home: Home, tracking: Tracking, pack: Pack) -> None:
    with pytest.raises(UnknownKindError, match=r"'sarsa'[\s\S]*bc, return_to_go, fitted_q, implicit_q"):
        train_sessions_on_log(home, tracking, pack, "sarsa", as_of=NOW)
