"""The door to MLflow: runs, model versions and aliases. Nothing else in this room imports it.

MLflow is a catalogue here: an artefact is logged as plain files under the run's path `policy` and registered by
its address. No model flavour is used and none is ever loaded: MLflow's own loaders run code.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec

from nba.errors import NbaError, UnavailableError
from nba.home import Home

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

ARTEFACT_PATH = "policy"  # where in a run's artefacts the policy's folder lies
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ATTEMPTS = 5  # of a call that finds the database locked; each already waits for 20 s
BATCH = 1_000  # metrics a call, MLflow's own limit

# What MLflow does otherwise: reports usage to its makers, draws progress bars over ours, prints addresses into output
# that a script reads, and tries a dead server for minutes.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}

P = ParamSpec("P")
T = TypeVar("T")


class UnknownVersionError(NbaError):
    """MLflow has no such version of this pack's policy, or none with such an alias."""

    code = "unknown_version"


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version of a pack's policy."""

    pack: str
    version: str  # counted up from 1
    run_id: str
    created_at: datetime
    tags: Mapping[str, str]  # digest, kind, pack_digest, pack_version, source, ...

    @property
    def digest(self) -> str:
        """SHA-256 of the artefact's `policy.json`."""
        return self.tags.get("digest", "")

    @property
    def kind(self) -> str:
        """The policy's kind, a key of `nba.policies.KINDS`."""
        return self.tags.get("kind", "")


@dataclass(slots=True)
class Run:
    """An open run. Metrics are gathered and go out in batches: one call each costs 30 ms."""

    tracking: Tracking
    run_id: str
    pack: str
    _metrics: list[Any] = field(default_factory=list)

    def params(self, values: Mapping[str, object]) -> None:
        """Settings of the run, logged at once."""
        from mlflow.entities import Param

        params = [Param(key, str(value)) for key, value in values.items()]
        self.tracking.call(self.tracking.client.log_batch, self.run_id, params=params)

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Figures at a step; those that are not finite are left out."""
        from mlflow.entities import Metric

        at = self.tracking.milliseconds()
        self._metrics += [Metric(key, float(v), at, step) for key, v in values.items() if abs(float(v)) < float("inf")]

    def tag(self, **tags: str) -> None:
        """Tags of the run."""
        for key, value in tags.items():
            self.tracking.call(self.tracking.client.set_tag, self.run_id, key, value)

    def figure(self, figure: Figure, name: str) -> None:
        """A picture among the run's artefacts, `plots/NAME.png`."""
        self.tracking.call(self.tracking.client.log_figure, self.run_id, figure, f"plots/{name}.png")

    def table(self, value: object, name: str) -> None:
        """A JSON document among the run's artefacts, `tables/NAME.json`; figures that are not finite become null."""
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        self.tracking.call(self.tracking.client.log_text, self.run_id, text, f"tables/{name}.json")

    def flush(self) -> None:
        """Sends the metrics gathered so far."""
        for start in range(0, len(self._metrics), BATCH):
            batch = self._metrics[start : start + BATCH]
            self.tracking.call(self.tracking.client.log_batch, self.run_id, metrics=batch)
        self._metrics.clear()


