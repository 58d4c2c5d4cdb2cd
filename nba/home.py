"""Where everything lives: one folder, `NBA_HOME`, by default `.nba` in the working directory."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nba.durable import sync_folder
from nba.errors import SettingError

SECRET_BYTES = 32
SHARED = ("draw", "subject")  # secrets on which machines that serve together must agree


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one installation and the places in it."""

    path: Path

    @classmethod
    def from_environment(cls) -> Home:
        """The folder that `NBA_HOME` names, else `.nba` here; made where it is not there yet, for its owner only.

        Raises SettingError where it cannot be made.
        """
        named = os.environ.get("NBA_HOME") or ".nba"
        try:
            path = Path(named).expanduser().resolve()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: ~nobody
            raise SettingError(f"cannot use {named!r} as home: {error}", help="set NBA_HOME to a folder") from None
        return cls(path)

    @property
    def log(self) -> Path:
        """Segments of the decision log."""
        return self.path / "log"

    @property
    def columns(self) -> Path:
        """The log as Parquet by day, a view of it."""
        return self.path / "columns"

    @property
    def policies(self) -> Path:
        """Artefacts by digest, kept so that every decision can be replayed."""
        return self.path / "policies"

    @property
    def features(self) -> Path:
        """Feast's registry, offline files and read plans."""
        return self.path / "features"

    @property
    def redis(self) -> Path:
        """Files of the private Redis."""
        return self.path / "redis"

    @property
    def metrics(self) -> Path:
        """What each replica has counted, a page a replica."""
        return self.path / "metrics"

    @property
    def ledger(self) -> Path:
        """Who served when."""
        return self.path / "ledger.jsonl"

    @property
    def calibration(self) -> Path:
        """Calibrations of the simulator, `PACK.json` each."""
        return self.path / "calibration"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artefacts."""
        return self.path / "mlflow"

    @property
    def tracking_uri(self) -> str:
        """`MLFLOW_TRACKING_URI` where set, else SQLite by absolute path (the default depends on the folder)."""
        named = os.environ.get("MLFLOW_TRACKING_URI")
        if named:
            return named
        self.mlflow.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{self.mlflow.resolve() / 'mlflow.db'}"

    def secret(self, name: str = "draw") -> bytes:
        """A 32-byte secret, made once and kept for its owner only.

        Where `NBA_SECRET` (64 hex digits) is set, those of SHARED are derived from it instead, so that several
        machines agree. Raises SettingError where what is kept or set is not 32 bytes in hex.
        """
        shared = os.environ.get("NBA_SECRET")
        if shared and name in SHARED:
            root = _unhex(shared, "NBA_SECRET", "set it to 64 hex digits: openssl rand -hex 32")
            return hmac.digest(root, name.encode(), "sha256")
        path = self.path / f"{name}.secret"
        if not path.exists():
            _keep(path, secrets.token_hex(SECRET_BYTES))
        way_out = "restore it from a backup; without it no decision can be replayed"
        return _unhex(path.read_text(encoding="utf-8", errors="replace"), str(path), way_out)


def _keep(path: Path, text: str) -> None:
    """A file for its owner only, which appears whole; the first of several writers wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, building = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(building, path)
    except FileExistsError:
        pass
    finally:
        Path(building).unlink()
    sync_folder(path.parent)  # also of a winner that died before it could


def _unhex(text: str, source: str, way_out: str) -> bytes:
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise SettingError(f"{source} does not hold {SECRET_BYTES} bytes in hex", help=way_out)
    return secret
