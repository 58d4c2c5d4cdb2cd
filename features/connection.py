"""What Feast must be told about an installation, in Feast's own form."""

from __future__ import annotations

import json
from typing import Any

from redis.connection import SSLConnection, parse_url

from features.plan import FeatureStoreError
from nba.home import Home

_PATIENCE = {"socket_connect_timeout": 5.0, "socket_timeout": 10.0}  # seconds; Feast itself would wait for ever


def feast_environment(home: Home, redis_url: str) -> dict[str, str]:
    """The variables that `features/repository/feature_store.yaml` expands; they hold the password of Redis."""
    return {"NBA_HOME": str(home.path), "NBA_REDIS_CONNECTION": connection_string(redis_url)}


def connection_string(redis_url: str) -> str:
    """A Redis URL as Feast's `host:port,option=value,...`, every value as JSON, as Feast reads it.

    Raises FeatureStoreError for a socket path, and for a comma in a value: Feast separates by commas.
    """
    options: dict[str, Any] = dict(parse_url(redis_url))  # type: ignore[no-untyped-call]
    if "host" not in options:
        raise FeatureStoreError("NBA_REDIS_URL names no host", help="use redis://host:port/db or rediss://...")
    address = f"{options.pop('host')}:{options.pop('port', 6379)}"
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    parts = [f"{name}={json.dumps(value)}" for name, value in (_PATIENCE | options).items()]
    if any("," in part for part in parts):
        raise FeatureStoreError("NBA_REDIS_URL has a comma in it", help="choose a password without one")
    return ",".join([address, *parts])
