"""A reinforcement-learning next-best-action decision server: the domain. What stands here is the promise."""

from nba.artefact import load_artefact, save_artefact
from nba.decide import decide, decide_many
from nba.decision import Decision, DecisionRequest, PolicyRef
from nba.errors import NbaError
from nba.facts import read_facts
from nba.log import read_records
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.rounds import LoggedRounds
from nba.snapshot import Snapshot
from nba.types import Context, Policy

__all__ = [
    "Context",
    "Decision",
    "DecisionRequest",
    "LoggedRounds",
    "NbaError",
    "Pack",
    "Policy",
    "PolicyRef",
    "Snapshot",
    "decide",
    "decide_many",
    "load_artefact",
    "load_pack",
    "read_facts",
    "read_records",
    "save_artefact",
]
