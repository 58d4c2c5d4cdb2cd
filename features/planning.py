"""A read plan that fits: the stored one where nothing has changed, else a new one."""

from __future__ import annotations

from pathlib import Path

from features.plan import SCHEMA, ReadPlan, current_plan, fingerprint, plan_path, save_plan
from nba.home import Home
from nba.pack import Pack


def ensure_plan(home: Home, pack: Pack, redis_url: str) -> Path:
    """Path of a plan that fits the pack and the registry.

    The stored plan is kept while it fits, without importing Feast; else the repository is applied, and the plan
    compiled and checked anew: some ten seconds, most of them Feast's import. A pack that stores nothing needs
    neither Feast nor Redis. Raises FeatureStoreError, PackError, UnavailableError.
    """
    path = plan_path(home, pack)
    if not pack.reads_stored:
        save_plan(path, _empty(home, pack))
    elif current_plan(home, pack) is None:
        from features.store import apply, compile_plan  # these import Feast

        apply(home, [pack], redis_url)
        save_plan(path, compile_plan(home, pack, redis_url))
    return path


def _empty(home: Home, pack: Pack) -> ReadPlan:
    """The plan of a pack whose every fact comes with the request."""
    return ReadPlan(
        schema=SCHEMA,
        pack=pack.pack,
        pack_digest=pack.digest,
        service="",
        fingerprint=fingerprint(home),
        project="",
        key_prefix=b"",
        views=(),
        features=(),
    )
