"""The MLflow UI beside a server: a process of its own, on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from nba.home import Home


@dataclass(frozen=True, slots=True)
class TrackingUi:
    """A running MLflow UI; `stop` ends it with its workers."""

    url: str
    _process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, home: Home, *, port: int = 5000) -> TrackingUi:
        """Starts it over the installation's database; it answers some ten seconds later."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", home.tracking_uri, "--default-artifact-root", str(home.mlflow / "artifacts")),
        ]
        # Without job execution there is one process of 240 MB less.
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (home.mlflow / "ui.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter, no text from outside
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        return cls(f"http://127.0.0.1:{port}", process)

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ends the server and its workers, at first gently."""
        for blow in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, blow)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # workers that outlived it
