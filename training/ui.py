"""The MLflow UI beside a server: a process of its own, on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

from nba.errors import UnavailableError
from nba.home import Home


@dataclass(frozen=True, slots=True)
class TrackingUi:
    """A running MLflow UI; `stop` ends it with its workers."""

    url: str
    _process: subprocess.Popen[bytes]

    @staticmethod
    def refuse_taken(port: int) -> None:
        """Raises UnavailableError where somebody listens on the port: the UI itself would only say so in its log."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise UnavailableError(
                    f"port {port} for the MLflow UI: {error.strerror}", help="choose another: --mlflow-port 5001"
                ) from None

    @classmethod
    def start(cls, home: Home, *, port: int = 5000) -> TrackingUi:
        """Starts it over the installation's database; it answers some ten seconds later. Raises UnavailableError."""
        cls.refuse_taken(port)
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
