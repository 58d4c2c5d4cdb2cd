"""Where everything lives: one folder, `NBA_HOME`, by default `.nba` in the working directory."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one installation and the places in it."""

    path: Path

    @classmethod
    def from_environment(cls) -> Home:
        """The folder that `NBA_HOME` names, else `.nba` here; made where it is not there yet, for its owner only."""
        path = Path(os.environ.get("NBA_HOME", ".nba")).expanduser().resolve()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path)

    @property
    def log(self) -> Path:
        """Segments of the decision log."""
        return self.path / "log"

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
    def ledger(self) -> Path:
        """Who served when."""
        return self.path / "ledger.jsonl"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artefacts."""
        return self.path / "mlflow"

    @property
    def tracking_uri(self) -> str:
        """`MLFLOW_TRACKING_URI` where set, else SQLite by absolute path (the default depends on the folder)."""
        self.mlflow.mkdir(parents=True, exist_ok=True)
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow / 'mlflow.db'}"

    def secret(self, name: str = "draw") -> bytes:
        """A 32-byte secret, made once and kept for its owner only; `NBA_SECRET` (hex) where several machines share."""
        shared = os.environ.get("NBA_SECRET")
        if shared and name == "draw":
            return bytes.fromhex(shared)
        path = self.path / f"{name}.secret"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return bytes.fromhex(path.read_text())
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        return bytes.fromhex(path.read_text())
