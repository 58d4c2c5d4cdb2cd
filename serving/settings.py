"""What a server is told when it starts, parsed once."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nba.home import Home
from nba.pack import Pack
from nba.pack_file import load_pack
from serving.errors import SettingsError

_NUMBERS = ("port", "replicas")  # that the environment may set


@dataclass(frozen=True, slots=True)
class Settings:
    """One server: where its state lives, what it serves, and its limits."""

    home: Path
    packs: tuple[str, ...] = ("support",)  # built-in names, or YAML files by absolute path
    redis_url: str | None = None  # None: NBA_REDIS_URL, else the private Redis of this home
    host: str = "127.0.0.1"
    port: int = 8000
    replicas: int = 1
    cpus: float = 0.2  # cores Ray sets aside for a replica
    feature_deadline_ms: float = 50.0  # longest feature read of one decision
    answer_margin_ms: float = 20.0  # of a request's timeout_ms, kept for all that is not the feature read
    claim_timeout_ms: float = 250.0  # longest call to the state store; one that fails leaves it alone for a second
    max_in_flight: int = 128  # requests a replica works on at once; more are told to come back
    body_timeout_s: float = 2.0  # longest time a request's body may take to arrive
    max_body: int = 256 * 1024  # bytes
    max_batch_body: int = 8 * 1024 * 1024  # bytes
    champion_poll_s: float = 2.0
    rebuild_poll_s: float = 1.0  # how often the state store is asked whether it has to be rebuilt from the log
    start_timeout_s: float = 120.0  # from start to ready

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise SettingsError(
                f"host {self.host!r} is not a loopback address, and there is no keys file",
                help="without keys the server listens on loopback only: host 127.0.0.1, behind your own proxy",
                field="host",
            )
        if not self.packs:
            raise SettingsError("no pack to serve", help="name at least one, such as support", field="packs")

    @classmethod
    def from_environment(
        cls, arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
    ) -> Settings:
        """What NBA_HOME, NBA_PACKS (comma-separated), NBA_PORT and NBA_REPLICAS say, and over them the arguments.

        Arguments are named as the fields here. Raises SettingsError for one that does not exist or does not fit.
        """
        given: dict[str, Any] = {"home": str(Home.from_environment().path)}
        if "NBA_PACKS" in environment:
            given["packs"] = [name.strip() for name in environment["NBA_PACKS"].split(",") if name.strip()]
        try:
            given.update(
                {n: int(environment[f"NBA_{n.upper()}"]) for n in _NUMBERS if f"NBA_{n.upper()}" in environment}
            )
            given.update(arguments or {})
            unknown = next((name for name in given if name not in cls.__dataclass_fields__), None)
            if unknown is not None:
                raise ValueError(f"{unknown!r} is no setting")
            return msgspec.convert(given, cls, dec_hook=lambda kind, value: kind(value))
        except ValueError as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise SettingsError(f"the settings do not fit: {error}", help=f"known are {known}") from None

    def load_packs(self) -> dict[str, Pack]:
        """The packs by name. Raises PackError, and SettingsError where two have one name."""
        loaded: dict[str, Pack] = {}
        for source in self.packs:
            pack = load_pack(source)
            if pack.pack in loaded:
                raise SettingsError(f"two packs are called {pack.pack!r}", help="rename one of them", field="packs")
            loaded[pack.pack] = pack
        return loaded


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
