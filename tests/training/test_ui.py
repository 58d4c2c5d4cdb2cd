"""The MLflow UI as a process beside the server."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from nba.errors import UnavailableError
from nba.home import Home
from tests.conftest import free_port
from training.ui import TrackingUi


def test_a_taken_port_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UnavailableError, match="MLflow UI"):
            TrackingUi.start(Home(tmp_path), port=taken.getsockname()[1])


@pytest.mark.system
def test_it_answers_on_loopback_and_leaves_no_process_behind(tmp_path: Path) -> None:
    home, me = Home(tmp_path), psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    ui = TrackingUi.start(home, port=free_port())
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                assert httpx.get(f"{ui.url}/health", timeout=2).text == "OK"
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, (home.mlflow / "ui.log").read_text()
                time.sleep(0.2)
        ours = [child for child in me.children(recursive=True) if child.pid not in before]
        listening = [c.laddr.ip for child in ours for c in child.net_connections("inet") if c.status == "LISTEN"]
        assert listening
        assert set(listening) == {"127.0.0.1"}
    finally:
        ui.stop()
    assert not [child for child in ours if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