class Tracking:
    """Experiments, runs and model versions of one MLflow, by its tracking URI.

    Every method raises UnavailableError where MLflow does not answer.
    """

    def __init__(
        self, uri: str, *, artefacts: Path | None = None, clock: Callable[[], float] = time.time, pause: float = 0.1
    ) -> None:
        """`artefacts`: where a new experiment keeps its files; None lets a tracking server decide.

        `pause`: seconds before the first repetition of a call that found the database locked, doubled each time.
        """
        self.uri = uri
        self._artefacts = artefacts.resolve() if artefacts is not None else None
        self._clock, self._pause = clock, pause

    @classmethod
    def of(cls, home: Home) -> Tracking:
        """The MLflow of an installation: its own database, or the server that `MLFLOW_TRACKING_URI` names."""
        uri = home.tracking_uri
        return cls(uri, artefacts=home.mlflow / "artifacts" if uri.startswith("sqlite:") else None)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client, imported here because that takes seconds."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with warnings.catch_warnings():
            # MLflow 3.17 configures SQLAlchemy 2.1 in a way that warns at import; nothing we could mend.
            warnings.simplefilter("ignore", DeprecationWarning)
            from mlflow import MlflowClient

            for name in ("mlflow", "alembic"):  # importing MLflow has just set its own levels
                logging.getLogger(name).setLevel(logging.WARNING)
            return self.call(MlflowClient, self.uri, self.uri)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a call to MLflow returns, repeated a few times while its database is locked."""
        from mlflow.exceptions import MlflowException

        for attempt in count():
            try:
                return function(*args, **kwargs)
            except MlflowException as error:
                if "database is locked" not in str(error) or attempt + 1 == ATTEMPTS:
                    raise self._translated(error) from error
            time.sleep(self._pause * 2**attempt)
        raise AssertionError  # count() does not end

    def _translated(self, error: Any) -> NbaError:
        message = str(error).splitlines()[0][:300]
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return UnknownVersionError(f"MLflow at {self.uri}: {message}", help="see `nba ledger` and the MLflow UI")
        return UnavailableError(
            f"MLflow at {self.uri} failed: {message}",
            help="start it (nba up), or set MLFLOW_TRACKING_URI to one that answers",
        )

    def milliseconds(self) -> int:
        """The time that metrics are stamped with, since 1970."""
        return int(self._clock() * 1000)

    # -- runs ---------------------------------------------------------------------------------------------

    @contextmanager
    def run(
        self, pack: str, name: str, *, tags: Mapping[str, str] | None = None, parent: Run | None = None
    ) -> Iterator[Run]:
        """An open run in the experiment `nba/PACK`; closed as finished, failed or killed, its metrics sent."""
        parent_tag = {"mlflow.parentRunId": parent.run_id} if parent else {}
        made = self.call(
            self.client.create_run, self._experiment(pack), run_name=name, tags={**(tags or {}), **parent_tag}
        )
        with self._closing(Run(self, made.info.run_id, pack)) as run:
            yield run

    @contextmanager
    def resume(self, pack: str, run_id: str) -> Iterator[Run]:
        """A run from before, open again."""
        self.call(self.client.update_run, run_id, status="RUNNING")
        with self._closing(Run(self, run_id, pack)) as run:
            yield run

    @contextmanager
    def _closing(self, run: Run) -> Iterator[Run]:
        status = "KILLED"
        try:
            yield run
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            run.flush()
            self.call(self.client.set_terminated, run.run_id, status=status)

    def find_run(self, pack: str, **tags: str) -> tuple[str, dict[str, str]] | None:
        """The newest run with all these tags: its id and its tags. Values may not hold quotes."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.call(self.client.search_runs, [self._experiment(pack)], wanted, max_results=1)
        return (found[0].info.run_id, dict(found[0].data.tags)) if found else None

    def _experiment(self, pack: str) -> str:
        name = f"nba/{pack}"
        found = self.call(self.client.get_experiment_by_name, name)
        if found is not None:
            return str(found.experiment_id)
        location = (self._artefacts / pack).as_uri() if self._artefacts else None
        try:
            return str(self.call(self.client.create_experiment, name, artifact_location=location))
        except UnavailableError:  # somebody else was first
            found = self.call(self.client.get_experiment_by_name, name)
            if found is None:
                raise
            return str(found.experiment_id)

    # -- versions -----------------------------------------------------------------------------------------

    def register(self, run: Run, folder: Path, tags: Mapping[str, str]) -> Version:
        """Logs an artefact's folder to the run and registers it as the next version of the run's pack."""
        self.call(self.client.log_artifacts, run.run_id, str(folder), ARTEFACT_PATH)
        if not self._is_registered(run.pack):
            self._create_model(run.pack)
        root = self.call(self.client.get_run, run.run_id).info.artifact_uri
        made = self.call(
            self.client.create_model_version, run.pack, f"{root}/{ARTEFACT_PATH}", run.run_id, tags=dict(tags)
        )
        return _version(made)

    def tag(self, version: Version, **tags: str) -> None:
        """Adds tags to a version."""
        for key, value in tags.items():
            self.call(self.client.set_model_version_tag, version.pack, version.version, key, value)

    def versions(self, pack: str) -> list[Version]:
        """Every version of a pack's policy, oldest first."""
        found, token = [], None
        while True:
            page = self.call(self.client.search_model_versions, f"name = '{pack}'", page_token=token)
            found += [_version(item) for item in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda version: int(version.version))

    def find(self, pack: str, **tags: str) -> Version | None:
        """The newest version with all these tags; one that it lacks counts as empty."""
        fits = [v for v in self.versions(pack) if all(v.tags.get(key, "") == value for key, value in tags.items())]
        return fits[-1] if fits else None

    def version(self, pack: str, version: str) -> Version:
        """A version by its number or by an alias. Raises UnknownVersionError."""
        aliases = self.aliases(pack)
        number = aliases.get(version, version)
        found = next((v for v in self.versions(pack) if v.version == number), None)
        if found is None:
            known = ", ".join([*aliases, *(v.version for v in self.versions(pack))]) or "none yet: nba train"
            raise UnknownVersionError(f"pack {pack!r} has no version {version!r}", help=f"known are {known}")
        return found

    def aliases(self, pack: str) -> dict[str, str]:
        """Alias to version number; empty where nothing is registered."""
        if not self._is_registered(pack):
            return {}
        model = self.call(self.client.get_registered_model, pack)
        return {alias: str(number) for alias, number in model.aliases.items()}

    def aliased(self, pack: str, alias: str) -> Version | None:
        """The version that bears an alias."""
        number = self.aliases(pack).get(alias)
        return None if number is None else _version(self.call(self.client.get_model_version, pack, number))

    def set_alias(self, pack: str, alias: str, version: Version | None) -> None:
        """Moves an alias to a version; None takes it away."""
        if version is not None:
            self.call(self.client.set_registered_model_alias, pack, alias, version.version)
        elif alias in self.aliases(pack):
            self.call(self.client.delete_registered_model_alias, pack, alias)

    def fetch(self, version: Version, folder: Path) -> Path:
        """Copies a version's artefact below an existing folder; where it lies then. The caller checks what it loads."""
        return Path(self.call(self.client.download_artifacts, version.run_id, ARTEFACT_PATH, str(folder)))

    def _is_registered(self, pack: str) -> bool:
        return bool(self.call(self.client.search_registered_models, f"name = '{pack}'", max_results=1))

    def _create_model(self, pack: str) -> None:
        try:
            self.call(self.client.create_registered_model, pack)
        except UnavailableError:  # somebody else was first
            if not self._is_registered(pack):
                raise


def _version(item: Any) -> Version:
    created = datetime.fromtimestamp(item.creation_timestamp / 1000, UTC)
    return Version(item.name, str(item.version), item.run_id or "", created, dict(item.tags))
