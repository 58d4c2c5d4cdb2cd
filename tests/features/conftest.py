"""One seeded feature store for the room's tests: Feast's import takes seconds, so it happens once.

Every Redis here counts as refilled from the log, as after the start of a server.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from features.epoch import EPOCH_KEY
from features.feast_store import import_feast
from features.planning import ensure_plan
from features.redis_server import RedisServer
from features.store import Row, apply, seed
from nba.home import Home
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.types import Value

if TYPE_CHECKING:
    from tests.conftest import RedisProcess

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
ODD_IDS = ("ünïcødé-€-漢字", "x" * 500, "with space", "", "7", "nba_decisions", "\x00\x01")


@dataclass(frozen=True)
class Seeded:
    """A home whose registry, files and Redis hold `rows`, written at NOW."""

    home: Home
    pack: Pack
    url: str
    plan: Path
    rows: dict[str, dict[str, Value]]  # subject id -> "view:feature" -> value


def refilled(url: str) -> None:
    """Says that the server process at this URL holds what the log says."""
    with redis.Redis.from_url(url) as client:
        client.set(EPOCH_KEY, f"1:{client.info('server')['run_id']}")


@pytest.fixture(name="redis_url")
def _redis_url(redis_url: str) -> str:
    refilled(redis_url)
    return redis_url


@pytest.fixture(name="own_redis")
def _own_redis(own_redis: RedisProcess) -> RedisProcess:
    refilled(own_redis.url)
    return own_redis


@pytest.fixture(scope="session")
def feast() -> None:
    """Feast, imported; what it warns of at import is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_feast()


@pytest.fixture(scope="session")
def seeded(feast: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    home, pack = Home(tmp_path_factory.mktemp("home")), load_pack("support")
    rows = {f"sim-{i:06d}": _stored(i) for i in range(300)} | {odd: _stored(i) for i, odd in enumerate(ODD_IDS)}
    with RedisServer.start(home) as server:
        apply(home, [pack], server.url)
        refilled(server.url)
        seed(home, rows.items(), server.url, NOW)
        yield Seeded(home, pack, server.url, ensure_plan(home, pack, server.url), rows)


@pytest.fixture
def fresh_home(feast: None, tmp_path: Path) -> Home:
    """A home in which nothing is applied yet."""
    return Home(tmp_path)


def _stored(i: int) -> dict[str, Value]:
    """Features of customer i, every seventh and every fifth unknown in some of them."""
    row: dict[str, Value] = {
        "customer_device:device_type": ("mobile", "desktop", "tablet")[i % 3],
        "customer_device:push_enabled": i % 2 == 0,
        "customer_location:country": ("DE", "AT", "CH", "GB", "US")[i % 5],
        "customer_time:active_hour": i % 24 + 0.1,
        "customer_history:purchases_90d": i % 21,
        "customer_history:contacts_30d": float(i % 11),
        "customer_history:open_cases": None if i % 7 == 0 else i % 6,
        "customer_history:nps": float("nan") if i % 5 == 0 else i % 11 / 1.0,
    }
    return {name: value for name, value in row.items() if i % 13 or not name.startswith("customer_time")}


def one_row(subject: str, **history: Value) -> Row:
    """A row of the history view."""
    return subject, {f"customer_history:{name}": value for name, value in history.items()}
