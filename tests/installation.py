"""A whole installation as a stranger starts it: `nba up` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

NBA = Path(sys.executable).with_name("nba")
START_TIMEOUT_S = 300.0


@dataclass
class Installation:
    """One NBA_HOME and the server that runs in it."""

    home: Path
    port: int
    mlflow_port: int
    packs: tuple[str, ...] = ("support",)
    output: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NBA_", "RAY_", "MLFLOW_"))}
        return kept | {"NBA_HOME": str(self.home), "COLUMNS": "120"}

    def start(self) -> None:
        """`nba up`, until it says that it is ready."""
        packs = [argument for pack in self.packs for argument in ("--pack", pack)]
        self.process = subprocess.Popen(
            [NBA, "up", "--port", str(self.port), "--mlflow-port", str(self.mlflow_port), *packs],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            start_new_session=True,
        )
        ready = threading.Event()
        threading.Thread(target=self._read, args=(self.process, ready), daemon=True).start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready.wait(0.1):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("nba up did not become ready:\n" + "".join(self.output))

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.output.append(line)
                if line.startswith("ready after"):
                    ready.set()

    def processes(self) -> list[psutil.Process]:
        """Every process of this installation, found by the NBA_HOME in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("NBA_HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def children(self) -> list[psutil.Process]:
        """What `nba up` started itself: Redis, which hides its environment, and others that it waits for."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def nba(self, *arguments: str, check: bool = True) -> str:
        """What a command prints."""
        done = subprocess.run(
            [NBA, *arguments], env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert not check or done.returncode == 0, f"nba {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serving(self) -> str:
        """The champion's version as the server has it."""
        answer = httpx.get(f"{self.url}/v1/policies", timeout=10).json()
        return str(answer["policies"][0]["policy"]["version"])
