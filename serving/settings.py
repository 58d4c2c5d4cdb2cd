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
from nba.log.shipped import archive_uri
from nba.pack import Pack
from nba.pack_file import load_pack
from serving.errors import SettingsError
from serving.keys import KeysFile, read_keys

_NUMBERS = ("port", "fast_port", "replicas")  # that the environment may set


@dataclass(frozen=True, slots=True)
class Settings:
    """One server: where its state lives, what it serves, and its limits."""

    home: Path
    packs: tuple[str, ...] = ("support",)  # built-in names, or YAML files by absolute path
    redis_url: str | None = None  # None: NBA_REDIS_URL, else the private Redis of this home
    keys: Path | None = None  # keys file, without which nobody is let in; None: keys.json of this home, if it is there
    host: str = "127.0.0.1"  # any other than loopback needs keys
    port: int = 8000
    fast_port: int | None = None  # where the replicas listen themselves; None: the one after `port`; 0: nowhere
    replicas: int = 1
    cpus: float = 0.2  # cores Ray sets aside for a replica
    feature_deadline_ms: float = 50.0  # longest feature read of one decision
    answer_margin_ms: float = 20.0  # of a request's timeout_ms, kept for all that is not the feature read
    claim_timeout_ms: float = 250.0  # longest call to the state store; one that fails leaves it alone for a second
    max_in_flight: int = 128  # requests a replica works on at once; more are told to come back
    body_timeout_s: float = 2.0  # longest time a request's body may take to arrive; on the fast lane its head too
    keep_alive_s: float = 75.0  # longest time a connection may stay idle
    max_connections: int = 1_000  # open at once on the fast lane of a replica; more are told to come back
    max_body: int = 256 * 1024  # bytes
    max_batch_body: int = 8 * 1024 * 1024  # bytes
    champion_poll_s: float = 2.0
    log_archive: str | None = None  # folder, s3:// or gs://, to which segments of the log are shipped; None: nowhere
    log_roll_s: float = 600.0  # age at which a segment of the log is done, and may be shipped; 32 MB is sooner
    ship_poll_s: float = 30.0  # how often what is done is shipped
    otlp_endpoint: str | None = None  # base URL of a collector of OpenTelemetry traces; None: no traces are made
    rebuild_poll_s: float = 1.0  # how often the state store is asked whether it has to be rebuilt from the log
    start_timeout_s: float = 120.0  # from start to ready

    def __post_init__(self) -> None:
        if not _is_loopback(self.host) and not self.keys_path.exists():
            raise SettingsError(
                f"host {self.host!r} is not a loopback address, and there is no keys file",
                help="without keys the server listens on loopback only; nba keys add NAME --role decide makes one",
                field="host",
            )
        if not self.packs:
            raise SettingsError("no pack to serve", help="name at least one, such as support", field="packs")

    @property
    def keys_path(self) -> Path:
        """Where the keys file is, or would be."""
        return self.home / "keys.json" if self.keys is None else self.keys

    @property
    def needs_keys(self) -> bool:
        """Whether nobody may be let in without a keys file."""
        return self.keys is not None or not _is_loopback(self.host)

    @property
    def lane_port(self) -> int | None:
        """Port of the fast lane; None where there is none."""
        return self.port + 1 if self.fast_port is None else self.fast_port or None

    @classmethod
    def from_environment(
        cls, arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
    ) -> Settings:
        """What the environment says, and over it the arguments.

        It says NBA_HOME, NBA_PACKS (comma-separated), NBA_PORT, NBA_FAST_PORT, NBA_REPLICAS, NBA_LOG_ARCHIVE, NBA_HOST,
        NBA_KEYS, NBA_OTLP_ENDPOINT (else OTEL_EXPORTER_OTLP_ENDPOINT). Arguments are named as the fields here. Raises
        SettingsError for one that does not exist or does not fit. A keys file that is there now is needed from then
        on, also by a replica that starts when it is gone.
        """
        given: dict[str, Any] = {"home": str(Home.from_environment().path)}
        if "NBA_PACKS" in environment:
            given["packs"] = [name.strip() for name in environment["NBA_PACKS"].split(",") if name.strip()]
        if environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            given["otlp_endpoint"] = environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
        for name in ("log_archive", "host", "keys", "otlp_endpoint"):
            if environment.get(f"NBA_{name.upper()}"):
                given[name] = environment[f"NBA_{name.upper()}"]
        try:
            given.update(
                {n: int(environment[f"NBA_{n.upper()}"]) for n in _NUMBERS if f"NBA_{n.upper()}" in environment}
            )
            given.update(arguments or {})
            if isinstance(given.get("log_archive"), str):  # replicas work in another folder
                given["log_archive"] = archive_uri(given["log_archive"])
            given["keys"] = _needed_keys(given)
            unknown = next((name for name in given if name not in cls.__dataclass_fields__), None)
            if unknown is not None:
                raise ValueError(f"{unknown!r} is no setting")
            return msgspec.convert(given, cls, dec_hook=lambda kind, value: kind(value))
        except ValueError as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise SettingsError(f"the settings do not fit: {error}", help=f"known are {known}") from None

    def load_keys(self) -> KeysFile | None:
        """The keys; None where everybody on this machine may ask. Raises KeysError where a start must be refused."""
        return read_keys(self.keys_path) if self.needs_keys else None

    def load_packs(self) -> dict[str, Pack]:
        """The packs by name. Raises PackError, and SettingsError where two have one name."""
        loaded: dict[str, Pack] = {}
        for source in self.packs:
            pack = load_pack(source)
            if pack.pack in loaded:
                raise SettingsError(f"two packs are called {pack.pack!r}", help="rename one of them", field="packs")
            loaded[pack.pack] = pack
        return loaded


def _needed_keys(given: Mapping[str, Any]) -> str | None:
    """The keys file that is named, or is there, by one spelling whichever folder a replica works in."""
    named = given.get("keys")
    path = Path(given["home"]) / "keys.json" if named is None else Path(named).expanduser()
    return None if named is None and not path.exists() else str(path.absolute())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
