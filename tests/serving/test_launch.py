from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nba.errors import UnavailableError
from serving import launch
from serving.lane import listener
from serving.settings import Settings
from serving.wire import PolicyAnswer, ReadyAnswer, ServingAnswer
from tests.conftest import free_port

HAPROXY_LONGEST = 97  # characters of a socket's path


def test_a_taken_port_is_refused_with_a_sentence_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"port {port} on 127.0.0.1 is taken") as refused:
            launch.start(Settings(home=tmp_path, port=port))
    assert str(port + 1) in refused.value.help
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in os.environ


def test_the_fast_lane_shares_its_port_with_its_own_replicas_only(tmp_path: Path) -> None:
    port = free_port()
    with listener("127.0.0.1", port) as taken:
        taken.listen()
        with pytest.raises(UnavailableError, match=f"port {port} on 127.0.0.1 is taken"):
            launch.start(Settings(home=tmp_path, port=free_port(), fast_port=port))


def test_the_environment_is_the_fast_and_closed_one(tmp_path: Path) -> None:
    folder = launch.runtime_folder()
    environment = launch.environment(Settings(home=tmp_path), folder)
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == environment["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["PROMETHEUS_MULTIPROC_DIR"] is None
    token = Path(str(environment["RAY_AUTH_TOKEN_PATH"]))
    assert (len(token.read_text()), token.stat().st_mode & 0o777) == (64, 0o600)
    assert folder.stat().st_mode & 0o777 == 0o700
    admin = Path(str(environment["RAY_SERVE_HAPROXY_SOCKET_PATH"]))
    assert len(str(admin.parent / ("n" * 56) / admin.name)) <= HAPROXY_LONGEST


def test_the_stand_in_is_an_haproxy(tmp_path: Path) -> None:
    binary = launch._stand_in(tmp_path, "")
    config = tmp_path / "haproxy.cfg"
    config.write_text("global\nlisten stats\n  bind *:8404\n")
    done = subprocess.run([binary, "-vv", "-f", config], capture_output=True, text=True, check=True)
    assert "HAProxy version" in done.stdout
    assert config.read_text() == "global\n"


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_TEST_A", "before")
    monkeypatch.delenv("NBA_TEST_B", raising=False)
    before = launch._replace({"NBA_TEST_A": None, "NBA_TEST_B": "new"})
    assert ("NBA_TEST_A" in os.environ, os.environ["NBA_TEST_B"]) == (False, "new")
    launch._restore(before)
    assert (os.environ["NBA_TEST_A"], "NBA_TEST_B" in os.environ) == ("before", False)


def test_a_registry_without_a_champion_is_told_at_once() -> None:
    policy = PolicyAnswer(name="support", version="1", kind="uniform", arm="champion")

    def ready(policy: PolicyAnswer | None, registry: str, rejected: dict[str, str]) -> ReadyAnswer:
        serving = ServingAnswer(
            pack="support", policy=policy, digest=None, since=None, rejected=rejected, registry=registry
        )
        return ReadyAnswer(status="not_ready", log="writable", claims="ready", features={}, policies=[serving])

    launch._refuse_no_policy(ready(None, "not asked yet", {}))
    launch._refuse_no_policy(ready(policy, "ok", {}))
    with pytest.raises(UnavailableError, match=r"no policy to serve for pack 'support' \(version 3: damaged\)"):
        launch._refuse_no_policy(ready(None, "ok", {"3": "damaged"}))


def test_run_as_a_program_it_prints_what_a_shell_reads(tmp_path: Path) -> None:
    environment = {**os.environ, "NBA_HOME": str(tmp_path / "a home")}
    done = subprocess.run(
        [sys.executable, "-m", "serving.launch"], capture_output=True, text=True, check=True, env=environment
    )
    read = subprocess.run(
        ["sh", "-c", f"{done.stdout}\necho $RAY_AUTH_TOKEN_PATH"], capture_output=True, text=True, check=True
    )
    assert read.stdout.strip() == str(tmp_path / "a home" / "ray.secret")
