from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from features import redis_server
from features.redis_server import RedisServer, nearest_url, redis_url
from nba.errors import UnavailableError
from nba.home import Home

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def no_other_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBA_REDIS_URL", raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home with a path that needs quoting; whatever server is left in it is killed."""
    home = Home(tmp_path / 'a "b" ünï\\x')
    home.path.mkdir()
    yield home
    pid = state(home).get("pid")
    if pid is not None and psutil.pid_exists(pid) and psutil.Process(pid).name() == "redis-server":
        os.kill(pid, signal.SIGKILL)


def state(home: Home) -> dict[str, int]:
    path = home.redis / "server.json"
    return json.loads(path.read_bytes()) if path.exists() else {}


def remember(url: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set("kept", value)


def kept(url: str) -> bytes | None:
    with redis.Redis.from_url(url) as client:
        value: bytes | None = client.get("kept")  # type: ignore[assignment]
        return value


def gone(pid: int) -> bool:
    """True once the process has ended, within five seconds."""
    try:
        psutil.Process(pid).wait(5)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def start_elsewhere(home: Home, then: str) -> subprocess.Popen[str]:
    """Another process that starts the server of this home, says so, and goes on as told."""
    code = f"""
import sys, time, pathlib
from features.redis_server import RedisServer
from nba.home import Home
server = RedisServer.start(Home(pathlib.Path(sys.argv[1])))
print(server.url, flush=True)
{then}
"""
    return subprocess.Popen([sys.executable, "-c", code, str(home.path)], stdout=subprocess.PIPE, text=True)


def test_it_asks_for_the_password_and_listens_on_loopback(home: Home) -> None:
    with RedisServer.start(home) as server:
        stranger = redis.Redis(port=state(home)["port"], retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        listening = psutil.Process(state(home)["pid"]).net_connections()
        assert {c.laddr.ip for c in listening if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        assert kept(server.url) is None


def test_whoever_is_on_the_machine_reaches_it_by_its_socket_file(tmp_path: Path) -> None:
    home = Home(tmp_path / "ö")
    with RedisServer.start(home) as server:
        near = nearest_url(home, server.url)
        assert near is not None
        assert near.startswith("unix://")
        with redis.Redis.from_url(near) as by_file, redis.Redis.from_url(server.url) as by_port:
            by_file.set("x", "1")
            assert by_port.get("x") == b"1"
        assert (home.redis / "redis.sock").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1/0"])
def test_another_redis_is_reached_as_its_url_says(home: Home, url: str | None) -> None:
    with RedisServer.start(home):
        assert nearest_url(home, url) == url


def test_a_home_too_deep_for_a_socket_file_does_without(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 90))
    with RedisServer.start(home) as server:
        assert nearest_url(home, server.url) == server.url


def test_others_see_no_password_on_its_command_line_or_in_its_files(home: Home) -> None:
    password = home.secret("redis").hex()
    with RedisServer.start(home) as server:
        assert password in server.url
        assert password not in repr(server)
        assert password not in " ".join(psutil.Process(state(home)["pid"]).cmdline())
        files = [path for path in home.redis.iterdir() if path.is_file()]
        assert not [path for path in files if password.encode() in path.read_bytes()]


def test_its_files_are_the_owners_only(home: Home) -> None:
    with RedisServer.start(home) as server:
        remember(server.url, "x")
        assert {path.stat().st_mode & 0o077 for path in (home.redis, home.redis / "appendonly.aof")} == {0}


def test_nothing_is_ever_evicted_and_writes_are_synced_each_second(home: Home) -> None:
    with RedisServer.start(home) as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        settings = {name: client.config_get(name)[name] for name in ("maxmemory-policy", "appendonly", "appendfsync")}
    assert settings == {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}


def test_what_was_written_is_there_after_a_restart(home: Home) -> None:
    with RedisServer.start(home) as server:
        remember(server.url, "before")
        pid = state(home)["pid"]
    assert gone(pid)
    assert redis_url(home) is None
    with RedisServer.start(home) as server:
        assert kept(server.url) == b"before"


def test_a_second_start_finds_the_living_one_and_does_not_stop_it(home: Home) -> None:
    with RedisServer.start(home) as first:
        pid = state(home)["pid"]
        with RedisServer.start(home) as second:
            assert second.url == first.url
        assert redis_url(home) == first.url
        assert state(home)["pid"] == pid
        remember(first.url, "still here")


def test_a_crashed_server_is_replaced_where_its_clients_look_for_it(home: Home) -> None:
    first = RedisServer.start(home)
    remember(first.url, "before")
    time.sleep(1.2)  # the append-only file is synced each second
    os.kill(state(home)["pid"], signal.SIGKILL)
    assert gone(state(home)["pid"])
    with RedisServer.start(home) as second:
        assert kept(second.url) == b"before"
        assert second.url == first.url
        first.stop()
        assert redis_url(home) == second.url


def test_files_of_a_crashed_server_are_not_taken_for_a_living_one(home: Home) -> None:
    """Even where its process id belongs to another process by now."""
    home.redis.mkdir()
    (home.redis / "lock").touch()
    (home.redis / "server.json").write_text(json.dumps({"pid": os.getpid(), "port": 1}))
    assert redis_url(home) is None
    with RedisServer.start(home) as server:
        assert kept(server.url) is None


def test_a_server_that_hangs_is_named_and_no_second_one_started(home: Home) -> None:
    server = RedisServer.start(home)
    pid = state(home)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert redis_url(home) == server.url
        with pytest.raises(UnavailableError, match=f"process {pid}"):
            RedisServer.start(home, timeout_s=0.3)
    finally:
        os.kill(pid, signal.SIGCONT)
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_it_dies_with_its_parent_and_keeps_what_it_had(home: Home) -> None:
    with start_elsewhere(home, "time.sleep(60)") as parent:
        assert parent.stdout is not None
        remember(parent.stdout.readline().strip(), "before")
        parent.kill()
    assert gone(state(home)["pid"])
    with RedisServer.start(home) as server:
        assert kept(server.url) == b"before"


def test_ctrl_c_is_left_to_the_parent(home: Home) -> None:
    """The terminal signals the whole process group; the server is in one of its own."""
    with RedisServer.start(home) as server:
        assert os.getpgid(state(home)["pid"]) != os.getpgid(0)
        assert kept(server.url) is None


def test_two_processes_that_start_at_once_share_one_server(home: Home) -> None:
    both = [start_elsewhere(home, "sys.stdin.read()") for _ in range(2)]
    try:
        urls = {process.stdout.readline() for process in both if process.stdout}
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert len(urls) == 1


def test_a_port_that_was_taken_meanwhile_is_given_up(
    home: Home, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    taken = int(redis_url.rpartition(":")[2].removesuffix("/0"))
    offered = iter([taken, redis_server._free_port(), *(redis_server._free_port() for _ in range(3))])
    monkeypatch.setattr(redis_server, "_free_port", lambda: next(offered))
    with RedisServer.start(home):
        assert state(home)["port"] != taken


def test_a_server_that_cannot_start_says_why(home: Home) -> None:
    home.redis.mkdir()
    (home.redis / "appendonly.aof").write_bytes(b"*2\r\nrubbish" * 100)
    with pytest.raises(UnavailableError, match="Bad file format"):
        RedisServer.start(home)


def test_the_redis_of_the_environment_comes_first(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_REDIS_URL", "redis://elsewhere:6379/0")
    with RedisServer.start(home) as server:
        assert server.url == redis_url(home) == "redis://elsewhere:6379/0"
    assert not home.redis.exists()
