"""`nba up`, `serve`: starting the server."""

from __future__ import annotations

import getpass
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nba.cli.output import err, out, progress
from nba.home import Home

if TYPE_CHECKING:
    from features.redis_server import RedisServer
    from nba.pack import Pack
    from serving.settings import Settings

Packs = Annotated[list[str], typer.Option("--pack", "-p", help="A built-in pack's name, or a YAML file; repeatable.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Of the server, on 127.0.0.1.")]


def up(
    pack: Packs = ["support"],  # noqa: B006  # typer copies it
    port: Port = 8000,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the MLflow UI, on 127.0.0.1.")] = 5000,
    replicas: Annotated[int, typer.Option(min=1, max=64)] = 1,
) -> None:
    """Prepare everything and start everything: features, a first policy, the server, the MLflow UI.

    Runs until Ctrl-C, which stops all it started. The second start finds what the first prepared.
    """
    from features.redis_server import RedisServer
    from training.ui import TrackingUi

    started = time.monotonic()
    home = Home.from_environment()
    with _interruptible(), ExitStack() as running:
        packs = _load(pack)
        TrackingUi.refuse_taken(mlflow_port)
        with err.status("starting Redis"):
            redis = running.enter_context(RedisServer.start(home))
        _say("redis", redis.url.rpartition("@")[2])
        _prepare_features(home, packs, redis.url)
        for each in packs:
            _prepare_champion(home, each)
        settings = _settings(home, pack, redis.url, port, replicas)
        url = _start_server(settings, running)
        _say("server", f"{url}  (API at {url}/docs)")
        _say_keys(settings)
        ui = TrackingUi.start(home, port=mlflow_port)  # after the server, which should not wait for it
        running.callback(ui.stop)
        _say("mlflow", f"{ui.url}  (in some ten seconds; its own log: {home.mlflow / 'ui.log'})")
        _say("files", str(home.path))
        if not settings.needs_keys:
            _first_decision(url, packs[0])
        out.print(f"\nready after {time.monotonic() - started:.0f} s; Ctrl-C stops everything")
        _keep_redis(home, redis, running)


def serve(
    pack: Packs = ["support"],  # noqa: B006  # typer copies it
    port: Port = 8000,
    replicas: Annotated[int, typer.Option(min=1, max=64)] = 1,
) -> None:
    """Start only the server, and the private Redis where NBA_REDIS_URL names none; a champion must exist."""
    from features.redis_server import RedisServer

    home = Home.from_environment()
    with _interruptible(), ExitStack() as running:
        _load(pack)
        redis = running.enter_context(RedisServer.start(home))
        settings = _settings(home, pack, redis.url, port, replicas)
        _say("server", _start_server(settings, running))
        _say_keys(settings)
        _keep_redis(home, redis, running)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    for command in (up, serve):
        app.command()(command)


def _load(names: list[str]) -> list[Pack]:
    from nba.pack_file import load_pack

    return [load_pack(name) for name in names]


def _prepare_features(home: Home, packs: list[Pack], redis_url: str) -> None:
    """The feature store applied, seeded and planned for: only what is not there yet."""
    from features.plan import current_plan
    from features.planning import ensure_plan
    from nba.cli.prepare import CUSTOMERS, seed_customers

    if all(current_plan(home, pack) for pack in packs):
        return
    stored = [pack for pack in packs if pack.reads_stored]
    if stored:
        with err.status("applying features (Feast takes ten seconds to import)"):
            from features.store import apply

            apply(home, stored, redis_url)  # all at once: a plan is outdated by whatever is applied after it
    for pack in stored:
        with progress("seeding customers", CUSTOMERS) as done:
            seed_customers(home, pack, redis_url, CUSTOMERS, done)
        _say("features", f"{CUSTOMERS:,} simulated customers for pack {pack.pack}")
    with err.status("compiling and checking the read plans"):
        for pack in packs:
            ensure_plan(home, pack, redis_url)


def _prepare_champion(home: Home, pack: Pack) -> None:
    """A policy that serves: the champion there is, or a first one."""
    from nba.cli.prepare import ROUNDS, ensure_champion

    with progress(f"a first policy for {pack.pack}", ROUNDS * len(pack.moments)) as done:
        champion, is_new = ensure_champion(home, pack, getpass.getuser(), on_step=done)
    origin = "found" if not is_new else "new" if champion.kind == "uniform" else "learned just now"
    _say("champion", f"{pack.pack} version {champion.version}, {champion.kind}, {origin}")


def _settings(home: Home, packs: list[str], redis_url: str, port: int, replicas: int) -> Settings:
    from nba.pack_file import built_in_packs
    from serving.settings import Settings

    known = built_in_packs()
    sources = [name if name in known else str(Path(name).resolve()) for name in packs]
    asked = {"home": str(home.path), "packs": sources, "redis_url": redis_url, "port": port, "replicas": replicas}
    return Settings.from_environment(asked)


def _start_server(settings: Settings, running: ExitStack) -> str:
    from serving.launch import start

    with err.status("starting Ray Serve"):
        server = start(settings)
    running.callback(server.stop)
    return server.url


def _say_keys(settings: Settings) -> None:
    keys = settings.load_keys()
    told = f"none: everybody on this machine may ask, nobody else ({settings.host}); nba keys add makes one"
    _say("keys", told if keys is None else f"{len(keys.keys)} in {settings.keys_path}")


def _first_decision(url: str, pack: Pack) -> None:
    """Asks the new server once, and shows how to ask it again."""
    import httpx

    moment = next(iter(pack.moments))
    body = {
        "decision_id": f"first-{os.urandom(4).hex()}",
        "subject_id": "sim-000007",
        "pack": pack.pack,
        "moment": moment,
    }
    answer = httpx.post(f"{url}/v1/decide", json=body, timeout=10.0)
    answer.raise_for_status()
    out.print_json(answer.text)
    out.print(
        f"the same again:\n  curl -s {url}/v1/decide -H 'content-type: application/json' -d '{json.dumps(body)}'",
        soft_wrap=True,
        highlight=False,
    )


def _keep_redis(home: Home, redis: RedisServer, running: ExitStack) -> NoReturn:
    """Waits for the end, and starts the private Redis again should it die; the server refills it from the log."""
    while True:
        time.sleep(0.5)
        if not redis.alive:
            _say("redis", "it has died; starting it again")
            redis = running.enter_context(redis.start(home))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C or a termination ends the block by way of its own clean-up; a second one does not cut that short."""
    stopping = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            out.print("stopping")
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        out.print("stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(what: str, text: str) -> None:
    out.print(f"[bold]{what:>9}[/]  {text}", soft_wrap=True, highlight=False)
