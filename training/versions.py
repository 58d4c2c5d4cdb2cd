"""Learned policies as registered versions: saved under their digest, catalogued in MLflow, loaded to be judged."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from nba.artefact import load_artefact, save_artefact
from nba.errors import ArtefactError
from nba.home import Home
from nba.pack import Pack
from nba.snapshot import Snapshot
from nba.types import Policy
from training.tracking import CHALLENGER, Run, Tracking, Version


def keep(
    home: Home,
    pack: Pack,
    kind: str,
    policies: Mapping[str, Policy],
    treatments: Mapping[str, Policy] | None = None,
) -> tuple[str, Path]:
    """Saves policies as an artefact of the installation: its digest and its folder, `policies/DIGEST`.

    The same policies give the same digest, and are kept once. Raises ArtefactError.
    """
    home.policies.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = home.policies / f".new-{uuid.uuid4().hex}"
    digest = save_artefact(new, pack, kind, policies, treatments)
    return digest, _settle(new, home.policies / digest)


def register(
    home: Home,
    run: Run,
    pack: Pack,
    kind: str,
    policies: Mapping[str, Policy],
    tags: Mapping[str, str],
    treatments: Mapping[str, Policy] | None = None,
) -> Version:
    """Saves policies and registers them as the pack's next version, with the alias `challenger`."""
    digest, folder = keep(home, pack, kind, policies, treatments)
    own = {
        "digest": digest,
        "kind": kind,
        "pack_digest": pack.digest,
        "pack_version": str(pack.version),
        "feature_service": f"{pack.pack}_v{pack.version}",
    }
    version = run.tracking.register(run, folder, {**tags, **own})
    run.tracking.set_alias(pack.pack, CHALLENGER, version)
    return version


def load(home: Home, tracking: Tracking, version: Version, pack: Pack | None = None) -> Snapshot:
    """A version ready to decide with; fetched from MLflow where the installation does not have it.

    With `pack`, it must have been made for it. Raises ArtefactError, UnavailableError.
    """
    folder = home.policies / version.digest
    if not folder.exists():
        home.policies.mkdir(mode=0o700, parents=True, exist_ok=True)
        fetched = home.policies / f".new-{uuid.uuid4().hex}"
        fetched.mkdir()
        try:
            _settle(tracking.fetch(version, fetched), folder)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
    snapshot = load_artefact(folder, name=version.pack, version=version.version, pack=pack)
    if snapshot.policy.digest != version.digest:
        raise ArtefactError(
            f"{folder} is not version {version.version}: its digest is {snapshot.policy.digest}",
            help=f"remove {folder}: it is fetched again",
        )
    return snapshot


def _settle(new: Path, folder: Path) -> Path:
    """Moves a complete folder into its place, unless an equal one is there already."""
    try:
        new.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(new, ignore_errors=True)
    return folder
