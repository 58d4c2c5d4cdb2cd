"""The door to Feast: its import without the harm, its store for a home, the repository's objects for a home.

Importing this module costs nothing; its functions import Feast when they are called: about nine seconds of CPU and
350 MB, so never in a process that serves.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import string
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import redis
import yaml

from features.connection import feast_environment
from features.feature_value import ValueType
from features.plan import REPOSITORY, FeatureStoreError, registry_path
from nba.errors import UnavailableError
from nba.home import Home

if TYPE_CHECKING:
    from feast import FeatureStore, Field

_LEAKED = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
_VALUE_TYPES: Mapping[str, ValueType] = {
    "STRING": "string",
    "INT32": "int32",
    "INT64": "int64",
    "DOUBLE": "double",
    "FLOAT": "float",
    "BOOL": "bool",
}


def import_feast() -> None:
    """Imports Feast, and takes back what that does to the environment.

    Feast names a folder for Prometheus there and removes it at exit: child processes that inherit the name die at
    their first metric. The client must be imported first, or it would keep its own metrics there too.
    """
    import prometheus_client  # noqa: F401

    before = {name: os.environ.get(name) for name in _LEAKED}
    import feast  # noqa: F401

    _restore(before)


def open_store(home: Home, redis_url: str) -> FeatureStore:
    """Feast's own store for this home: `feature_store.yaml`, expanded without touching the environment.

    Connects to Redis only when it is read or written. Raises FeatureStoreError where the registry is damaged.
    """
    import_feast()
    from feast import FeatureStore
    from feast.repo_config import RepoConfig
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    home.features.mkdir(parents=True, exist_ok=True)
    plain = yaml.safe_load((REPOSITORY / "feature_store.yaml").read_text())
    config = RepoConfig(**_expanded(plain, feast_environment(home, redis_url)))
    config.repo_path = REPOSITORY
    try:
        store = FeatureStore(config=config)
        store.registry.refresh()
    except DecodeError:
        raise FeatureStoreError(
            f"{registry_path(home)} is damaged", help="delete it, then run: nba features apply"
        ) from None
    return store


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turns what Feast lets through of a Redis that is dead, hung or closed to us into UnavailableError."""
    try:
        yield
    except redis.RedisError as error:
        raise UnavailableError(
            f"Redis does not answer: {error}", help="start it (nba up), or mend NBA_REDIS_URL"
        ) from None


def repository(home: Home) -> ModuleType:
    """The module `features.repository.services`, the views in it reading and writing the files of this home.

    As for Feast's command line, `NBA_HOME` at the time of import says where those are.
    """
    import_feast()
    before = {"NBA_HOME": os.environ.get("NBA_HOME")}
    os.environ["NBA_HOME"] = str(home.path)
    try:
        views = importlib.import_module("features.repository.views")
        services = importlib.import_module("features.repository.services")
        if home.features / "offline" != views.OFFLINE:
            importlib.reload(views)
            importlib.reload(services)
    finally:
        _restore(before)
    return services


def value_type(column: Field) -> ValueType:
    """The stored type of a feature. Raises FeatureStoreError for one that no field of a pack can hold."""
    name = column.dtype.to_value_type().name
    if name not in _VALUE_TYPES:
        raise FeatureStoreError(
            f"feature {column.name!r} is of type {name}", help=f"a pack can use {', '.join(_VALUE_TYPES)}"
        )
    return _VALUE_TYPES[name]


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _expanded(plain: Any, variables: Mapping[str, str]) -> Any:
    """The settings with their `${VARIABLES}` in place, put there after parsing: no value can change the structure."""
    if isinstance(plain, dict):
        return {key: _expanded(value, variables) for key, value in plain.items()}
    return string.Template(plain).substitute(variables) if isinstance(plain, str) else plain
