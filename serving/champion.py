"""Follows the alias `champion` of each pack in MLflow and swaps what serves, without a restart.

A thread asks the registry, fetches the artefact, checks it and only then swaps one reference: a request sees the old
snapshot or the new one, never a part. What cannot be loaded is marked rejected and the last good one stays; so does
it while the registry does not answer. Beside the artefacts a small file says what served last, for a start without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from nba.artefact import load_artefact
from nba.errors import ArtefactError
from nba.home import Home
from nba.pack import Pack
from nba.snapshot import Snapshot

ALIAS = "champion"
ARTIFACT = "policy"  # path of the artefact folder among a run's artifacts
# By itself MLflow's client tries for minutes before it says that its server is not there. The follower asks again soon.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # seconds
_log = logging.getLogger(__name__)


class Registered(Struct, frozen=True):
    """One model version, as the registry names it."""

    version: str
    run_id: str
    digest: str | None  # of its artefact, where it was tagged with it


class Registry(Protocol):
    """Where champions are named and artefacts kept."""

    def champion(self, model: str) -> Registered | None:
        """The version that has the alias; None where none has. Raises whatever the registry's client raises."""
        ...

    def fetch(self, version: Registered, folder: Path) -> Path:
        """Downloads the artefact folder of a version to a place below `folder`; that place."""
        ...


class MlflowRegistry:
    """The registry of this project. MLflow is imported when it is first asked: that takes seconds."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._client: Any = None

    def champion(self, model: str) -> Registered | None:
        """The version that has the alias; None where the model or the alias does not exist."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        if self._client is None:
            for name, value in IMPATIENT.items():
                os.environ.setdefault(name, value)
            self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        try:
            version = self._client.get_model_version_by_alias(model, ALIAS)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return Registered(str(version.version), version.run_id, version.tags.get("digest"))

    def fetch(self, version: Registered, folder: Path) -> Path:
        """Downloads the artefact folder of a version."""
        return Path(self._client.download_artifacts(version.run_id, ARTIFACT, str(folder)))


@dataclass(frozen=True, slots=True)
class Serving:
    """What one pack serves with, and what stands in the way of anything newer."""

    snapshot: Snapshot | None = None
    since: datetime | None = None  # when this process swapped to it
    rejected: Mapping[str, str] = field(default_factory=dict)  # version -> why it was not loaded
    trouble: str | None = None  # why the registry cannot be asked; None where it answers
    asked: bool = False  # whether the registry has answered yet

    @property
    def degraded(self) -> bool:
        """True where what serves may not be what it should be."""
        return bool(self.rejected) or self.trouble is not None


class _Last(Struct, frozen=True):
    """What served last, as the file beside the artefacts says."""

    version: str
    digest: str


_last = msgspec.json.Decoder(_Last)


class ChampionFollower:
    """Keeps the champion of each pack loaded."""

    def __init__(
        self,
        packs: Mapping[str, Pack],
        home: Home,
        registry: Registry,
        *,
        poll_s: float = 2.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._packs, self._home, self._registry = packs, home, registry
        self._poll_s, self._clock = poll_s, clock
        self._serving: dict[str, Serving] = {name: Serving() for name in packs}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion-follower", daemon=True)

    def start(self) -> None:
        """Takes what served last from this machine, then starts to follow."""
        for name in self._packs:
            self._resume(name)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; waits for it a moment."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def serving(self, pack: str) -> Serving:
        """What the pack serves with. Raises KeyError for a pack that is not followed."""
        return self._serving[pack]

    def snapshot(self, pack: str) -> Snapshot | None:
        """The loaded champion of the pack; None before there is one."""
        return self._serving[pack].snapshot

    def _follow(self) -> None:
        while not self._stopped.is_set():
            for name in self._packs:
                self.poll(name)
            self._stopped.wait(self._poll_s)

    def poll(self, name: str) -> None:
        """Asks the registry once and swaps where another version has the alias. Never raises."""
        before = self._serving[name]
        try:
            champion = self._registry.champion(name)
            after = replace(self._after(name, champion), asked=True, trouble=None)
        except Exception as error:  # noqa: BLE001  # whatever the registry does, the last good champion serves on
            after = replace(before, trouble=f"{type(error).__name__}: {error}"[:300])
        if after.trouble is not None and after.trouble != before.trouble:
            _log.warning("the registry does not answer for pack %s: %s", name, after.trouble)
        self._serving[name] = after

    def _after(self, name: str, champion: Registered | None) -> Serving:
        """What serves once the champion has been tried. Raises what the registry raises."""
        before = self._serving[name]
        if champion is None or champion.version in before.rejected:
            return before
        if before.snapshot is not None and before.snapshot.policy.version == champion.version:
            return replace(before, rejected={})
        try:
            snapshot = self._load(name, champion)
        except ArtefactError as error:
            _log.error("version %s of %s is rejected: %s", champion.version, name, error)
            return replace(before, rejected={**before.rejected, champion.version: error.message})
        _log.warning("pack %s now serves version %s (%s)", name, champion.version, snapshot.policy.kind)
        self._remember(name, snapshot)
        return Serving(snapshot, self._clock())

    def _load(self, name: str, champion: Registered) -> Snapshot:
        """The champion's snapshot, from this machine where its artefact is here and sound, else fetched."""
        if champion.digest is not None:
            with contextlib.suppress(ArtefactError):
                return self._open(name, champion.version, champion.digest)
        self._home.policies.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=self._home.policies) as folder:
            fetched = self._registry.fetch(champion, Path(folder))
            digest = load_artefact(fetched, pack=self._packs[name]).policy.digest
            if champion.digest not in (None, digest):
                raise ArtefactError(
                    f"version {champion.version} holds artefact {digest[:12]}, not {champion.digest[:12]}",
                    help="register the artefact again",
                )
            self._keep(fetched, digest)
        return self._open(name, champion.version, digest)

    def _open(self, name: str, version: str, digest: str) -> Snapshot:
        """The snapshot of an artefact on this machine. Raises ArtefactError."""
        snapshot = load_artefact(self._home.policies / digest, version=version, pack=self._packs[name])
        if snapshot.policy.digest != digest:
            raise ArtefactError(f"{digest[:12]} holds another artefact", help="it is fetched again")
        return snapshot

    def _keep(self, fetched: Path, digest: str) -> None:
        """Puts a sound artefact where replays find it; one that is there and damaged goes."""
        target = self._home.policies / digest
        try:
            fetched.rename(target)
        except OSError:
            try:
                load_artefact(target)
            except ArtefactError:
                shutil.rmtree(target, ignore_errors=True)
                fetched.rename(target)

    def _last_path(self, name: str) -> Path:
        return self._home.policies / f"champion-{name}.json"

    def _remember(self, name: str, snapshot: Snapshot) -> None:
        path = self._last_path(name)
        building = path.with_suffix(f".{os.getpid()}")
        building.write_bytes(msgspec.json.encode(_Last(snapshot.policy.version, snapshot.policy.digest)))
        building.replace(path)

    def _resume(self, name: str) -> None:
        """Serves what served last, where it is still here and fits the pack."""
        try:
            last = _last.decode(self._last_path(name).read_bytes())
            snapshot = self._open(name, last.version, last.digest)
        except (OSError, msgspec.MsgspecError, ArtefactError) as error:
            _log.info("nothing to resume for pack %s: %s", name, error)
            return
        self._serving[name] = Serving(snapshot, self._clock())
